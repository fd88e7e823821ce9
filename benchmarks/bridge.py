"""hpcbridge as a process of its own: launch over HTTP, take the times apart, end the session."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import Run, Unavailable, split
from benchmarks.waiting import until
from tests.serviceprocess import ServiceProcess


class Bridge:
    """A service that runs; use it in a ``with`` block.

    ``root`` is where its sessions' directories lie, as seen from this machine; ``headers`` go with
    every request.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        root: Path,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._process = ServiceProcess(folder, config, "--end-sessions")
        self.root = root
        self._headers = headers
        self.url = ""

    def __enter__(self) -> "Bridge":
        try:
            self._process.start()
        except RuntimeError as error:
            raise Unavailable(str(error)) from error
        self.url = self._process.url
        self._client = httpx.Client(base_url=self.url, timeout=90, headers=self._headers)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.stop()

    def measure(self, application: str) -> Run:
        """Launch, split the time from the POST to its reply, and end the session."""
        sent = time.time()
        reply = self._client.post("/paraview", json={"application": application})
        answered = time.time()
        if reply.status_code != 200:
            raise Unavailable(f"hpcbridge: {reply.json()['error']}")
        session_id = reply.json()["id"]
        ends = self.ends(session_id)
        parts = split(
            sent,
            {
                "submit": ends["submit"],
                "queue and start": ends["start"],
                "line seen, tunnel": ends["tunnel"],
                "answer": answered,
            },
        )
        self.end(session_id)
        return Run(answered - sent, parts)

    def launch_and_stop(self, application: str) -> Run:
        """Launch, and stop the session, which ends while others may go on."""
        sent = time.time()
        reply = self._client.post("/paraview", json={"application": application})
        answered = time.time()
        if reply.status_code != 200:
            raise Unavailable(f"hpcbridge: {reply.json()['error']}")
        self._client.delete(f"/paraview/{reply.json()['id']}")
        return Run(answered - sent)

    def ends(self, session_id: str, *, ready_line: float | None = None) -> dict[str, float]:
        """When the parts of a launch ended, in seconds since the epoch.

        hpcbridge tells all but when the ready line was written. That is ``ready_line``, or the
        log's own time where the application writes no more after it.
        """
        times = self._client.get(f"/paraview/{session_id}").json()["times"]
        logs = list(self.root.glob("*/output.log"))
        written = ready_line or logs[0].stat().st_mtime
        return {
            "submit": times["queued"],
            "queue": times["starting"],
            "start": written,
            "tunnel": times["ready"],
        }

    def end(self, session_id: str) -> None:
        """End a session, and wait until its job and its directory are gone."""
        self._client.delete(f"/paraview/{session_id}")
        self.until_gone()

    def until_gone(self) -> None:
        """Wait until no session's directory is left: hpcbridge removes it after the job."""
        until(lambda: not any(self.root.glob("*")), "the session is gone")
