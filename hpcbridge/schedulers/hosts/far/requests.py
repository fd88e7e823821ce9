"""What is asked of the shared directory and of a machine: JSON in, JSON out."""

import json
import os
import signal
import sys

from hpcbridge.schedulers.hosts.far.state import Refused, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1


def answer(request: "dict[str, Any]") -> "dict[str, Any]":
    """Do what is asked. Of the other modules only those are there that it needs."""
    state = State(request["state"])
    if request["do"] in ("look", "examine"):
        from hpcbridge.schedulers.hosts.far.machine import examine, look

        return look(state, request) if request["do"] == "look" else examine(state)
    from hpcbridge.schedulers.hosts.far.queue import add, find, queue, withdraw

    actions = {"add": add, "queue": queue, "find": find, "withdraw": withdraw}
    return actions[request["do"]](state, request)


def main() -> None:
    """Answer the request on standard input."""
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGPIPE):  # a lost connection interrupts nothing
        signal.signal(number, signal.SIG_IGN)
    request = json.loads(sys.stdin.buffer.read().decode("utf-8"))
    try:
        told = answer(request)
    except Refused as error:
        told = {"error": str(error)}
    except OSError as error:
        told = {"error": f"{error.filename or 'a file'}: {error.strerror}"}
    told["hpcbridge"] = PROTOCOL
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
