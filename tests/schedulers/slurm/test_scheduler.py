"""The Slurm adapter: recorded and hostile output in, typed answers or the right error out."""

from collections.abc import Sequence

import pytest

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.slurm import SlurmScheduler, states
from hpcbridge.schedulers.slurm import commands as slurm
from hpcbridge.transports.base import Completed
from tests.schedulers.printed import printed
from tests.schedulers.slurm.recordings import names, recorded

MARK = "5eed5eed"
REQUEST = JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", walltime=3661)
REFUSED = [
    (version, name)
    for version in ("22.05", "24.11")
    for name in names("err_*", version)
    if recorded(name, version).exit_status != 0
]
ACCEPTED = [
    (version, name)
    for version in ("22.05", "24.11")
    for name in [*names("err_*", version), "sbatch_parsable_ok", "sbatch_stdin_ok"]
    if recorded(name, version).exit_status == 0
]
HEADER = ["JOBID", "STATE", "REASON", "PARTITION", "EXEC_HOST", "NAME"]


def listing(*jobs: Sequence[str], mark: str = MARK) -> str:
    """What squeue prints for these jobs: id, state, reason, partition, host, name of each."""
    return "".join(f"\x1f{mark}".join(job) + f"\x1e{mark}\n" for job in (HEADER, *jobs))


def job(job_id: str = "7", state: str = "RUNNING", reason: str = "None", name: str = "n") -> list:
    return [job_id, state, reason, "viz", "n1", name]


class Script:
    """A transport that answers each command with what was prepared for it."""

    def __init__(self, **answers: Completed | Exception) -> None:
        self.answers = answers
        self.asked: list[Sequence[str]] = []
        self.timeouts: list[float] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append(argv)
        self.timeouts.append(timeout)
        answer = self.answers[argv[0]]
        if isinstance(answer, Exception):
            raise answer
        if argv[0] == "squeue":  # the mark is new each time
            mark = argv[-1].rpartition("\x1e")[2]
            return Completed(
                answer.argv,
                answer.exit_status,
                answer.stdout.replace(MARK.encode(), mark.encode()),
                answer.stderr,
            )
        return answer


def scheduler(**answers: Completed | Exception) -> SlurmScheduler:
    return SlurmScheduler(Script(**answers), timeout=8)  # type: ignore[arg-type]


# -- sbatch


@pytest.mark.parametrize(("version", "name"), ACCEPTED)
def test_an_accepted_job_has_the_id_that_sbatch_printed(version: str, name: str) -> None:
    done = recorded(name, version)
    assert slurm.parse_sbatch(done) == done.out.strip()


@pytest.mark.parametrize(("version", "name"), REFUSED)
def test_a_refused_job_is_told_in_slurms_own_words(version: str, name: str) -> None:
    done = recorded(name, version)
    with pytest.raises(JobRejected) as caught:
        slurm.parse_sbatch(done)
    assert done.err.strip() in str(caught.value)


def test_a_controller_that_is_down_at_submit_took_nothing() -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        slurm.parse_sbatch(recorded("ctld_down_sbatch"))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert "does not answer" in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        "sbatch: error: Batch job submission failed: Unexpected message received",
        "sbatch: error: slurm_receive_msg: Connection reset by peer",
    ],
)
def test_a_submission_whose_answer_was_lost_may_have_been_accepted(words: str) -> None:
    with pytest.raises(OutcomeUnknown):
        slurm.parse_sbatch(printed(err=words, status=1))


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Your mail is not responding; write to munge@example.org",
        "sbatch: error: Connection refused, Broken pipe: no licence",
        "Lmod has detected the following error: Connection refused",
    ],
)
def test_a_refusal_by_a_site_is_no_outage_whatever_it_says(words: str) -> None:
    failed = "sbatch: error: Batch job submission failed: Unspecified error"
    with pytest.raises(JobRejected) as caught:
        slurm.parse_sbatch(printed(err=f"{words}\n{failed}\n", status=1))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        'Lmod has detected the following error: The module(s) are unknown: "gcc/9.2"',
        "nfs: server home not responding, still trying",
        "ssh: connect to host licence port 22: Connection refused",
    ],
)
def test_a_whole_listing_is_read_whatever_else_was_said(words: str) -> None:
    found = slurm.parse_squeue(printed(listing(job()), words), MARK)
    assert list(found.jobs) == ["7"]


