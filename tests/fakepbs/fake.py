"""The commands of OpenPBS or Torque for users, as far as hpcbridge and its tests use them.

One program under six names. What it prints is what tests/fixtures/pbs has recorded of the real
ones; each message names its recording. Jobs are processes of this machine, and they and the faults
are kept as ``machinery`` (tests/fakescheduler/fake.py) tells. Beside its keys, the state has::

    flavour   "pbs" or "torque"
    history   whether ended jobs can be asked for (job_history_enable)
    down      whether the server is
    limit     bytes a script may have (jobscript_max_size)
"""

import getopt
import json
import os
import pwd
import re
import signal
import sys
import time
from xml.sax.saxutils import escape

import machinery
from machinery import HOME, Locked

SERVER = "pbslab"
CPUS = 8
QUEUES = ("workq", "short", "disabledq", "stoppedq", "aclq")
HELD = {"s": "job held, too many failed attempts to run"}  # qstat_held_toomany
USAGE = "usage: qsub [-a date_time] [-A account_string] [-c interval]\n"  # err_name_colon, cut
ACTIVE = ("PENDING", "RUNNING")
LETTERS = {"PENDING": "Q", "RUNNING": "R"}


class Refused(Exception):
    """What a command ends with: its status and message."""


def account():
    return pwd.getpwuid(os.getuid()).pw_name


# -- the scheduler: event driven, so whoever asks makes it look


def advance(state):
    for job in state["jobs"].values():
        if job["state"] == "RUNNING":
            late = job["walltime"] and time.time() > job["stime"] + job["walltime"]
            if late and not job["ending"]:
                job["ending"] = "exceeded resource walltime"
                os.kill(job["keeper"], signal.SIGTERM)
            if not machinery.living(job["keeper"], job["ticks"]):
                job.update(state="FAILED", exit="0:9")
    free = CPUS - sum(j["ncpus"] for j in state["jobs"].values() if j["state"] == "RUNNING")
    for job in state["jobs"].values():
        if job["state"] == "PENDING" and not job["hold"]:
            job["comment"] = why_not(job, 0 if state["hold"] else free)
            if not job["comment"]:
                start(state, job)
                free -= job["ncpus"]


def why_not(job, free):
    """As qstat_st_q_never, qstat_st_q_stopped, and the comment of fixture est_q."""
    wanted = job["ncpus"]
    lack = f"Insufficient amount of resource: ncpus (R: {wanted} A: {free} T: {CPUS})"
    if wanted > CPUS:
        return f"Can Never Run: {lack}"
    if job["queue"] == "stoppedq":
        return "Not Running: Queue not started."
    return f"Not Running: {lack}" if wanted > free else ""


def start(state, job):
    if not os.access(os.path.dirname(job["output"]), os.W_OK):  # tried 20 times within 3 s
        job.update(hold="s", comment=HELD["s"], runs=21)
        return
    job.update(state="RUNNING", host=state["node"], stime=time.time(), runs=1)
    job["keeper"] = machinery.keep(job)
    job["ticks"] = machinery.start_ticks(job["keeper"])


LOGIN = """exec env -i HOME="$HOME" PATH=/usr/bin:/bin FAKE_JOB="$FAKE_JOB" PBS_JOBID={id} \\
  PBS_JOBNAME={name} PBS_ENVIRONMENT=PBS_BATCH PBS_QUEUE={queue} \\
  /bin/bash -c 'cd; [ -f "$1/profile" ] && . "$1/profile"; "$0"; exit $?' {script} {home}
"""
"""The job's shell is a login shell, whose profile may print, in the home directory."""


# -- qsub


def qsub(state, arguments):
    options, operands = getopt.gnu_getopt(arguments, "A:hfj:k:l:m:N:o:q:r:W:v:V")
    given = {}
    collect(given, options)
    script = read_script(operands[-1])
    for line in directives(script):  # the command line overrides them
        inner = {}
        collect(inner, getopt.gnu_getopt(line.split(), "A:hj:k:l:m:N:o:q:r:W:v:V")[0])
        given = {**inner, **given}
    check(given)
    if state["flavour"] == "torque" and ("-f" in given or "d" in given.get("-k", "")):
        raise Refused(2, f"qsub: illegal -k value\n{USAGE}")
    number = state["next"]
    state["next"] += 1
    job_id = f"{number}.{SERVER}"
    if len(script) <= state["limit"]:  # dir_big_200MB: an id, and never a job
        accept(state, job_id, given, script)
        advance(state)
    return 0, f"{job_id}\n", ""


