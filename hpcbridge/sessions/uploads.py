"""Files that users send: received whole or not at all, listed, removed, named to applications."""

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hpcbridge.config.applications import ParameterSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.config.uploads import MIB, USER, UploadSettings
from hpcbridge.errors import (
    BadParameter,
    ConfigError,
    NoCapacity,
    NoRoom,
    RequestError,
    TooLarge,
    UploadExists,
    UploadFailed,
    UploadNotFound,
)
from hpcbridge.files.directories import closed_to_others
from hpcbridge.files.uploads import (
    NAME,
    NAME_RULE,
    UnfinishedFile,
    UploadedFile,
    UploadFolder,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 4
"""Uploads of one user at the same time, or of all where there are none."""
PIECE = 2**20
"""Bytes that are written at once."""
PAUSE = 60.0
"""Seconds that a client may send nothing."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class _Busy:
    """The uploads of one user; what they add is added by one of them at a time."""

    there: int = 0
    adding: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """All users' uploaded files, below a directory of the settings."""

    def __init__(self, directory: Path, settings: UploadSettings) -> None:
        self.settings = settings
        parts = directory.parts
        fixed = parts.index(USER) if USER in parts else len(parts)
        self._base, self._below = Path(*parts[:fixed]), parts[fixed:]
        self._busy: dict[str | None, _Busy] = {}

    def prepare(self) -> None:
        """Make the directory. Raises :class:`~hpcbridge.errors.ConfigError`."""
        try:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self._base, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ConfigError(
                f"uploads.directory: {self._base} cannot be used: {error.strerror}."
            ) from error
        closed_to_others("uploads.directory", self._base / "x")

    async def files(self, user: str | None) -> list[UploadedFile]:
        """A user's files. Raises :class:`~hpcbridge.errors.UploadFailed`."""

        def listed() -> list[UploadedFile]:
            with self._failures(), self._folder(user) as folder:
                return folder.files()

        return await asyncio.to_thread(listed)

    async def remove(self, name: str, user: str | None) -> UploadedFile:
        """Remove a user's file. Raises :class:`~hpcbridge.errors.UploadNotFound`."""

        def removed() -> UploadedFile:
            with self._failures(), self._folder(user) as folder:
                found = _found(folder, name)
                folder.remove(name)
                return found

        return await asyncio.to_thread(removed)

    async def paths(
        self, declared: Mapping[str, ParameterSettings], values: dict[str, Primitive], user: Any
    ) -> dict[str, Primitive]:
        """``values`` with the paths of files in the place of their names.

        Raises :class:`~hpcbridge.errors.BadParameter` for one that is not there.
        """

        def path(key: str, name: str) -> str:
            with self._failures(), self._folder(user) as folder:
                try:
                    return str(folder.path / _found(folder, name).name)
                except RequestError as error:
                    raise BadParameter(
                        f"Parameter '{key}' must be the name of a file that you uploaded. {error}"
                    ) from error

        wanted = [key for key, each in declared.items() if each.upload and values.get(key)]
        found = {key: await asyncio.to_thread(path, key, str(values[key])) for key in wanted}
        return {**values, **found}

    async def receive(
        self,
        name: str,
        user: str | None,
        content: AsyncIterator[bytes],
        *,
        length: int | None,
        replace: bool,
    ) -> tuple[UploadedFile, bool]:
        """The file, once it is in place; and whether it took another one's place.

        ``length`` is in bytes, where it is known before. What is wrong is found before ``content``
        is read, if it can be. Raises :class:`~hpcbridge.errors.RequestError` of several kinds and
        :class:`~hpcbridge.errors.UploadFailed`; nothing is left then.
        """
        _checked(name)
        if length is not None:
            self._fits(name, length)
        folder = self._folder(user)
        with self._turn(user) as adding, self._failures():
            try:
                await _whole(folder.open)
                await _whole(self._room, folder, name, length or 0, replace)
                await _whole(folder.sweep)
                return await self._received(folder, name, content, adding, replace=replace)
            finally:
                folder.close()

    async def _received(
        self,
        folder: UploadFolder,
        name: str,
        content: AsyncIterator[bytes],
        adding: asyncio.Lock,
        *,
        replace: bool,
    ) -> tuple[UploadedFile, bool]:
        part = UnfinishedFile()
        try:
            await _whole(folder.begin, part)

            def write(data: bytes) -> None:
                # Others have written since, and been placed.
                self._enough(folder, [name, part.name], part.size + len(data))
                part.write(data)

            async for piece in self._pieces(name, content):
                async with adding:
                    await _whole(write, piece)
            await _whole(part.finish)
            async with adding:
                # Others may have been placed meanwhile.
                await _whole(self._room, folder, name, part.size, replace, part.name)
                there = await _whole(folder.find, name)
                await _whole(folder.place, part, name, replace=replace)
            found = await _whole(folder.find, name)
        except FileExistsError as error:
            raise _taken(name) from error
        finally:
            part.close()
            await _whole(folder.remove, part.name)
        if found is None:
            raise UploadNotFound(f"'{name}' was removed as soon as it was there.")
        return found, there is not None

    async def _pieces(self, name: str, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The content in pieces that are worth a write."""
        waiting, size = bytearray(), 0
        while True:
            try:
                async with asyncio.timeout(PAUSE):
                    piece = await anext(content, None)
            except TimeoutError as error:
                raise RequestError(f"Nothing of '{name}' came for {PAUSE:g} s.") from error
            waiting += piece or b""
            size += len(piece or b"")
            self._fits(name, size)
            if waiting and (piece is None or len(waiting) >= PIECE):
                yield bytes(waiting)
                waiting.clear()
            if piece is None:
                return

    def _folder(self, user: str | None) -> UploadFolder:
        return UploadFolder(
            self._base, [user if each == USER and user else each for each in self._below]
        )

    def _fits(self, name: str, size: int) -> None:
        if size > self.settings.file_limit * MIB:
            raise TooLarge(f"'{name}' is larger than {self.settings.file_limit} MiB.")

    def _room(
        self, folder: UploadFolder, name: str, size: int, replace: bool, part: str = ""
    ) -> None:
        """Raises where a file of this size cannot be placed."""
        try:
            there = folder.find(name)
        except FileExistsError as error:
            raise UploadExists(f"'{name}' is taken by something that was not uploaded.") from error
        if there is not None and not replace:
            raise _taken(name)
        if there is None and len(folder.files()) >= self.settings.count_limit:
            raise _no_room(f"There are {self.settings.count_limit} files already.")
        self._enough(folder, [name, part], size)
        if not part and size > folder.free():
            raise NoRoom("The disk for uploads is full. Tell the admins of this site.")

    def _enough(self, folder: UploadFolder, names: Sequence[str], size: int) -> None:
        """Raises where a file of these names has no room beside all others, unfinished or not."""
        if size > self.settings.total_limit * MIB - folder.used(but=names):
            raise _no_room(f"All files together may have {self.settings.total_limit} MiB.")

    @contextlib.contextmanager
    def _turn(self, user: str | None) -> Iterator[asyncio.Lock]:
        busy = self._busy.setdefault(user, _Busy())
        if busy.there >= AT_ONCE:
            raise NoCapacity(f"{AT_ONCE} uploads are on their way already. Wait for one to end.")
        busy.there += 1
        try:
            yield busy.adding
        finally:
            busy.there -= 1
            if not busy.there:
                del self._busy[user]

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """What the system says, as errors of ours."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoom(
                    "The disk for uploads is full. Tell the admins of this site."
                ) from error
            log.error("uploads.directory: %s: %s", self._base, error)  # noqa: TRY400
            raise UploadFailed(
                "The directory of uploads cannot be used; the service's log says why."
            ) from error


def _checked(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise RequestError(f"This name is not possible. {NAME_RULE}")


def _found(folder: UploadFolder, name: str) -> UploadedFile:
    with contextlib.suppress(FileExistsError):
        if NAME.fullmatch(name) and (found := folder.find(name)) is not None:
            return found
    raise UploadNotFound("There is no uploaded file of this name.")


def _taken(name: str) -> UploadExists:
    return UploadExists(
        f"There is a file '{name}' already. Give this one another name, delete that one, or send "
        "it with ?replace=true to replace it."
    )


def _no_room(why: str) -> NoRoom:
    return NoRoom(f"{why} Delete some files first.")


async def _whole(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Done by a thread to its end, also when who asked is cancelled: a descriptor that it still
    writes to must not be closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
