"""A token that slurmrestd refuses is renewed once, and never shown."""

import logging

import httpx
import pytest

from hpcbridge.errors import ClusterError, ClusterUnreachable, OutcomeUnknown
from tests.schedulers.slurmrest.fakerest import VERSIONS, Given, Script, adapter, json, recorded
from tests.schedulers.slurmrest.jobs import OLD, REQUEST, job, listing

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