def collect(given, options):
    for key, value in options:
        if key == "-l":
            for each in value.split(","):
                name, _, text = each.partition("=")
                given[f"-l {name}"] = text
        else:
            given[key] = value


def read_script(path):
    try:
        with open(path, newline="") as file:
            text = file.read()
    except OSError:
        raise Refused(
            1, "qsub: script file:: No such file or directory\n"
        ) from None  # err_missing_script
    if "\r" in text:
        raise Refused(1, "qsub: script contains cr, lf\n")  # dir_crlf
    return text


def directives(script):
    for line in script.splitlines():
        if line.strip().startswith("#PBS"):
            yield line.strip().removeprefix("#PBS")
        elif line.strip() and not line.startswith("#"):
            return


def check(given):
    """The fixtures err_*."""
    name, queue = given.get("-N", "STDIN"), given.get("-q", "workq")
    if len(name) > 230:
        raise Refused(2, "qsub: Job name is too long \n")
    if not re.fullmatch(r"[A-Za-z0-9._+-]+", name):
        raise Refused(2, f"qsub: illegal -N value\n{USAGE}")
    if queue not in QUEUES:
        raise Refused(170, "qsub: Unknown queue\n")
    if queue == "disabledq":
        raise Refused(173, "qsub: Queue is not enabled\n")
    if queue == "aclq":
        raise Refused(159, "qsub: Unauthorized Request \n")
    for chunk in given.get("-l select", "1").split("+"):
        for part in chunk.split(":")[1:]:
            if part.partition("=")[0] not in ("ncpus", "mem", "mpiprocs", "host"):
                raise Refused(187, f"qsub: Unknown resource: {part.partition('=')[0]}\n")
    limit = seconds(given)
    if queue == "short" and (cpus(given) > 2 or (limit or 0) > 600):
        raise Refused(188, "qsub: Job violates queue and/or server resource limits\n")


def cpus(given):
    total = 0
    for chunk in given.get("-l select", "1:ncpus=1").split("+"):
        count, *parts = chunk.split(":")
        each = dict(part.split("=") for part in parts).get("ncpus", "1")
        total += int(count) * int(each)
    return total


def seconds(given):
    value = given.get("-l walltime")
    if value is None:
        return None
    if not re.fullmatch(r"\d+(:\d\d){0,2}", value):
        raise Refused(166, "qsub: Illegal attribute or resource value Resource_List.walltime\n")
    total = 0
    for part in value.split(":"):
        total = total * 60 + int(part)
    return total


def accept(state, job_id, given, script):
    number = job_id.partition(".")[0]
    spooled = f"{HOME}/spool/{number}.SC"
    with open(spooled, "w") as copy:
        copy.write(script)
    os.chmod(spooled, 0o700)
    job = blank(job_id, given.get("-N", "STDIN"), given.get("-q", "workq"))
    with open(job["script"], "w") as login:
        login.write(LOGIN.format(**{**job, "script": spooled}, home=HOME))
    job["output"] = given.get("-o", f"{os.environ['HOME']}/{job['name']}.o{number}")
    pairs = [each.partition("=") for each in given.get("-v", "").split(",") if each]
    job["variables"] = {name: value for name, _, value in pairs}
    job.update(hold="u" if "-h" in given else "", ncpus=cpus(given), walltime=seconds(given))
    state["jobs"][job_id] = job
    state["names"].append(job["name"])
    state["accepted"] += 1


def blank(job_id, name, queue="workq", owner=None):
    number = job_id.partition(".")[0]
    return {
        "id": job_id, "name": name, "queue": queue, "owner": owner or account(),
        "state": "PENDING", "hold": "", "comment": "", "host": "", "exit": "0:0", "ending": "",
        "keeper": None, "ticks": None, "cookie": f"{HOME}/{number}", "runs": 0,
        "script": f"{HOME}/spool/{number}.login", "directory": "/", "output": "/dev/null",
        "ncpus": 1, "walltime": None, "ctime": time.time(), "stime": None, "estimated": None,
        "variables": {},
    }  # fmt: skip


# -- qselect


def qselect(state, arguments):
    options = dict(getopt.getopt(arguments, "xTN:s:q:u:")[0])
    if "-x" in options and not state["history"]:  # nh_qselect_x
        return 0, "", "qselect: PBS is not configured to maintain job history\n"
    wanted = {"-N": "name", "-q": "queue", "-u": "owner"}
    jobs = [
        job["id"]
        for job in visible(state)
        if all(job[key] in options.get(flag, job[key]).split(",") for flag, key in wanted.items())
        and letter(state, job) in options.get("-s", "QHR" + ("F" if "-x" in options else ""))
    ]
    return 0, "".join(f"{each}\n" for each in jobs), ""


