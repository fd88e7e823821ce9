"""What slurmrestd answers, as values: one model for all versions of its interface.

The versions differ in shapes. A number is ``7``, ``null`` (not set), or from v0.0.40 on
``{"set": true, "infinite": false, "number": 7}``. A state is ``"RUNNING"``, or from v0.0.40 on
``["RUNNING", "COMPLETING"]``. An exit code is a status of wait(2), or from v0.0.40 on an object.
"""

import os
from typing import Annotated, Any, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hpcbridge.errors import UnexpectedReply

M = TypeVar("M", bound=BaseModel)

# slurm_errno.h, and slurm_errno.c for the words.
AUTHENTICATION, UNREACHABLE, UNKNOWN_JOB, OVER, TIMED_OUT, ZERO_BYTES = (
    1007,
    1800,
    2017,
    2021,
    5004,
    5005,
)
_NUMBERS = {
    "authentication error": AUTHENTICATION,
    "Unable to contact slurm controller": UNREACHABLE,
    "Invalid job id specified": UNKNOWN_JOB,
    "already completing or completed": OVER,
    "Socket timed out": TIMED_OUT,
    "Zero Bytes": ZERO_BYTES,
}


def number(value: Any) -> Any:
    """A number in any of its shapes; None for one that is not set, or infinite."""
    if isinstance(value, dict):
        return value.get("number") if value.get("set") and not value.get("infinite") else None
    return value


def _words(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _exit_status(value: Any) -> Any:
    """The script's exit status, or the negated number of the signal that ended it."""
    if isinstance(value, dict):
        signal = value.get("signal")
        killed = number(signal.get("id")) if isinstance(signal, dict) else None
        return -killed if killed else number(value.get("return_code"))
    if isinstance(value, int) and 0 <= value <= 0xFFFF:
        # With the flag for a core dump, which os.waitstatus_to_exitcode knows as well.
        return os.waitstatus_to_exitcode(value)
    return value


Number = Annotated[int | None, BeforeValidator(number)]
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
States = Annotated[tuple[str, ...], BeforeValidator(_words)]
ExitStatus = Annotated[int | None, BeforeValidator(_exit_status)]


class Part(BaseModel):
    """A part of an answer, of which only what is named is read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Problem(Part):
    """One of the ``errors`` of an answer; its number is that of slurm_errno.h, or -1."""

    text: Text = Field("", validation_alias="error")
    description: Text = ""
    told: int = Field(0, validation_alias=AliasChoices("error_number", "error_code", "errno"))

    @property
    def number(self) -> int:
        """Its number, which v0.0.36 tells as 0 for most of what goes wrong."""
        said = (number for words, number in _NUMBERS.items() if words in self.text)
        return self.told or next(said, 0)

    @property
    def words(self) -> str:
        """Slurm's own words, the general ones before the particular ones."""
        if self.text and self.description and self.text not in self.description:
            return short(f"{self.text} ({self.description})")
        return short(self.description or self.text)


class Job(Part):
    """One job of a listing."""

    job_id: int
    name: Text = ""
    user: Text = Field("", validation_alias="user_name")
    uid: int | None = Field(None, validation_alias="user_id")
    states: States = Field(validation_alias="job_state")
    reason: Text = Field("", validation_alias="state_reason")
    sentence: Text = Field("", validation_alias="state_description")
    host: Text = Field("", validation_alias="batch_host")
    partition: Text = ""
    cpus: Number = None
    priority: Number = None
    start: Number = Field(None, validation_alias="start_time")
    end: Number = Field(None, validation_alias="end_time")
    nodes: Number = Field(None, validation_alias="node_count")
    tres_per_job: Text = ""
    tres_per_node: Text = ""
    exit_status: ExitStatus = Field(None, validation_alias="exit_code")

    @property
    def why(self) -> str:
        """Why it waits or how it ended: Slurm's sentence, where it has one, or its code."""
        return self.sentence or self.reason


class _Past(Part):
    current: States
    reason: Text = ""


class PastJob(Part):
    """One job of the accounting."""

    job_id: int
    name: Text = ""
    state: _Past
    exit_status: ExitStatus = Field(None, validation_alias="exit_code")


class Ping(Part):
    """One controller: ``ping`` until v0.0.38, ``pinged`` until v0.0.44, then ``responding``."""

    hostname: Text = ""
    word: Text = Field("", validation_alias=AliasChoices("pinged", "ping"))
    responding: bool = False

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self.word == "UP" if self.word else self.responding


class Answer(Part):
    """What all answers have."""

    errors: tuple[Problem, ...] = ()


class Submitted(Answer):
    """The answer to a submission."""

    job_id: int | None = None
    warnings: tuple[Problem, ...] = ()


class Pings(Answer):
    """The controllers; the first one that is up answers."""

    pings: tuple[Ping, ...]


class Jobs(Answer):
    """A listing."""

    jobs: tuple[Job, ...]


class PastJobs(Answer):
    """What accounting has."""

    jobs: tuple[PastJob, ...]


def read(model: type[M], text: str) -> M:
    """The answer as ``model``. Raises :class:`UnexpectedReply`, with the place that is odd."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"][:6])
        raise UnexpectedReply(
            f"slurmrestd's answer cannot be read: {first['msg']}"
            + (f" (at {place})." if place else ".")
        ) from None


def short(text: str) -> str:
    """One line of a text that may be anything."""
    text = "".join(each if each.isprintable() else " " for each in text[:1000])
    return " ".join(text.split())[:200]
