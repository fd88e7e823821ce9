"""What the commands print: nothing that a service, a job or a user wrote acts on the terminal."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpcbridge.client import Session, State
from hpcbridge.plain import one_line, readable

WIDE = 10_000
"""Columns where the output is no terminal: nothing is cut off there."""
_COLORS = {
    State.SUBMITTING: "yellow",
    State.QUEUED: "yellow",
    State.STARTING: "cyan",
    State.READY: "green",
    State.ENDED: "dim",
}


def console(*, stderr: bool = False) -> Console:
    """Where to print."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def as_json(value: Any) -> None:
    """In ASCII: what else is in it is escaped."""
    print(json.dumps(plain(value)), flush=True)


def plain(value: Any) -> Any:
    """A reply as it came."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def line(text: str, style: str = "") -> Text:
    """Another's words as one line."""
    return Text(one_line(readable(text).replace("\n", " ")).strip(), style=style)


def state(session: Session) -> Text:
    """Where it stands, in a colour; why it ended."""
    told = session.reason or session.state if session.state == State.ENDED else session.state
    failed = session.error is not None
    return line(str(told), "red" if failed else _COLORS[session.state])


def table(heads: Sequence[str], rows: Sequence[Sequence[Text | str]], *, cut: int) -> None:
    """Rows below heads; where the terminal is too narrow, column ``cut`` is cut off."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for number, head in enumerate(heads):
        made.add_column(head, no_wrap=True, overflow="ellipsis" if number == cut else "ignore")
    for row in rows:
        made.add_row(*row)
    out = console()
    with out.capture() as captured:
        out.print(made)
    for each in captured.get().splitlines():
        print(each.rstrip())


def clock(at: float | None) -> str:
    """A moment as people here write it; with its date unless it is today's."""
    if at is None:
        return ""
    then = datetime.fromtimestamp(at).astimezone()
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def lasting(seconds: float) -> str:
    """A time span, roughly."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def ago(at: float | None) -> str:
    """How long ago a moment was."""
    return "" if at is None else lasting(time.time() - at)
