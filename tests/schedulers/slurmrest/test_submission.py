"""A job is accepted, refused, or nobody knows: what the answer to a submission says."""

import asyncio
import json as jsonlib
from typing import Any

import httpx
import pytest

from hpcbridge.errors import ClusterUnreachable, JobRejected, OutcomeUnknown
from tests.schedulers.slurmrest.fakerest import VERSIONS, Script, adapter, json, recorded
from tests.schedulers.slurmrest.jobs import REQUEST, TEXT


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_accepted_job_has_the_id_that_slurmrestd_told(version: str) -> None:
    answer = recorded("submit_ok", version)
    script = Script(version, post_job=answer)
    assert await adapter(script).submit(REQUEST) == str(answer.json()["job_id"])
    (sent,) = script.sent("POST", "job/submit")
    body = jsonlib.loads(sent.content)
    assert body["script"] == TEXT
    assert body["job"]["name"] == "hpcb-1"


REFUSED = [
    (version, name, words)
    for version in VERSIONS
    for name, words in {
        "err_bad_partition": "nvalid partition name",
        "err_gres_too_many": "Requested node configuration is not available",
        "err_time_limit": "Requested time limit is invalid",
        "err_bad_json": "Unable to parse query",
    }.items()
]


@pytest.mark.parametrize(("version", "name", "words"), REFUSED)
async def test_a_refused_job_is_told_in_slurms_own_words(
    version: str, name: str, words: str
) -> None:
    script = Script(version, post_job=recorded(name, version))
    kind = OutcomeUnknown if name == "err_bad_json" else JobRejected
    with pytest.raises(kind, match=words):
        await adapter(script).submit(REQUEST)


async def test_errors_in_an_answer_with_status_200_are_a_refusal() -> None:
    answer = json(200, errors=[{"error_number": 2000, "error": "No such partition"}])
    with pytest.raises(JobRejected, match="No such partition"):
        await adapter(Script(post_job=answer)).submit(REQUEST)


async def test_a_job_that_was_accepted_with_a_remark_is_accepted() -> None:
    answer = json(200, job_id=9, errors=[{"error_code": 2042, "error": "Job is in held state"}])
    assert await adapter(Script(post_job=answer)).submit(REQUEST) == "9"


LOST = [
    httpx.ReadTimeout("late"),
    httpx.ReadError("reset"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.Response(502, html="<html>Bad Gateway</html>"),
    httpx.Response(504, text=""),
    httpx.Response(200, html="<html>Welcome</html>"),
    httpx.Response(200, text='{"job_id": 7', headers={"content-type": "application/json"}),
    json(200, errors=[]),
    json(200, errors=[], job_id=0),
    json(200, errors=[], job_id=-1),
    json(200, errors=[], job_id="x y"),
    json(500, errors=[{"error_code": 5004, "error": "Socket timed out on send/recv operation"}]),
    json(500, errors=[{"error": "_x: Zero Bytes were transmitted", "error_code": 0}]),
]


@pytest.mark.parametrize("answer", LOST, ids=lambda answer: repr(answer)[:40])
async def test_a_submission_whose_answer_is_lost_or_odd_has_an_unknown_outcome(
    answer: Any,
) -> None:
    script = Script(post_job=answer)
    with pytest.raises(OutcomeUnknown):
        await adapter(script).submit(REQUEST)
    assert len(script.sent("POST", "job/submit")) == 1


NOT_SENT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("late"),
    httpx.PoolTimeout("busy"),
    json(500, errors=[{"error_code": 1800, "error": "Unable to contact slurm controller"}]),
    json(500, errors=[{"error_code": 0, "error": "_y: Unable to contact slurm controller (x)"}]),
]


@pytest.mark.parametrize("answer", NOT_SENT, ids=lambda answer: repr(answer)[:40])
async def test_a_submission_that_was_never_taken_can_be_repeated(answer: Any) -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        await adapter(Script(post_job=answer)).submit(REQUEST)
    assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_server_that_hangs_is_given_up() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    scheduler = adapter(Script(get_jobs=hang, post_job=hang), command_timeout=0.05)
    with pytest.raises(ClusterUnreachable, match=r"did not answer within 0\.05 s"):
        await scheduler.list_jobs()
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.1 s"):
        await scheduler.submit(REQUEST)
