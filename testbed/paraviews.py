"""The ParaViews of newer Debian releases, each with trame in a directory of this machine.

    python3 -m testbed.paraviews COMMAND...    install what is missing, then run the command
    python3 -m testbed.paraviews --remove      remove them all

The first time this takes some minutes and 3 GB for each release; they are kept for the next time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testbed import cluster, debian, packages
from testbed.layout import HERE, PLACES, TestbedError

SUITES = ("trixie", "forky")
"""Debian 13 has ParaView 5.13, for X11; the release after it 6.x, which chooses what draws it."""
VENV = "/opt/trame"
"""In each of them, an environment with trame for ``pvpython --venv``."""
OSMESA = "/opt/osmesa"
"""In each of them, this machine's libOSMesa, which newer releases lack, and what it needs."""

_PACKAGES = ("paraview", "python3-paraview", "libegl1", "libegl-mesa0", "libgl1-mesa-dri")
_TRAME = ("trame", "trame-vtk", "trame-vuetify")
_CONSTRAINTS = HERE.parent / "constraints.txt"
_MARK = ".installed"
# What the dynamic linker says of a library that another one needs.
_NEEDED = re.compile(r"=> (/\S+)")


def root(suite: str) -> Path:
    """Where the release is, or will be."""
    return PLACES / f"hpcb-paraview-{suite}"


def wrapper(suite: str, program: str, path: Path) -> str:
    """Write to ``path`` a command that runs a ParaView program of the release; its words follow.

    The program sees this machine's files in /tmp and in this checkout, in the same working
    directory. Root's, since it makes a mount namespace.
    """
    checkout = HERE.parent
    inside = ["sh", str(HERE / "inroot.sh"), str(root(suite)), str(checkout)]
    command = " ".join(f"'{word}'" for word in (*inside, "env", "-C"))
    path.write_text(f'#!/bin/sh\nexec unshare --mount {command} "$PWD" {program} "$@"\n')
    path.chmod(0o755)
    return str(path)


def main(argv: list[str]) -> int:
    """The exit status of the command, or 2 where it could not be run."""
    if not argv:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if argv == ["--remove"]:
            return _remove()
        cluster.check_root()
        with ExitStack() as stack:
            for suite in SUITES:
                stack.enter_context(_installed(suite))
            return subprocess.run(argv, check=False).returncode
    except TestbedError as error:
        print(error, file=sys.stderr)
        return 2


@contextmanager
def _installed(suite: str) -> Iterator[None]:
    """With the release in its directory, which nobody changes meanwhile."""
    with _lock(suite) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not _is_current(suite):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_current(suite):
                _install(suite)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _is_current(suite: str) -> bool:
    mark = root(suite) / _MARK
    return mark.is_file() and mark.read_text() == _fingerprint(suite)


def _install(suite: str) -> None:
    print(f"Putting Debian {suite} with ParaView into {root(suite)} ...", flush=True)
    new = root(suite).with_suffix(".new")
    for each in (root(suite), new):
        debian.remove(each)
    new.mkdir()
    debian.bootstrap(new, suite, ["ca-certificates", "python3"])
    debian.install(new, _PACKAGES)
    _install_trame(new)
    _install_osmesa(new)
    (new / _MARK).write_text(_fingerprint(suite))
    new.rename(root(suite))


def _install_trame(new: Path) -> None:
    """By this machine's pip, for the other's Python."""
    chroot = ["chroot", str(new), "python3"]
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = _output([*chroot, "-c", asked]).strip()
    _output([*chroot, "-m", "venv", "--without-pip", VENV])
    site = f"{new}{VENV}/lib/python{version}/site-packages"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["--python-version", version, "--only-binary=:all:", "--target", site, "--upgrade"]
    _output([*pip, "-c", str(_CONSTRAINTS), *_TRAME])


def _install_osmesa(new: Path) -> None:
    """From the package that `testbed install` fetched, and its libraries from this machine."""
    place = new / OSMESA[1:]
    packages.unpack(new / "tmp/osmesa", packages.OSMESA)
    place.mkdir()
    (library,) = (new / "tmp/osmesa").glob("usr/lib/*/libOSMesa.so.8")
    there = _output(["chroot", str(new), "ldconfig", "-p"]).split()
    for each in (str(library), *_NEEDED.findall(_output(["ldd", str(library)]))):
        if Path(each).name not in there:
            shutil.copy(each, place)
    shutil.rmtree(new / "tmp/osmesa")


def _output(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise TestbedError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _fingerprint(suite: str) -> str:
    """What an installation depends on."""
    words = (suite, *_PACKAGES, *_TRAME, _CONSTRAINTS.read_text())
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@contextmanager
def _lock(suite: str) -> Iterator[int]:
    """A file for flock(2): shared by those who use the release, exclusive to change it."""
    lock = os.open(PLACES / f".hpcb-paraview-{suite}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


def _remove() -> int:
    for suite in SUITES:
        if root(suite).exists():
            with _lock(suite) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                debian.remove(root(suite))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