@pytest.mark.parametrize(
    ("out", "err"),
    [
        ("", ""),
        ("", "sbatch: error: something odd"),
        ("garbage", ""),
        ("12x", ""),
        ("-1\n", ""),
        ("7\n8\nbye", ""),
    ],
)
def test_success_without_a_job_id_is_an_unknown_outcome(out: str, err: str) -> None:
    with pytest.raises(OutcomeUnknown):
        slurm.parse_sbatch(printed(out, err))


@pytest.mark.parametrize(
    "out",
    [
        "2105\n",
        "sbatch: lua: your job goes to partition viz\n2105\n",
        "\u001b[1mWelcome!\u001b[0m\n\n2105\n\n",
        b"\xff\xfe noise\n2105\n",
        "7\n2105\n",
        "2105\nYour project has used 80 % of its budget.\n",
        "Welcome\n 2105 \nlog: https://jobs.example.org/2105\n",
    ],
)
def test_the_id_is_found_in_what_a_site_prints(out: str | bytes) -> None:
    assert slurm.parse_sbatch(printed(out, "sbatch: lua: hello")) == "2105"


@pytest.mark.parametrize("cancelled", [printed(), printed(err="scancel: error", status=1)])
async def test_a_job_that_went_to_another_cluster_is_cancelled_there_and_told(
    cancelled: Completed,
) -> None:
    script = Script(sbatch=printed("12;big\n"), scancel=cancelled)
    with pytest.raises(JobRejected, match="to the cluster big") as caught:
        await SlurmScheduler(script, timeout=1).submit(REQUEST)  # type: ignore[arg-type]
    assert script.asked[-1] == ["scancel", "--name=hpcb-1", "--clusters=big", "12"]
    assert ("still runs there" in str(caught.value)) == (cancelled.exit_status != 0)


def test_a_plain_submit_message_is_not_taken_for_an_id() -> None:
    with pytest.raises(OutcomeUnknown):
        slurm.parse_sbatch(recorded("sbatch_plain_ok"))


@pytest.mark.parametrize(
    "parse",
    [
        slurm.parse_sbatch,
        lambda done: slurm.parse_squeue(done, MARK),
        slurm.parse_scancel,
        slurm.parse_scontrol,
    ],
)
def test_a_missing_command_is_told_as_such(parse) -> None:
    done = printed(err="sh: 1: sbatch: not found", status=127)
    with pytest.raises(ClusterUnreachable, match="not in the PATH"):
        parse(done)


def test_values_of_a_request_cannot_become_options() -> None:
    hostile = JobRequest("--wrap=id", "/d/--uid=0 x", "/d/-n\n#SBATCH", walltime=59)
    argv = slurm.sbatch_argv(hostile)
    assert argv[0] == "sbatch"
    options, script = argv[1:-1], argv[-1]
    assert script == hostile.script
    assert script.startswith("/")
    assert {option.partition("=")[0] for option in options} == {
        "--parsable",
        "--no-requeue",
        "--job-name",
        "--chdir",
        "--output",
        "--error",
        "--time",
    }
    assert "--job-name=--wrap=id" in options
    assert "--time=0:59" in options


@pytest.mark.parametrize(("seconds", "told"), [(60, "1:00"), (3661, "61:01"), (86400, "1440:00")])
def test_the_walltime_is_told_in_minutes_and_seconds(seconds: int, told: str) -> None:
    argv = slurm.sbatch_argv(JobRequest("n", "/d", "/d/s", walltime=seconds))
    assert f"--time={told}" in argv


def test_without_a_walltime_slurms_default_holds() -> None:
    argv = slurm.sbatch_argv(JobRequest("n", "/d", "/d/s"))
    assert not [word for word in argv if word.startswith("--time")]


# -- scontrol


def test_what_stands_above_an_answer_of_scontrol_is_passed_over() -> None:
    text = "JobId=7 JobName=n\nJobState=FAILED Reason=NonZeroExitCode ExitCode=3:0\n"
    found = slurm.parse_scontrol(printed("Welcome to Example\n" + text.replace("n\n", "n ")))
    assert found is not None
    assert (found.job_id, found.reason, found.exit_status) == ("7", EndReason.FAILED, 3)


# -- squeue


def test_a_real_listing_is_read_although_a_job_has_a_hostile_name() -> None:
    jobs = slurm.parse_squeue(recorded("squeue_marked"), MARK).jobs
    assert set(jobs) == {"1", "2"}
    assert jobs["1"].name == "a\x1e\n99\x1f5eedRUNNING\n\t|�( \x1b[31m x"
    assert (jobs["1"].state, jobs["1"].host) == (JobState.RUNNING, "hpcb-n1")
    assert (jobs["2"].state, jobs["2"].reason) == (JobState.ENDED, EndReason.FAILED)
    assert jobs["2"].detail == "NonZeroExitCode"


