"""The command that is run on a machine, what it reads, and what it answers."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hpcbridge.errors import ClusterUnreachable, OutcomeUnknown, UnexpectedReply
from hpcbridge.schedulers.answers import MISSING
from hpcbridge.schedulers.hosts.far.requests import PROTOCOL
from hpcbridge.transports.base import Completed

_PACKAGE = "hpcbridge.schedulers.hosts.far"
_QUEUE = ("state", "queue", "requests")
_MACHINE = ("state", "processes", "supervisor", "machine", "requests")
"""In the order in which they need each other."""

# One line: login shells read it first, and csh takes no newline between quotes.
_BEGIN = "import json,sys,types;exec(json.loads(sys.stdin.buffer.readline().decode()))"
_LOAD = f"""
for name, text in json.loads(sys.stdin.buffer.readline().decode()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules["{_PACKAGE}.requests"].main()
"""


def argv(python: str) -> list[str]:
    """A Python that begins with what it reads, and nothing of its user's or site's."""
    return [python, "-I", "-S", "-B", "-c", _BEGIN]


def question(do: str, state: str, **more: Any) -> bytes:
    """What it reads: the program, and the request."""
    modules = _MACHINE if do in ("look", "examine") else _QUEUE
    return _program(modules) + json.dumps({"do": do, "state": state, **more}).encode()


@cache
def _program(modules: tuple[str, ...]) -> bytes:
    here = Path(__file__).parent / "far"
    texts = [
        (f"{_PACKAGE}.{name}", (here / f"{name}.py").read_text(encoding="utf-8"))
        for name in modules
    ]
    return f"{json.dumps(_LOAD)}\n{json.dumps(texts)}\n".encode()


def answer(done: Completed, where: str) -> dict[str, Any]:
    """What it answered; ``where`` is the machine, in words.

    Raises :class:`~hpcbridge.errors.ClusterUnreachable` where it could not do what it was asked,
    and :class:`~hpcbridge.errors.UnexpectedReply` where that is no answer.
    """
    python, said = done.argv[0], done.err.strip().rpartition("\n")[2][-300:]
    if done.exit_status == MISSING:
        raise ClusterUnreachable(
            f"{python} cannot be run on {where} ({said or 'no such command'}). Install Python 3.6 "
            "or later there, or name it in the cluster's 'python'."
        )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if done.exit_status != 0 or not isinstance(found, dict) or found.get("hpcbridge") != PROTOCOL:
        raise UnexpectedReply(
            f"{python} on {where} gave no answer that can be read (exit status "
            f"{done.exit_status}): {said or done.out.strip()[:200] or 'nothing'}"
        )
    if "error" in found:
        raise ClusterUnreachable(f"{where} cannot do its part: {found['error']}.")
    return found


def added(done: Completed, where: str) -> str:
    """The id of a job that was added to the queue.

    Raises :class:`~hpcbridge.errors.OutcomeUnknown` where there may be one that is not told.
    """
    try:
        return str(answer(done, where)["id"])
    except (UnexpectedReply, KeyError) as error:
        raise OutcomeUnknown(f"The job may have been queued: {error}") from error


def ids(wanted: Sequence[str]) -> list[str]:
    """Those that can be ids of this scheduler: they become parts of paths."""
    return [
        each
        for each in wanted
        if each.isascii()
        and len(each) < 40
        and all(part.isalnum() for part in each.split("-"))
        and each.count("-") == 1
    ]
