"""JSON Web Tokens by which slurmrestd knows who asks: from a file, a command, or signed here.

See https://slurm.schedmd.com/jwt.html. A token is never part of an argument, an environment, a log
or an error.
"""

import asyncio
import os
import re
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.errors import ClusterUnreachable, UnexpectedReply
from hpcbridge.files.directories import others_above
from hpcbridge.transports.base import Transport

LIFETIME = 600
"""Seconds for which a token that is signed here is good."""
MARGIN = 30
"""Seconds before its end from which a token is not used any more."""
_LIMIT = 16_384
_TOKEN = re.compile(r"(?:SLURM_JWT=)?([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)")

Source = Callable[[], Awaitable[str]]


class Tokens:
    """The token of the moment. ``origin`` says, for errors, where it comes from."""

    def __init__(self, source: Source, origin: str, *, keep: bool) -> None:
        self.origin = origin
        self._source = source
        self._keep = keep
        self._token = ""
        self._ends = 0.0
        self._lock = asyncio.Lock()

    async def current(self) -> str:
        """A token that is good for some time yet, as far as it tells.

        Raises :class:`~hpcbridge.errors.ClusterUnreachable` where none can be had.
        """
        async with self._lock:
            if not (self._keep and time.time() < self._ends - MARGIN):
                await self._make()
            return self._token

    async def renewed(self, refused: str) -> str | None:
        """Another token than this one, which was refused; None where there is no other."""
        async with self._lock:
            if self._token == refused:
                await self._make()
            return self._token if self._token != refused else None

    async def _make(self) -> None:
        self._token = await self._source()
        self._ends = _end(self._token)


def tokens_for(settings: SlurmRestCluster, transport: Transport) -> Tokens | None:
    """The tokens that these settings name; None for a socket that needs none."""
    if (file := settings.token_file) is not None:
        # Not kept: so the file can change at any time.
        return Tokens(lambda: _from_file(file), f"token_file {file}", keep=False)
    if (key := settings.jwt_key_file) is not None:
        return Tokens(
            lambda: _signed(key, settings.user), f"signed with jwt_key_file {key}", keep=True
        )
    if (argv := settings.token_command) is not None:
        patience = settings.command_timeout
        return Tokens(
            lambda: _from_command(argv, transport, patience),
            f"token_command {argv[0]}",
            keep=True,
        )
    return None


async def _from_file(path: Path) -> str:
    words = (await asyncio.to_thread(_private, path)).decode("ascii", "replace").split()
    if len(words) != 1 or not (found := _TOKEN.fullmatch(words[0])):
        raise ClusterUnreachable(
            f"The token_file {path} holds no token: it should have what 'scontrol token' prints.",
            lasting=True,
        )
    return found[1]


async def _from_command(argv: list[str], transport: Transport, patience: float) -> str:
    try:
        done = await transport.run(argv, timeout=patience)
    except (ClusterUnreachable, UnexpectedReply) as error:
        raise ClusterUnreachable(f"The token_command {argv[0]} gave no token: {error}") from error
    # What it printed may be a token with something beside it, so it is not repeated.
    found = [_TOKEN.fullmatch(word) for word in done.out[-_LIMIT:].split()]
    tokens = [match[1] for match in found if match]
    if done.exit_status != 0 or not tokens:
        raise ClusterUnreachable(
            f"The token_command {argv[0]} printed no token (exit status {done.exit_status}). Run "
            "it by hand where the cluster's commands run."
        )
    return tokens[-1]


async def _signed(path: Path, user: str) -> str:
    key = await asyncio.to_thread(_private, path)
    now = int(time.time())
    claims = {"iat": now, "exp": now + LIFETIME, "sun": user}
    try:
        return jwt.encode(claims, key, algorithm="HS256")
    except (jwt.PyJWTError, ValueError) as error:
        raise ClusterUnreachable(
            f"The jwt_key_file {path} is no key for HS256: {error}", lasting=True
        ) from error


def _private(path: Path) -> bytes:
    """What is in a file that only its owner can read."""
    if above := others_above(path):
        raise ClusterUnreachable(
            f"The secret file {path} is not used: others could replace what is in {above}. Close "
            "it to them (chmod go-w), or name another directory.",
            lasting=True,
        )
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ClusterUnreachable(
            f"The secret file {path} cannot be read: {error.strerror}.", lasting=True
        ) from error
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ClusterUnreachable(f"{path} is not a regular file.", lasting=True)
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o077:
            raise ClusterUnreachable(
                f"{path} holds a secret, but others may read or replace it (owner {about.st_uid}, "
                f"mode {stat.S_IMODE(about.st_mode):04o}): let it belong to the service's account "
                "with mode 0600.",
                lasting=True,
            )
        return file.read(_LIMIT)


def _end(token: str) -> float:
    """When the token says that it ends, in seconds since the epoch; far away where it does not."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return float(claims.get("exp", float("inf")))
    except (jwt.PyJWTError, TypeError, ValueError):
        return float("inf")
