"""Grid Engine's commands: what is run, and how recorded answers of the real 8.1.9 are read."""

import re
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config.batchsystems import GridEngineCluster
from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.gridengine import GridEngineScheduler
from hpcbridge.schedulers.gridengine.accounting import parse_end, parse_named
from hpcbridge.schedulers.gridengine.commands import (
    parse_qdel,
    parse_qsub,
    qdel_argv,
    qsub_argv,
    shell_of,
)
from hpcbridge.schedulers.gridengine.queue import (
    details_argv,
    parse_errors,
    parse_listing,
    parse_reasons,
    parse_waiting,
)
from hpcbridge.transports.base import Completed
from tests.schedulers.gridengine.recordings import recorded
from tests.schedulers.printed import printed

REQUEST = JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", text="#!/bin/sh\n")


GONE = recorded("qstat_unknown_xml")
"""What qstat -j says of a job that is over."""


class Replay:
    """A transport that answers each command with what was recorded, and keeps what was asked."""

    def __init__(self, **answers: Completed | Exception) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    async def run(self, argv: Any, *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append(tuple(argv))
        words = [Path(word).name for word in argv]
        kind = next(word for word in words if word in ("qsub", "qstat", "qdel", "qacct"))
        if kind == "qstat":
            kind = "details" if "-j" in words else "waiting" if "-r" in words else "qstat"
        answer = self.answers[kind]
        if isinstance(answer, Exception):
            raise answer
        return answer


def scheduler(replay: Any, **settings: Any) -> GridEngineScheduler:
    return GridEngineScheduler(replay, GridEngineCluster(scheduler="gridengine", **settings))


# -- submitting


def test_the_job_is_submitted_with_values_that_can_only_be_values() -> None:
    argv = qsub_argv(REQUEST, verify=True)
    assert argv[:7] == ["qsub", "-terse", "-N", "hpcb-1", "-wd", "/home/alice/s", "-o"]
    assert argv[-1] == "/home/alice/s/job.sh"
    options = {key: argv[argv.index(key) + 1] for key in ("-o", "-j", "-b", "-r", "-S", "-w")}
    assert options == {
        "-o": "scheduler.out", "-j": "y", "-b": "n", "-r": "n", "-S": "/bin/sh", "-w": "e",
    }  # fmt: skip


def test_a_walltime_is_a_hard_limit_in_seconds() -> None:
    request = JobRequest("hpcb-1", "/s", "/s/job.sh", walltime=5400)
    argv = qsub_argv(request, verify=False)
    assert argv[-3:] == ["-l", "h_rt=5400", "/s/job.sh"]
    assert "-w" not in argv


@pytest.mark.parametrize(
    ("first", "shell"),
    [
        ("#!/bin/sh", "/bin/sh"),
        ("#!/bin/bash -l", "/bin/bash"),
        ("#! /bin/zsh", "/bin/bash"),
        ("#!/usr/bin/env python3", "/bin/bash"),
        ("#!bash", "/bin/bash"),
        ("echo", "/bin/bash"),
        ("", "/bin/bash"),
    ],
)
def test_the_script_runs_with_what_its_first_line_names(first: str, shell: str) -> None:
    assert shell_of(f"{first}\nexit\n") == shell


@pytest.mark.parametrize("text", ["4\n", "Warning: no queue now\n4\n", "\n4 \n"])
def test_the_last_line_of_qsub_is_the_id(text: str) -> None:
    assert parse_qsub(printed(text)) == "4"


def test_the_recorded_ids_are_read() -> None:
    assert parse_qsub(recorded("qsub_terse")) == "4"
    assert parse_qsub(recorded("qsub_warning")) == "8"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qsub_badopt", 'invalid option argument "-Z"'),
        ("qsub_badpe", 'the requested parallel environment "nosuchpe" does not exist'),
        ("qsub_badq", 'unknown queue "nosuch.q"'),
        ("qsub_badres", 'unknown resource "foo"'),
        ("qsub_colon", "Colon (':') not allowed in objectname"),
        ("qsub_h_rt", 'attribute "h_rt" is not a time value'),
        ("qsub_missing", "No such file or directory"),
        ("qsub_never", "no suitable queues"),
        ("qsub_never_resource", "no suitable queues"),
        ("qsub_nm", "cannot start with a digit"),
        ("qsub_not_a_submit_host", "is not a submit host"),
        ("qsub_project", 'the requested project "nosuch" does not exist'),
        ("qsub_reservation", "the advance reservation id 77 is invalid"),
        ("qsub_root", "lower than minimum user id"),
        ("qsub_slash", "must not contain /"),
        ("qsub_stdin", "no input read from stdin"),
    ],
)
def test_a_refusal_is_told_in_grid_engines_words(name: str, words: str) -> None:
    with pytest.raises(JobRejected, match="Grid Engine refused the job: ") as caught:
        parse_qsub(recorded(name))
    assert words in str(caught.value)
    assert "Exiting" not in str(caught.value)
    assert "Unable to run job" not in str(caught.value)


