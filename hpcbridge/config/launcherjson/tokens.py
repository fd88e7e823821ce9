"""The words of a launcher file, each with its place: JSON (RFC 8259) and comments between.

Comments are ``// ...`` and ``/* ... */``, and ``# ...`` as in the older documentation.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<comment>//[^\n]*|\#[^\n]*|/\*.*?\*/)"
    r"|(?P<mark>[{}\[\]:,])"
    r'|(?P<text>"(?:[^"\\\n]|\\[^\n])*")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))"
    r"|(?P<word>[A-Za-z_][\w-]*)",
    re.DOTALL,
)
_WORDS = {"true": True, "false": False, "null": None}
_MEANT = {"True": "true", "False": "false", "None": "null"}


class Place(NamedTuple):
    """A position in the file; both count from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Broken(Exception):
    """The text is not JSON: where, and what to do about it."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Token:
    """``kind`` is ``mark``, ``text``, ``number``, ``word`` or, once at the end, ``end``."""

    kind: str
    text: str
    place: Place
    end: Place
    """The position right behind it."""

    @property
    def value(self) -> Any:
        """What a text, a number or a word stands for. Raises :class:`Broken`."""
        if self.kind == "word":
            if self.text in _WORDS:
                return _WORDS[self.text]
            if self.text in _MEANT:
                raise Broken(self.place, f"{self.text} is Python: write {_MEANT[self.text]}.")
            message = f'{self.text} stands without quotes: write "{self.text}".'
            raise Broken(self.place, message)
        try:
            found = json.loads(self.text)
        except ValueError as error:
            raise Broken(self.place, _wrong_text(self.text)) from error
        if isinstance(found, float) and abs(found) == float("inf"):
            raise Broken(self.place, f"The number {self.text} is too large.")
        return found


def _wrong_text(text: str) -> str:
    if "\t" in text:
        return 'A tab stands inside this text: write "\\t", or a space.'
    if "\\" in text:
        return (
            "This text has a \\ that begins nothing JSON knows: write \\\\ for one backslash "
            "(or / in paths)."
        )
    return "A control character stands inside this text: remove it."


def tokens(text: str) -> Iterator[Token]:
    """All tokens in order, then one of kind ``end``. Raises :class:`Broken`."""
    position, line, line_start = 0, 1, 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        place = Place(line, position - line_start + 1)
        if found is None:
            raise Broken(place, _unreadable(text, position))
        breaks = found[0].count("\n")
        if breaks:
            line += breaks
            line_start = position + found[0].rindex("\n") + 1
        position = found.end()
        kind = str(found.lastgroup)
        if kind not in ("space", "comment"):
            yield Token(kind, found[0], place, Place(line, position - line_start + 1))
    here = Place(line, position - line_start + 1)
    yield Token("end", "", here, here)


def _unreadable(text: str, position: int) -> str:
    char = text[position]
    if char == '"':
        return 'This text has no closing " on its line.'
    if char == "'":
        return "Texts stand in double quotes here: write \"...\" instead of '...'."
    if text.startswith("/*", position):
        return "This comment has no end: write */ behind it."
    if char in "-+.0123456789":
        return "This is no number as JSON has them, such as 8080, -1 or 2.5."
    if char in "“”„«»":
        return f'{char} is a quote of word processors: write ".'
    if char in "$./\\":
        return f'{char} cannot stand here: is the opening " of a text missing?'
    shown = char if char.isprintable() and not char.isspace() else f"The character {char!a}"
    return f"{shown} cannot stand here."