def test_a_real_empty_listing_is_empty() -> None:
    assert slurm.parse_squeue(recorded("squeue_marked_empty"), MARK).jobs == {}


def test_an_answer_without_a_header_is_not_an_empty_listing() -> None:
    with pytest.raises(UnexpectedReply, match="no listing"):
        slurm.parse_squeue(printed(""), MARK)


async def test_the_mark_is_new_for_each_query() -> None:
    one, two = Script(squeue=printed(listing())), Script(squeue=printed(listing()))
    for script in (one, two):
        await SlurmScheduler(script, timeout=1).list_jobs()  # type: ignore[arg-type]
    assert one.asked != two.asked


@pytest.mark.parametrize(
    "name",
    ["ctld_down_squeue", "ctld_down_sinfo"],
)
def test_a_controller_that_is_down_says_nothing_about_jobs(name: str) -> None:
    with pytest.raises(ClusterUnreachable):
        slurm.parse_squeue(recorded(name), MARK)


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("slurm_load_jobs error: Socket timed out on send/recv operation", ClusterUnreachable),
        ("slurm_load_jobs error: Unable to contact slurm controller", ClusterUnreachable),
        ("slurm_load_jobs: Unable to contact slurm controller", ClusterUnreachable),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", ClusterUnreachable),
        ("squeue: error: Munge encode failed: Failed to connect", ClusterUnreachable),
        ("slurm_load_jobs error: Something new", UnexpectedReply),
    ],
)
def test_an_error_counts_as_could_not_ask_even_with_status_0(
    words: str, kind: type[ClusterError], status: int
) -> None:
    for out in ("", listing(), listing(job())):
        with pytest.raises(kind):
            slurm.parse_squeue(printed(out, words, status), MARK)


def test_a_listing_cut_within_a_job_is_not_believed() -> None:
    whole = listing(job("7", name="ä"), job("8", "PENDING")).encode()
    between = {len(listing().encode()), len(listing(job("7", name="ä")).encode())}
    for end in set(range(len(whole))) - between:
        with pytest.raises(UnexpectedReply):
            slurm.parse_squeue(printed(whole[:end]), MARK)


def test_what_a_login_shell_prints_before_the_listing_is_left_out() -> None:
    jobs = slurm.parse_squeue(printed("Welcome!\n\n" + listing(job())), MARK).jobs
    assert list(jobs) == ["7"]
    assert slurm.parse_squeue(printed("Welcome!\n" + listing()), MARK).jobs == {}


def test_garbage_is_not_a_listing() -> None:
    for text in ("garbage\n", "\x1e\n", "\x00" * 100, "<html>", b"\xff\xfe\n"):
        with pytest.raises(UnexpectedReply):
            slurm.parse_squeue(printed(text), MARK)
    with pytest.raises(UnexpectedReply):
        slurm.parse_squeue(printed(listing(job(job_id="abc"))), MARK)
    with pytest.raises(UnexpectedReply):
        slurm.parse_squeue(printed(listing(["7", "RUNNING"])), MARK)


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "\x1f\x1e",
        "\x1e\n8\x1fCOMPLETED\x1fNone\x1fn2\x1fhpcb-2",
        "x\n8 COMPLETED",
        "--help",
        "$(id)`id`'\"",
        "",
        "é\u2028\x85",
    ],
)
def test_a_job_cannot_speak_for_another_by_its_name(name: str) -> None:
    jobs = slurm.parse_squeue(printed(listing(job("7", name=name), job("9"))), MARK).jobs
    assert set(jobs) == {"7", "9"}
    assert jobs["7"].name == name
    assert jobs["9"].state == JobState.RUNNING


def test_a_forged_record_needs_the_mark() -> None:
    forged = listing(job("8", "COMPLETED", name="hpcb-2"), mark="00000000")
    jobs = slurm.parse_squeue(printed(listing(job("7", name=forged))), MARK).jobs
    assert set(jobs) == {"7"}


@pytest.mark.parametrize("state", ["LAUNCHING_ROCKET", "", "???", "completed", "RECONFIG_FAIL"])
def test_a_state_that_is_not_known_ends_nothing(state: str) -> None:
    known = slurm.parse_squeue(printed(listing(job(state=state))), MARK).jobs["7"]
    assert known.state == JobState.UNKNOWN
    assert known.reason is None