@pytest.mark.parametrize(
    "done",
    [
        recorded("qsub"),
        recorded("qsub_array"),
        recorded("qsub_confused"),
        printed(),
        printed("<html>\n"),
        printed(status=1),
        printed(err="Exiting.\n", status=1),
        printed(err="failed receiving gdi request response for mid=1 (got syncron message receive "
                "timeout error).\n", status=1),
    ],
)  # fmt: skip
def test_an_answer_without_an_id_or_a_reason_leaves_the_outcome_unknown(done: Completed) -> None:
    with pytest.raises(OutcomeUnknown):
        parse_qsub(done)


def test_a_refusal_of_a_site_is_no_outage_whatever_it_says() -> None:
    words = "Unable to run job: no licence: receive timeout, commlib error, got read error"
    with pytest.raises(JobRejected, match="no licence"):
        parse_qsub(printed(err=f"{words}\nExiting.\n", status=1))


# -- could not ask


@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("down_qsub", parse_qsub),
        ("down_qstat", parse_listing),
        ("down_qstat_xml", parse_listing),
        ("down_qdel", parse_qdel),
    ],
)
def test_a_master_that_is_down_is_told_as_that(name: str, parse: Any) -> None:
    with pytest.raises(ClusterUnreachable, match=r"master does not answer .*got se\w+ error") as c:
        parse(recorded(name))
    assert not isinstance(c.value, OutcomeUnknown)


@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("qsub_no_root", parse_qsub),
        ("qstat_no_root", parse_listing),
        ("qstat_bad_root", parse_listing),
    ],
)
def test_a_login_without_grid_engines_environment_is_told_what_to_set(
    name: str, parse: Any
) -> None:
    with pytest.raises(ClusterUnreachable, match="Set the cluster's root and cell"):
        parse(recorded(name))


def test_a_command_that_is_not_there_is_told_what_to_set() -> None:
    with pytest.raises(ClusterUnreachable, match=r"qsub is not installed .* in the cluster's bin"):
        parse_qsub(printed(err="sh: 1: qsub: not found\n", status=127))


WHOLE = recorded("qstat_listing").out


