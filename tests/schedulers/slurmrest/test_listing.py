"""The slurmrest adapter: recorded and hostile listings in, typed ones or the right error out."""

import json as jsonlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hpcbridge.errors import UnexpectedReply
from hpcbridge.schedulers.base import EndReason, JobInfo, JobState
from hpcbridge.schedulers.slurm.states import ACTIVE_STATES, END_STATES
from tests.schedulers.printed import printed
from tests.schedulers.slurmrest.fakerest import VERSIONS, Hands, Script, adapter, json, recorded
from tests.schedulers.slurmrest.jobs import NEW, job, listed, listing


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_real_job_is_read(version: str) -> None:
    answer = recorded("job_get", version)
    script = Script(version, get_jobs=answer, get_job=recorded("job_get_cancelled", version))
    scheduler = adapter(script)
    ((job_id, found),) = (await scheduler.list_jobs()).jobs.items()
    assert (found.name, found.state, found.host) == ("pvw-rest1", JobState.RUNNING, "sl-n1")
    ended = await scheduler.describe_end(job_id)
    assert ended is not None
    assert (ended.state, ended.reason) == (JobState.ENDED, EndReason.CANCELLED)
    assert ended.exit_status == -15


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_job_that_the_controller_forgot_is_none(version: str) -> None:
    script = Script(
        version,
        get_job=recorded("err_invalid_job", version),
        get_jobs=listing(),
    )
    assert await adapter(script).describe_end("99999999") is None


@pytest.mark.parametrize(
    ("state", "exit_code", "reason", "status"),
    [
        (["FAILED"], {"return_code": {"set": True, "number": 3}}, EndReason.FAILED, 3),
        ("FAILED", {"status": "SUCCESS", "return_code": 0}, EndReason.FAILED, None),
        ("COMPLETED", {"status": "SUCCESS", "return_code": 0}, EndReason.FINISHED, 0),
        (["TIMEOUT"], {}, EndReason.TIMED_OUT, None),
    ],
)
async def test_accounting_tells_of_a_job_that_the_controller_forgot(
    state: Any, exit_code: dict[str, Any], reason: EndReason, status: int | None
) -> None:
    past = {"job_id": 7, "name": "n", "state": {"current": state}, "exit_code": exit_code}

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/slurmdb/"):
            return json(200, jobs=[past], errors=[])
        return recorded("err_invalid_job", NEW)

    found = await adapter(Script(get_job=answer)).describe_end("7")
    assert found == JobInfo("7", "n", JobState.ENDED, reason=reason, exit_status=status)


@pytest.mark.parametrize(
    "answer",
    [
        json(500, errors=[{"error_number": 1007, "error": "Protocol authentication error"}]),
        json(200, jobs=[], errors=[]),
        json(200, jobs=[{"job_id": 7, "name": "n", "state": {"current": ["RUNNING"]}}], errors=[]),
        httpx.Response(404, text="Unable find requested URL."),
        httpx.ReadTimeout("late"),
    ],
)
async def test_accounting_that_does_not_tell_tells_of_no_end(answer: Any) -> None:
    async def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/slurmdb/"):
            if isinstance(answer, Exception):
                raise answer
            return answer
        return recorded("err_invalid_job", NEW)

    assert await adapter(Script(get_job=answers)).describe_end("7") is None


async def test_only_the_accounts_own_jobs_are_listed() -> None:
    assert set(await listed(job(), job(job_id=8, user_name="bob"))) == {"7"}


async def test_an_owner_without_a_name_is_known_by_the_number_of_the_account() -> None:
    """As in v0.0.36, and where slurmrestd's host does not know the users."""
    nameless = [job(user_name="", user_id=1001), job(job_id=8, user_name="", user_id=1002)]
    hands = Hands(printed("1001\n"))
    scheduler = adapter(Script(get_jobs=listing(*nameless)), hands=hands)
    assert set((await scheduler.list_jobs()).jobs) == {"7"}
    assert set((await scheduler.list_jobs()).jobs) == {"7"}
    assert hands.asked == [["id", "-u", "alice"]]


async def test_owners_that_nobody_can_name_make_no_empty_listing() -> None:
    nameless = job(user_name="", user_id=1001)
    hands = Hands(printed(err="id: alice: no such user", status=1))
    with pytest.raises(UnexpectedReply, match="whose jobs"):
        await adapter(Script(get_jobs=listing(nameless)), hands=hands).list_jobs()


@pytest.mark.parametrize("state", [*ACTIVE_STATES, *END_STATES])
async def test_every_known_state_is_read_in_both_shapes(state: str) -> None:
    for shape in (state, [state]):
        found = (await listed(job(job_state=shape)))["7"]
        expected = ACTIVE_STATES.get(state, JobState.ENDED)
        assert (found.state, found.reason) == (expected, END_STATES.get(state))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["PENDING", "COMPLETING"], JobState.QUEUED),
        (["PENDING", "REQUEUED"], JobState.QUEUED),
        (["RUNNING", "CONFIGURING"], JobState.QUEUED),
        (["RUNNING", "POWER_UP_NODE", "SOMETHING_NEW"], JobState.RUNNING),
        (["LAUNCHING_ROCKET"], JobState.UNKNOWN),
        ("RECONFIG_FAIL", JobState.UNKNOWN),
        ([], JobState.UNKNOWN),
    ],
)
async def test_flags_and_states_that_nobody_knows_yet_end_nothing(
    states: Any, expected: JobState
) -> None:
    found = (await listed(job(job_state=states)))["7"]
    assert (found.state, found.reason) == (expected, None)


