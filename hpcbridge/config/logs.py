"""The section ``[logs]``: what is kept of the applications' output."""

from pydantic import Field

from hpcbridge.config.fields import FilePath, Section

MIB = 2**20


class LogSettings(Section):
    """The whole output of each session, kept after its end for its owner."""

    directory: FilePath | None = Field(
        None,
        description="Directory (0700) of the logs; 'logs' in state_dir by default.",
    )
    keep: float = Field(
        7 * 86400,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which the output of an ended session is kept; 0 keeps none, and "
        "then only its last lines are known.",
    )
    session_limit: int = Field(
        64,
        ge=1,
        description="Mebibytes of one session's output; of more, the beginning and the end stay.",
    )
    total_limit: int = Field(
        2048, ge=1, description="Mebibytes of all kept output; the oldest is removed first."
    )
