"""The applications as clients are told of them, and what keeps sessions off their clusters."""

from collections.abc import Callable

from pydantic import BaseModel, Field

from hpcbridge.clusters.announcements import Announcements
from hpcbridge.clusters.placement import Placement
from hpcbridge.config.settings import Settings
from hpcbridge.database.tables import About


class ClusterReply(BaseModel):
    """One of an application's clusters."""

    name: str
    title: str
    notice: str = Field("", description="Why new sessions may not get there now, if so.")
    unknown_since: float | None = Field(
        None, description="Since when it does not answer, in seconds since the epoch."
    )
    wait: float | None = Field(
        None, description="Seconds that a session launched now is expected to wait; if known."
    )


class AnnouncementReply(BaseModel):
    """What operators announce."""

    about: About = Field(description="What it is about.")
    name: str = Field(description="The application's or cluster's; empty for the site.")
    text: str
    drain: bool = Field(description="Whether no new sessions begin there; those that run go on.")
    at: float = Field(description="Since when, in seconds since the epoch.")
    by: str | None = Field(None, description="Who said so; told to operators.")


class ApplicationReply(BaseModel):
    """What a client can ask for by name."""

    name: str
    title: str
    description: str
    viewer: str = Field(
        description="How its sessions are looked at: portal, by the pictures that they push; page, "
        "at an address of their own; content, by a page of the site."
    )
    page: str | None = Field(None, description="Path of that page of the site.")
    choosable: bool = Field(description="Whether a launch may post 'cluster'.")
    notice: str = Field("", description="Why no new session may begin on any cluster, if so.")
    warm: bool = Field(description="Whether a session is ready, so that a launch gets it at once.")
    clusters: list[ClusterReply]


class CatalogueReply(BaseModel):
    """All applications, in the order of the configuration."""

    applications: list[ApplicationReply]
    announcements: list[AnnouncementReply] = Field(description="The newest first.")


def catalogue(
    settings: Settings, placement: Placement, warm: Callable[[str], bool]
) -> CatalogueReply:
    """What there is now; ``warm`` tells the applications of which a session is ready."""
    return CatalogueReply(
        applications=[
            ApplicationReply(
                name=name,
                title=wanted.title or name,
                description=wanted.description,
                viewer=wanted.viewer,
                page=wanted.page,
                choosable=wanted.cluster_by_request,
                notice=placement.announcements.shut(name),
                warm=warm(name) and not placement.announcements.shut(name),
                clusters=[
                    ClusterReply(
                        name=each.name,
                        title=each.title,
                        notice=each.notice,
                        unknown_since=each.silent_since,
                        wait=each.wait,
                    )
                    for each in placement.outlooks(name)
                ],
            )
            for name, wanted in settings.applications.items()
        ],
        announcements=announced(placement.announcements),
    )


def announced(announcements: Announcements, *, operator: bool = False) -> list[AnnouncementReply]:
    """What is announced, and by whom where an ``operator`` asks."""
    return [
        AnnouncementReply(
            about=row.about,
            name=row.name,
            text=row.text,
            drain=row.drain,
            at=row.at,
            by=row.by if operator else None,
        )
        for row in announcements.rows
    ]
