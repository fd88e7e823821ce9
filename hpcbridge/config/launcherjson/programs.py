"""A ``cmd`` as a program: where Python begins, how the secret gets in, what a shell reads.

wslink's servers want the secret as ``--authKey``, where ``ps`` shows it. Those that Python runs get
it from the launch stub instead, inside their process; trame's other programs read a file.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import PurePath

from hpcbridge.config.commandwords import Hole, Part
from hpcbridge.config.launcherjson.placeholders import literal, posted

Word = list[Part]

SECRET = Hole("job", "secret")
_PYTHON = re.compile(r"(?:pv|vtk)?w?python[0-9.]*|pvbatch")
_WITH_VALUE = {"-W", "-X", "--venv", "--opengl-window-backend", "--check-hash-based-pycs"}
_MPI = {"mpiexec", "mpirun", "srun", "prun"}
_SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "busybox"}
_JOINERS = {"ssh", "rsh", "su", "eval", "watch"}
"""Programs that hand their words to a shell, joined."""
_EVALUATE = {"perl", "ruby", "node", "php", "xterm"}
"""Programs that run what stands behind ``-c`` or ``-e``."""
_READ_AT_ONCE = {"awk", "gawk", "mawk", "sed"}
"""Programs whose first word is code."""
_WRAPPERS = {
    *("env", "nice", "nohup", "timeout", "stdbuf", "setsid", "ionice", "taskset", "numactl"),
    *("xvfb-run", "vglrun", "optirun", "catchsegv", "strace", "time", "chrt", "unbuffer", "sudo"),
}
"""Programs that run the one that their words name."""
_TAKES_VALUE = {
    *("-n", "-np", "-c", "-s", "-f", "-u", "-k", "-p", "-o", "-H", "-host", "-hosts", "-hostfile"),
    *("--host", "--hostfile", "--server-args", "--signal", "-d", "-display", "-ppn", "-N"),
}
"""Options of those that have a value."""
_CODE = re.compile(r"-[A-Za-z]*[ce]")
_WSLINK = re.compile(r"Starting factory|App running at")


def starts_wslink(ready_line: str | None) -> bool:
    """Whether an application tells by its ready line that it is a server of wslink or trame."""
    return ready_line is None or _WSLINK.search(ready_line) is not None


def script_at(words: Sequence[Word]) -> tuple[int, int] | None:
    """Where Python's program and its script (or ``-m``) stand; None where there is neither."""
    names = [PurePath(literal(each) or "").name.removesuffix(".exe") for each in words]
    python = next((at for at, name in enumerate(names) if _PYTHON.fullmatch(name)), None)
    if python is None:
        return None
    first: int | None = None
    at = python + 1
    while at < len(words):
        text = literal(words[at])
        if text == "-c":
            return None
        if text == "-m" and at + 1 < len(words) and first is None:
            return python, at
        if text is not None and text.endswith(".py"):
            return python, at
        if text in _WITH_VALUE:
            at += 1
        elif first is None and not (text or "x").startswith("-"):
            first = at
        at += 1
    return None if first is None else (python, first)


def with_stub(words: Sequence[Word], ready_line: str | None) -> list[Word] | None:
    """The command run through the launch stub, without the secret; None where it cannot be.

    An option other than ``--authKey`` keeps its name. A server of wslink that was not given the
    secret gets it too: its own default is known to everybody.
    """
    found = script_at(words)
    if found is None:
        return None
    python, script = found
    rest, option = _without_secret(words[script:])
    if option is None and (not starts_wslink(ready_line) or any(SECRET in each for each in rest)):
        return None
    if any(SECRET in each for each in [*words[:script], *rest]):
        return None
    stub: list[Word] = [[Hole("job", "launch")]]
    if option not in (None, "--authKey"):
        stub += [["--secret-option"], [str(option)]]
    names = {PurePath(literal(each) or "").name for each in words[: python + 1]}
    if names & {*_MPI, "pvbatch"}:
        stub.append(["--keep-secret"])  # each rank reads it
    return [*words[:script], *stub, *rest]


def _without_secret(words: Sequence[Word]) -> tuple[list[Word], str | None]:
    """The words without ``OPTION ${secret}`` or ``OPTION=${secret}``, and the option."""
    for at, word in enumerate(words):
        before = literal(words[at - 1]) if at else None
        if word == [SECRET] and before is not None and re.fullmatch(r"--?[A-Za-z][\w-]*", before):
            return [*words[: at - 1], *words[at + 1 :]], before
        head = word[0] if len(word) == 2 and word[1] == SECRET else ""
        if isinstance(head, str) and re.fullmatch(r"--[A-Za-z][\w-]*=", head):
            return [*words[:at], *words[at + 1 :]], head[:-1]
    return list(words), None


def with_secret_file(words: Sequence[Word]) -> list[Word] | None:
    """trame's ``--authKeyFile`` in place of ``--authKey``; None where there is no such pair."""
    rest, option = _without_secret(words)
    if option != "--authKey":
        return None
    return [*rest, ["--authKeyFile"], [Hole("job", "secret_file")]]


def chosen_programs(words: Sequence[Word], free: set[str]) -> list[str]:
    """Names of ``free`` by which a client would choose the program or the script that runs."""
    found = script_at(words)
    programs = [*words[:1], *_run_by_wrappers(words)]
    if found is not None:
        python, script = found
        end = script + 2 if literal(words[script]) == "-m" else script + 1
        programs += words[python:end]
        programs += [
            word
            for before, word in itertools.pairwise(words[:python])
            if not (literal(before) or "").startswith("-")
        ]
    return [name for word in programs for name in posted(word) if name in free]


def _name(word: Word) -> str:
    return PurePath(literal(word) or "").name


def _run_by_wrappers(words: Sequence[Word]) -> list[Word]:
    """The words by which wrappers (``env``, ``mpiexec``) and shells are told what to run."""
    found, at = list[Word](), 0
    while at < len(words) and _name(words[at]) in _WRAPPERS | _MPI | _SHELLS:
        at += 1
        while at < len(words) and (text := literal(words[at])) is not None:
            if text in _TAKES_VALUE:
                at += 1
            elif not text.startswith("-") and not re.fullmatch(r"[0-9.]+[smhd]?|\w+=.*", text):
                break
            at += 1
        found += words[at : at + 1]
    return found


def read_by_shells(words: Sequence[Word], free: set[str]) -> list[str]:
    """Names of ``free`` that stand in text which a shell or an interpreter reads as code."""
    found: list[str] = []
    interpreter = code = joins = False
    for word in words:
        name, text = _name(word), literal(word)
        option = text is not None and text.startswith("-")
        if joins or code:
            found += [each for each in posted(word) if each in free]
            code = code and option  # its options come first: bash -c -x CODE
        elif interpreter and text is not None and _CODE.fullmatch(text):
            code = True
        known = _PYTHON.fullmatch(name) or name in _SHELLS | _EVALUATE
        interpreter = interpreter or bool(known)
        code = code or name in _READ_AT_ONCE
        joins = joins or name in _JOINERS
    return found
