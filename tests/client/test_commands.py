"""The commands for people, against the service: what they print, and what nothing makes them do."""

import fcntl
import io
import json
import os
import pty
import re
import signal
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.auth.identity import Scope
from hpcbridge.cli import completion, launchwork, logins, logwork, printing
from hpcbridge.cli import main as cli
from hpcbridge.client import Client, Session
from hpcbridge.errors import ConfigError
from hpcbridge.store import SessionRow, State, Store
from tests.client.conftest import Bridge, unconnected
from tests.waiting import wait_until

pytestmark = pytest.mark.servers

Run = Callable[..., tuple[int, str, str]]
HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]mist\x1b[0m\u202e\r\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory of one's own; whoever is not logged in."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "config"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, output and errors of ``hpcbridge ARGUMENT...``; ``typed`` is its input."""

    def command(*arguments: Any, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        for text in (said.out, said.err):
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), text
        status = caught.value.code
        assert status is None or isinstance(status, int)
        return status or 0, said.out, said.err

    return command


@pytest.fixture
def alice(run: Run, bridge: Bridge) -> Run:
    """The same of Alice, who is logged in."""
    login(run, bridge)
    return run


def login(run: Run, bridge: Bridge, *scopes: Scope, user: str = "alice") -> None:
    assert run("login", bridge.url, typed=f"{bridge.token(user, *scopes)}\n")[0] == 0


def success(answer: tuple[int, str, str]) -> str:
    status, out, error = answer
    assert status == 0, error
    return out


def launched(alice: Run, *arguments: str) -> str:
    """The id of a session that is on its way."""
    return success(alice("launch", *(arguments or ("cone",)), "--no-wait")).strip()


# -- login


def test_a_login_is_tried_and_kept_for_its_owner_alone(
    run: Run, bridge: Bridge, home: Path
) -> None:
    token = bridge.token()
    out = success(run("login", bridge.url, typed=f"{token}\n"))
    file = home / "hpcbridge/login.json"
    assert "as alice" in out
    assert str(file) in out
    assert token not in out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert token not in repr(logins.load())
    assert json.loads(success(run("sessions", "--json")))["user"] == "alice"
    assert [each.name for each in file.parent.iterdir()] == ["login.json"]
    assert "stays valid" in success(run("logout"))
    assert not file.exists()
    assert "no login" in success(run("logout"))
    status, _, error = run("sessions")
    assert status == 4
    assert "hpcbridge login URL" in error


def test_a_token_that_is_not_valid_is_not_kept(run: Run, bridge: Bridge, home: Path) -> None:
    for typed, status, said in (
        ("hpcb_" + "0" * 60, 4, "not valid"),
        ("", 1, "no token"),
        ("two words", 1, "no token"),
    ):
        answer = run("login", bridge.url, typed=f"{typed}\n")
        assert answer[0] == status
        assert said in answer[2]
    token = bridge.token("alice", Scope.LAUNCH)
    status, _, error = run("login", bridge.url, typed=token)
    assert (status, "not for 'read'" in error) == (5, True)
    assert not home.exists()


def test_the_token_goes_to_nothing_that_is_not_the_service(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not even asked for."""
    monkeypatch.setattr("hpcbridge.cli.loginwork._token", pytest.fail)
    assert run("login", "http://127.0.0.1:1")[0] == 3
    assert run("login", "viz.example.org")[0] == 1
    status, _, error = run("login", "http://127.0.0.1:1", "s3cret")  # a token as an argument
    assert status == 2
    assert "unexpected extra argument" in error


def test_a_login_that_others_can_read_is_not_used(alice: Run, home: Path) -> None:
    file = home / "hpcbridge/login.json"
    file.chmod(0o644)
    status, _, error = alice("sessions")
    assert status == 1
    assert "0644" in error
    file.chmod(0o600)
    file.write_text('{"url": 1')
    status, _, error = alice("sessions")
    assert "is no login" in error
    with pytest.raises(ConfigError):
        logins.load()


# -- launch, look, stop


def test_a_launch_waits_and_prints_where_the_session_is(alice: Run) -> None:
    status, out, error = alice("launch", "tuned", "--set", "level=4", "--set", "file=b=c.vtu")
    assert status == 0, error
    found = re.fullmatch(r"([0-9a-f]{40}) is ready on (\S+)\.\n(ws://\S+)\n", out)
    assert found, out
    assert "starting" in error  # a line for each step, as this is no terminal
    shown = success(alice("show", found[1]))
    assert re.search(r"^--set level +4\n", shown, re.M)
    assert re.search(r"^--set file +b=c\.vtu\n", shown, re.M)
    session = json.loads(success(alice("show", found[1][:10], "--json")))
    assert session["parameters"] == {"file": "b=c.vtu", "level": 4}
    assert session["secret"] not in shown
    assert "is being stopped" in success(alice("stop", found[1][:10]))


def test_what_is_listed_shown_and_stopped_by_the_beginning_of_an_id(alice: Run) -> None:
    session_id = launched(alice)
    rows = success(alice("sessions", "--application", "cone")).splitlines()
    assert rows[0].split()[:5] == ["ID", "APPLICATION", "STATE", "CLUSTER", "SINCE"]
    row = next(row for row in rows if session_id.startswith(row.split()[0]))
    begun = row.split()[0]
    assert json.loads(success(alice("stop", begun, "--json")))["id"] == session_id
    wait_until(lambda: "stopped" in success(alice("sessions", "--state", "ended")), "its end")
    shown = success(alice("show", begun))
    assert shown.startswith("stopped ")
    status, _, error = alice("stop", begun)
    assert (status, "no session whose id begins" in error) == (6, True)


def test_more_sessions_than_a_page_are_listed_up_to_the_limit(
    alice: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [launched(alice) for _ in range(3)]
    monkeypatch.setattr("hpcbridge.cli.sessionwork._PAGE", 2)
    listed = json.loads(success(alice("sessions", "--state", "all", "--limit", "3", "--json")))
    assert [each["id"] for each in listed["sessions"]] == ids[::-1]
    status, out, error = alice("sessions", "--limit", "2")
    assert (status, len(out.splitlines())) == (0, 3)
    assert "more than 2: --limit" in error
    for each in ids:
        success(alice("stop", each))


def test_a_launch_that_fails_says_why_and_has_a_status_of_its_own(alice: Run) -> None:
    status, out, error = alice("launch", "crash")
    assert (status, out) == (7, "")
    assert "cannot open display: mist" in error
    failed = json.loads(success(alice("sessions", "--state", "ended", "--json")))["sessions"][0]
    shown = success(alice("show", failed["id"]))
    assert shown.startswith("failed ")
    assert re.search(r"^exit status +7$", shown, re.M)
    assert "cannot open display: mist" in success(alice("logs", failed["id"]))


def test_what_a_job_prints_is_followed_to_its_end(alice: Run) -> None:
    session_id = launched(alice, "crash")
    out = success(alice("logs", "-f", session_id))
    assert out == "cannot open display: mist\n"
    parts = success(alice("logs", session_id, "--json")).splitlines()
    assert json.loads(parts[0])["data"] == out


def test_applications_are_listed(alice: Run) -> None:
    out = success(alice("applications"))
    assert re.search(r"^cone +cone +here$", out, re.M)
    assert "cone" in [each["name"] for each in json.loads(success(alice("applications", "--json")))]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("show", "0" * 40), 6, "no such session"),
        (("show", "ffffffff"), 6, "begins with ffffffff"),
        (("show", "../x"), 6, "is no id"),
        (("logs", "0" * 40), 6, "no such session"),
        (("launch", "cones"), 2, "no application 'cones'"),
        (("launch", "tuned", "--set", "level=70"), 2, "'level' must be"),
        (("launch", "tuned", "--set", "level"), 2, "not NAME=VALUE"),
        (("launch", "tuned", "--set", "level=1", "--set", "level=2"), 2, "twice"),
        (("launch", "tuned", "--set", "application=x"), 2, "given otherwise"),
        (("launch", "tuned", "--open", "--no-wait"), 2, "--open waits"),
        (("sessions", "--owner", "bob"), 5, "only operators"),
        (("sessions", "--state", "dead"), 2, "dead"),
    ],
)
def test_mistakes_are_told_with_a_status_of_their_own(
    alice: Run, arguments: tuple[str, ...], status: int, said: str
) -> None:
    answer = alice(*arguments)
    assert answer[0] == status
    assert said in " ".join(re.sub(r"[│╭╰─╮╯]", " ", answer[2]).split())


def test_two_sessions_of_the_same_beginning_are_not_mistaken(alice: Run, bridge: Bridge) -> None:
    ids = ["abc0" + "0" * 36, "abcd" + "0" * 36]

    async def add(store: Store) -> None:
        for each in ids:
            ended = {"state": State.ENDED, "submitting_at": 1.0, "job_ended": True}
            name = f"hpcb-{each[:24]}"
            given = {"application": "cone", "cluster": "here", "user": "alice", "job_name": name}
            await store.add(SessionRow(id=each, **ended, **given))

    bridge.with_store(add)
    status, _, error = alice("show", "abc")
    assert status == 2
    assert f"Several sessions begin with abc: {', '.join(ids)}" in error
    assert ids[1] in success(alice("show", "abcd"))
    rows = success(alice("sessions", "--state", "all")).splitlines()
    assert {"abc00000", "abcd0000"} <= {row.split()[0] for row in rows}


def test_every_command_says_what_its_token_is_not_for(run: Run, bridge: Bridge) -> None:
    login(run, bridge, Scope.READ)
    for arguments in (("launch", "cone"), ("stop", "0" * 40)):
        status, _, error = run(*arguments)
        assert (status, "This token is not for" in error) == (5, True)
    token = bridge.token("alice", Scope.LAUNCH)
    file = logins.path().with_name("other")
    file.touch(mode=0o600)
    file.write_text(token)
    for arguments in (("sessions",), ("show", "0" * 40), ("logs", "0" * 40), ("applications",)):
        status, _, error = run(*arguments, "--token-file", file)
        assert (status, "not for 'read'" in error) == (5, True)


@unconnected
def test_a_service_that_is_gone_is_told(run: Run) -> None:
    logins.save(logins.Login("http://127.0.0.1:1"))
    for arguments in (("sessions",), ("applications",), ("show", "0" * 40), ("stop", "0" * 40)):
        status, _, error = run(*arguments)
        assert (status, "cannot be reached" in error) == (3, True)
    assert run("sessions", "--socket", "/no/such/socket")[0] == 3


# -- Ctrl-C, on a terminal


@pytest.mark.parametrize(("answer", "kept"), [(b"n\n", False), (b"\n", True), (b"\x03", True)])
def test_ctrl_c_asks_whether_to_keep_the_job(
    alice: Run, client: Client, answer: bytes, kept: bool
) -> None:
    known = {each.id for each in client.sessions("all").sessions}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hpcbridge", "launch", "mute"]
    started = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = ""

    def reads(words: str) -> bool:
        nonlocal seen
        seen += os.read(ours, 4096).decode()
        return words in seen

    try:
        wait_until(lambda: reads("started") or reads("starting"), "how far the launch is")
        started.send_signal(signal.SIGINT)
        wait_until(lambda: reads("Keep the job? [Y/n]"), "the question")
        if answer == b"\x03":
            started.send_signal(signal.SIGINT)
        else:
            os.write(ours, answer)
        assert started.wait(30) == 130
        seen += os.read(ours, 4096).decode()
    finally:
        started.kill()
        started.wait()
        os.close(ours)
    assert "Traceback" not in seen
    (begun,) = (each for each in client.sessions("all").sessions if each.id not in known)
    if kept:
        assert f"{begun.id} goes on" in seen
        client.stop(begun.id)
    else:
        assert f"{begun.id} is being stopped" in seen
    wait_until(lambda: client.session(begun.id).state == "ended", "its end")
    assert client.session(begun.id).reason == "stopped"


def test_top_shows_sessions_as_they_change(alice: Run, client: Client) -> None:
    """On a terminal; nothing that a job printed acts on it, and Ctrl-C is no error."""
    first = client.launch("cone", wait=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    started = subprocess.Popen(
        [sys.executable, "-m", "hpcbridge", "top"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = ""

    def reads(pattern: str) -> bool:
        nonlocal seen
        seen += os.read(ours, 65536).decode(errors="replace")
        return re.search(pattern, seen) is not None

    try:
        wait_until(lambda: reads(rf"{first.id[:8]} +alice +cone +ready +here"), "the first")
        second = client.launch("hostile", wait=False)
        wait_until(lambda: reads(rf"{second.id[:8]} +alice +hostile +failed +here"), "its end")
        started.send_signal(signal.SIGINT)
        wait_until(lambda: reads(r"\x1b\[\?1049l"), "the terminal as it was")
        assert started.wait(30) == 0
    finally:
        started.kill()
        started.wait()
        os.close(ours)
    client.stop(first.id)
    assert "owned" not in seen
    assert "Traceback" not in seen


def test_top_tells_programs_of_each_change(alice: Run, client: Client) -> None:
    begun = client.launch("cone")
    started = subprocess.Popen(
        [sys.executable, "-m", "hpcbridge", "top"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        while (told := json.loads(started.stdout.readline()))["id"] != begun.id:
            pass
        assert told["state"] == "ready"
        client.stop(begun.id)
        while (told := json.loads(started.stdout.readline()))["state"] != "ended":
            pass
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 0
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


# -- what others wrote


def test_nothing_that_a_job_prints_acts_on_the_terminal(alice: Run) -> None:
    """Each ``run`` looks for control characters in all that is printed."""
    hostile = launched(alice, "hostile")
    assert "[red]mist" in success(alice("logs", "-f", hostile))
    shown = success(alice("show", hostile))
    assert "[red]mist" in shown
    assert "owned" not in shown
    assert hostile[:8] in success(alice("sessions", "--state", "ended"))
    data = json.loads(success(alice("logs", hostile, "--json")).splitlines()[0])["data"]
    assert "\x1b]0;owned\x07" in data  # as it was printed, but in ASCII
    status, _, error = alice("launch", "hostile")
    assert status == 7
    assert "[red]mist" in error


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_escape_sequences_and_characters_may_be_cut_anywhere(size: int) -> None:
    text = "a\x1b[31mb\x1b]0;tit\x1b\\c\u00e9d\r\ne\x9b1mf\x1bPx\x07g\u202eh\r"
    data = text.encode()
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    assert "".join(logwork.shown(parts)) == "abc\u00e9d\nefgh\n"


def test_a_line_without_an_end_is_shown_as_soon_as_it_is_there() -> None:
    shown = logwork.shown(iter([b"Starting factory", b" now\n"]))
    assert [next(shown), next(shown)] == ["Starting factory", " now\n"]
    endless = list(logwork.shown([b"\x1b]" + b"x" * 5000, b"y\n"]))
    assert len("".join(endless)) < 5000


def test_words_of_the_service_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(["A"], [[printing.line(HOSTILE)]], cut=0)
    assert capsys.readouterr().out == "A\n[red]mist\n"


def test_only_addresses_of_the_web_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda page: bool(opened.append(page) or True))
    given = {"id": "1", "application": "a", "cluster": "c", "state": "ready", "message": ""}
    for page in ("file:///etc/passwd", "javascript:alert(1)"):
        with pytest.raises(Exception, match="no address that a browser"):
            launchwork._open(Session.model_validate(given | {"page": page}))
    launchwork._open(Session.model_validate(given | {"page": "https://viz.example.org/"}))
    assert opened == ["https://viz.example.org/"]


# -- completion


def test_applications_and_sessions_are_completed(alice: Run) -> None:
    assert completion.applications("co") == [("cone", "cone")]
    session_id = launched(alice)
    for offers in (completion.live_sessions, completion.sessions):
        assert session_id in [each for each, _ in offers(session_id[:5])]
    success(alice("stop", session_id))
    logins.forget()
    assert completion.applications("") == []
    logins.save(logins.Login("http://127.0.0.1:1"))
    assert completion.sessions("") == []


def test_the_shell_is_told(alice: Run) -> None:
    """As bash asks."""
    environment = {"_HPCBRIDGE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    done = subprocess.run(
        [Path(sys.executable).with_name("hpcbridge")],
        env=os.environ | environment | {"COMP_WORDS": "hpcbridge launch tu"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["tuned"]
