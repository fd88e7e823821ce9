"""The launch stub hands the secret to the application and to nobody else."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcbridge.jobscripts import LAUNCH_STUB
from tests.waiting import wait_until

from .conftest import SECRET

APP = """\
import json, os, sys
print(json.dumps({"argv": sys.argv[:-1], "last": sys.argv[-1][::-1], "name": __name__,
                  "path": sys.path[0], "file": __file__,
                  "unbuffered": os.environ["PYTHONUNBUFFERED"]}))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(LAUNCH_STUB, tmp_path / "launch.py")
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app.py").write_text(APP)
    return tmp_path


def launch(directory: Path, *arguments: str, python: str = sys.executable) -> tuple[int, str, str]:
    done = subprocess.run(
        [python, "launch.py", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_script_runs_as_main_with_its_own_directory_and_the_secret_last(directory: Path) -> None:
    code, out, err = launch(directory, "apps/app.py", "--port", "1", "-m", "x")
    assert (code, err) == (0, "")
    assert ast.literal_eval(out) == {
        "argv": ["apps/app.py", "--port", "1", "-m", "x", "--authKey"],
        "last": SECRET[::-1],
        "name": "__main__",
        "path": str(directory / "apps"),
        "file": "apps/app.py",
        "unbuffered": "1",
    }


def test_a_module_runs_like_python_m(directory: Path) -> None:
    code, out, err = launch(directory, "--secret-option", "--key", "-m", "apps.app", "a")
    assert (code, err) == (0, "")
    told = ast.literal_eval(out)
    assert told["argv"] == [str(directory / "apps" / "app.py"), "a", "--key"]
    assert (told["name"], told["path"]) == ("__main__", "")


READS_A_FILE = """\
import os, sys
from pathlib import Path
path = Path(sys.argv[-1])
print(sys.argv[-2], path.read_text()[::-1], path.read_text()[::-1], path.name.isdigit(),
      os.path.exists("secret"))
"""


def test_an_application_can_read_the_secret_from_a_file_that_no_directory_holds(
    directory: Path,
) -> None:
    (directory / "apps" / "app.py").write_text(READS_A_FILE)
    handed = SECRET[::-1]
    code, out, err = launch(directory, "--secret-file", "--authKeyFile", "apps/app.py")
    assert (code, err) == (0, "")
    assert out == f"--authKeyFile {handed} {handed} True False\n"
    assert not (directory / "secret").exists()


def test_the_file_that_is_kept_is_the_one_the_application_reads(directory: Path) -> None:
    (directory / "apps" / "app.py").write_text(READS_A_FILE)
    arguments = ["--secret-file", "--authKeyFile", "--keep-secret", "apps/app.py"]
    handed = "\n" + SECRET[::-1]
    for _ in range(2):
        code, out, err = launch(directory, *arguments)
        assert (code, err) == (0, "")
        assert out == f"--authKeyFile {handed} {handed} False True\n"


def test_the_secret_file_is_erased_unless_it_is_to_be_kept(directory: Path) -> None:
    assert launch(directory, "--keep-secret", "apps/app.py")[0] == 0
    assert (directory / "secret").exists()
    assert launch(directory, "apps/app.py")[0] == 0
    assert not (directory / "secret").exists()


def test_the_exit_status_and_the_traceback_are_the_applications(directory: Path) -> None:
    app = directory / "apps" / "app.py"
    app.write_text("import sys\nsys.exit(7)\n")
    assert launch(directory, "--keep-secret", "apps/app.py")[0] == 7
    app.write_text("import no_such_module_at_all\n")
    code, _, err = launch(directory, "apps/app.py")
    assert code == 1
    assert "ModuleNotFoundError" in err


def test_a_secret_that_the_application_prints_is_masked(directory: Path) -> None:
    app = directory / "apps" / "app.py"
    app.write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    code, out, err = launch(directory, "apps/app.py")
    assert code == 2
    assert "unrecognized arguments: --authKey ***" in err
    assert SECRET not in out + err


def test_prints_without_a_newline_reach_a_file_at_once(directory: Path) -> None:
    app = directory / "apps" / "app.py"
    app.write_text("import signal\nprint('ready at last', end='')\nsignal.pause()\n")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "launch.py", "apps/app.py"], cwd=directory, stdout=log
        )
    try:
        wait_until(lambda: (directory / "log").read_text() == "ready at last", "the ready text")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["apps/nope.py"], "there is no script apps/nope.py on this node"),
        (["-m", "no_such.module"], "there is no module no_such.module for "),
        ([], "usage: launch.py"),
        (["--nope", "apps/app.py"], "usage: launch.py"),
        (["--secret-option"], "usage: launch.py"),
        (["--secret-file"], "usage: launch.py"),
    ],
)
def test_what_cannot_begin_says_why_in_one_sentence(
    directory: Path, arguments: list[str], reason: str
) -> None:
    code, out, err = launch(directory, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"hpcbridge launch.py: {reason}")
    assert err.count("\n") == 1


