"""The virtual display of a job: it works, it is private, and it is gone afterwards."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbridge.jobscripts import TemplateSet

from .conftest import Job

Made = Callable[..., TemplateSet]
RunJob = Callable[..., Job]

needs_xvfb = pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
CLIENT = """\
import ctypes, os
from ctypes.util import find_library
x11 = ctypes.CDLL(find_library("X11") or "libX11.so.6")
x11.XOpenDisplay.restype = ctypes.c_void_p
x11.XOpenDisplay.argtypes = [ctypes.c_char_p]
display = x11.XOpenDisplay(None)
print("display", os.environ["DISPLAY"], "open" if display else "refused", flush=True)
if display:
    x11.XDisplayWidth.argtypes = [ctypes.c_void_p, ctypes.c_int]
    print("width", x11.XDisplayWidth(display, 0), flush=True)
"""


def script(body: str) -> str:
    return "#!/bin/bash\n{% include 'prelude.sh' %}\n" + body + "\n"


@pytest.fixture
def client(tmp_path: Path) -> str:
    path = tmp_path / "client.py"
    path.write_text(CLIENT)
    return str(path)


@needs_xvfb
def test_the_display_is_open_for_the_job_and_gone_after_it(
    run_job: RunJob, made: Made, client: str
) -> None:
    body = "hpcbridge_xvfb 640x480\nhpcbridge_run {{ bridge.python }} {{ app.client }}"
    job = run_job("t.sh", made(script(body)), properties={"client": client})
    assert job.finish() == 0, job.log
    assert "open\nwidth 640\n" in job.log
    assert job.processes() == {}


@needs_xvfb
def test_without_the_jobs_cookie_the_display_is_refused(
    run_job: RunJob, made: Made, client: str
) -> None:
    body = (
        "hpcbridge_xvfb\nexport XAUTHORITY=/dev/null\n"
        "hpcbridge_run {{ bridge.python }} {{ app.client }}"
    )
    job = run_job("t.sh", made(script(body)), properties={"client": client})
    assert job.finish() == 0, job.log
    assert "refused" in job.log


@needs_xvfb
def test_the_cookie_is_private_and_for_this_display_only(run_job: RunJob, made: Made) -> None:
    body = "hpcbridge_xvfb\nhpcbridge_run bash -c 'echo up on $DISPLAY; sleep 1010'"
    job = run_job("t.sh", made(script(body)))
    job.wait_for("up on :")
    (authority,) = job.directory.glob("Xauthority.*")
    entry = authority.read_bytes()
    number = job.log.partition("up on :")[2].strip().encode()
    assert entry[:-16] == b"".join(
        (b"\xff\xff\0\0\0", bytes([len(number)]), number, b"\0\x12MIT-MAGIC-COOKIE-1\0\x10")
    )
    cookie = entry[-16:]
    assert authority.stat().st_mode & 0o777 == 0o600
    (server,) = [text for text in job.processes().values() if text.startswith("Xvfb")]
    assert cookie.hex() not in server
    assert "-nolisten tcp" in server
    assert job.terminate() == 143
    assert job.processes() == {}


def test_a_display_that_cannot_start_is_said_at_once(
    run_job: RunJob, made: Made, tmp_path: Path
) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "Xvfb").write_text("#!/bin/bash\necho no such screen >&2\nexit 1\n")
    (broken / "Xvfb").chmod(0o755)
    text = script("hpcbridge_xvfb\nhpcbridge_run echo not reached")
    job = run_job("t.sh", made(text), env={"PATH": f"{broken}:{os.environ['PATH']}"})
    assert job.finish() == 1
    assert job.log == (
        "no such screen\nhpcbridge: Xvfb was not ready after 15 seconds; what it said is above\n"
    )


def test_a_term_while_the_display_starts_ends_the_job(
    run_job: RunJob, made: Made, tmp_path: Path
) -> None:
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "Xvfb").write_text("#!/bin/bash\necho starting >&2\nexec sleep 1011\n")
    (slow / "Xvfb").chmod(0o755)
    text = script("hpcbridge_xvfb\nhpcbridge_run echo not reached")
    job = run_job("t.sh", made(text), env={"PATH": f"{slow}:{os.environ['PATH']}"})
    job.wait_for("starting")
    assert job.terminate() == 143
    assert job.processes() == {}


def test_a_node_without_xvfb_is_named(run_job: RunJob, made: Made, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("env", "mv", "grep", "sleep", "bash"):
        (tools / name).symlink_to(str(shutil.which(name)))
    job = run_job("t.sh", made(script("hpcbridge_xvfb")), env={"PATH": str(tools)})
    assert job.finish() == 1
    assert "hpcbridge: Xvfb is not installed on " in job.log


@pytest.mark.skipif(
    not (shutil.which("pvpython") and shutil.which("Xvfb")), reason="ParaView is not installed"
)
def test_paraviews_python_renders_under_the_template(run_job: RunJob, tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom paraview.simple import *\n"
        "Show(Cone())\nview = Render()\nSaveScreenshot('cone.png', view)\n"
        "print('rendered', __name__, '--authKey' in sys.argv, sys.argv[1:3], end='')\n"
    )
    properties = {"pvpython": "pvpython", "script": str(app)}
    job = run_job("xvfb.sh", properties=properties, parameters={})
    assert job.finish() == 0, job.log
    assert "rendered __main__ True ['--host', '127.0.0.1']" in job.log
    picture = (job.directory / "cone.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 3000
    assert job.processes() == {}
