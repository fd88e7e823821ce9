"""The section ``[applications.NAME.warm]``."""

import zoneinfo
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from hpcbridge.config.fields import USER_NAME, Name, Primitive, Seconds, Section
from hpcbridge.config.hours import Clock, Hours

DAY = 86400.0


class WarmSettings(Section):
    """Sessions that are kept ready before anybody asks for them."""

    count: int = Field(ge=1, le=100, description="Ready sessions to keep, for each of 'users'.")
    least: int = Field(
        0, ge=0, description="Sessions to keep although nobody asks for them any more."
    )
    unused_after: Seconds = Field(
        3600,
        ge=1,
        le=DAY,
        description="Seconds without a launch after which one session less is kept; a launch "
        "brings all back.",
    )
    hours: list[str] = Field(
        default_factory=list,
        description="When to keep them, such as 'Mon-Fri 08:00-18:00'; always by default.",
    )
    timezone: str | None = Field(
        None,
        description="Time zone of 'hours' and of a day: Europe/Zurich. By default this host's.",
    )
    node_hours_a_day: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Node-hours that sessions may wait for a user in one day, all of this "
        "application together; then the rest are ended until midnight. Without a limit by default.",
    )
    nodes: int | None = Field(
        None, ge=1, description="Nodes of one session; by default the option 'nodes', else 1."
    )
    time_left: float = Field(
        0.75,
        gt=0,
        lt=1,
        description="Share of the walltime that a user gets at least; older sessions are replaced.",
    )
    wait: Seconds = Field(
        DAY, description="Seconds that one may take to become ready, queue included."
    )
    parameters: dict[Name, Primitive] = Field(
        default_factory=dict,
        description="Their parameters; the defaults by default. Launches that ask for others begin "
        "as ever.",
    )
    users: list[str] = Field(
        default_factory=list,
        description="Users who get sessions of their own kept ready; nobody else gets one.",
    )
    new_secret: bool = Field(
        False,
        description="The application takes a new secret at the handover (docs/templates.md).",
    )
    shared: bool = Field(
        False,
        description="Hand sessions of the service's account out to any user with the secret that "
        "they were started with.",
    )

    @field_validator("hours")
    @classmethod
    def _hours_are_hours(cls, value: list[str]) -> list[str]:
        for each in value:
            Hours.parse(each)
        return value

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(f"'{value}' is no time zone that this host knows") from error
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.count:
            raise ValueError(f"least is {self.least}, more than count, which is {self.count}")
        for user in self.users:
            if not USER_NAME.fullmatch(user):
                raise ValueError(f"users: '{user}' is no user's name")
        if len(set(self.users)) < len(self.users):
            raise ValueError("users: one of them is there twice")
        return self

    @property
    def clock(self) -> Clock:
        """The working hours."""
        zone = ZoneInfo(self.timezone) if self.timezone else None
        return Clock([Hours.parse(each) for each in self.hours], zone)
