"""The queue: jobs that wait, and which machine has the others."""

import errno
import os
import time

from hpcbridge.schedulers.hosts.far.state import (
    NONE,
    REMEMBER,
    State,
    ids_in,
    read_job,
    read_json,
    remove,
    write_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add(state: State, request: "dict[str, Any]") -> "dict[str, Any]":
    """Put a job into the queue; one that is there already stays the only one."""
    state.make()
    job = request["job"]
    for each in state.waiting():
        if (each["name"], each["directory"]) == (job["name"], job["directory"]):
            return {"id": each["id"], "token": state.token()}
    for host in os.listdir(state.taken):
        for job_id in ids_in(state.on(host)):
            taken = read_job(state.record(host, job_id, ".json"))
            if taken and (taken["name"], taken["directory"]) == (job["name"], job["directory"]):
                return {"id": job_id, "token": state.token()}
    job["id"] = f"{int(time.time() * 1e6):016d}-{os.urandom(2).hex()}"
    write_json(os.path.join(state.queue, job["id"] + ".json"), job)
    return {"id": job["id"], "token": state.token()}


def queue(state: State, request: "dict[str, Any]") -> "dict[str, Any]":
    """What waits, which machine has what else, and the jobs of machines that are none any more."""
    state.make()
    taken = {}  # type: dict[str, list[str]]
    left = []
    for host in os.listdir(state.taken):
        ids = ids_in(state.on(host))
        if host in request["hosts"]:
            taken[host] = ids
            continue
        for job_id in ids:
            job = read_job(state.record(host, job_id, ".json"))
            if job is not None:
                job["end"], job["host"] = read_json(state.record(host, job_id, ".end")), host
                left.append(job)
                _forget_cancelled(state, host, job)
    return {"token": state.token(), "waiting": state.waiting(), "taken": taken, "left": left}


def _forget_cancelled(state: State, host: str, job: "dict[str, Any]") -> None:
    path = state.record(host, job["id"], ".json")
    if host == NONE and time.time() - os.stat(path).st_mtime > REMEMBER:
        remove(path)


def find(state: State, request: "dict[str, Any]") -> "dict[str, Any]":
    """The newest job of a name."""
    state.make()
    ids = [job["id"] for job in state.waiting() if job["name"] == request["name"]]
    for host in os.listdir(state.taken):
        for job_id in ids_in(state.on(host)):
            job = read_job(state.record(host, job_id, ".json"))
            if job is not None and job["name"] == request["name"]:
                ids.append(job_id)
    return {"id": max(ids) if ids else None}


def withdraw(state: State, request: "dict[str, Any]") -> "dict[str, Any]":
    """End jobs that wait; which machine has those that do not. Jobs of other names are others."""
    state.make()
    holders = {}
    for job_id, name in request["jobs"].items():
        waits = os.path.join(state.queue, job_id + ".json")
        holder = state.holder(job_id)
        job = read_job(state.record(holder, job_id, ".json") if holder else waits)
        if job is not None and job["name"] != name:
            continue
        try:
            if request["forget"]:
                os.unlink(waits)
            else:
                os.utime(waits)
                os.rename(waits, state.record(NONE, job_id, ".json"))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            holders[job_id] = state.holder(job_id)
    return {"holders": holders}