def visible(state):
    hidden = state.get("hide", [])
    return [job for job in state["jobs"].values() if hidden is not True and job["id"] not in hidden]


# -- qstat


def qstat(state, arguments):
    torque = state["flavour"] == "torque"
    options, operands = getopt.getopt(arguments, "BExfF:Qw")
    options = dict(options)
    form = paragraphs if torque else section
    if "-B" in options:
        return 0, form("Server", servers(state)), ""
    if "-Q" in options:
        return 0, form("Queue", queues(state)), ""
    assert operands, "all jobs of all users would be asked for"
    assert torque or "-E" in options, "each id would cost a connection"
    wanted = [each if "." in each else f"{each}.{SERVER}" for each in operands]
    history = "-x" in options and not torque
    if history and not state["history"]:  # nh_Ex_run: not even jobs that run are told of
        status, error = 0, f"qstat: PBS is not configured to maintain job history {wanted[0]}\n"
        return status, answer(state, options, []), error
    known = {job["id"]: job for job in visible(state)}
    found, error, status = [], "", 0
    for job_id in wanted:
        job = known.get(job_id)
        over = job is not None and job["state"] not in ACTIVE and not torque
        if job is None or (over and not state["history"]):
            error, status = error or f"qstat: Unknown Job Id {job_id}\n", status or 153
        elif over and not history:
            message = f"qstat: {job_id} Job has finished, use -x or -H to obtain historical job "
            error, status = error or f"{message}information\n", status or 35
        else:
            found.append(job)
    if found and not torque:  # E_run_unk: those that are not known are left out
        status, error = 0, ""
    return status, answer(state, options, found), error


def answer(state, options, jobs):
    if state["flavour"] == "torque":
        return xml(state, jobs)
    told = {job["id"]: attributes(state, job) for job in jobs}
    if options.get("-F") == "json":
        for each in told.values():
            variables = each["Variable_List"]
            bare = {k: Bare(v) for k, v in variables.items() if re.fullmatch(r"[+.]\d+|nan", v)}
            each["Variable_List"] = {**variables, **bare}
        return section("Jobs", told)
    return "".join(text(job_id, job) for job_id, job in told.items())


def section(name, members):
    """A whole answer; one without members does not have their section."""
    head = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER}
    return cjson({**head, name: members} if members else head) + "\n"


def paragraphs(name, members):
    """The same as Torque's users show it; there is no recording of a real one."""
    return "".join(text(key, told, name) for key, told in members.items())


def letter(state, job):
    if job["state"] == "PENDING":
        return "H" if job["hold"] else "Q"
    ended = "C" if state["flavour"] == "torque" else "F"
    return LETTERS.get(job["state"], ended)


def attributes(state, job):
    """In the order of qstat_fx_json_finished and qstat_estimated."""
    owner, output = job["owner"], f"{SERVER}:{job['output']}"
    told = {"Job_Name": job["name"], "Job_Owner": f"{owner}@{SERVER}"}
    told |= {"job_state": letter(state, job), "queue": job["queue"], "server": SERVER}
    told |= {"Checkpoint": "u", "ctime": time.ctime(job["ctime"])}
    if job["stime"]:
        told |= {"exec_host": f"{job['host']}/0*{job['ncpus']}"}
        told |= {"exec_vnode": f"(vnode[0]:ncpus={job['ncpus']})"}
    told |= {"Hold_Types": job["hold"] or "n", "Join_Path": "oe", "Keep_Files": "oed"}
    told |= {"Output_Path": output, "Priority": 0, "Rerunable": "False"}
    told["Resource_List"] = {"ncpus": job["ncpus"], "select": f"1:ncpus={job['ncpus']}"}
    told |= {
        "substate": substate(job),
        "Variable_List": {"PBS_O_HOME": "/home/bob", **job["variables"]},
    }
    if comment(job):
        told["comment"] = comment(job)
    if job["runs"]:
        told["run_count"] = job["runs"]
    status = exit_status(job)
    if status is not None:
        told["Exit_status"] = status
    if job["estimated"]:
        told["estimated"] = {"start_time": time.ctime(job["estimated"])}
    return {**told, "project": "_pbs_project_default", "Submit_Host": SERVER}


