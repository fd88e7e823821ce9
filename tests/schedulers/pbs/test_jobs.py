"""What PBS tells of a job, in hpcbridge's words."""

import calendar
import json

import pytest

from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.schedulers.pbs import jobs
from hpcbridge.schedulers.pbs.readers import read_json
from tests.schedulers.pbs.recordings import DIRECTORY

RECORDED = DIRECTORY.parent / "pbs-real"


def recorded(name: str) -> dict[str, dict[str, str]]:
    return read_json((DIRECTORY / f"{name}.json").read_text()) or {}


def told(name: str, job_id: str = "") -> JobInfo:
    """The recorded job, or the one of several with this id."""
    found = recorded(name)
    job_id = job_id or next(iter(found))
    return jobs.job_info(job_id, found[job_id], jobs.PBS_ENDS)


def info(domain: str = "", **attributes: str) -> JobInfo:
    return jobs.job_info("7.pbs", attributes, jobs.PBS_ENDS, domain)


def ended(status: str = "", comment: str = "", **more: str) -> JobInfo:
    more |= {"Exit_status": status} if status else {}
    return info(job_state="F", comment=comment, **more)


def test_a_running_job_has_its_host() -> None:
    job = told("qstat_fx_json_running")
    assert (job.name, job.state, job.host) == ("pvjob", JobState.RUNNING, "pbslab")


def test_the_host_of_a_job_on_several_nodes_is_the_first() -> None:
    assert told("mn_qstat").host == "pbslab"
    several = "n7/0*2+n1/1*2+n2/2"
    assert info(job_state="R", exec_host=several).host == "n7"
    assert info(job_state="R", exec_host=several, domain="hpc.example.org").host == (
        "n7.hpc.example.org"
    )
    assert info(job_state="R", exec_host="n7.x.org/0", domain="y.org").host == "n7.x.org"


def test_virtual_nodes_are_not_taken_for_hosts() -> None:
    assert info(job_state="R", exec_vnode="(n7[0]:ncpus=1)").host is None


def test_a_job_that_was_put_back_has_no_host() -> None:
    for letter in "QHWT":
        assert info(job_state=letter, exec_host="n7/0").host is None


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("QHWTSU", JobState.QUEUED),
        ("RB", JobState.RUNNING),
        ("E", JobState.COMPLETING),
        ("FCX", JobState.ENDED),
        ("M", JobState.UNKNOWN),
        ("Z?", JobState.UNKNOWN),
    ],
)
def test_every_state_has_its_meaning_and_new_ones_end_nothing(
    letters: str, state: JobState
) -> None:
    for letter in letters:
        assert info(job_state=letter).state == state
    assert info().state == JobState.UNKNOWN


@pytest.mark.parametrize(
    ("job_id", "reason", "status"),
    [
        ("809.pbslab", EndReason.TIMED_OUT, None),
        ("810.pbslab", EndReason.FAILED, 1),
        ("811.pbslab", EndReason.FAILED, 254),
        ("812.pbslab", EndReason.FAILED, 7),
        ("813.pbslab", EndReason.FAILED, 137),
    ],
)
def test_recorded_ends_have_their_reason(
    job_id: str, reason: EndReason, status: int | None
) -> None:
    job = told("exit_statuses", job_id)
    assert (job.state, job.reason, job.exit_status) == (JobState.ENDED, reason, status)


def test_a_job_that_ended_well_has_finished() -> None:
    job = told("qstat_fx_json_finished")
    assert (job.reason, job.exit_status) == (EndReason.FINISHED, 0)


@pytest.mark.parametrize("name", ["run", "trap", "ign", "q", "h"])
def test_a_job_that_was_deleted_is_cancelled_running_or_not(name: str) -> None:
    assert told(f"qstat_x_qd_{name}").reason == EndReason.CANCELLED


def test_a_job_that_is_being_deleted_has_not_ended() -> None:
    for job in recorded("qstat_after_qdel_running").values():
        assert jobs.job_info("24.pbslab", job, jobs.PBS_ENDS).state == JobState.RUNNING


@pytest.mark.parametrize(
    ("status", "comment", "reason"),
    [
        ("-27", "", EndReason.OUT_OF_MEMORY),
        ("-26", "", EndReason.OUT_OF_MEMORY),
        ("-28", "", EndReason.TIMED_OUT),
        ("-4", "", EndReason.NODE_FAILED),
        ("-20", "", EndReason.NODE_FAILED),
        ("-3", "", EndReason.FAILED),
        ("-999", "", EndReason.FAILED),
        ("271", "Job run at x on (n) and exceeded resource mem", EndReason.OUT_OF_MEMORY),
        ("271", "Job run at x on (n) and exceeded resource walltime", EndReason.TIMED_OUT),
        ("137", "Cgroup mem limit exceeded: oom-kill", EndReason.OUT_OF_MEMORY),
        ("0", "Job run at x on (n) and terminated by bob@h", EndReason.CANCELLED),
        ("x", "", EndReason.FAILED),
    ],
)
def test_other_ends_have_their_reason(status: str, comment: str, reason: EndReason) -> None:
    assert ended(status, comment).reason == reason


def test_a_status_above_256_is_a_signal_and_one_below_0_is_none() -> None:
    assert ended("265").exit_status == -9
    assert ended("256").exit_status == 256
    assert ended("-29").exit_status is None
    assert ended().exit_status is None