@pytest.mark.parametrize(
    "done",
    [
        printed(),
        printed("<html><body>502</body></html>"),
        printed("not XML"),
        printed(WHOLE[: len(WHOLE) // 2]),
        printed(WHOLE[:-20]),
        printed(WHOLE.replace("<JB_job_number>8<", "<JB_job_number>8 9<")),
        printed(WHOLE.replace("<state>qw<", "<state><", 1)),
        printed(WHOLE, status=1),
        printed(err="Killed\n", status=137),
        recorded("qstat_q"),
        recorded("qstat_unknown"),
        recorded("qstat_unknown_xml"),
    ],
)
def test_anything_less_than_a_whole_listing_is_no_listing(done: Completed) -> None:
    with pytest.raises(UnexpectedReply):
        parse_listing(done)


def test_xml_that_declares_entities_is_not_even_parsed() -> None:
    bomb = '<!DOCTYPE job_info [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    external = '<!DOCTYPE job_info [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    for head in (bomb, external):
        with pytest.raises(UnexpectedReply, match="declarations"):
            parse_listing(printed(WHOLE.replace("?>", f"?>{head}", 1)))


def test_a_banner_above_the_listing_is_passed_over() -> None:
    assert parse_listing(printed("Welcome to <Example>\n" + WHOLE)).jobs


# -- the listing


def test_the_listing_tells_each_job() -> None:
    jobs = parse_listing(recorded("qstat_listing")).jobs
    fill = next(job for job in jobs.values() if job.name == "fill")
    assert (fill.state, fill.host, fill.detail) == (JobState.RUNNING, "hpcb-ge", "r")
    by_name = {job.name: job for job in jobs.values()}
    assert by_name["first"].state == JobState.QUEUED
    assert by_name["first"].detail == "waiting for its turn (qw)"
    assert by_name["held"].detail == "held (hqw)"
    assert by_name["nodir"].detail == "in error (Eqw)"
    assert by_name["e99"].detail == "run again (Rq)"
    assert {by_name[each].host for each in ("first", "held", "nodir")} == {None}


def test_an_empty_listing_is_a_listing() -> None:
    empty = re.sub(r"<job_list.*?</job_list>", "", WHOLE, flags=re.DOTALL)
    assert parse_listing(printed(empty)).jobs == {}


def test_tasks_of_an_array_are_not_taken_for_the_job_of_that_number() -> None:
    jobs = parse_listing(recorded("qstat_listing")).jobs
    assert [job.job_id for job in jobs.values() if job.name == "many"] == ["9.1-3:1"]


def state_of(letters: str) -> JobInfo:
    text = recorded("qstat_xml_r").out.replace("<state>r<", f"<state>{letters}<")
    return parse_listing(printed(text)).jobs["3"]


@pytest.mark.parametrize("letters", ["qw", "hqw", "Eqw", "hRwq", "Rq", "dqw", "Ehqw"])
def test_these_jobs_wait(letters: str) -> None:
    assert (state_of(letters).state, state_of(letters).host) == (JobState.QUEUED, None)


@pytest.mark.parametrize("letters", ["r", "t", "Rr", "Rt", "N", "dr", "dt"])
def test_these_jobs_run_on_a_host(letters: str) -> None:
    assert (state_of(letters).state, state_of(letters).host) == (JobState.RUNNING, "pbslab")


@pytest.mark.parametrize("letters", ["s", "S", "T", "tST", "rs"])
def test_suspended_jobs_wait_and_go_on(letters: str) -> None:
    found = state_of(letters)
    assert (found.state, found.suspended, found.host) == (JobState.QUEUED, True, None)


@pytest.mark.parametrize("letters", ["X", "rX", "42", "z", "d"])
def test_states_of_other_versions_end_nothing(letters: str) -> None:
    assert state_of(letters).state == JobState.UNKNOWN


def test_a_job_that_is_being_deleted_runs_until_it_is_gone() -> None:
    jobs = parse_listing(recorded("qstat_after_qdel")).jobs
    assert (jobs["4"].state, jobs["4"].detail) == (JobState.RUNNING, "being deleted (dt)")


def test_names_of_other_jobs_are_only_names() -> None:
    jobs = parse_listing(recorded("qstat_listing")).jobs.values()
    # 8.1.9 writes "%lt;" for "<".
    assert "a%lt;b&c>d" in {job.name for job in jobs}


# -- jobs in error, and what the others wait for


def test_why_jobs_are_in_error_is_read() -> None:
    assert parse_errors(recorded("qstat_j_errors")) == {
        "12": "exit_status of job start = 100",
        "15": "can't chdir to /no/such/dir: No such file or directory",
        "16": 'unable to find shell "/no/such/shell"',
    }


async def test_a_job_in_error_is_hopeless_and_asked_about_once() -> None:
    replay = Replay(qstat=recorded("qstat_listing"), details=recorded("qstat_j_errors"))
    adapter = scheduler(replay)
    for _ in range(3):
        jobs = (await adapter.list_jobs()).jobs
    assert jobs["15"].hopeless == (
        "Grid Engine could not run the job: can't chdir to /no/such/dir: No such file or directory."
    )
    assert not any(jobs[each].hopeless for each in jobs if each not in ("12", "15", "16"))
    assert [argv for argv in replay.asked if "-j" in argv] == [("qstat", "-xml", "-j", "12,15,16")]


async def test_a_job_in_error_that_is_gone_meanwhile_is_hopeless_all_the_same() -> None:
    replay = Replay(qstat=recorded("qstat_listing"), details=recorded("qstat_unknown_xml"))
    jobs = (await scheduler(replay).list_jobs()).jobs
    assert jobs["15"].hopeless == "Grid Engine could not run the job: it does not say why."


def test_where_a_job_stands_is_counted_among_those_that_could_take_its_place() -> None:
    waiting = recorded("qstat_waiting")
    jobs = {job.name: job.job_id for job in parse_listing(waiting).jobs.values()}
    places = parse_waiting(waiting, {jobs["first"], jobs["third"], "99999"})
    assert set(places) == {jobs["first"], jobs["third"]}
    # "never" and "e99" come first and take any queue; the three in error are passed over.
    assert (places[jobs["first"]].queue, places[jobs["first"]].ahead) == ("", 2)
    assert (places[jobs["third"]].queue, places[jobs["third"]].ahead) == ("viz.q", 3)
    name = "<full_job_name>first</full_job_name>"
    moved = waiting.out.replace(name, f"{name}<hard_req_queue>other.q</hard_req_queue>")
    assert parse_waiting(printed(moved), {jobs["third"]})[jobs["third"]].ahead == 2


def test_what_jobs_wait_for_is_told_in_plain_words() -> None:
    assert parse_reasons(recorded("qstat_j_waiting")) == {"18": "a free slot", "19": "a free slot"}
    assert parse_reasons(recorded("qstat_j_xml")) == {}
    assert parse_reasons(recorded("qstat_unknown_xml")) == {}


async def test_the_outlook_of_all_jobs_is_two_questions() -> None:
    replay = Replay(waiting=recorded("qstat_waiting"), details=recorded("qstat_j_waiting"))
    outlook = await scheduler(replay).outlook(["18", "19", "x;y", "99999"])
    assert {each: place.waits_for for each, place in outlook.items()} == {
        "18": "a free slot",
        "19": "a free slot",
    }
    assert replay.asked[1] == ("qstat", "-xml", "-j", "18,19")
    assert len(replay.asked) == 2


# -- ending


@pytest.mark.parametrize(
    "name", ["qdel_running", "qdel_again", "qdel_finished", "qdel_unknown", "qdel_mixed"]
)
def test_jobs_that_end_or_are_gone_are_no_error(name: str) -> None:
    parse_qdel(recorded(name))


@pytest.mark.parametrize("name", ["qdel_other", "qdel_nothing"])
def test_a_job_that_cannot_be_ended_is_an_error(name: str) -> None:
    with pytest.raises(ClusterError, match="qdel failed"):
        parse_qdel(recorded(name))


def test_a_qdel_that_says_nothing_has_failed() -> None:
    with pytest.raises(ClusterError, match="no message"):
        parse_qdel(printed(status=1))


def test_only_ids_are_handed_to_commands_that_also_take_names_and_patterns() -> None:
    hostile = ["*", "-u", "alice", "4", "hpcb-*", "4.1", "4 5", "all"]
    assert qdel_argv(hostile) == ["qdel", "4"]
    assert details_argv(hostile) == ["qstat", "-xml", "-j", "4"]


@pytest.mark.parametrize(
    ("name", "job_id", "reason", "status", "detail"),
    [
        ("e3", "13", EndReason.FAILED, 3, ""),
        ("kill9", "10", EndReason.FAILED, -9, "assumedly after job"),
        ("deleted", "17", EndReason.FAILED, -9, "assumedly after job"),
        ("e100", "12", EndReason.FAILED, 100, "application error returned"),
        ("noshell", "16", EndReason.FAILED, 0, "searching requested shell"),
        ("wall", "14", EndReason.TIMED_OUT, 137, "qmaster enforced h_rt, h_cpu, or h_vmem limit"),
        ("1", "1", EndReason.FAILED, 0, "invalid execution state"),
    ],
)
def test_accounting_tells_how_a_job_ended(
    name: str, job_id: str, reason: EndReason, status: int, detail: str
) -> None:
    info = parse_end(recorded(f"qacct_{name}"), job_id)
    assert info is not None
    assert (info.state, info.reason) == (JobState.ENDED, reason)
    assert (info.exit_status, info.detail) == (status, detail)


def test_a_job_that_ended_well_has_finished() -> None:
    text = recorded("qacct_e3").out.replace("exit_status  3", "exit_status  0")
    info = parse_end(printed(text), "13")
    assert info is not None
    assert (info.reason, info.exit_status, info.name) == (EndReason.FINISHED, 0, "e3")


def test_a_limit_that_was_met_in_time_was_that_of_memory() -> None:
    text = recorded("qacct_wall").out.replace("h_rt=2", "h_rt=3600,h_vmem=1G")
    info = parse_end(printed(text), "14")
    assert info is not None
    assert info.reason == EndReason.OUT_OF_MEMORY


def test_a_node_that_was_lost_is_told_as_that() -> None:
    text = recorded("qacct_wall").out.replace("failed       37", "failed       19")
    info = parse_end(printed(text), "14")
    assert info is not None
    assert info.reason == EndReason.NODE_FAILED


def test_a_job_that_went_back_into_the_queue_has_not_ended() -> None:
    assert parse_end(recorded("qacct_e99"), "11") is None


def test_the_newest_record_of_an_id_that_was_used_again_counts() -> None:
    old = recorded("qacct_e3").out
    new = old.replace("exit_status  3", "exit_status  7")
    info = parse_end(printed(old + new), "13")
    assert info is not None
    assert info.exit_status == 7


@pytest.mark.parametrize(
    "done",
    [recorded("qacct_unknown"), recorded("qacct_no_file"), printed(), printed("====\nfailed\n")],
)
def test_without_a_record_nothing_is_known(done: Completed) -> None:
    assert parse_end(done, "13") is None
    assert parse_named(done, "e3") is None


def test_the_newest_job_of_a_name_is_found_in_accounting() -> None:
    old = recorded("qacct_e3").out
    new = old.replace("jobnumber    13", "jobnumber    113")
    other = old.replace("jobname      e3", "jobname      e30").replace("    13", "    999")
    assert parse_named(printed(other + new + old), "e3") == "113"


async def test_accounting_that_takes_too_long_is_as_good_as_none() -> None:
    replay = Replay(details=GONE, qstat=recorded("qstat_listing"), qacct=OutcomeUnknown("too long"))
    assert await scheduler(replay).describe_end("13") is None
    assert await scheduler(replay).find("hpcb-1") is None


async def test_a_host_that_is_down_is_not_a_job_that_is_unknown() -> None:
    replay = Replay(details=GONE, qacct=ClusterUnreachable("down"))
    with pytest.raises(ClusterUnreachable):
        await scheduler(replay).describe_end("13")


async def test_a_name_that_could_be_a_pattern_is_not_looked_up_in_accounting() -> None:
    replay = Replay(qstat=recorded("qstat_listing"))
    for name in ("*", "-j", "hpcb-?", "1", ""):
        assert await scheduler(replay).find(name) is None


# -- the settings


async def test_the_jobs_of_other_accounts_are_listed_by_the_same_question() -> None:
    replay = Replay(qstat=recorded("qstat_xml_r"))
    accounts = ["bob", "alice", "*", "-s z", "x,y"]
    adapter = GridEngineScheduler(
        replay, GridEngineCluster(scheduler="gridengine"), lambda: accounts
    )
    await adapter.list_jobs()
    assert replay.asked == [("qstat", "-xml", "-u", "$user,alice,bob", "-s", "prs")]


async def test_commands_are_found_by_their_directory_and_told_of_their_cell() -> None:
    replay = Replay(qstat=recorded("qstat_listing"), details=recorded("qstat_j_errors"))
    settings = {"bin": "/opt/sge/bin/lx-amd64", "root": "/opt/sge", "cell": "viz"}
    await scheduler(replay, **settings).list_jobs()
    assert replay.asked[0][:4] == (
        "env", "SGE_ROOT=/opt/sge", "SGE_CELL=viz", "/opt/sge/bin/lx-amd64/qstat",
    )  # fmt: skip


async def test_a_directory_in_which_grid_engine_would_replace_words_is_refused() -> None:
    replay = Replay()
    request = JobRequest("hpcb-1", "/data/$USER/s", "/data/$USER/s/job.sh")
    with pytest.raises(JobRejected, match="Choose another session_root"):
        await scheduler(replay).submit(request)
    assert replay.asked == []


async def test_a_job_that_the_master_still_has_is_not_over_whatever_a_listing_lacks() -> None:
    replay = Replay(details=recorded("qstat_j_xml"), qacct=recorded("qacct_1"))
    found = await scheduler(replay).describe_end("3")
    assert found == JobInfo("3", "sgejob", JobState.UNKNOWN)


@pytest.mark.parametrize("details", [recorded("down_qstat_xml"), recorded("qstat_j_xml")])
async def test_a_second_question_without_an_answer_is_no_end(details: Completed) -> None:
    replay = Replay(details=details, qacct=recorded("qacct_1"))
    with pytest.raises(ClusterError):
        await scheduler(replay).describe_end("4")