def substate(job):
    if job["state"] in ACTIVE:
        return 42 if job["state"] == "RUNNING" else 20 if job["hold"] else 10
    return 91 if job["ending"].startswith("terminated") else 92 if job["exit"] == "0:0" else 93


def comment(job):
    """As in qstat_x_qd_run and exit_statuses: how it started, and then how it ended."""
    if not job["stime"]:
        return job["comment"] or (job["ending"] and f"Job {job['ending']}")
    run = f"Job run at Sat Nov 21 at 19:24 on (vnode[0]:ncpus={job['ncpus']})"
    if job["ending"]:
        return f"{run} and {job['ending']}"
    if job["state"] == "RUNNING":
        return run
    return f"{run} and {'finished' if job['exit'] == '0:0' else 'failed'}"


def exit_status(job):
    if job["state"] in ACTIVE or not job["stime"]:
        return None
    if job["ending"].startswith("exceeded"):
        return -29
    code, sent = map(int, job["exit"].split(":"))
    return 256 + sent if sent else code


class Bare(str):
    """What a release prints as a number although JSON knows no such (hostile_v23_plus, _dot5)."""


def cjson(value, depth=0):
    """As cJSON_Print does it; test_fake.py holds it against the recordings."""
    if isinstance(value, Bare):
        return str(value)
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    tabs = "\t" * (depth + 1)
    items = [f"{tabs}{json.dumps(k)}:\t{cjson(v, depth + 1)}" for k, v in value.items()]
    return "{\n" + ",\n".join(items) + "\n" + "\t" * depth + "}"


def text(job_id, job, head="Job Id"):
    """As qstat_text_hostile_w."""
    lines = [f"{head}: {job_id}"]
    for key, value in job.items():
        if isinstance(value, dict) and key == "Variable_List":
            lines.append(f"    {key} = {','.join(f'{k}={v}' for k, v in value.items())}")
        elif isinstance(value, dict):
            lines += [f"    {key}.{name} = {each}" for name, each in value.items()]
        else:
            lines.append(f"    {key} = {value}")
    return "\n".join(lines) + "\n\n"


def xml(state, jobs):
    """Torque's form as its manual and its users show it; there is no recording of a real one."""
    parts = []
    for job in jobs:
        told = attributes(state, job)
        if "Exit_status" in told:
            status = told.pop("Exit_status")
            told["exit_status"] = -11 if status == -29 else status
            del told["comment"]
        told["Variable_List"] = "PBS_O_HOME=/home/bob,A=<&>"
        if "exec_host" in told:
            told["exec_host"] = f"{job['host']}/0-{job['ncpus']}"
        inner = f"<Job_Id>{job['id']}</Job_Id>"
        for key, value in told.items():
            if isinstance(value, dict):
                value = "".join(f"<{k}>{escape(str(v))}</{k}>" for k, v in value.items())
            else:
                value = escape(str(value))
            inner += f"<{key}>{value}</{key}>"
        parts.append(f"<Job>{inner}</Job>")
    return f"<Data>{''.join(parts)}</Data>\n" if parts else ""


# -- what is told of the server, its queues and its node


def servers(state):
    """As qstat_server_Bf_json."""
    told = {"server_state": "Active", "server_host": SERVER, "scheduling": "True"}
    told |= {"total_jobs": len(state["jobs"]), "default_queue": "workq"}
    told |= {"default_chunk": {"ncpus": 1}}
    if os.getuid() == 0:
        told["acl_roots"] = f"root@{SERVER}"  # else a real one takes no jobs of root
    told |= {"query_other_jobs": "True", "scheduler_iteration": 600, "pbs_version": "23.06.06"}
    return {SERVER: {**told, "job_history_enable": str(state["history"])}}


def queues(state):
    """As qstat_queues_Qf_json."""
    told = {}
    for name in QUEUES:
        letters = [letter(state, job) for job in state["jobs"].values() if job["queue"] == name]
        words = {"Transit": "T", "Queued": "Q", "Held": "H", "Waiting": "W", "Running": "R"}
        counts = [f"{word}:{letters.count(each)} " for word, each in words.items()]
        told[name] = {"queue_type": "Execution", "state_count": "".join(counts)}
        if name == "short":
            told[name]["resources_max"] = {"ncpus": 2, "walltime": "00:10:00"}
        if name == "aclq":
            told[name] |= {"acl_user_enable": "True", "acl_users": "alice"}
        told[name]["enabled"] = str(name != "disabledq")
        told[name]["started"] = str(name != "stoppedq")
    return told


