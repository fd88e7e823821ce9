"""Pictures on the cards: what is sent, and what is refused at the start."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.errors import ConfigError
from hpcbridge.portal import pages, pictures

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
AVIF = b"\0\0\0\x1cftypavif"


def mounted(picture: Path | None) -> httpx.AsyncClient:
    app = FastAPI()
    pages.mount(app, endpoint="/paraview", applications=cards(picture))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://portal")


def cards(picture: Path | None) -> list[pages.ApplicationCard]:
    application = ApplicationSettings(cluster=["here"], template="python.sh", picture=picture)
    return pages.cards({"cone": application}, {})


@pytest.mark.parametrize(
    ("content", "kind"), [(PNG, "image/png"), (WEBP, "image/webp"), (AVIF, "image/avif")]
)
async def test_a_picture_is_shown_and_sent_as_what_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    (tmp_path / "cone").write_bytes(content)
    client = mounted(tmp_path / "cone")
    assert '<img class="picture" src="portal/pictures/cone" alt=""' in (await client.get("/")).text
    reply = await client.get("/portal/pictures/cone")
    assert (reply.content, reply.headers["Content-Type"]) == (content, kind)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    for other in ("none", "..%2Fcone", "cone%00"):
        assert (await client.get(f"/portal/pictures/{other}")).status_code == 404


async def test_without_a_picture_there_is_none() -> None:
    client = mounted(None)
    assert "<img class" not in (await client.get("/")).text
    assert (await client.get("/portal/pictures/cone")).status_code == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>x</script></svg>", "is no PNG"),
        (b"", "is no PNG"),
        (PNG + bytes(pictures.LIMIT), "has more than 1000000 bytes"),
    ],
)
def test_what_is_no_picture_stops_the_start_with_the_setting_and_the_file(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "cone.png"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as told:
        cards(file)
    assert str(told.value).startswith(f"applications.cone.picture: {file}")
