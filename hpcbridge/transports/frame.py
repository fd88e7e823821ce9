"""Where the answer of a remote command begins and ends, whatever the login shell says around it.

sshd has the account's login shell run every command, and what a site's start-up files print there
(banners, the date, errors of modules) goes to the same streams. So ``/bin/sh`` writes a mark just
before and just after the command, on both streams. The mark is new for each command and comes on
its standard input: nothing that a start-up file prints can hold it.
"""

import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

NOISE_LIMIT = 65536
"""Bytes that a login shell may print around an answer."""

# Login shells read it first: one line, and nothing that csh would replace. Standard output's marks
# are the inner ones, so that a start-up file's 2>&1 leaves them where they are. The exit status
# stands behind the last one, as a start-up file may have set a trap that ends the shell with its
# own. Reading the mark also has the command wait until asyncssh has set its session up: one that is
# over before takes asyncssh's answer with it (an AttributeError in the middle of the opening).
_OPEN = 'read -r m; printf "%s<" "$m" >&2; printf "%s<" "$m"; '
# Variables of a site's login that are options of Slurm's commands (squeue(1), sbatch(1), INPUT
# ENVIRONMENT VARIABLES) or of qsub(1B): SQUEUE_PARTITION has squeue leave jobs out. What says where
# Slurm is, and how to be let in, stays.
_CLEAN = (
    'case $(export -p) in *" SBATCH_"*|*" SQUEUE_"*|*" SACCT_"*|*" SCANCEL_"*|*" SCONTROL_"*|'
    '*" SINFO_"*|*" SLURM_"*|*" PBS_DPREFIX"*) for v in $(env | cut -d= -f1 | '
    'grep -Ex "(SBATCH|SQUEUE|SACCT|SCANCEL|SCONTROL|SINFO|SLURM)_[A-Z0-9_]*|PBS_DPREFIX"); do '
    "case $v in SLURM_CONF*|SLURM_JWT|SLURM_MPI_TYPE) ;; *) unset $v;; esac; done;; esac; "
)
# Killed there after so many seconds (0: never), where there is a timeout(1): its connection may be
# lost by then, and sshd does not pass every signal on. It stays in the session's process group,
# which is the one that sshd's signals reach, so it kills the command alone, and the last line what
# that has started, even when nobody reads any more. (The login shell gives its place, and with it
# the group, to this one by exec; a shell that leads no group has none of its number to kill.)
_TIMED = (
    't=$1; shift; [ "$t" = 0 ] || ! command -v timeout >/dev/null || '
    'set -- timeout --foreground -s KILL "$t" "$@"; '
)
_CLOSE = (
    's=$?; trap "" PIPE; printf "%s>%s;" "$m" "$s"; printf "%s>" "$m" >&2; '
    'case $t$s in 0*) ;; *124|*137) kill -s KILL -- "-$$" 2>/dev/null;; esac; exit "$s"'
)
_RUN = _TIMED + _CLEAN + _OPEN + '"$@"; ' + _CLOSE
_TALK = _OPEN + 'exec "$@"'


@dataclass(frozen=True)
class Answer:
    """What a command itself said. ``exit_status`` of one that a signal ended is 128 and more."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Frame:
    """The marks of one command."""

    def __init__(self) -> None:
        mark = secrets.token_hex(8).encode()
        self.cue = mark + b"\n"
        """What the command has to be given first on its standard input."""
        self.begin = mark + b"<"
        self._end = mark + b">"

    @staticmethod
    def around(argv: Sequence[str], limit: float = 0) -> str:
        """A command line, for whatever login shell, that writes both marks.

        After ``limit`` seconds (0: never) the command is killed where it runs.
        """
        return "exec " + shlex.join(["/bin/sh", "-c", _RUN, "hpcbridge", f"{limit:g}", *argv])

    @staticmethod
    def before(argv: Sequence[str]) -> str:
        """The same for a command that is talked with: only the first mark, and the rest is its."""
        return shlex.join(["/bin/sh", "-c", _TALK, "hpcbridge", *argv])

    def began(self, stdout: bytes, stderr: bytes) -> bool:
        """Whether the command was started, as far as can be seen."""
        return self.begin in stdout or self.begin in stderr

    def cut(self, stdout: bytes, stderr: bytes) -> Answer | None:
        """The answer without what stands around it; None where it is not whole."""
        answer = stdout.partition(self.begin)[2].removeprefix(self.begin)  # twice, after a 2>&1
        *_, end = (None, *re.finditer(self._end + rb"(\d{1,3});", answer))
        return Answer(int(end[1]), answer[: end.start()], self.said(stderr)) if end else None

    def said(self, stderr: bytes) -> bytes:
        """What the command itself said on standard error; nothing if that goes elsewhere."""
        said = stderr.partition(self.begin)[2]
        return said.rpartition(self._end)[0] if self._end in said else said
