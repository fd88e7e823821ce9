"""What operators announce of the site, of applications and of clusters, and what they drain.

What is drained takes no new sessions; those that run go on. A cluster may be drained by the
configuration as well, and that is told first.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from hpcbridge.config.settings import Settings
from hpcbridge.database.tables import About, AnnouncementRow
from hpcbridge.errors import RequestError

LONGEST = 500
"""Characters of a text."""
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

Ask = Callable[[], Awaitable[Sequence[AnnouncementRow]]]


async def _none() -> Sequence[AnnouncementRow]:
    return ()


class Announcements:
    """As the database had them when it was last asked by :meth:`look`."""

    def __init__(self, settings: Settings, ask: Ask = _none) -> None:
        self._settings = settings
        self._ask = ask
        #: The newest first.
        self.rows: Sequence[AnnouncementRow] = ()

    async def look(self) -> None:
        """Ask the database. Raises :class:`~hpcbridge.errors.StoreError`; what was known stays."""
        self.rows = await self._ask()

    def shut(self, application: str) -> str:
        """Why no new sessions of an application may begin on any cluster; "" if they may."""
        if (row := self._drained(About.SITE)) is not None:
            return _sentence("No new sessions begin now", row.text, "Those that run go on.")
        if (row := self._drained(About.APPLICATION, application)) is not None:
            wanted = self._settings.applications.get(application)  # a reload may have removed it
            title = wanted.title if wanted and wanted.title else application
            said = f"{title} takes no new sessions"
            return _sentence(said, row.text, "Those that run go on.")
        return ""

    def drained(self, cluster: str) -> str:
        """Why a cluster takes no new sessions; "" if it does."""
        settings = self._settings.clusters[cluster]
        row = self._drained(About.CLUSTER, cluster)
        why = settings.drain or (row.text if row else "")
        if not settings.drain and row is None:
            return ""
        said = f"{settings.title or cluster} takes no new sessions"
        return _sentence(said, why, "Those that run there go on.")

    def _drained(self, about: About, name: str = "") -> AnnouncementRow | None:
        found = (row for row in self.rows if row.drain and (row.about, row.name) == (about, name))
        return next(found, None)


def _sentence(said: str, why: str, rest: str) -> str:
    why = why.strip()
    if not why:
        return f"{said}. {rest}"
    return f"{said}: {why}{'' if why.endswith(('.', '!', '?')) else '.'} {rest}"


def checked(settings: Settings, about: About, name: str) -> None:
    """Raises :class:`~hpcbridge.errors.RequestError` for what there is not."""
    known: dict[About, Iterable[str]] = {
        About.APPLICATION: settings.applications,
        About.CLUSTER: settings.clusters,
    }
    if about == About.SITE:
        if name:
            raise RequestError("name: the site has none.")
    elif name not in set(known[about]):
        names = ", ".join(known[about])
        raise RequestError(f"There is no {about} '{name[:64]}'; there are: {names}.")


def text_of(given: str, *, drain: bool) -> str:
    """A text as it is kept. Raises :class:`~hpcbridge.errors.RequestError` for one that cannot be.

    It is one line; what is drained needs none.
    """
    text = given.strip()
    if not text and not drain:
        raise RequestError("text: nothing is said. To withdraw an announcement, delete it.")
    if len(text) > LONGEST or _HIDDEN.search(text):
        raise RequestError(
            f"text: one line of at most {LONGEST} characters, none of them a control character."
        )
    return text
