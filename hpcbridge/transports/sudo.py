"""Commands and files of another account, by sudo(8), where the service's own account may do that.

Commands run as ``sudo -n -H -u ACCOUNT -- /usr/bin/COMMAND ...``. Files go through one helper
program (:mod:`hpcbridge.files.helper`) that is kept running while it is needed: to start
sudo for each look at a log would cost more than the look, and sudoers would have to allow
programs that can write anywhere.
"""

import asyncio
import base64
import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from hpcbridge.errors import ClusterError, ClusterUnreachable, UnexpectedReply
from hpcbridge.transports.base import Completed, Slice, StagedFile, Transport
from hpcbridge.transports.pipes import LOST, OpenPipe, Pipe

ANSWER_LIMIT = 20.0
"""Seconds that the helper may take for one request."""
REPLY_LIMIT = 64 * 2**20
"""Bytes that one of its replies may have."""

# What sudo says itself, in the C locale or another: a command could only imitate it to be refused.
REFUSED = re.compile(r"^(sudo: |Sorry, user ).*", re.MULTILINE)


class SudoTransport:
    """Implements :class:`~hpcbridge.transports.base.Transport` for ``account``.

    ``inner`` runs commands as the service's account, and ``open_pipe`` starts the helper there.
    ``helper`` is its command line, ``commands_dir`` the directory of the scheduler's commands.
    """

    def __init__(
        self,
        account: str,
        inner: Transport,
        open_pipe: OpenPipe,
        *,
        helper: Sequence[str],
        commands_dir: str,
    ) -> None:
        self._account = account
        self._sudo = ["sudo", "-n", "-H", "-u", account, "--"]
        self._inner = inner
        self._open_pipe = open_pipe
        self._helper = list(helper)
        self._commands_dir = commands_dir
        self._pipe: Pipe | None = None
        self._hello: dict[str, Any] = {}
        self._talking = asyncio.Lock()
        self.follow_interval = inner.follow_interval

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:  # noqa: ASYNC109
        """See :meth:`hpcbridge.transports.base.Transport.run`."""
        if argv[0] == "env":  # it would run anything, so it is in no rule; sudo reports attempts
            raise UnexpectedReply("Rules of sudo let commands run with their own environment only.")
        program = argv[0] if "/" in argv[0] else f"{self._commands_dir}/{argv[0]}"
        done = await self._inner.run(
            [*self._sudo, program, *argv[1:]], stdin=stdin, timeout=timeout
        )
        if done.exit_status == 1 and (said := REFUSED.search(done.err)):
            raise self._refused(program, said[0])
        return done

    def _refused(self, program: str, said: str) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"sudo does not let this service run {program} as '{self._account}': {said[:300]} "
            "'hpcbridge sudoers' prints the rules that it needs, and what it does not allow is "
            "refused on purpose.",
            lasting=True,
        )

    async def home(self) -> str:
        """See :meth:`hpcbridge.transports.base.Transport.home`."""
        async with self._talking:
            await self._connected()
            return str(self._hello["home"])

    async def stage(self, directory: str, files: Mapping[str, StagedFile]) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.stage`."""
        packed = {
            name: (file.mode, base64.b64encode(file.content).decode())
            for name, file in files.items()
        }
        reply = await self._ask("stage", directory, files=packed)
        if "error" in reply:
            raise ClusterError(
                f"The session directory {directory} of '{self._account}' cannot be written: "
                f"{reply['error']}. Check the owner, the mode and the free space of the "
                "cluster's session_root."
            )

    async def read(self, wanted: Sequence[Slice]) -> list[bytes | None]:
        """See :meth:`hpcbridge.transports.base.Transport.read`."""
        if not wanted:
            return []
        async with self._talking:
            await self._connected()
            slices = []
            for each in wanted:
                directory, _, name = each.path.rpartition("/")
                slices.append((self._name(directory), name, each.offset, each.limit))
            reply = await self._exchange({"do": "read", "wanted": slices})
        found = reply.get("found")
        if not isinstance(found, list) or len(found) != len(wanted):
            raise UnexpectedReply(f"hpcbridge-files: {reply.get('error', 'not all was read')}")
        return [None if each is None else base64.b64decode(each) for each in found]

    async def remove(self, directory: str) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.remove`."""
        reply = await self._ask("remove", directory)
        if "error" in reply:
            raise ClusterError(f"{directory} cannot be removed: {reply['error']}.")

    async def close(self) -> None:
        """See :meth:`hpcbridge.transports.base.Transport.close`."""
        async with self._talking:
            await self._hang_up()
        await self._inner.close()

    # -- the helper

    async def _ask(self, do: str, directory: str, **more: Any) -> dict[str, Any]:
        async with self._talking:
            await self._connected()
            return await self._exchange({"do": do, "name": self._name(directory), **more})

    def _name(self, directory: str) -> str:
        """The name of a session directory, which has to lie where sudoers says."""
        root, _, name = directory.rpartition("/")
        if root != self._hello["root"]:
            raise ClusterError(
                f"{directory} is not in {self._hello['root']}, where sudoers lets hpcbridge-files "
                "work. Has session_root changed? 'hpcbridge sudoers' prints the rules anew."
            )
        return name

    async def _connected(self) -> None:
        if self._pipe is not None and self._pipe.over():  # while nobody asked it anything
            await self._hang_up()
        if self._pipe is None:
            self._pipe = await self._open_pipe([*self._sudo, *self._helper])
            self._hello = await self._exchange({"do": "hello"})
            if not {"root", "home"} <= self._hello.keys():
                await self._hang_up()
                raise UnexpectedReply("hpcbridge-files did not say where it works.")

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._pipe is not None
        data = json.dumps(request).encode()
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                await self._pipe.write(struct.pack(">I", len(data)) + data)
                return await _reply(self._pipe)
        except TimeoutError as error:
            await self._hang_up()
            raise ClusterUnreachable(
                f"hpcbridge-files did not answer within {ANSWER_LIMIT:g} s."
            ) from error
        except LOST as error:
            raise self._over(await self._hang_up()) from error
        except ValueError as error:
            await self._hang_up()
            raise UnexpectedReply("hpcbridge-files answered something else.") from error
        except BaseException:  # cancelled: the next reply would be that to this request
            await self._hang_up()
            raise

    def _over(self, said: str) -> ClusterUnreachable:
        """Why the helper ended, by what was said on its standard error."""
        program = self._helper[0]
        if refused := REFUSED.search(said):
            return self._refused(program, refused[0])
        told = said.rpartition("\n")[2][:300]
        return ClusterUnreachable(
            f"{program}, run as '{self._account}', is over: {told or 'it told nothing'}. "
            "'hpcbridge sudoers --helper' prints the program."
        )

    async def _hang_up(self) -> str:
        pipe, self._pipe = self._pipe, None
        return await pipe.close() if pipe is not None else ""


async def _reply(pipe: Pipe) -> dict[str, Any]:
    (length,) = struct.unpack(">I", await pipe.read(4))
    if length > REPLY_LIMIT:
        raise ValueError(length)
    return dict(json.loads(await pipe.read(length)))
