"""Torque's differences: XML, its own options, state C. Its forms are those of its manual."""

import pytest

from hpcbridge.errors import ClusterUnreachable, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import EndReason, Forecast, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.kinds import KINDS
from hpcbridge.schedulers.pbs import TorqueCluster, TorqueScheduler
from hpcbridge.schedulers.pbs.jobs import TORQUE_ENDS, job_info
from hpcbridge.schedulers.pbs.readers import read_xml
from hpcbridge.transports.base import Completed
from tests.schedulers.pbs.test_scheduler import Script
from tests.schedulers.printed import printed

RUNNING = (
    "<Job><Job_Id>12.torque.example.org</Job_Id><Job_Name>hpcb-1</Job_Name>"
    "<Job_Owner>alice@login.example.org</Job_Owner><job_state>R</job_state><queue>batch</queue>"
    "<exec_host>n1/0-3+n2/0-1</exec_host><Hold_Types>n</Hold_Types>"
    "<Resource_List><nodes>2:ppn=4</nodes><walltime>01:00:00</walltime></Resource_List>"
    "<Variable_List>PBS_O_HOME=/home/alice,A=&lt;/Data&gt;&amp;</Variable_List></Job>"
)
ENDED = (
    "<Job><Job_Id>13.torque.example.org</Job_Id><Job_Name>hpcb-2</Job_Name>"
    "<job_state>C</job_state><exit_status>{}</exit_status><exec_host>n1/0</exec_host></Job>"
)


def data(*jobs: str) -> str:
    return f"<Data>{''.join(jobs)}</Data>\n"


def told(text: str, number: int = 0) -> JobInfo:
    jobs = read_xml(text) or {}
    job_id = list(jobs)[number]
    return job_info(job_id, jobs[job_id], TORQUE_ENDS)


def test_a_running_job_is_on_the_first_of_its_hosts() -> None:
    job = told(data(RUNNING))
    assert (job.job_id, job.name) == ("12.torque.example.org", "hpcb-1")
    assert (job.state, job.host, job.account) == (JobState.RUNNING, "n1", "alice")


def test_hosts_are_told_in_several_forms() -> None:
    for form in ("n1/0", "n1/0+n1/1+n2/0", "n1/0-3+n2/0-3", "n1/3+n2/0"):
        job = told(data(RUNNING.replace("n1/0-3+n2/0-1", form)))
        assert job.host == "n1"


@pytest.mark.parametrize(
    ("status", "reason", "number"),
    [
        ("0", EndReason.FINISHED, 0),
        ("3", EndReason.FAILED, 3),
        ("271", EndReason.CANCELLED, -15),
        ("265", EndReason.FAILED, -9),
        ("-10", EndReason.OUT_OF_MEMORY, None),
        ("-11", EndReason.TIMED_OUT, None),
        ("-4", EndReason.NODE_FAILED, None),
        ("-1", EndReason.FAILED, None),
    ],
)
def test_a_completed_job_has_its_reason(status: str, reason: EndReason, number: int | None) -> None:
    job = told(data(ENDED.format(status)))
    assert (job.state, job.reason, job.exit_status) == (JobState.ENDED, reason, number)


def test_answers_about_several_servers_follow_each_other() -> None:
    assert set(read_xml(data(RUNNING) + data(ENDED.format(0))) or {}) == {
        "12.torque.example.org",
        "13.torque.example.org",
    }


def test_a_greeting_before_the_answer_is_left_out() -> None:
    assert list(read_xml("Welcome & hello <user>\n" + data(RUNNING)) or {}) == [
        "12.torque.example.org"
    ]


def test_control_characters_of_a_variable_leave_the_answer_whole() -> None:
    odd = RUNNING.replace("A=", "A=\x00\x1b[31m\ufffe\ud800")
    assert told(data(odd)).state == JobState.RUNNING


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "<html></html>",
        "<Data><Job></Job></Data>",
        data(RUNNING.replace("12.torque", "x;id")),
        data("<Job><Job_Id>&xxe;</Job_Id></Job>"),
        '<Data><!DOCTYPE x [<!ENTITY a "b">]></Data>',
    ],
)
def test_garbage_is_not_an_answer(text: str) -> None:
    assert read_xml(text) is None


def test_entities_are_never_expanded() -> None:
    bomb = '<!DOCTYPE Data [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + data(
        RUNNING.replace("hpcb-1", "&b;")
    )
    assert read_xml(bomb) is None


def test_an_answer_cut_anywhere_is_not_believed() -> None:
    whole = data(RUNNING, ENDED.format(0)).rstrip()
    assert [end for end in range(1, len(whole)) if read_xml(whole[:end])] == []


# -- the adapter