def spoil(secret: Path, how: str) -> None:
    if how == "missing":
        secret.unlink()
    elif how == "readable":
        secret.chmod(0o640)
    elif how == "link":
        secret.rename(secret.with_name("elsewhere"))
        secret.symlink_to("elsewhere")
    elif how == "fifo":
        secret.unlink()
        os.mkfifo(secret, 0o600)
    else:
        secret.write_bytes({"empty": b"\n", "two lines": b"a\nb", "binary": b"\xff\xfe"}[how])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "cannot be opened: No such file"),
        ("readable", "can be read by others; its mode must be 0600"),
        ("link", "cannot be opened: Too many levels of symbolic links"),
        ("fifo", "is not a regular file of this user"),
        ("empty", "does not hold one line of printable ASCII"),
        ("two lines", "does not hold one line of printable ASCII"),
        ("binary", "does not hold one line of printable ASCII"),
    ],
)
def test_a_secret_file_that_cannot_be_trusted_is_refused(
    directory: Path, how: str, reason: str
) -> None:
    spoil(directory / "secret", how)
    code, out, err = launch(directory, "apps/app.py")
    assert (code, out) == (2, "")
    assert reason in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_file_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory / "secret", 65534, 65534)
    code, _, err = launch(directory, "apps/app.py")
    assert code == 2
    assert "is not a regular file of this user" in err


def test_the_stub_is_valid_for_python_3_8_and_needs_only_the_standard_library() -> None:
    tree = ast.parse(LAUNCH_STUB.read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    names = {alias.name.partition(".")[0] for node in imports for alias in node.names}
    assert names <= set(sys.stdlib_module_names)


WSLINK = """\
import sys, time
from wslink.websocket import ServerProtocol
protocol = ServerProtocol()
protocol.updateSecret(first := sys.argv[-1])
print("ready")
while protocol.secret == first:
    time.sleep(0.01)
print("the new one is", protocol.secret)
sys.stdin.read()
"""


def test_a_server_of_wslink_that_waits_for_its_user_takes_the_new_secret(directory: Path) -> None:
    (directory / "apps" / "app.py").write_text(WSLINK)
    new = directory / "secret.new"
    new.touch(mode=0o600)
    argv = [sys.executable, "launch.py", "apps/app.py"]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=directory, **piped) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        new.write_text("half a line")
        new.write_text("N3w\n")
        assert process.stdout.readline() == "the new one is ***\n"
        wait_until(lambda: new.read_text() == f"taken {hashlib.sha256(b'N3w').hexdigest()}\n")


def test_another_program_takes_its_new_secret_by_itself(directory: Path) -> None:
    program = (
        "import time\nprint(1)\nwhile 'taken' not in open('secret.new').read(): time.sleep(.1)"
    )
    (directory / "apps" / "app.py").write_text(program)
    new = directory / "secret.new"
    new.write_text("N3w\n")
    argv = [sys.executable, "launch.py", "apps/app.py"]
    with subprocess.Popen(argv, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert new.read_text() == "N3w\n"
        new.write_text("taken by itself\n")
        assert process.wait(60) == 0
