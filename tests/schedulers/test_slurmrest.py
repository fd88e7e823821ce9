"""The slurmrest adapter: recorded and hostile answers in, typed ones or the right error out."""

import asyncio
import json as jsonlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import EndReason, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.slurm.commands import ACTIVE_STATES, END_STATES
from tests.schedulers.recordings import printed
from tests.schedulers.rest import (
    VERSIONS,
    Given,
    Hands,
    Script,
    adapter,
    fresh,
    json,
    recorded,
)

TEXT = "#!/bin/bash\n#SBATCH --partition=viz\necho\n"
REQUEST = JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", walltime=61, text=TEXT)
NEW, OLD = "v0.0.42", "v0.0.38"


def job(**changes: Any) -> dict[str, Any]:
    """A job of alice as v0.0.42 tells it."""
    given: dict[str, Any] = {
        "job_id": 7,
        "name": "n",
        "user_name": "alice",
        "job_state": ["RUNNING"],
        "state_reason": "None",
        "batch_host": "n1",
        "partition": "viz",
        "priority": {"set": True, "infinite": False, "number": 10},
    }
    return given | changes


def listing(*jobs: dict[str, Any]) -> httpx.Response:
    return json(200, jobs=jobs, errors=[])


async def listed(*jobs: dict[str, Any]) -> dict[str, JobInfo]:
    return dict((await adapter(Script(get_jobs=listing(*jobs))).list_jobs()).jobs)


# -- versions


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_newest_version_that_is_offered_is_spoken(version: str) -> None:
    script = Script(version, get_jobs=listing())
    scheduler = adapter(script)
    await scheduler.list_jobs()
    await scheduler.list_jobs()
    assert len(script.sent("GET", f"{version}/ping")) == 1
    assert len(script.sent("GET", f"{version}/jobs")) == 2


