"""Pictures on the cards of applications: files of the site's, read once."""

from dataclasses import dataclass
from pathlib import Path

from hpcbridge.errors import ConfigError

LIMIT = 1_000_000
"""Bytes that a picture may have; 480 by 320 pixels are enough, which is some 20,000 as WebP."""

_KINDS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


@dataclass(frozen=True)
class Picture:
    """What is sent, and what it is."""

    content: bytes
    media_type: str


def read(application: str, path: Path) -> Picture:
    """The picture of an application.

    Raises :class:`~hpcbridge.errors.ConfigError` for what cannot be read, is too large, or is no
    PNG, JPEG, GIF, WebP or AVIF (a drawing in SVG could hold a script).
    """
    where = f"applications.{application}.picture: {path}"
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}.") from error
    if len(content) > LIMIT:
        raise ConfigError(f"{where} has more than {LIMIT} bytes; make it smaller.")
    kind = next((kind for mark, kind in _KINDS.items() if content.startswith(mark)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    elif content[4:12] in (b"ftypavif", b"ftypavis"):
        kind = "image/avif"
    if not kind:
        raise ConfigError(f"{where} is no PNG, JPEG, GIF, WebP or AVIF.")
    return Picture(content, kind)
