"""What the command ``top`` does: a view of all sessions that changes as they do."""

import sys
import time
from collections import Counter

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpcbridge.cli import printing
from hpcbridge.cli.outcome import told
from hpcbridge.cli.printing import ago, line
from hpcbridge.cli.service import Where, opened, short_ids
from hpcbridge.client import Session, State

_SHOWN_ENDED = 60.0
"""Seconds for which a session that has ended stays in view."""
_HEADS = ("ID", "OWNER", "APPLICATION", "STATE", "CLUSTER", "HOST", "SINCE", "MESSAGE")


def top(*, as_json: bool, where: Where) -> None:
    """Show the sessions until Ctrl-C; as JSON, one in each line when it changes."""
    view = _View()
    with told(), opened(where) as client:
        changes = client.changes()
        try:
            if as_json or not sys.stdout.isatty():
                for each in changes:
                    printing.as_json(each)
                return
            with Live(
                get_renderable=view.drawn,
                console=printing.console(),
                screen=True,
                refresh_per_second=2,
            ):
                for each in changes:
                    view.note(each)
        except KeyboardInterrupt:
            return
        finally:
            changes.close()


class _View:
    """The sessions that live, and those that have just ended."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def note(self, session: Session) -> None:
        """What one is by now."""
        self._sessions = {**self._sessions, session.id: session}  # it is drawn by a thread

    def drawn(self) -> RenderableType:
        """The newest first, below how many there are."""
        old = time.time() - _SHOWN_ENDED
        shown = {
            key: each
            for key, each in self._sessions.items()
            if each.state != State.ENDED or each.times.get(State.ENDED, 0.0) > old
        }
        ordered = sorted(shown.values(), key=lambda each: -each.times.get(State.SUBMITTING, 0.0))
        counts = Counter(each.state for each in ordered)
        head = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
        return Group(Text(head or "No sessions.", style="bold"), Text(""), _table(ordered))


def _table(sessions: list[Session]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for head in _HEADS:
        made.add_column(head, no_wrap=True, ratio=1 if head == "MESSAGE" else None)
    ids = short_ids(sessions)
    for each in sessions:
        made.add_row(
            ids[each.id],
            line(each.owner or ""),
            line(each.application),
            printing.state(each),
            line(each.cluster),
            line(each.host or ""),
            ago(each.times.get(each.state)),
            line((each.error or each.message).split("\n")[0]),
        )
    return made