class Newer(Script):
    """A server of which nothing is known but what it says of itself."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/openapi/v3":
            return fresh(recorded("err_bad_version", NEW))
        return fresh(json(200, paths={f"/slurm/v0.0.{n}/jobs/": {} for n in (99, 100)}))


async def test_a_server_with_only_newer_versions_is_told_with_what_it_offers() -> None:
    with pytest.raises(ClusterUnreachable, match=r"offers v0\.0\.99, v0\.0\.100") as caught:
        await adapter(Newer()).list_jobs()
    assert "v0.0.42" in str(caught.value)
    assert caught.value.lasting


async def test_a_newer_version_is_tried_when_it_is_configured() -> None:
    script = Script("v0.0.45", get_jobs=listing(job()), get_ping=recorded("ping", NEW))
    assert set((await adapter(script, version="v0.0.45").list_jobs()).jobs) == {"7"}


async def test_a_server_that_was_upgraded_is_met_in_its_new_version() -> None:
    script = Script(OLD, get_jobs=json(200, jobs=[], errors=[]))
    scheduler = adapter(script)
    await scheduler.list_jobs()
    script.version = NEW
    with pytest.raises(ClusterError):
        await scheduler.list_jobs()
    assert (await scheduler.list_jobs()).jobs == {}


@pytest.mark.parametrize(
    "ping",
    [
        recorded("ctld_down_ping", NEW),
        json(200, pings=[], errors=[]),
        json(200, pings=[{"hostname": "h", "ping": "DOWN"}], errors=[]),
    ],
)
async def test_a_controller_that_is_down_is_so_although_the_ping_has_status_200(
    ping: httpx.Response,
) -> None:
    script = Script(
        get_ping=ping, get_partitions=recorded("ctld_down_jobs", NEW), get_jobs=listing()
    )
    for question in (adapter(script).list_jobs(), adapter(script).submit(REQUEST)):
        with pytest.raises(ClusterUnreachable, match="controller is down") as caught:
            await question
        assert not isinstance(caught.value, OutcomeUnknown)
    assert not script.sent("POST", "job")


async def test_a_ping_that_fails_for_its_token_is_not_taken_for_an_outage() -> None:
    """From v0.0.40 on it says DOWN then."""
    down = recorded("ctld_down_ping", NEW)
    refused = recorded("err_bad_token", NEW)
    script = Script(get_ping=down, get_partitions=refused, get_jobs=listing())
    with pytest.raises(ClusterUnreachable, match="does not accept alice's token"):
        await adapter(script, Given("bad")).list_jobs()
    answers = [refused, json(200, partitions=[], errors=[])]
    script = Script(get_ping=down, get_partitions=list(answers), get_jobs=listing(job()))
    assert (await adapter(script, Given("bad", "good")).list_jobs()).jobs
    assert script.requests[-1].headers["X-SLURM-USER-TOKEN"] == "good"


# -- submission


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


# -- the listing


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
        (["RUNNING", "COMPLETING"], JobState.RUNNING),
        (["CANCELLED", "COMPLETING"], JobState.RUNNING),
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
    assert len(script.requests) == 2  # the ping and this: redirects are not followed


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


# -- waiting


def pending(number: int, priority: int, **changes: Any) -> dict[str, Any]:
    boxed = {"set": True, "infinite": False, "number": priority}
    given = {"job_state": ["PENDING"], "state_reason": "Priority", "batch_host": ""}
    return job(**(given | {"job_id": number, "priority": boxed} | changes))


async def test_a_job_that_waits_knows_its_place_its_start_and_what_it_waits_for() -> None:
    jobs = [
        pending(1, 5, user_name="bob"),
        pending(2, 9, user_name="bob"),
        pending(3, 9, user_name="bob", partition="other"),
        pending(4, 0, user_name="bob", state_reason="JobHeldUser"),
        pending(5, 5, tres_per_node="gres/gpu:2", start_time=1795290000),
        job(job_id=6),
    ]
    found = await adapter(Script(get_jobs=listing(*jobs))).outlook(["5", "6", "99"])
    assert set(found) == {"5"}
    assert (found["5"].queue, found["5"].ahead, found["5"].kind) == ("viz", 2, "partition")
    assert found["5"].start == 1795290000
    assert found["5"].waits_for == "2 GPUs"


async def test_no_place_is_told_where_others_jobs_may_be_hidden() -> None:
    found = await adapter(Script(get_jobs=listing(pending(5, 1), pending(4, 2)))).outlook(["5"])
    assert found["5"].ahead is None


async def test_a_job_that_can_never_run_is_told_as_such() -> None:
    reason = "PartitionTimeLimit"
    assert "never" in (await listed(pending(5, 1, state_reason=reason)))["5"].hopeless
    several = pending(5, 1, state_reason=reason, partition="a,b")
    assert not (await listed(several))["5"].hopeless


# -- cancelling


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["delete_ok", "delete_again", "err_delete_invalid"])
async def test_cancelling_what_is_over_or_unknown_is_no_error(version: str, name: str) -> None:
    script = Script(version, delete_job=recorded(name, version))
    await adapter(script).cancel(["7", "8"])
    paths = {request.url.path for request in script.sent("DELETE", "job")}
    assert paths == {f"/slurm/{version}/job/{n}" for n in (7, 8)}


async def test_one_job_that_cannot_be_cancelled_keeps_no_other() -> None:
    denied = json(500, errors=[{"error_number": 2002, "error": "Access/permission denied"}])
    script = Script(delete_job=[denied, recorded("delete_ok", NEW)])
    with pytest.raises(ClusterError, match="permission denied"):
        await adapter(script).cancel(["7", "8"])
    assert len(script.sent("DELETE", "job")) == 2


@pytest.mark.parametrize("job_id", ["../../jobs", "7/../8", "", "7?x", "-1", "7\n"])
async def test_what_is_no_job_id_never_gets_into_a_path(job_id: str) -> None:
    script = Script()
    with pytest.raises(ClusterError, match="not the id"):
        await adapter(script).cancel([job_id])
    assert script.requests == []


async def test_nothing_is_asked_to_cancel_no_job() -> None:
    script = Script()
    await adapter(script).cancel([])
    assert script.requests == []


# -- tokens

SECRET = "aaa.bbb.ccc"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_token_that_is_refused_is_renewed_once_and_the_question_asked_again(
    version: str,
) -> None:
    script = Script(version, get_jobs=[recorded("err_bad_token", version), listing(job())])
    assert set((await adapter(script, Given("old", "new")).list_jobs()).jobs) == {"7"}
    sent = [each.headers["X-SLURM-USER-TOKEN"] for each in script.sent("GET", "jobs")]
    assert sent == ["old", "new"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["err_no_auth", "err_bad_token"])
async def test_a_token_that_stays_refused_is_told_without_being_shown(
    version: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script = Script(version, get_jobs=recorded(name, version))
    with pytest.raises(ClusterUnreachable, match="token") as caught:
        await adapter(script, Given(SECRET)).list_jobs()
    assert SECRET not in str(caught.value) + caplog.text
    assert len(script.sent("GET", "jobs")) == 1


async def test_a_server_that_repeats_the_token_does_not_get_it_into_an_error() -> None:
    answer = json(500, errors=[{"error": f"token {SECRET} is bad\x1b[31m", "error_number": 4711}])
    with pytest.raises(ClusterError) as caught:
        await adapter(Script(get_jobs=answer), Given(SECRET)).list_jobs()
    assert SECRET not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("version", ["v0.0.40", "v0.0.42"])
async def test_a_submission_whose_token_was_refused_is_sent_again(version: str) -> None:
    answers = [recorded("err_wrong_user", version), recorded("submit_ok", version)]
    script = Script(version, post_job=list(answers))
    await adapter(script, Given("old", "new")).submit(REQUEST)
    assert len(script.sent("POST", "job/submit")) == 2


class Ping22:
    """slurmrestd 22.05's ping: it fails for tokens that the controller refuses."""

    def __init__(self, *good: str) -> None:
        self.good = good

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.headers["X-SLURM-USER-TOKEN"] in self.good:
            return recorded("ping", OLD)
        return recorded("err_bad_token", OLD)


async def test_an_old_server_that_hides_a_refusal_is_asked_whether_it_was_one() -> None:
    """There, "Zero Bytes" can be a refused token, or an answer that got lost."""
    ping = Ping22("old", "new")
    answers = [recorded("err_wrong_user", OLD), recorded("submit_ok", OLD)]
    script = Script(OLD, get_ping=ping, post_job=list(answers))
    scheduler = adapter(script, Given("old", "new"))
    await scheduler._client.version()
    with pytest.raises(OutcomeUnknown):  # both tokens are good: the answer was lost
        await scheduler.submit(REQUEST)
    assert len(script.sent("POST", "job/submit")) == 1

    ping.good = ("old", "new")
    script = Script(OLD, get_ping=ping, post_job=list(answers))
    scheduler = adapter(script, Given("old", "new"))
    await scheduler._client.version()
    ping.good = ("new",)
    await scheduler.submit(REQUEST)
    assert len(script.sent("POST", "job/submit")) == 2