def test_every_known_state_is_exactly_one_of_alive_and_ended() -> None:
    assert not states.ACTIVE_STATES.keys() & states.END_STATES.keys()
    for state in states.ACTIVE_STATES:
        found = slurm.parse_squeue(printed(listing(job(state=state))), MARK).jobs["7"]
        assert found.state in (JobState.QUEUED, JobState.RUNNING, JobState.COMPLETING)
    for state, reason in states.END_STATES.items():
        found = slurm.parse_squeue(printed(listing(job(state=state))), MARK).jobs["7"]
        assert (found.state, found.reason) == (JobState.ENDED, reason)


def waiting(reason: str, partition: str = "viz", state: str = "PENDING") -> JobInfo:
    row = ["7", state, reason, partition, "n/a", "n"]
    return slurm.parse_squeue(printed(listing(row)), MARK).jobs["7"]


def test_the_reason_of_waiting_is_told_in_plain_words() -> None:
    found = waiting("ReqNodeNotAvail, UnavailableNodes:n1")
    assert found.detail == "waiting for nodes that are not available (n1)"
    assert (found.host, found.hopeless) == (None, "")
    assert waiting("None", state="CONFIGURING").detail == "waiting for its nodes to get ready"


def test_a_job_that_can_never_start_is_called_hopeless() -> None:
    said = waiting("PartitionTimeLimit").hopeless
    assert "more time than its partition allows" in said
    assert waiting("Resources").hopeless == ""


@pytest.mark.parametrize(
    ("told", "reason", "status"),
    [
        ("Reason=NonZeroExitCode ExitCode=3:0", EndReason.FAILED, 3),
        ("Reason=None ExitCode=0:0", None, None),  # or its script is still ending
        ("Reason=None ExitCode=0:15", EndReason.CANCELLED, -15),
        ("Reason=None ExitCode=143:0", EndReason.CANCELLED, 143),  # the script's own trap
        ("Reason=TimeLimit ExitCode=0:0", EndReason.TIMED_OUT, 0),
        ("Reason=OutOfMemory ExitCode=0:125", EndReason.OUT_OF_MEMORY, -125),
    ],
)
def test_a_completing_job_has_no_application_any_more(
    told: str, reason: EndReason | None, status: int | None
) -> None:
    text = f"JobId=7 JobName=n JobState=COMPLETING {told} BatchHost=n1\n"
    found = slurm.parse_scontrol(printed(text))
    assert found is not None
    assert (found.state, found.reason) == (JobState.COMPLETING, reason)
    assert found.exit_status == status
    listed = slurm.parse_squeue(printed(listing(job(state="COMPLETING"))), MARK).jobs["7"]
    assert listed.state == JobState.COMPLETING


def test_a_requeued_job_whose_last_run_is_cleaned_up_waits() -> None:
    """As recorded: squeue and scontrol call it COMPLETING for as long as the epilogue runs."""
    text = (
        "JobId=4 JobName=n JobState=COMPLETING Reason=None Requeue=1 Restarts=1 BatchFlag=1 "
        "ExitCode=0:0 RunTime=00:00:00 TimeLimit=00:30:00 BatchHost=hpcb-n1\n"
    )
    found = slurm.parse_scontrol(printed(text))
    assert found is not None
    assert (found.state, found.reason) == (JobState.QUEUED, None)
    ran = slurm.parse_scontrol(printed(text.replace("RunTime=00:00:00", "RunTime=00:00:07")))
    assert ran is not None
    assert ran.state == JobState.COMPLETING


def test_a_suspended_job_waits_and_goes_on() -> None:
    found = waiting("None", state="SUSPENDED")
    assert (found.state, found.suspended) == (JobState.QUEUED, True)
    assert found.detail == "waiting to be resumed: it is suspended"


def test_the_runs_of_a_requeued_job_are_told_apart() -> None:
    header = [*HEADER[:-1], "START_TIME", "NAME", "USER"]
    found = []
    for start in ("2026-11-29T10:00:00", "2026-11-29T10:05:00"):
        fields = [*job()[:-1], start, "n", "alice"]
        text = "".join(f"\x1f{MARK}".join(row) + f"\x1e{MARK}\n" for row in (header, fields))
        found.append(slurm.parse_squeue(printed(text), MARK).jobs["7"])
    assert found[0].run != found[1].run
    assert (found[0].name, found[0].account) == ("n", "alice")


