"""How applications are looked at, as the configuration says it and clients are told."""

from pathlib import Path
from typing import Any

import pytest

from hpcbridge.errors import ConfigError
from hpcbridge.frontends.address import SessionAddresses, session_addresses
from tests.conftest import Launch
from tests.usersite import auth

LOCAL = {"properties": {"program": "/bin/true"}}


@pytest.mark.parametrize(
    ("application", "sections", "said"),
    [
        ({"viewer": "page"}, {"frontend": {"server_name": "viz.example.org"}}, "session_domain"),
        ({"viewer": "content"}, {}, "need each other"),
        ({"page": "/x/"}, {}, "need each other"),
        ({"viewer": "content", "page": "/x/"}, {}, "is in no folder of server.content"),
        (
            {"viewer": "content", "page": "/visual"},
            {"server": {"content": {"/visualizer": "www"}}},
            "is in no folder",
        ),
        ({"viewer": "window"}, {}, "'portal', 'page' or 'content'"),
        ({"page_path": "//evil.example.org"}, {}, "is no path"),
        ({"inject": {"headers": {"Authorization": "${token}"}}}, {}, "${token} is not known"),
        ({"inject": {"headers": {"Authorization": "a $ b"}}}, {}, "a $ stands alone"),
        ({"inject": {"headers": {"Authorization": "a\nb: c"}}}, {}, "printable ASCII"),
        ({"inject": {"headers": {"Content-Length": "1"}}}, {}, "no header"),
        ({"inject": {"headers": {"A b": "1"}}}, {}, "no header"),
        ({}, {"server": {"content": {"www": "www"}}}, "no path of a folder"),
        ({}, {"server": {"content": {"/a/../b": "www"}}}, "no path of a folder"),
        ({}, {"server": {"content": {"/portal": "www"}}}, "the portal's"),
        ({}, {"frontend": {"session_domain": "Sessions.example.org"}}, "in lower case"),
        ({}, {"frontend": {"session_domain": "a b"}}, "no name such as"),
    ],
)
def test_what_cannot_be_is_told(
    site: Any, application: dict[str, Any], sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        site.settings(applications={"cone": application}, **sections)
    assert said in str(caught.value)


def test_paths_are_not_for_sites_where_users_log_in_unless_they_say_so(site: Any) -> None:
    frontend = {"session_address": "path"}
    site.settings(frontend=frontend)
    with pytest.raises(ConfigError, match="every application can act as the users"):
        site.settings(frontend=frontend, auth=auth(site))
    trusting = site.settings(frontend=frontend | {"trust_applications": True}, auth=auth(site))
    assert session_addresses(trusting) == SessionAddresses("path", "localhost")


def test_sessions_have_names_where_there_is_a_domain_for_them(site: Any) -> None:
    assert session_addresses(site.settings()) == SessionAddresses("host", "localhost")
    named = site.settings(frontend={"server_name": "viz.example.org"})
    assert session_addresses(named) is None
    domain = {"server_name": "viz.example.org", "session_domain": "s.example.org"}
    found = session_addresses(site.settings(frontend=domain))
    assert found == SessionAddresses("host", "s.example.org")
    assert found.url("ab", "https", "viz.example.org:8443") == "https://ab.s.example.org:8443/"
    assert found.url("ab", "http", "[::1]") == "http://ab.s.example.org/"


@pytest.fixture
def www(site: Any) -> Path:
    """Two folders, and what is not in them."""
    (site.root / "outside.txt").write_text("secret")
    for name in ("visualizer", "help"):
        folder = site.root / "www" / name
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(f"<title>{name}</title>")
        (folder / "link.txt").symlink_to(site.root / "outside.txt")
        (folder / "out").symlink_to(site.root)
    return Path(site.root / "www")


async def test_folders_of_the_site_are_beside_the_portal(
    launcher: Launch, site: Any, www: Path
) -> None:
    content = {"/visualizer": "www/visualizer", "/docs/help": "www/help"}
    async with launcher(server={"content": content}) as api:
        for path, name in (("/visualizer/", "visualizer"), ("/docs/help/index.html", "help")):
            assert f"<title>{name}</title>" in (await api.client.get(path)).text
        assert "hpcbridge" in (await api.client.get("/")).text.lower()
        assert (await api.client.get("/paraview/applications")).status_code == 200
        for path in (
            "/visualizer/link.txt",
            "/visualizer/out/outside.txt",
            "/visualizer/../../outside.txt",
            "/visualizer/..%2f..%2foutside.txt",
            "/visualizer/%2e%2e/%2e%2e/outside.txt",
            "/visualizer//etc/passwd",
            "/docs/",
        ):
            reply = await api.client.get(path)
            assert reply.status_code == 404, path
            assert "secret" not in reply.text


async def test_clients_are_told_how_a_session_is_looked_at(
    launcher: Launch, site: Any, www: Path
) -> None:
    content = {"/visualizer": str(www / "visualizer")}
    cone = site.config["applications"]["cone"]
    applications = {
        "pages": cone | {"viewer": "page", "page_path": "/lab?x=1"},
        "static": cone | {"viewer": "content", "page": "/visualizer/index.html"},
    }
    async with launcher(server={"content": content}, applications=applications) as api:
        listed = (await api.client.get("/paraview/applications")).json()["applications"]
        told = {each["name"]: (each["viewer"], each["page"]) for each in listed}
        assert told["cone"] == ("portal", None)
        assert told["pages"] == ("page", None)
        assert told["static"] == ("content", "/visualizer/index.html")
        begun = (
            await api.post({"application": "pages"}, headers={"Prefer": "respond-async"})
        ).json()
        assert begun["viewer"] == "page"
        assert "page" not in begun
        for name, page in (
            ("pages", "http://{id}.localhost/lab?x=1"),
            ("static", "http://portal.example.org/visualizer/index.html"),
        ):
            reply = (await api.post({"application": name})).json()
            expected = page.replace("{id}", reply["id"])
            assert (reply["viewer"], reply["page"]) == (told[name][0], expected)
            path = f"/paraview/{reply['id']}"
            assert (await api.client.get(path)).json()["page"] == expected
            opened = await api.client.get(f"{path}/open")
            assert (opened.status_code, opened.headers["location"]) == (303, expected)
        cone_id = (await api.post({"application": "cone"})).json()["id"]
        reply = await api.client.get(f"/paraview/{cone_id}/open")
        assert (reply.status_code, reply.json()) == (
            409,
            {"error": "This session has no page now."},
        )
