"""The section ``[metrics]``: who may read what the service counts."""

from typing import Literal

from pydantic import Field

from hpcbridge.config.fields import Section


class MetricsSettings(Section):
    """Who may read ``/metrics``, which has no user's name and no session's id."""

    access: Literal["off", "loopback", "token", "on"] = Field(
        "loopback",
        description="Who may read /metrics: loopback: programs of this machine that connect by "
        "themselves, and not through a front end; token: these, holders of an API token of scope "
        "read, and operators; on: whoever reaches the service; off: nobody.",
    )
