"""The sentence that a person reads while the job waits."""

import time

import pytest

from hpcbridge.clusters import queuemessage as waiting
from hpcbridge.schedulers.base import JobInfo, JobState, Outlook

GPUS = Outlook("viz", 14, None, "2 GPUs", "partition")


def told(detail: str = "", outlook: Outlook | None = None) -> str:
    return waiting.message(JobInfo("1", "n", JobState.QUEUED, detail=detail), outlook)


@pytest.mark.parametrize(
    ("detail", "outlook", "sentence"),
    [
        ("", None, "Waiting."),
        ("waiting for its turn", None, "Waiting for its turn."),
        ("Not enough ncpus", None, "Waiting in the queue: Not enough ncpus."),
        ("waiting for x", GPUS, "Waiting for 2 GPUs; 14 jobs are ahead in partition viz."),
        ("", Outlook(ahead=1), "Waiting; 1 job is ahead."),
        ("", Outlook("workq", 0), "Waiting; it is the next in queue workq."),
        ("Held", Outlook("workq"), "Waiting in the queue: Held; it is in queue workq."),
        ("waiting for a slot, 1 ahead", Outlook(), "Waiting for a slot, 1 ahead."),
    ],
)
def test_what_is_known_is_told_and_nothing_else(
    detail: str, outlook: Outlook | None, sentence: str
) -> None:
    assert told(detail, outlook) == sentence


def test_the_estimate_is_told_with_its_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        now = 1_795_000_000.0
        monkeypatch.setattr(waiting.time, "time", lambda: now)
        soon = told("", Outlook(waits_for="2 GPUs", start=now + 3600))
        assert soon == "Waiting for 2 GPUs; it should start at 13:06 CET."
        far = told("", Outlook(waits_for="2 GPUs", start=now + 3 * 86400))
        assert far == "Waiting for 2 GPUs; it should start on 21 Nov at 12:06 CET."
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_estimate_that_has_passed_is_not_told() -> None:
    assert told("", Outlook(start=time.time() - 1)) == "Waiting."
