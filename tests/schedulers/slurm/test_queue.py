"""Places in Slurm's queue: a recorded one with two users, held and hopeless jobs and an array."""

from collections.abc import Sequence

import pytest

from hpcbridge.errors import ClusterUnreachable, UnexpectedReply
from hpcbridge.schedulers.base import Outlook
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.schedulers.slurm import queue as slurmqueue
from hpcbridge.transports.base import Completed
from tests.schedulers.printed import printed
from tests.schedulers.slurm.recordings import recorded

HEADER = ["JOBID", "PARTITION", "START_TIME", "NODES", "TRES_PER_JOB", "TRES_PER_NODE", "REASON"]


def listing(*jobs: Sequence[str]) -> str:
    return "".join("".join(f"{field}\x1f" for field in job) + "\n" for job in (HEADER, *jobs))


def pending(job_id: str, reason: str = "Priority", partition: str = "viz") -> list[str]:
    return [job_id, partition, "N/A", "1", "N/A", "N/A", reason]


def outlooks(*wanted: str, text: str = "", everyone: bool = True) -> dict[str, Outlook]:
    name = "squeue_pending" if everyone else "squeue_pending_me"
    return slurmqueue.parse(text or recorded(name).out, wanted, everyone=everyone)


def test_a_job_stands_behind_those_that_slurm_tries_to_start_before_it() -> None:
    found = outlooks("9", "10", "12", "17")
    # Ahead of 9: 12, 11, 7 and 8; not 5, which can never start, nor 4 in another partition.
    assert {key: each.ahead for key, each in found.items()} == {"12": 0, "9": 4, "10": 5, "17": 11}
    assert {each.queue for each in found.values()} == {"viz"}
    assert {each.kind for each in found.values()} == {"partition"}


def test_each_task_of_an_array_is_a_job_ahead() -> None:
    assert outlooks("17")["17"].ahead == 11  # five of them are tasks of 13


def test_what_a_job_asked_for_is_what_it_waits_for() -> None:
    found = outlooks("9", "10", "11", "12", "17")
    assert {key: each.waits_for for key, each in found.items()} == {
        "12": "3 nodes",
        "11": "2 nodes with 1 GPU each",
        "9": "2 GPUs",
        "10": "2 GPUs",
        "17": "its turn",
    }
    row = [*pending("1")[:3], "2", "gres:gpu:4", "N/A", "Resources"]
    assert outlooks("1", text=listing(row))["1"].waits_for == "4 GPUs on 2 nodes"


def test_the_schedulers_estimate_is_in_seconds_since_the_epoch_where_there_is_one() -> None:
    found = outlooks("9", "16")
    assert found["9"].start == 1795306080.0
    assert found["16"].start is None


def test_of_two_partitions_the_one_with_the_shorter_queue_counts() -> None:
    found = outlooks("8")["8"]
    assert (found.queue, found.ahead) == ("short", 0)


@pytest.mark.parametrize("job_id", ["5", "6", "14", "15", "16"])
def test_a_job_that_slurm_passes_over_has_no_place(job_id: str) -> None:
    assert outlooks(job_id)[job_id].ahead is None


def test_jobs_that_do_not_wait_are_not_told_of() -> None:
    assert outlooks("1", "99") == {}
    assert outlooks("1", text=listing()) == {}


def test_without_the_others_jobs_no_place_is_told_but_all_else_is() -> None:
    found = outlooks("9", "8", everyone=False)
    assert (found["9"].ahead, found["9"].start) == (None, 1795306080.0)
    assert found["9"].waits_for == "2 GPUs"
    assert found["8"].queue == "short,viz"


def test_the_command_has_no_ids_and_asks_for_seconds_since_the_epoch() -> None:
    for everyone in (True, False):
        words = slurmqueue.argv(everyone=everyone)
        assert words[:3] == ["env", "SLURM_TIME_FORMAT=%s", "squeue"]
        assert all(word.startswith("--") for word in words[3:])
        assert ("--me" in words) != everyone
    assert "--user=alice,bob" in slurmqueue.argv(everyone=False, accounts={"bob", "alice"})


def test_a_listing_that_is_cut_or_is_none_is_not_believed() -> None:
    whole = listing(pending("1"), pending("2"))
    lines = {len(listing()), len(listing(pending("1")))}
    for end in set(range(len(whole))) - lines:
        with pytest.raises(UnexpectedReply):
            outlooks("1", text=whole[:end] or "\n")
    for text in ("garbage\n", "\x1f\n", "<html>", "\x00" * 100):
        with pytest.raises(UnexpectedReply):
            outlooks("1", text=text)


def test_what_a_login_shell_prints_before_it_is_left_out() -> None:
    assert outlooks("1", text="Welcome!\n" + listing(pending("1")))["1"].ahead == 0


def test_fifty_thousand_jobs_are_a_few_megabytes() -> None:
    row = [*pending("12345678")[:2], "1795306080", "12", "N/A", "gres:gpu:h100:4", "Priority"]
    text = listing(*[row] * 50_000, pending("9"))
    assert len(text) < 6 << 20
    assert outlooks("9", text=text)["9"].ahead == 50_000


class Answers:
    """A transport: one answer for the configuration, one for everybody's jobs, one for ours."""

    def __init__(self, config: str, everyone: Completed | Exception, ours: Completed) -> None:
        self.answers = {"config": printed(config), "everyone": everyone, "ours": ours}
        self.asked: list[str] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        kind = "config" if argv[0] == "scontrol" else "ours" if "--me" in argv else "everyone"
        self.asked.append(kind)
        answer = self.answers[kind]
        if isinstance(answer, Exception):
            raise answer
        return answer


OURS = printed(recorded("squeue_pending_me").stdout)
EVERYONE = printed(recorded("squeue_pending").stdout)
OPEN = "Configuration data as of 2026-11-21T23:00:00\nPrivateData             = none\n"
HIDDEN = OPEN.replace("none", "accounts,jobs,usage")


async def ask(answers: Answers) -> Outlook:
    scheduler = SlurmScheduler(answers, timeout=8)  # type: ignore[arg-type]
    await scheduler.outlook({"9"})
    return (await scheduler.outlook({"9"}))["9"]


async def test_everybodys_jobs_are_asked_for_with_one_query() -> None:
    answers = Answers(OPEN, EVERYONE, OURS)
    assert (await ask(answers)).ahead == 4
    assert answers.asked == ["config", "everyone", "everyone"]


async def test_where_users_do_not_see_each_others_jobs_no_place_is_invented() -> None:
    answers = Answers(HIDDEN, EVERYONE, OURS)
    found = await ask(answers)
    assert (found.ahead, found.waits_for) == (None, "2 GPUs")
    assert answers.asked == ["config", "ours", "ours"]


async def test_more_jobs_than_a_transport_carries_are_not_asked_for_again_soon() -> None:
    answers = Answers(OPEN, UnexpectedReply("more than 16 MiB"), OURS)
    found = await ask(answers)
    assert (found.ahead, found.start) == (None, 1795306080.0)
    assert answers.asked == ["config", "everyone", "ours", "ours"]


@pytest.mark.parametrize("status", [0, 1])
async def test_a_controller_that_is_down_tells_nothing(status: int) -> None:
    down = printed(err="slurm_load_jobs error: Unable to contact slurm controller", status=status)
    with pytest.raises(ClusterUnreachable):
        await ask(Answers(OPEN, down, OURS))
