"""Pages of other sites: what they may ask, and what their browsers are told."""

import pytest

from tests.replies import refusal
from tests.site import Launch


@pytest.mark.parametrize(
    ("origin", "others", "allowed"),
    [
        (None, [], True),
        ("http://portal.example.org", [], True),
        ("https://portal.example.org", [], True),
        ("http://PORTAL.example.org", [], True),
        ("http://portal.example.org:80", [], True),
        ("http://portal.example.org:81", [], False),
        ("http://portal.example.org.evil.example", [], False),
        ("http://evil.example", [], False),
        ("http://user@portal.example.org", [], False),
        ("http://portal.example.org/path", [], False),
        ("portal.example.org", [], False),
        ("null", [], False),
        ("null", ["null"], True),
        ("", [], False),
        ("http://[", [], False),
        ("http://x:port", [], False),
        ("https://other.example.org", ["https://other.example.org"], True),
        ("http://other.example.org", ["https://other.example.org"], False),
        ("https://evil.example", ["https://other.example.org"], False),
        ("https://evil.example", ["*"], True),
        ("null", ["*"], True),
    ],
)
async def test_pages_of_other_sites_may_only_launch_where_they_are_listed(
    launcher: Launch, origin: str | None, others: list[str], allowed: bool
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    name = {"server_name": "portal.example.org"}
    async with launcher(server={"cors_origins": others}, frontend=name) as api:
        posted = await api.post({"application": "nosuch"}, headers=headers)
        deleted = await api.client.delete("/paraview/nosuch", headers=headers)
        refusal(posted, 400 if allowed else 403)
        refusal(deleted, 404 if allowed else 403)
        if allowed and others:
            shown = posted.headers["access-control-allow-origin"]
            assert shown == ("*" if others == ["*"] else origin)
        else:
            assert "access-control-allow-origin" not in posted.headers


async def test_two_origins_in_one_request_are_not_one(launcher: Launch) -> None:
    async with launcher() as api:
        headers = [("Origin", "http://portal.example.org"), ("Origin", "http://evil.example")]
        refusal(await api.client.post("/paraview", json={}, headers=headers), 403)


async def test_origins_are_not_looked_at_where_that_is_switched_off(launcher: Launch) -> None:
    async with launcher(server={"check_origin": False}) as api:
        headers = {"Origin": "http://evil.example"}
        refusal(await api.post({"application": "nosuch"}, headers=headers), 400)


async def test_a_preflight_is_answered_for_listed_origins(launcher: Launch) -> None:
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with launcher(server={"cors_origins": ["https://a.example.org"]}) as api:
        for path in ("/paraview", "/paraview/", "/paraview//x"):
            reply = await api.client.options(
                path, headers=wanted | {"Origin": "https://a.example.org"}
            )
            assert reply.status_code == 200
            assert reply.headers["access-control-allow-origin"] == "https://a.example.org"
            assert "DELETE" in reply.headers["access-control-allow-methods"]
            assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        other = await api.client.options("/paraview", headers=wanted | {"Origin": "https://b.org"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