# -- what a job waits for


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("Not Running: Insufficient amount of resource: ngpus (R: 2 A: 0 T: 4)", "2 GPUs"),
        ("Not Running: Insufficient amount of resource: ncpus (R: 1 A: 0 T: 8)", "1 CPU"),
        ("Not Running: Insufficient amount of resource: mem (R: 16gb A: 1gb T: 64gb)",
         "16 GB of memory"),
        ("Not Running: Insufficient amount of queue resource: ncpus (R: 8 A: 0 T: 8)", "8 CPUs"),
        ("Not Running: Insufficient amount of resource: licences (R: 3 A: 0 T: 4)",
         "3 of the resource licences"),
        ("Not Running: Insufficient amount of resource: ngpus", "free GPUs"),
        ("Not Running: Not enough free nodes available", "free nodes"),
        ("Not Running: Queue not started.", "its queue to be started"),
        ("Not Running: Job would conflict with reservation",
         "its turn: it would be in the way of a reservation or of a job before it"),
        ("a\x1b[31m\nb", "the scheduler (a [31m b)"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_reason_of_waiting_is_told_in_plain_words(comment: str, words: str) -> None:
    waiting = {"job_state": "Q", "comment": comment, "queue": "workq"}
    assert jobs.outlook(waiting, 3).waits_for == words


def test_held_jobs_wait_for_somebody() -> None:
    held = recorded("qstat_st_q_hold")["20.pbslab"]
    assert jobs.outlook(held, None).waits_for == "its owner to release it"
    assert jobs.outlook(held | {"Hold_Types": "o"}, None).waits_for == "an operator to release it"
    assert told("qstat_st_q_hold").hopeless == ""


def test_a_job_with_a_later_start_waits_for_it() -> None:
    later = recorded("qstat_st_q_wait")["21.pbslab"]
    assert jobs.outlook(later, None).waits_for == "its start at Sat Nov 21 23:59:00 2026 UTC"


def test_the_schedulers_estimate_is_a_moment() -> None:
    job = recorded("qstat_estimated")["816.pbslab"]
    told = jobs.outlook(job, 2)
    assert told.start == calendar.timegm((2026, 11, 21, 19, 48, 37))
    assert (told.queue, told.ahead, told.waits_for) == ("workq", 2, "free nodes")
    for text in ("UNKNOWN", "--", ""):
        assert jobs.outlook(job | {"estimated.start_time": text}, 2).start is None
    assert jobs.outlook(job, 2, utc=False).start is None


def test_a_job_that_waits_says_so_before_the_scheduler_has_looked() -> None:
    assert info(job_state="Q").detail == "waiting for the scheduler to look at it"
    assert info(job_state="H", Hold_Types="u").detail == "waiting for its owner to release it"


def test_jobs_of_an_array_stand_in_line_one_by_one() -> None:
    told = (RECORDED / "qselect_T_subjobs.txt").read_text().split()
    assert jobs.in_line(told) == [4009] * 18
    assert jobs.in_line(["4008[].pbslab", *told, "4009[].pbslab", "4010.pbslab"]) == [
        4008, *[4009] * 18, 4010,
    ]  # fmt: skip


# -- jobs without hope


def test_a_job_that_asks_for_too_much_is_hopeless() -> None:
    job = told("qstat_st_q_never")
    assert job.state == JobState.QUEUED
    assert job.hopeless == (
        "PBS says that the job can never run: it asks for 99 CPUs, and there is no more than 8."
    )
    assert "host (nosuch != pbslab)" in told("qstat_st_q_badhost").hopeless


def test_a_job_that_failed_to_start_too_often_is_hopeless() -> None:
    assert "too many failed attempts to run" in told("qstat_held_toomany").hopeless


def test_a_job_that_waits_for_another_is_not_hopeless() -> None:
    assert info(job_state="H", Hold_Types="s", substate="22").hopeless == ""
    assert info(job_state="H", Hold_Types="s", substate="20").hopeless == ""


def test_a_job_that_is_held_by_an_operator_is_waited_for() -> None:
    held = info(job_state="H", Hold_Types="s", comment="Not Running: Job is held")
    assert (held.hopeless, held.detail) == ("", "waiting for an operator to release it")


def test_a_held_job_tells_no_start_that_was_estimated_before() -> None:
    job = recorded("qstat_estimated")["816.pbslab"] | {"job_state": "H", "Hold_Types": "o"}
    assert jobs.outlook(job, None).start is None


def test_an_exiting_job_is_over_or_goes_back_into_the_queue() -> None:
    over = info(job_state="E", substate="50", Exit_status="3")
    assert (over.state, over.reason, over.exit_status) == (
        JobState.COMPLETING,
        EndReason.FAILED,
        3,
    )
    assert info(job_state="E", substate="50").reason is None
    assert info(job_state="E", substate="60").state == JobState.QUEUED


@pytest.mark.parametrize("name", ["qstat_estimated", "node_off", "qstat_st_q_stopped"])
def test_a_job_that_only_waits_is_not_hopeless(name: str) -> None:
    assert told(name).hopeless == ""


def test_every_recorded_job_can_be_read() -> None:
    count = 0
    for path in sorted(DIRECTORY.glob("*.json")):
        if path.name.endswith(".raw.json"):
            continue
        answer = json.loads(path.read_text(errors="replace"), strict=False)
        for job_id, job in (read_json(path.read_text(errors="replace")) or {}).items():
            found = jobs.job_info(job_id, job, jobs.PBS_ENDS)
            assert found.state != JobState.UNKNOWN
            assert found.name == str(answer["Jobs"][job_id]["Job_Name"])
            count += 1
    assert count > 50