UNREADABLE = [
    httpx.Response(200, html="<html><h1>It works!</h1></html>"),
    httpx.Response(301, headers={"location": "https://evil.example/"}),
    httpx.Response(200, text="", headers={"content-type": "application/json"}),
    httpx.Response(200, text='{"jobs": [{"job_id"', headers={"content-type": "application/json"}),
    httpx.Response(200, content=b"\xff\xfe", headers={"content-type": "application/json"}),
    httpx.Response(200, text="[" * 100_000, headers={"content-type": "application/json"}),
    httpx.Response(200, content=b"\x1f\x8b", headers={"content-encoding": "gzip"}),
    json(200, errors=[]),
    json(200, jobs={}, errors=[]),
    json(200, jobs=None, errors=[]),
    json(200, jobs=[{}], errors=[]),
    json(200, jobs=[job(job_id="7; DROP")], errors=[]),
    json(200, jobs=[job(job_state=7)], errors=[]),
    json(200, jobs=[], errors=[{"error": "Something new", "error_number": 4711}]),
    json(500, errors=[{"error": "Something new", "error_number": 4711}]),
    httpx.Response(
        200,
        text=jsonlib.dumps({"jobs": [job(job_id=float("nan"))]}),
        headers={"content-type": "application/json"},
    ),
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_an_answer_that_is_no_listing_says_nothing_about_jobs(answer: Any) -> None:
    script = Script(get_jobs=answer)
    with pytest.raises(UnexpectedReply):
        await adapter(script).list_jobs()
    # The ping and this: redirects are not followed.
    assert len(script.sent("GET", script.version)) == 2


@pytest.mark.parametrize("cut", range(1, 80, 7))
async def test_a_listing_that_is_cut_is_not_believed(cut: int) -> None:
    whole = listing(job()).text
    answer = httpx.Response(200, text=whole[:-cut], headers={"content-type": "application/json"})
    with pytest.raises(UnexpectedReply):
        await adapter(Script(get_jobs=answer)).list_jobs()


async def test_numbers_that_are_none_do_not_spoil_the_listing() -> None:
    odd = job(
        priority={"set": False, "infinite": False, "number": 0},
        start_time=None,
        node_count={"set": True, "infinite": True, "number": 0},
        exit_code={},
        batch_host=None,
        name=None,
    )
    assert (await listed(odd))["7"].host is None


async def test_a_name_with_any_bytes_is_only_a_name() -> None:
    text = listing(job(name="NAME")).text.encode().replace(b"NAME", b'\xff\\u001b\\"},{')
    answer = httpx.Response(200, content=text, headers={"content-type": "application/json"})
    jobs = (await adapter(Script(get_jobs=answer)).list_jobs()).jobs
    assert jobs["7"].name == '�\x1b"},{'


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield b" " * 1_000_000

    answer = httpx.Response(200, content=flood(), headers={"content-type": "application/json"})
    with pytest.raises(UnexpectedReply, match="answer_limit = 2 MiB"):
        await adapter(Script(get_jobs=answer), answer_limit=2).list_jobs()
    assert sent < 5


async def test_an_answer_that_tells_its_size_is_not_even_begun() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        raise AssertionError("read on")

    answer = httpx.Response(
        200,
        content=never(),
        headers={"content-type": "application/json", "content-length": "104857600"},
    )
    with pytest.raises(UnexpectedReply, match="answer_limit"):
        await adapter(Script(get_jobs=answer)).list_jobs()


async def test_a_thousand_jobs_are_one_question() -> None:
    script = Script(get_jobs=listing(*(job(job_id=n, name=f"hpcb-{n}") for n in range(1, 1001))))
    scheduler = adapter(script)
    assert len((await scheduler.list_jobs()).jobs) == 1000
    assert await scheduler.find("hpcb-999") == "999"
    assert len(script.sent("GET", "jobs")) == 2


async def test_the_newest_of_several_jobs_with_a_name_is_found() -> None:
    jobs = [job(job_id=n, name="twin", job_state=["FAILED"]) for n in (9, 100, 20)]
    assert await adapter(Script(get_jobs=listing(*jobs))).find("twin") == "100"


async def test_an_answer_without_the_job_is_not_the_word_that_it_is_over() -> None:
    script = Script(get_job=json(200, jobs=[], errors=[]), get_jobs=listing(job()))
    found = await adapter(script).describe_end("7")
    assert found is not None
    assert found.state == JobState.RUNNING


async def test_a_requeued_job_whose_last_run_is_cleaned_up_waits() -> None:
    """As in v0.0.38, which tells no state beside the flag: the end is that of the next run."""
    later = job(job_state="COMPLETING", end_time=int(time.time()) + 1800)
    assert (await listed(later))["7"].state == JobState.QUEUED
    now = job(job_state="COMPLETING", end_time=int(time.time()))
    assert (await listed(now))["7"].state == JobState.COMPLETING


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (["RUNNING", "COMPLETING"], None),
        (["CANCELLED", "COMPLETING"], EndReason.CANCELLED),
        (["TIMEOUT", "COMPLETING"], EndReason.TIMED_OUT),
    ],
)
async def test_a_completing_job_has_no_application_any_more(
    states: list[str], reason: EndReason | None
) -> None:
    found = (await listed(job(job_state=states)))["7"]
    assert (found.state, found.reason) == (JobState.COMPLETING, reason)


@pytest.mark.parametrize("reason", ["JobLaunchFailure", "None"])
async def test_a_job_that_its_node_could_not_begin_is_told_in_words(reason: str) -> None:
    code = {
        "return_code": {"set": True, "number": 0},
        "signal": {"id": {"set": True, "number": 53}},
    }
    told = await listed(job(job_state=["FAILED"], state_reason=reason, exit_code=code))
    assert (told["7"].reason, told["7"].exit_status) == (EndReason.FAILED, None)
    assert "could not enter the job's directory or open its output" in told["7"].detail
