"""What the runner keeps on disk: a file a job, and beside it the exit status of its script."""

import asyncio
import contextlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcbridge.errors import ClusterError
from hpcbridge.files.own import NotOurs, read_own
from hpcbridge.schedulers.base import Listing
from hpcbridge.schedulers.local.job import Job, listing

log = logging.getLogger(__name__)

RECORD_LIMIT = 65536
"""Bytes that a job's file may have."""


class Records:
    """The files of a runner's jobs in its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def load(self) -> list[Job]:
        """All jobs that are written down.

        Raises :class:`~hpcbridge.errors.ClusterError`.
        """
        try:
            return await asyncio.to_thread(_read_all, self._directory)
        except OSError as error:
            raise ClusterError(
                f"The batch runner cannot read {self._directory}: {error.strerror}."
            ) from error

    async def save(self, job: Job) -> None:
        """Write a job down. Raises :class:`~hpcbridge.errors.ClusterError`."""
        try:
            await asyncio.to_thread(_write_json, self._path(job, "json"), asdict(job))
        except OSError as error:
            raise ClusterError(
                f"The batch runner cannot write to {self._directory}: {error.strerror}. "
                "Check its owner, its mode and the free space."
            ) from error

    async def try_save(self, job: Job) -> None:
        """For what happens to a job whether it can be written down or not."""
        try:
            await self.save(job)
        except ClusterError as error:
            log.warning("local job %s: %s", job.name, error)

    async def remove(self, job: Job) -> None:
        """Forget a job; what cannot be removed is left to the next service."""
        for suffix in ("json", "exit"):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._path(job, suffix).unlink, missing_ok=True)

    def exit_file(self, job: Job) -> Path:
        """Where the job's keeper writes the exit status."""
        return self._path(job, "exit")

    async def exit_status(self, job: Job) -> int | None:
        """The exit status that the keeper wrote; a shell's 128 + n is told as signal -n."""
        return await asyncio.to_thread(_read_status, self.exit_file(job))

    def _path(self, job: Job, suffix: str) -> Path:
        return self._directory / f"{job.job_id}.{suffix}"


def recorded(directory: Path) -> Listing:
    """What a runner's files tell of its jobs, read beside the service that runs them.

    Raises :class:`~hpcbridge.errors.ClusterError`.
    """
    try:
        return listing(_read_all(directory))
    except OSError as error:
        raise ClusterError(
            f"The batch runner's directory {directory} cannot be read: {error.strerror}. "
            "Check its owner and mode."
        ) from error


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.write_text(json.dumps(data))
    new.replace(path)


def _read_all(directory: Path) -> list[Job]:
    found = []
    owner = directory.stat().st_uid if directory.exists() else None  # root may ask, by the doctor
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(Job(**json.loads(read_own(path, RECORD_LIMIT, owner))))
        except (NotOurs, ValueError, TypeError):
            log.warning("%s is not a job file of this runner; left alone", path)
    return found


def _read_status(path: Path) -> int | None:
    try:
        status = int(read_own(path, RECORD_LIMIT))
    except (OSError, ValueError):
        return None
    return 128 - status if status > 128 else status
