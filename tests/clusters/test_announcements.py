"""What is drained, of what the configuration has and of what it has no more."""

from types import SimpleNamespace
from typing import Any

from hpcbridge.clusters.announcements import Announcements
from hpcbridge.database.tables import About, AnnouncementRow


async def test_a_drained_application_that_a_reload_has_removed_is_drained_all_the_same() -> None:
    """A launch may have begun before."""
    settings: Any = SimpleNamespace(applications={"cone": SimpleNamespace(title="A cone")})
    row = AnnouncementRow(
        about=About.APPLICATION, name="cone", text="new disks", drain=True, by="", at=0.0
    )

    async def ask() -> list[AnnouncementRow]:
        return [row]

    announcements = Announcements(settings, ask)
    await announcements.look()
    assert announcements.shut("cone").startswith("A cone takes no new sessions: new disks.")
    settings.applications.clear()
    assert announcements.shut("cone").startswith("cone takes no new sessions: new disks.")
