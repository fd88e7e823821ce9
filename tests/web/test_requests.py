"""What is posted: what is refused, and what reaches the application or comes back."""

import json
from typing import Any

import pytest

from tests.replies import ask, refusal
from tests.site import Launch

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"application": "cone"', "not JSON"),
        (b'{"application": "cone"} x', "not JSON"),
        (b"application=cone", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"application": "cone", "x": "\xff"}', "not JSON"),
        (b'{"application": "cone", "x": NaN}', "not JSON"),
        (b'{"application": "cone", "x": -Infinity}', "not JSON"),
        (b'{"application": "cone", "x": 1e999}', "not JSON"),
        (b'{"application": "cone", "x": "\\ud800"}', "not JSON"),
        (b'{"application": "cone", "\\udfff": 1}', "not JSON"),
        (b'{"application": "cone", "x": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'["application"]', "must be a JSON object"),
        (b'"application"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "not complete"),
        (b'{"application": null}', "not complete"),
        (b'{"application": 5}', "not complete"),
        (b'{"application": ["cone"]}', "not complete"),
        (b'{"application": {"cone": 1}}', "not complete"),
        (b'{"Application": "cone"}', "not complete"),
        (b'{"application": "cone", "application": 5}', "not complete"),
        (b'{"application": ""}', "no application ''. Applications: cone, "),
        (b'{"application": "Cone"}', "no application 'Cone'"),
        (b'{"application": "__class__"}', "no application"),
        (b'{"application": "cone\\u0000"}', "no application"),
        (b'{"application": "' + b"x" * 5000 + b'"}', f"no application '{'x' * 64}'."),
        (b'{"application": "tuned", "level": 10}', "'level' must be a whole number, at least 1"),
        (b'{"application": "tuned", "level": [1]}', "'level' must be"),
        (b'{"application": "tuned", "level": 1' + b"0" * 400 + b"}", "'level' must be"),
        (b'{"application": "tuned", "file": "a\\n#SBATCH --uid=0"}', "'file' must be a text"),
        (b'{"application": "tuned", "file": "a\\u0000"}', "'file' must be a text"),
    ],
)
async def test_a_wrong_request_is_refused_and_launches_nothing(
    shared_api: Any, content: bytes, said: str
) -> None:
    before = {session.row.id for session in shared_api.sessions.registry.sessions}
    assert said in refusal(await ask(shared_api, content), 400)
    assert {session.row.id for session in shared_api.sessions.registry.sessions} <= before


@pytest.mark.parametrize("depth", [65, 500, 950, 965, 980, 995, 1010, 10_000])
@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"a":', "}")])
async def test_nesting_that_could_not_be_sent_back_is_refused(
    shared_api: Any, opening: str, closing: str, depth: int
) -> None:
    before = {session.row.id for session in shared_api.sessions.registry.sessions}
    nested = opening * depth + "1" + closing * depth
    said = refusal(await ask(shared_api, f'{{"application":"cone","x":{nested}}}'), 400)
    assert "nested too deeply" in said
    assert {session.row.id for session in shared_api.sessions.registry.sessions} <= before


async def test_a_large_request_is_refused(launcher: Launch) -> None:
    async with launcher(server={"max_body": 1000}) as api:
        fits = json.dumps({"application": "nosuch", "x": "y" * 900})
        refusal(await ask(api, fits), 400)
        said = refusal(await ask(api, json.dumps({"application": "nosuch", "x": "y" * 990})), 413)
        assert "more than 1000 bytes" in said
        assert "1000" in refusal(await ask(api, "[" * 100_000), 413)


async def test_posted_keys_come_back_as_they_were(launcher: Launch) -> None:
    posted = {
        "application": "cone",
        "sessionManagerURL": "http://x/paraview/",
        "launcherRetry": [500, 1000],
        "deep": {"a": [1, 2.5, None, True, "größe 𝄞", {}]},
        "": "no name",
    }
    async with launcher() as api:
        reply = await api.post(posted)
        assert reply.status_code == 200
        body = reply.json()
        assert {key: body[key] for key in posted} == posted
        assert set(body) - set(posted) == {"id", "sessionURL", "secret", "viewer"}


async def test_keys_that_are_the_replys_own_cannot_be_posted(launcher: Launch) -> None:
    posted = {
        "application": "cone",
        "id": "mine",
        "secret": "mine",
        "sessionURL": "ws://evil.example.org/",
        "error": "an error makes clients give up",
        "viewer": "mine",
        "page": "http://evil.example.org/",
    }
    async with launcher() as api:
        body = (await api.post(posted)).json()
        assert set(body) == {"application", "id", "secret", "sessionURL", "viewer"}
        assert "mine" not in body.values()
        assert "evil" not in body["sessionURL"]
        begun = await api.post(posted, headers={"Prefer": "respond-async"})
        assert begun.status_code == 202
        assert "error" not in begun.json()
        assert "evil" not in begun.text


async def test_a_key_named_like_a_value_of_the_servers_changes_nothing(
    launcher: Launch, site: Any
) -> None:
    names = [
        *("pvpython", "program", "app.program", "properties", "template", "cluster", "walltime"),
        *("job.directory", "directory", "host", "port", "python", "script", "cmd", "session_root"),
        *("ready_line", "__proto__", "param", "options", "job_name", "application.template"),
    ]
    async with launcher() as api:
        reply = await api.post({"application": "cone"} | dict.fromkeys(names, "/bin/false"))
        assert reply.status_code == 200
        assert (await api.row(reply.json()["id"])).parameters == {}
        assert "/bin/false" not in site.logs()
        (directory,) = site.directories()
        assert "/bin/false" not in (directory / "job.sh").read_text()


@pytest.mark.parametrize(
    "value",
    [
        *("$(touch stolen)", "`touch stolen`", "; touch stolen", "'; touch stolen; '", '"', "a  b"),
        *("{{ job.name }}", "{% if x %}", "#SBATCH --uid=0", "\\", "$HOME", "*", "--port=1", "é☃"),
    ],
)
async def test_a_parameter_reaches_the_application_as_it_was_posted(
    shared_api: Any, shared_site: Any, value: str
) -> None:
    reply = await shared_api.post({"application": "tuned", "file": value, "level": "4"})
    assert reply.status_code == 200, reply.text
    assert repr([f"--file={value}", "--level=4"])[1:-1] in shared_site.logs()
    assert list(shared_site.root.rglob("stolen")) == []