def test_a_job_whose_reservation_was_deleted_is_hopeless_in_slurms_words() -> None:
    for state in ("RESV_DEL_HOLD", "PENDING"):
        found = waiting("Reservation brief was deleted", state=state)
        assert found.state == JobState.QUEUED
        assert "its reservation was deleted" in found.hopeless
        assert "Reservation brief was deleted" in found.hopeless


def test_a_job_that_another_cluster_of_the_federation_runs_is_not_over_but_hopeless() -> None:
    found = waiting("None", state="REVOKED")
    assert (found.state, found.reason) == (JobState.QUEUED, None)
    assert "another cluster of the federation" in found.hopeless


def test_the_reason_of_one_partition_does_not_make_a_job_of_two_hopeless() -> None:
    assert waiting("PartitionTimeLimit", "short,viz").hopeless == ""


def test_only_a_pending_job_can_be_hopeless() -> None:
    assert waiting("PartitionTimeLimit", state="RUNNING").hopeless == ""
    assert waiting("PartitionTimeLimit", state="CANCELLED").hopeless == ""


def test_a_thousand_jobs_are_read() -> None:
    rows = [job(str(n), "PENDING" if n % 2 else "RUNNING", name=f"hpcb-{n}") for n in range(1000)]
    jobs = slurm.parse_squeue(printed(listing(*rows)), MARK).jobs
    assert len(jobs) == 1000
    assert jobs["999"].name == "hpcb-999"


def test_asking_uses_no_ids_so_that_unknown_ones_cannot_spoil_it() -> None:
    argv = slurm.squeue_argv(MARK)
    assert argv[:3] == ["squeue", "--me", "--states=all"]
    assert all(word.startswith("--") for word in argv[1:])


# -- scancel


@pytest.mark.parametrize(
    "name",
    ["scancel_ok", "scancel_again", "scancel_invalid_id", "scancel_quiet_invalid"],
)
def test_cancelling_what_is_over_or_unknown_is_no_error(name: str) -> None:
    for version in ("22.05", "24.11"):
        slurm.parse_scancel(recorded(name, version))


def test_a_job_of_somebody_else_cannot_be_cancelled() -> None:
    with pytest.raises(ClusterError, match="permission denied"):
        slurm.parse_scancel(recorded("scancel_others_job"))


def test_a_controller_that_is_down_did_not_cancel() -> None:
    with pytest.raises(ClusterUnreachable):
        slurm.parse_scancel(recorded("ctld_down_scancel"))


async def test_nothing_is_run_to_cancel_no_job() -> None:
    await scheduler().cancel({})


# -- scontrol and sacct


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_a_running_job_is_described(version: str) -> None:
    info = slurm.parse_scontrol(recorded("scontrol_oneliner", version))
    assert info is not None
    assert (info.name, info.state, info.host) == ("pvw-abc123", JobState.RUNNING, "sl-n1")


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_a_job_that_the_controller_forgot_is_none(version: str) -> None:
    assert slurm.parse_scontrol(recorded("scontrol_invalid_id", version)) is None


def oneliner(name: str) -> Completed:
    """A recording on several lines as scontrol --oneliner would print it."""
    text = " ".join(recorded(name).out.split())
    return printed(text + "\n")


def test_the_end_of_a_job_is_described() -> None:
    cancelled = slurm.parse_scontrol(oneliner("scontrol_show_job_cancelled"))
    assert cancelled is not None
    assert (cancelled.reason, cancelled.exit_status) == (EndReason.CANCELLED, -15)
    failed = slurm.parse_scontrol(oneliner("output_dir_missing_job_after"))
    assert failed is not None
    assert (failed.reason, failed.exit_status) == (EndReason.FAILED, None)
    assert failed.detail.startswith("JobLaunchFailure, 0:53: its node could not enter")


def test_a_pending_job_has_no_host() -> None:
    info = slurm.parse_scontrol(oneliner("pending_scontrol_show_job"))
    assert info is not None
    assert (info.state, info.host) == (JobState.QUEUED, None)
    assert info.detail == "waiting for nodes that are not available (sl-n1)"


def test_a_comment_cannot_change_what_scontrol_says() -> None:
    text = "JobId=7 JobName=n JobState=RUNNING Reason=None BatchHost=n1 ExitCode=0:0 "
    lie = text + "Comment=x JobState=COMPLETED BatchHost=evil JobName=other ExitCode=1:0"
    info = slurm.parse_scontrol(printed(lie))
    assert info is not None
    assert (info.state, info.host, info.name) == (JobState.RUNNING, "n1", "n")