def adapter(**answers: list) -> tuple[TorqueScheduler, Script]:  # type: ignore[type-arg]
    script = Script(**answers)
    return TorqueScheduler(script, timeout=8), script  # type: ignore[arg-type]


async def test_options_that_only_pbs_knows_are_not_used() -> None:
    scheduler, script = adapter(qsub=[printed("12.torque\n")])
    await scheduler.submit(JobRequest("hpcb-1", "/d", "/d/job.sh", walltime=3600))
    (argv,) = script.asked
    assert "-f" not in argv
    assert "-k" not in argv
    assert argv[-1] == "/d/job.sh"


@pytest.mark.parametrize("name", ["x;cmd", "$(id)", "`id`", "a b", "-o/etc/x", "x\n#PBS -q y"])
async def test_a_wrapper_that_runs_a_shell_is_never_given_more_than_a_name(name: str) -> None:
    scheduler, script = adapter()
    with pytest.raises(JobRejected):
        await scheduler.submit(JobRequest(name, "/d", "/d/job.sh"))
    with pytest.raises(JobRejected):
        await scheduler.submit(JobRequest("n", name, "/d/job.sh"))
    assert script.asked == []


async def test_a_listing_is_xml_of_this_accounts_jobs() -> None:
    ids = "12.torque.example.org\n13.torque.example.org\n"
    answer = printed(data(RUNNING), "qstat: Unknown Job Id Error 13.torque.example.org", 153)
    scheduler, script = adapter(qselect=[printed(ids)], qstat=[answer])
    assert list((await scheduler.list_jobs()).jobs) == ["12.torque.example.org"]
    assert script.asked[-1][:3] == ["qstat", "-x", "-f"]


async def test_a_completed_job_is_told_and_then_asked_for_no_more() -> None:
    scheduler, script = adapter(
        qsub=[printed("13.torque.example.org\n")],
        qselect=[printed(""), printed("")],
        qstat=[printed(data(ENDED.format(0)))],
    )
    await scheduler.submit(JobRequest("hpcb-2", "/d", "/d/job.sh"))
    for _ in range(2):
        jobs = (await scheduler.list_jobs()).jobs
        assert jobs["13.torque.example.org"].reason == EndReason.FINISHED
    assert sum("qstat" in argv for argv in script.asked) == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("qstat: cannot connect to server torque (errno=111) Connection refused",
         ClusterUnreachable),
        ("Communication failure.\nqstat: cannot connect to server torque (errno=15137)",
         ClusterUnreachable),
        ("qstat: Something new", UnexpectedReply),
    ],
)  # fmt: skip
async def test_a_server_that_is_down_says_nothing_about_jobs(
    words: str, error: type[Exception]
) -> None:
    scheduler, _ = adapter(qselect=[printed("12.torque\n")], qstat=[printed("", words, 111)])
    with pytest.raises(error):
        await scheduler.list_jobs()


def test_it_is_chosen_by_its_name() -> None:
    assert KINDS["torque"].settings is TorqueCluster
    assert TorqueCluster(scheduler="torque").scheduler == "torque"


# -- what a job may expect

SERVER = "Server: torque\n    server_state = Active\n    default_queue = batch\n\n"
QUEUES = (
    "Queue: batch\n    queue_type = Execution\n    total_jobs = 0\n"
    "    state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Complete:0 \n"
    "    enabled = True\n    started = True\n\n"
    "Queue: viz\n    queue_type = Execution\n    enabled = True\n    started = False\n\n"
    "Queue: old\n    queue_type = Execution\n    enabled = False\n    started = True\n\n"
)


@pytest.mark.parametrize(
    ("directive", "closed"),
    [
        ("", ""),
        ("#PBS -q batch -l nodes=1:ppn=2", ""),
        ("#PBS -q viz", "its queue viz is stopped"),
        ("#PBS -q old", "its queue old is disabled"),
        ("#PBS -q nosuch", ""),
        ("#PBS -q 'viz", ""),
    ],
)
async def test_only_whether_its_queue_is_closed_is_told(directive: str, closed: str) -> None:
    scheduler, script = adapter(qstat=[printed(SERVER), printed(QUEUES)])
    request = JobRequest("n", "/d", "/d/job.sh", text=f"#!/bin/sh\n{directive}\ntrue\n")
    assert await scheduler.forecast(request) == Forecast(closed=closed)
    assert script.asked[0] == ["qstat", "-B", "-f"]


@pytest.mark.parametrize(
    "answer", [printed(), printed("<html></html>"), printed(err="x", status=1)]
)
async def test_a_server_that_cannot_be_read_tells_nothing(answer: Completed) -> None:
    scheduler, _ = adapter(qstat=[answer, printed(QUEUES)])
    with pytest.raises(UnexpectedReply):
        await scheduler.forecast(JobRequest("n", "/d", "/d/job.sh"))
