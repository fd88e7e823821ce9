"""This machine under another account: PBS takes no jobs of root's."""

import pwd
from collections.abc import Mapping, Sequence

from hpcbridge.errors import ClusterError
from hpcbridge.transports.base import Completed, Slice, StagedFile
from hpcbridge.transports.local import LocalTransport
from hpcbridge.transports.ssh import STAGE_SCRIPT, _archive


class AsUser(LocalTransport):
    """What root needs to be able to submit."""

    def __init__(self, user: str) -> None:
        super().__init__()
        account = pwd.getpwnam(user)
        self._home = account.pw_dir
        # Away from a directory of root's, in which qsub could not be.
        self._prefix = ["runuser", "-u", user, "--", "env", "-C", "/", f"HOME={account.pw_dir}"]
        self._prefix += [f"USER={user}", f"LOGNAME={user}"]

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        return await super().run([*self._prefix, *argv], stdin=stdin, timeout=timeout)

    async def home(self) -> str:
        return self._home

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        argv = ["/bin/sh", "-c", STAGE_SCRIPT, "stage", directory]
        done = await self.run(argv, stdin=_archive(files), timeout=60)
        if done.exit_status != 0:
            raise ClusterError(f"{directory} cannot be written: {done.err}")

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        return [await self._read(each) for each in wanted]

    async def _read(self, wanted: Slice) -> bytes | None:
        script = 'tail -c "+$2" -- "$1" | head -c "$3"'
        sizes = [str(wanted.offset + 1), str(wanted.limit)]
        argv = ["/bin/sh", "-c", script, "read", wanted.path, *sizes]
        done = await self.run(argv, timeout=60)
        return done.stdout if not done.stderr else None

    async def remove(self, directory: str) -> None:
        await self.run(["rm", "-rf", "--", directory], timeout=60)