@pytest.mark.parametrize("out", ["", "garbage", "JobId=7", b"\xff\xff"])
def test_scontrol_garbage_is_could_not_ask(out: str | bytes) -> None:
    with pytest.raises(UnexpectedReply):
        slurm.parse_scontrol(printed(out))


def test_a_controller_that_is_down_describes_nothing() -> None:
    with pytest.raises(ClusterUnreachable):
        slurm.parse_scontrol(recorded("ctld_down_scontrol_show_job"))


@pytest.mark.parametrize("name", ["sacct_no_accounting", "sacct_c_jobcomp"])
def test_no_accounting_is_no_record(name: str) -> None:
    assert slurm.parse_sacct(recorded(name)) is None


@pytest.mark.parametrize(
    ("line", "reason", "status"),
    [
        ("7|COMPLETED|0:0|n", EndReason.FINISHED, 0),
        ("7|FAILED|3:0|n", EndReason.FAILED, 3),
        ("7|CANCELLED by 1000|0:15|n", EndReason.CANCELLED, -15),
        ("7|TIMEOUT|0:0|n", EndReason.TIMED_OUT, 0),
        ("7|OUT_OF_MEMORY|0:125|n", EndReason.OUT_OF_MEMORY, -125),
        ("7|NODE_FAIL|1:0|a|b", EndReason.NODE_FAILED, 1),
        ("7|PREEMPTED||n", EndReason.PREEMPTED, None),
    ],
)
def test_accounting_tells_the_true_reason(line: str, reason: EndReason, status: int | None) -> None:
    info = slurm.parse_sacct(printed(f"noise\n{line}\n"))
    assert info is not None
    assert (info.reason, info.exit_status) == (reason, status)


async def test_the_end_comes_from_accounting_where_the_controller_forgot() -> None:
    forgotten = recorded("scontrol_invalid_id")
    told = scheduler(scontrol=forgotten, sacct=printed("7|TIMEOUT|0:0|n\n"))
    info = await told.describe_end("7")
    assert info is not None
    assert info.reason == EndReason.TIMED_OUT
    silent = scheduler(scontrol=forgotten, sacct=ClusterUnreachable("down"))
    assert await silent.describe_end("7") is None


async def test_the_log_tells_when_accounting_cannot_be_asked_and_not_when_there_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forgotten = recorded("scontrol_invalid_id")
    none = scheduler(scontrol=forgotten, sacct=recorded("sacct_no_accounting"))
    assert await none.describe_end("7") is None
    assert caplog.messages == []
    away = printed("", status=1, err="sacct: error: Connection refused\n")
    assert await scheduler(scontrol=forgotten, sacct=away).describe_end("7") is None
    assert "job 7" in caplog.text
    assert "Connection refused" in caplog.text


async def test_accounting_cannot_keep_a_job_alive_that_the_controller_has_lost() -> None:
    runaway = scheduler(
        scontrol=recorded("scontrol_invalid_id"), sacct=printed("7|RUNNING|0:0|n\n")
    )
    assert await runaway.describe_end("7") is None


# -- the scheduler


async def test_a_job_is_found_by_its_name_and_the_newest_wins() -> None:
    rows = [job("9", name="hpcb-1"), job("10", "COMPLETED", name="hpcb-1"), job("11", name="x")]
    found = scheduler(squeue=printed(listing(*rows)))
    assert await found.find("hpcb-1") == "10"
    assert await found.find("hpcb") is None


async def test_parts_of_an_array_are_no_job_of_ours() -> None:
    rows = [job("9_[1-4]", "PENDING", name="hpcb-1"), job("9+1", name="hpcb-1")]
    assert await scheduler(squeue=printed(listing(*rows))).find("hpcb-1") is None


async def test_submitting_and_cancelling_are_given_twice_the_time() -> None:
    script = Script(
        sbatch=printed("12\n"), scancel=printed(), squeue=printed(listing()), scontrol=printed()
    )
    told = SlurmScheduler(script, timeout=3)  # type: ignore[arg-type]
    assert await told.submit(REQUEST) == "12"
    await told.cancel({"12": "hpcb-1"})
    await told.list_jobs()
    assert script.timeouts == [6, 6, 3]
    assert script.asked[1] == ["scancel", "--name=hpcb-1", "12"]
