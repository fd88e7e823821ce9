"""How a command runs and a file is read on a cluster: on this machine, or over SSH."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end, with what it said itself and nothing of a login shell.

    ``exit_status`` of one that a signal ended is the signal's number, negated, or added to 128
    where a shell stood between (a signal of the remote shell cannot be told from it).
    """

    argv: tuple[str, ...]
    exit_status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr.decode("utf-8", "replace")


@dataclass(frozen=True)
class Slice:
    """A request for the bytes of ``path`` from ``offset`` (bytes), at most ``limit`` bytes.

    A negative offset counts from the end of the file.
    """

    path: str
    offset: int
    limit: int


@dataclass(frozen=True)
class StagedFile:
    """A file to be written into a session directory."""

    content: bytes
    mode: int = 0o600


class Transport(Protocol):
    """One account on one host.

    Every method raises :class:`~hpcbridge.errors.ClusterUnreachable` when the host cannot be
    reached or does not answer in time.
    """

    #: Seconds between two looks at a file that is being followed.
    follow_interval: float

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """Run a command without a shell's interpretation of ``argv``; ``timeout`` in seconds.

        Raises :class:`~hpcbridge.errors.OutcomeUnknown` when the command was started and its end
        was not seen. Output beyond 16 MiB raises :class:`~hpcbridge.errors.UnexpectedReply`.
        """
        ...

    async def home(self) -> str:
        """The account's home directory, absolute."""
        ...

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """Create ``directory`` (0700, parents too) with these files; it must not exist yet."""
        ...

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """Read all slices in one round; None for a file that is not there (yet).

        Symbolic links, files that are not regular and files of another owner are treated as not
        there: the job's application could have put them in place of its log.
        """
        ...

    async def remove(self, directory: str) -> None:
        """Remove a session directory and all below it; a missing one is no error."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
