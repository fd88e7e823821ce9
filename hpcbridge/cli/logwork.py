"""What the command ``logs`` does."""

import codecs
import re
import sys
from collections.abc import Iterable, Iterator

from hpcbridge.cli import printing
from hpcbridge.cli.outcome import INTERRUPTED, told
from hpcbridge.cli.service import Where, opened, whole_id
from hpcbridge.plain import readable

_HELD = 4096
"""Characters of an escape sequence that may have begun; longer ones are none."""
_BEGUN = re.compile(r"(?:\r|[\x1b\x90\x98\x9b\x9d-\x9f][^\n]*)\Z")


def logs(begun: str, *, follow: bool, as_json: bool, where: Where) -> None:
    """Print the output of a session's application."""
    with told(), opened(where) as client:
        session_id = whole_id(client, begun)
        try:
            if as_json:
                for part in client.log_parts(session_id, follow=follow):
                    told_as = {"offset": part.next - len(part.data), "next": part.next}
                    text = part.data.decode("utf-8", "replace")
                    printing.as_json({**told_as, "ended": part.ended, "data": text})
            else:
                for text in shown(
                    part.data for part in client.log_parts(session_id, follow=follow)
                ):
                    sys.stdout.write(text)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


def shown(parts: Iterable[bytes]) -> Iterator[str]:
    """Text that is safe to print, of bytes that may be cut anywhere.

    What may be the beginning of an escape sequence is held back until it is seen what it is.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for part in parts:
        text = held + decoder.decode(part)
        begun = _BEGUN.search(text)
        held = begun[0] if begun and len(begun[0]) <= _HELD else ""
        yield readable(text[: len(text) - len(held)])
    yield readable(held + decoder.decode(b"", True))
