"""The page as it is sent, and wslink's modules as they come out of the wheel; no browser needed."""

import hashlib
import re
from posixpath import dirname, join, normpath

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from hpcbridge.config.applications import ApplicationSettings, ParameterSettings
from hpcbridge.portal import cards, mount, wslinkjs

APPLICATIONS = {
    "flow": ApplicationSettings(
        cluster="here",
        template="t",
        title="Flow <script>alert(1)</script>",
        parameters={
            "resolution": ParameterSettings(type="int", default=40, min=8, max=256),
            "quality": ParameterSettings(type="str", choices=["low", "high"], default="high"),
            "case": ParameterSettings(type="str", pattern='[a-z"]+'),
        },
    ),
    "cone": ApplicationSettings(cluster="here", template="t"),
}

WSLINK_2_5_0 = "6dd51f236da6e7a17bb2037a26f4688e23e10859c8f884922c3383dfe799c659"
"""sha256 of src/*/ of the npm package wslink 2.5.0, in the order of the names."""


def talking_to(app: FastAPI) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="http://portal")


@pytest.fixture
def client() -> AsyncClient:
    app = FastAPI()
    mount(app, endpoint="/paraview", applications=cards(APPLICATIONS, {}), connect_to=["wss://viz"])
    return talking_to(app)


async def test_the_page_has_a_card_with_a_button_for_each_application(client: AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'id="launch-flow"' in page.text
    assert 'id="launch-cone"' in page.text
    assert 'data-endpoint="/paraview"' in page.text


async def test_parameters_become_typed_fields_with_their_limits(client: AsyncClient) -> None:
    text = (await client.get("/")).text
    number = re.search(r'<input id="param-flow-resolution".*?>', text, re.DOTALL)
    assert number
    for attribute in ('type="number"', 'min="8"', 'max="256"', 'value="40"', 'data-type="int"'):
        assert attribute in number[0]
    assert '<option value="high" selected>' in text
    case = re.search(r'<input id="param-flow-case".*?>', text, re.DOTALL)
    assert case
    assert "required" in case[0]


async def test_what_admins_write_is_text_and_not_markup(client: AsyncClient) -> None:
    text = (await client.get("/")).text
    assert "<script>alert" not in text
    assert "Flow &lt;script&gt;" in text


async def test_the_page_may_load_and_run_only_its_own_files(client: AsyncClient) -> None:
    for path in ("/", "/portal/sessions", "/portal/portal.js", "/portal/portal.css"):
        policy = (await client.get(path)).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "connect-src 'self' wss://viz;" in policy
        assert "unsafe" not in policy
    for path in ("/", "/portal/sessions"):
        text = (await client.get(path)).text
        assert not re.search(r"<style|<script(?![^>]* src=)| on[a-z]+=| style=", text)
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


async def test_every_script_and_style_that_the_page_names_is_there(client: AsyncClient) -> None:
    seen: set[str] = set()
    for page in ("/", "/portal/sessions"):
        text = (await client.get(page)).text
        todo = {
            normpath(join(dirname(page), name))
            for name in re.findall(r'(?:src|href)="([^"#]+)"', text)
        }
        while todo:
            path = todo.pop()
            answer = await client.get(path)
            assert answer.status_code == 200, path
            seen.add(path)
            if path.startswith("/portal/") and path.endswith(".js") and "vendor" not in path:
                assert answer.headers["content-type"].startswith("text/javascript")
                named = re.findall(r"from '\./([a-z]+\.js)'", answer.text)
                todo |= {f"/portal/{name}" for name in named} - seen
    assert {"/portal/viewer.js", "/portal/sessionrow.js", "/portal/portal.css"} <= seen


def test_the_wheel_ships_wslink_word_for_word_as_npm_does() -> None:
    sources = wslinkjs._sources()
    names = sorted(path for path in sources if path.startswith("wslink/"))
    text = "".join(sources[name] for name in names)
    assert hashlib.sha256(text.encode()).hexdigest() == WSLINK_2_5_0


async def test_every_module_imports_only_modules_that_are_served(client: AsyncClient) -> None:
    seen, todo = set(), [wslinkjs.ENTRY]
    while todo:
        path = todo.pop()
        answer = await client.get(f"/portal/vendor/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/javascript")
        seen.add(path)
        for name in re.findall(r"""\bfrom\s*['"]([^'"\n]+)['"]""", answer.text):
            assert name.startswith("."), f"{path} imports {name}"
            found = normpath(join(dirname(path), name))
            if found not in seen:
                todo.append(found)
    assert seen == set(wslinkjs.modules())


@pytest.mark.parametrize("path", ["nothing.js", "wslink/src/SmartConnect", "../../pages.py"])
async def test_nothing_else_is_served_as_a_module(client: AsyncClient, path: str) -> None:
    assert (await client.get(f"/portal/vendor/{path}")).status_code == 404


async def test_without_the_wheel_the_page_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise wslinkjs.ClientMissingError("the Python package trame-client is not installed")

    monkeypatch.setattr(wslinkjs, "modules", missing)
    app = FastAPI()
    mount(app, endpoint="/paraview", applications=cards(APPLICATIONS, {}))
    client = talking_to(app)
    assert "trame-client is not installed; install hpcbridge" in (await client.get("/")).text
    assert (await client.get(f"/portal/vendor/{wslinkjs.ENTRY}")).status_code == 404
