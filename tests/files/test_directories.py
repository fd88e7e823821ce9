"""Who else could lead a path elsewhere: the program's answer, and that of the script for a host
where no program of ours is."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.files.helper import open_to_others
from hpcbridge.transports.staging import STAGE_SCRIPT

OTHER = 12345

Look = Callable[[Path], str]


def by_script(path: Path) -> str:
    """What the script refuses; it makes the directory otherwise."""
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w").close()
    done = subprocess.run(
        ["/bin/sh", "-c", STAGE_SCRIPT, "stage", str(path)],
        input=archive.getvalue(),
        capture_output=True,
    )
    said = done.stderr.decode().strip()
    assert path.exists() == (said == "")
    return said.removeprefix("others could replace what is in ")


@pytest.fixture(params=["program", "script"])
def look(request: pytest.FixtureRequest) -> Look:
    if request.param == "script":
        return by_script
    return lambda path: open_to_others(str(path))


def test_a_way_of_roots_and_ones_own_directories_is_closed(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert look(tmp_path / "a" / "b" / "mine") == ""


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o2775, 0o770, 0o702])
def test_a_directory_that_others_can_write_to_is_found(
    look: Look, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a").chmod(mode)
    assert look(tmp_path / "a" / "b" / "c" / "mine") == str(tmp_path / "a")


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777])
def test_a_directory_of_somebody_elses_is_found_whatever_its_mode(
    look: Look, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a").chmod(mode)
    os.chown(tmp_path / "a", OTHER, -1)
    assert look(tmp_path / "a" / "b" / "mine") == str(tmp_path / "a")


@pytest.mark.parametrize("mode", [0o1777, 0o1775, 0o1770])
def test_in_a_sticky_directory_what_is_ones_own_is_safe(
    look: Look, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "tmp" / "alice").mkdir(parents=True)
    (tmp_path / "tmp").chmod(mode)
    assert look(tmp_path / "tmp" / "alice" / "mine") == ""
    os.chown(tmp_path / "tmp" / "alice", OTHER, -1)
    assert look(tmp_path / "tmp" / "alice" / "other") == str(tmp_path / "tmp")


def test_links_are_walked_along_to_where_they_lead(look: Look, tmp_path: Path) -> None:
    """The scratch directory is a link to a link in a directory of a group's."""
    for name in ("home", "shared", "disk/alice"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "scratch").symlink_to("../shared/scratch")
    (tmp_path / "shared" / "scratch").symlink_to(tmp_path / "disk")
    assert look(tmp_path / "home" / "scratch" / "alice" / "one") == ""
    (tmp_path / "shared").chmod(0o2775)
    found = look(tmp_path / "home" / "scratch" / "alice" / "two")
    assert found == str(tmp_path / "shared")
    (tmp_path / "shared").chmod(0o755)
    (tmp_path / "disk").chmod(0o777)
    assert look(tmp_path / "home" / "scratch" / "alice" / "three") == str(tmp_path / "disk")


def test_a_link_of_somebody_elses_in_a_sticky_directory_is_found(
    look: Look, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "mine").mkdir()
    (tmp_path / "tmp" / "alice").symlink_to(tmp_path / "mine")
    assert look(tmp_path / "tmp" / "alice" / "one") == ""
    os.chown(tmp_path / "tmp" / "alice", OTHER, -1, follow_symlinks=False)
    assert look(tmp_path / "tmp" / "alice" / "two") == str(tmp_path / "tmp")


def test_dots_and_odd_names_are_walked_too(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a b*" / "c;$(id)").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    way = tmp_path / "a b*" / "." / "c;$(id)"
    assert look(way / "mine") == ""
    assert look(Path(f"{way}/../../open/../a b*/two")) == ""
    (tmp_path / "a b*").chmod(0o777)
    assert look(way / "three") == str(tmp_path / "a b*")


def test_links_in_a_ring_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        open_to_others(str(tmp_path / "a" / "mine"))
    assert by_script(tmp_path / "a" / "mine") != ""
