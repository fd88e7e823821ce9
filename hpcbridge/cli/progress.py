"""How far a launch is, while somebody waits: a few lines that change, or a line for each change."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from hpcbridge.cli import printing
from hpcbridge.cli.printing import clock, lasting, line
from hpcbridge.client import Session, State

_STEPS = {
    State.SUBMITTING: "submitted",
    State.QUEUED: "out of the queue",
    State.STARTING: "started",
}
"""What is done once the state after it has begun."""


class Progress:
    """Shows a session each time that it changes; on the standard error, as it is no result."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = printing.console(stderr=True)
        self._now: Session | None = None
        self._last = ""
        self._live: Live | None = None
        if not quiet and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._drawn,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, session: Session) -> None:
        """What it is by now."""
        self._now = session
        if self._quiet or self._live:
            return
        said = "; ".join([session.message.split("\n")[0].rstrip("."), *_expected(session)])
        if said != self._last:
            self._last = said
            _print(self._console, line(said))

    def _drawn(self) -> RenderableType:
        session = self._now
        if session is None:
            return Spinner("dots", line("Launching."))
        rows: list[RenderableType] = [*_steps(session)]
        rows.append(Spinner("dots", line(session.message.split("\n")[0], "bold")))
        rows += [line(f"  {each}") for each in _expected(session)]
        return Group(*rows)


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _steps(session: Session) -> list[Text]:
    """Those that are done, and how long each took."""
    begun = sorted(session.times.items(), key=lambda each: each[1])
    ends = [at for _, at in begun[1:]]
    return [
        Text(f"✓ {_STEPS.get(state, state.value)} after {lasting(end - at)}", style="green")
        for (state, at), end in zip(begun, ends, strict=False)
    ]


def _expected(session: Session) -> list[str]:
    """What is known of the wait."""
    found = []
    if session.position is not None:
        queue = f" in {session.queue}" if session.queue else ""
        found.append(f"place {session.position}{queue}")
    if session.estimated_start is not None:
        away = session.estimated_start - time.time()
        soon = f" (in {lasting(away)})" if away > 0 else ""
        found.append(f"starts about {clock(session.estimated_start)}{soon}")
    if session.unknown_since is not None:
        found.append(f"the cluster has not answered since {clock(session.unknown_since)}")
    return found