def pbsnodes(state, arguments):
    """As pbsnodes_json."""
    running = [each["ncpus"] for each in state["jobs"].values() if each["state"] == "RUNNING"]
    used = CPUS if state["hold"] else sum(running)
    told = {"Mom": state["node"], "ntype": "PBS", "state": "free" if used < CPUS else "job-busy"}
    told |= {"resources_available": {"host": state["node"], "ncpus": CPUS, "vnode": state["node"]}}
    return 0, section("nodes", {state["node"]: {**told, "resources_assigned": {"ncpus": used}}}), ""


# -- qrls


def qrls(state, arguments):
    for job_id in arguments:
        state["jobs"][job_id]["hold"] = ""
    return 0, "", ""


# -- qdel


def qdel(state, arguments):
    status, error = 0, ""
    for given in arguments:
        job_id = given if "." in given else f"{given}.{SERVER}"
        job = {each["id"]: each for each in visible(state)}.get(job_id)
        if job is None or (job["state"] not in ACTIVE and not state["history"]):
            error, status = error or f"qdel: Unknown Job Id {job_id}\n", status or 153
        elif job["state"] not in ACTIVE:
            error, status = error or f"qdel: Job has finished {job_id}\n", status or 35
        elif job["owner"] != account():
            error, status = error or f"qdel: Unauthorized Request  {job_id}\n", status or 159
        else:
            delete(state, job)
    return status, "", error


def delete(state, job):
    job["ending"] = f"terminated by {account()}@{SERVER}"
    state["cancelled"].append(job["name"])
    if job["state"] == "PENDING":
        job.update(state="CANCELLED", exit="0:15")
    elif machinery.living(job["keeper"], job["ticks"]):
        os.kill(job["keeper"], signal.SIGTERM)


DOWN = {  # down_qsub, down_qstat_E_json, down_qselect, down_qdel
    "qsub": (162, "Connection refused\nqsub: cannot connect to server pbslab (errno=15010)\n"),
    "qstat": (255, "Connection refused\nqstat: cannot connect to server pbslab (errno=15010)\n"),
    "qselect": (
        162,
        "Connection refused\nqselect: cannot connect to server pbslab (errno=15010)\n",
    ),
    "qdel": (162, "Connection refused\nCouldn't connect to cluster: pbslab\n"),
    **dict.fromkeys(("qrls", "pbsnodes"), (1, "Connection refused\n")),  # not recorded
}


NOWHERE = {  # badhost_qsub, badhost_qstat
    command: (
        160 if status == 162 else status,
        f"Unknown Host.\n{command}: cannot connect to server nosuch.invalid (errno=15008)\n",
    )
    for command, (status, _) in DOWN.items()
}


def true_answer(command, state, fault, arguments):
    # A job's whole id leads to its server, wherever else PBS_SERVER leads (get_server.c).
    whole = any(each.endswith(f".{SERVER}") for each in arguments)
    elsewhere = os.environ.get("PBS_SERVER", SERVER) != SERVER and not whole
    closed = os.environ.get("PBS_BATCH_SERVICE_PORT", "15001") != "15001"
    if state["down"] or elsewhere or closed:
        status, error = (NOWHERE if elsewhere else DOWN)[command]
        options = {"-F": "json"} if "json" in arguments else {}
        return status, answer(state, options, []) if command == "qstat" else "", error
    state["hide"] = fault.get("hide", [])
    advance(state)
    try:
        commands = (qsub, qstat, qselect, qdel, qrls, pbsnodes)
        return {each.__name__: each for each in commands}[command](state, arguments)
    except Refused as refused:
        return refused.args[0], "", refused.args[1]
    except getopt.GetoptError as error:
        return 2, "", f"{command}: invalid option -- '{error.opt}'\n{USAGE}"  # err_unknown_option


def main():
    command, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    with Locked() as state:
        fault = machinery.fault_of(command, state)
    time.sleep(fault.get("before", 0))
    status, out, error = 0, "", ""
    if not fault.get("lost"):
        with Locked() as state:
            status, out, error = true_answer(command, state, fault, arguments)
    time.sleep(fault.get("after", 0))
    told = fault["out"].encode("latin-1") if "out" in fault else out.encode()
    os.write(1, told[: len(told) - fault.get("cut", 0)])
    os.write(2, fault.get("err", error).encode())
    sys.exit(fault.get("status", status))


if __name__ == "__main__":
    main()
