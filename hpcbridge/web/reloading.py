"""A changed configuration, taken over while the service runs, or refused as a whole."""

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from hpcbridge.config.reload import Change, compare
from hpcbridge.config.settings import Settings
from hpcbridge.errors import BridgeError, ConfigError
from hpcbridge.jobscripts.rules import Severity
from hpcbridge.jobscripts.samples import check_all
from hpcbridge.sessions.manager import Sessions

log = logging.getLogger(__name__)

NOT_RELOADED = "the configuration is not reloaded, the one in use stays"


class Current:
    """The application that answers now; requests that have begun go on with the one before."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Reloader:
    """Reads the configuration again when it is asked to.

    ``settings`` are those in use, ``reread`` reads them anew, and ``make`` makes the application of
    some, both raising :class:`~hpcbridge.errors.ConfigError`; ``current`` gets the new one.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        current: Current,
        reread: Callable[[], Settings],
        make: Callable[[Settings], ASGIApp],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._current = current
        self._reread = reread
        self._make = make
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read it again, soon; who asks while that is done has it done once more."""
        self._asked.set()

    async def run(self) -> None:
        """Do so for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.reload()
            except Exception as error:
                self._told(good=False)
                expected = isinstance(error, BridgeError)
                said = str(error) if expected else "internal error"
                fault = None if expected else error
                log.error("%s: %s", NOT_RELOADED, said, exc_info=fault)  # noqa: TRY400

    async def reload(self) -> None:
        """Take over what is new. Raises :class:`~hpcbridge.errors.BridgeError`, and changes
        nothing then."""
        change = await asyncio.to_thread(self._read)
        app = self._make(change.settings)
        self._sessions.reconfigure(change.settings)
        self._current.app = app
        logging.getLogger().setLevel(change.settings.server.log_level.upper())
        self._told(good=True)
        log.info("the configuration is reloaded: %s", ", ".join(change.changed) or "all as before")
        if change.restart:
            log.warning("the service has to be restarted for: %s", ", ".join(change.restart))

    def _read(self) -> Change:
        change = compare(self._settings, self._reread())
        wrong = [
            f"{name}: {problem}"
            for name, problems in check_all(change.settings)
            for problem in problems
            if problem.severity == Severity.ERROR
        ]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return change

    def _told(self, *, good: bool) -> None:
        instruments = self._sessions.instruments
        instruments.reload_good.set(good)
        instruments.reload_at.set(time.time())
