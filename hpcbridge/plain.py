"""Text that others wrote, fit to be shown: on a page, in a terminal, in a line of a log."""

import re

# ECMA-48: control strings (OSC, DCS, SOS, PM, APC) with all that they hold, to their terminator or,
# where that is missing, to the end of the line; control sequences; other escapes. Each begins with
# ESC and a letter, or with the one character of C1 that means the same.
_ESCAPES = re.compile(
    r"(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control characters, and those that turn text around, hide it or stand for nothing: marks and
# overrides of direction (UAX 9), zero-width ones but for the joiners that some scripts need, tags.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def readable(text: str) -> str:
    """The lines of ``text`` without what acts on a terminal or misleads a reader."""
    return _UNSEEN.sub("", _LINE_ENDS.sub("\n", _ESCAPES.sub("", text)))


def one_line(text: str) -> str:
    r"""``text`` in one line: what is no printable character is written as ``\n`` or ``\x1b``."""
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
