"""sbatch, squeue, scancel, scontrol and sacct, as far as hpcbridge speaks with them.

One program under five names. Jobs are processes of this machine. What is known of them is kept
beside the program, in ``state.json`` under a lock; the faults to make are in ``faults.json``, for
each command a list of objects of which the first one with ``times`` left is taken. Its keys::

    skip     calls that go well before it
    times    calls that it spoils; -1 for all
    every    spoil only every n-th of them
    before   seconds to wait before anything is done
    after    seconds to wait when it is done and nothing is told yet
    lost     true: nothing is done
    status, out, err   the answer instead of the true one; ``out`` in Latin-1, for any byte
    cut      bytes of the true answer that are left out at its end
    hide     true: no job is listed (or found); a list: those ids are not
    word     a state that all jobs are told to be in

It has to start in a few milliseconds, so it does without pathlib and contextlib.
"""

import fcntl
import json
import os
import signal
import sys
import time

HOME = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
KILL_WAIT = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class Locked:
    """The state, which only one program reads and writes at a time."""

    def __enter__(self):
        self.lock = os.open(f"{HOME}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.state = load("state.json")
        return self.state

    def __exit__(self, kind, *_):
        if kind is None:
            save("state.json", self.state)
        os.close(self.lock)


def load(name):
    with open(f"{HOME}/{name}") as file:
        return json.load(file)


def save(name, value):
    with open(f"{HOME}/{name}.new", "w") as file:
        json.dump(value, file)
    os.replace(f"{HOME}/{name}.new", f"{HOME}/{name}")


def fault_of(command, state):
    """The fault that this call meets; {} for none."""
    calls = state["calls"]
    calls[command] = calls.get(command, 0) + 1
    for number, fault in enumerate(load("faults.json").get(command, [])):
        seen = state["seen"].get(f"{command}/{number}", 0)
        skip, times = fault.get("skip", 0), fault.get("times", 1)
        if times >= 0 and seen >= skip + times:
            continue
        state["seen"][f"{command}/{number}"] = seen + 1
        spoils = seen >= skip and (seen - skip) % fault.get("every", 1) == 0
        return fault if spoils else {}
    return {}


# -- jobs


def living(pid, ticks):
    return pid is not None and start_ticks(pid) == ticks


def start_ticks(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def start_waiting(state):
    """What slurmctld does between two questions: start jobs, unless they are to wait."""
    for job in state["jobs"].values():
        if job["state"] == "RUNNING" and not living(job["keeper"], job["ticks"]):
            job.update(state="NODE_FAIL", reason="None", exit="0:0")
        if job["state"] == "PENDING" and not state["hold"]:
            job.update(state="RUNNING", reason="None", host=state["node"])
            job["keeper"] = keep(job)
            job["ticks"] = start_ticks(job["keeper"])


def keep(job):
    """A process that runs the job's script, and writes down how it ended."""
    reading, writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until it knows what to do then
    if os.fork() == 0:
        os.setsid()
        keeper = os.fork()
        if keeper:
            os.write(writing, str(keeper).encode())
            os._exit(0)
        quiet = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        os.closerange(3, 64)
        try:
            watch_over(job)
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.close(writing)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.wait()
    return pid


def watch_over(job):
    script = os.fork()
    if script == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.setsid()
        os.chdir(job["directory"])
        output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(SLURM_JOB_ID=job["id"], FAKE_JOB=job["cookie"])
        os.execv("/bin/bash", ["/bin/bash", job["script"]])

    def cancelled(*_):
        if script not in processes(job["cookie"]):  # it does not bear the job's mark yet
            try:
                os.kill(script, signal.SIGTERM)
            except ProcessLookupError:
                pass
        end()

    def end():
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in processes(job["cookie"]):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + KILL_WAIT
            while processes(job["cookie"]) and time.monotonic() < deadline:
                time.sleep(0.02)

    signal.signal(signal.SIGTERM, cancelled)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    status = os.waitpid(script, 0)[1]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end()  # whatever the script left behind
    code = os.waitstatus_to_exitcode(status)
    with Locked() as state:
        known = state["jobs"].get(job["id"])
        if known is not None and known["cookie"] == job["cookie"] and known["state"] == "RUNNING":
            known["state"] = "FAILED" if code else "COMPLETED"
            known["exit"] = f"0:{-code}" if code < 0 else f"{code}:0"


def processes(cookie):
    """Those of a job, whatever they made of their group: as a control group would tell."""
    wanted, found = f"FAKE_JOB={cookie}".encode(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                pass
    return found


# -- the commands: what they do, and their true answer (status, out, err)


def sbatch(state, fault, arguments):
    options = dict(each[2:].partition("=")[::2] for each in arguments[:-1])
    job_id = str(state["next"])
    state["next"] += 1
    cookie = f"{HOME}/{state['accepted']}"
    state["accepted"] += 1
    spooled = f"{HOME}/spool/{os.path.basename(cookie)}.sh"  # as Slurm does: it is the job's now
    with open(arguments[-1]) as given, open(spooled, "w") as copy:
        copy.write(given.read())
    state["jobs"][job_id] = {
        "id": job_id, "name": options["job-name"], "state": "PENDING", "reason": "Priority",
        "host": "n/a", "exit": "0:0", "keeper": None, "ticks": None, "cookie": cookie,
        "script": spooled, "directory": options["chdir"], "output": options["output"],
    }  # fmt: skip
    state["names"].append(options["job-name"])
    start_waiting(state)
    return 0, f"{job_id}\n", ""


def shown(state, fault):
    hidden = fault.get("hide", [])
    for job in state["jobs"].values():
        if hidden is not True and job["id"] not in hidden and not job.get("forgotten"):
            yield {"partition": "viz", **job, "state": fault.get("word", job["state"])}


def squeue(state, fault, arguments):
    assert arguments[:2] == ["--me", "--states=all"], arguments
    line = arguments[2].partition("=")[2]
    columns = {
        "%i": "id", "%T": "state", "%r": "reason", "%P": "partition", "%B": "host", "%j": "name",
    }  # fmt: skip
    rows = [{key: key.upper() for key in columns.values()}, *shown(state, fault)]
    out = ""
    for row in rows:
        text = line
        for sign, key in columns.items():
            text = text.replace(sign, row[key])
        out += text + "\n"
    return 0, out, ""


def outlook(state, fault, arguments):
    """squeue, asked for all pending jobs."""
    columns = [each.partition(":") for each in arguments[-1].partition("=")[2].split(",")]
    out = "".join(name.upper() + end for name, _, end in columns) + "\n"
    for job in shown(state, fault):
        if job["state"] == "PENDING":
            row = {"JobID": job["id"], "Partition": job["partition"], "Reason": job["reason"]}
            row |= {"StartTime": state["estimate"], "NumNodes": "1", "tres-per-node": "gres:gpu:2"}
            out += "".join(row.get(name, "N/A") + end for name, _, end in columns) + "\n"
    return 0, out, ""


def config(state, fault, arguments):
    """scontrol show config."""
    return 0, "Configuration data\nPrivateData             = none\n", ""


def scancel(state, fault, arguments):
    named, *ids = arguments
    for job_id in ids:
        job = state["jobs"].get(job_id)
        if job is not None and named != f"--name={job['name']}":
            continue
        if job is None or job["state"] not in ("PENDING", "RUNNING"):
            continue
        if living(job["keeper"], job["ticks"]):
            os.kill(job["keeper"], signal.SIGTERM)
        job.update(state="CANCELLED", exit="0:15")
        state["cancelled"].append(job["name"])
    return 0, "", ""


def scontrol(state, fault, arguments):
    assert arguments[:3] == ["--oneliner", "show", "job"], arguments
    for job in shown(state, fault):
        if job["id"] == arguments[3]:
            words = {
                "JobId": job["id"], "JobName": job["name"], "UserId": "alice(1000)",
                "JobState": job["state"], "Reason": job["reason"], "Dependency": "(null)",
                "ExitCode": job["exit"], "BatchHost": job["host"], "Command": job["script"],
            }  # fmt: skip
            return 0, " ".join(f"{key}={value}" for key, value in words.items()) + "\n", ""
    return 1, "", "slurm_load_jobs error: Invalid job id specified\n"


def sacct(state, fault, arguments):
    if not state["accounting"]:
        return 1, "", "Slurm accounting storage is disabled\n"
    wanted = arguments[-1].partition("=")[2]
    return 0, "".join(
        f"{job['id']}|{job['state']}|{job['exit']}|{job['name']}\n"
        for job in state["jobs"].values()
        if job["id"] == wanted
    ), ""  # fmt: skip


def main():
    command, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    if "--states=PENDING" in arguments:
        command = "outlook"
    if arguments == ["show", "config"]:
        command = "config"
    with Locked() as state:
        fault = fault_of(command, state)
    time.sleep(fault.get("before", 0))
    answer = 0, "", ""
    if not fault.get("lost"):
        commands = (sbatch, squeue, outlook, scancel, scontrol, config, sacct)
        work = {each.__name__: each for each in commands}
        with Locked() as state:
            start_waiting(state)
            answer = work[command](state, fault, [each for each in arguments if each != "--quiet"])
    time.sleep(fault.get("after", 0))
    status, out, err = answer
    out = fault["out"].encode("latin-1") if "out" in fault else out.encode()
    os.write(1, out[: len(out) - fault.get("cut", 0)])
    os.write(2, fault.get("err", err).encode())
    sys.exit(fault.get("status", status))


if __name__ == "__main__":
    main()
