"""JSON with comments, read into values that know their places, and told exactly where it is not.

A file edited by hand for years breaks in a few ways: a comma between two applications is missing,
one is left before a brace, a quote or a brace is gone. Each has its sentence here.
"""

from dataclasses import dataclass
from typing import Any

from hpcbridge.config.launcherjson.tokens import Broken, Place, Token, tokens

DEPTH_LIMIT = 64
"""Levels of nesting that a file may have."""

_CLOSERS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class Node:
    """A value and where it begins.

    ``value`` is a text, number, boolean or None, or a dict or list of nodes. ``key_at`` is where
    the key of an object's member stands.
    """

    value: Any
    at: Place
    key_at: Place

    @property
    def plain(self) -> Any:
        """The value alone, as ``json.loads`` would have it."""
        if isinstance(self.value, dict):
            return {key: each.plain for key, each in self.value.items()}
        if isinstance(self.value, list):
            return [each.plain for each in self.value]
        return self.value


def parse(text: str) -> Node:
    """The object that ``text`` holds. Raises :class:`Broken`."""
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._tokens = tokens(text.removeprefix("\ufeff"))
        self._next = next(self._tokens)
        self._last = self._next
        self._open: list[tuple[Token, str]] = []
        self._dubious: tuple[Token, str] | None = None

    def document(self) -> Node:
        if self._next.text != "{":
            message = 'A launcher file begins with {, as in { "configuration": { ... }, ... }.'
            raise Broken(self._next.place, message)
        found = self._value("")
        if self._next.kind != "end":
            message = (
                "The configuration has ended before this: remove what follows, or one } too many "
                "above it."
            )
            raise Broken(self._next.place, message)
        return found

    def _take(self) -> Token:
        self._last = self._next
        if self._last.kind != "end":
            self._next = next(self._tokens)
        return self._last

    def _value(self, name: str, key_at: Place | None = None) -> Node:
        token = self._take()
        where = key_at or token.place
        if token.text in _CLOSERS and token.kind == "mark":
            if len(self._open) >= DEPTH_LIMIT:
                raise Broken(token.place, f"There are more than {DEPTH_LIMIT} levels of nesting.")
            self._open.append((token, name))
            inside: Any = self._members() if token.text == "{" else self._items()
            self._close()
            return Node(inside, token.place, where)
        if token.kind in ("text", "number", "word"):
            return Node(token.value, token.place, where)
        if token.kind == "end":
            raise self._ended()
        behind = f' behind "{name}"' if name else ""
        raise Broken(token.place, f"A value is missing{behind}: there is {token.text} instead.")

    def _members(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._next.text != "}":
            key = self._key(found)
            if self._next.text != ":":
                message = f"A colon is missing behind {key.text}."
                raise self._ended() if self._next.kind == "end" else Broken(key.end, message)
            self._take()
            found[key.value] = self._value(key.value, key.place)
            self._comma(key.text)
        return found

    def _key(self, found: dict[str, Node]) -> Token:
        key = self._take()
        if key.kind == "end":
            raise self._ended()
        if key.kind == "mark":
            raise self._closed_wrongly(key)
        if key.kind != "text":
            raise Broken(key.place, f'Keys stand in double quotes: write "{key.text.strip()}".')
        if (earlier := found.get(key.value)) is not None:
            message = (
                f"{key.text} is there twice, first in {earlier.key_at}. ParaViewWeb's launcher "
                "took the last one without a word: remove or rename one."
            )
            raise Broken(key.place, message)
        return key

    def _items(self) -> list[Node]:
        found: list[Node] = []
        while self._next.text != "]":
            if self._next.kind == "mark" and self._next.text not in _CLOSERS:
                raise self._closed_wrongly(self._take())
            found.append(self._value(""))
            self._comma(_shown(found[-1]))
        return found

    def _comma(self, name: str) -> None:
        """What stands between two members or items, and not behind the last one."""
        opener = self._open[-1][0].text
        token = self._next
        if token.text == _CLOSERS[opener] and token.kind == "mark":
            return
        if token.text == "," and token.kind == "mark":
            self._take()
            if self._next.kind == "mark" and self._next.text in ",]}":
                message = f"A comma stands before {self._next.text}: remove it."
                raise Broken(self._last.place, message)
            return
        if token.kind == "end":
            raise self._ended()
        if token.kind == "mark" and token.text not in _CLOSERS:
            raise self._closed_wrongly(token)
        between = f" between {name} and {token.text}" if name and token.kind != "mark" else ""
        hint = self._quote_hint(token)
        raise Broken(self._last.end, f"A comma is missing{between}: put one here.{hint}")

    def _close(self) -> None:
        """Take what closes the last opener, and remember one that seems to be another's."""
        opener, name = self._open.pop()
        closer = self._take()
        if self._indent(closer) is not None and self._first_on_line(opener) is not None:
            deeper = (self._first_on_line(opener) or 0) > (self._indent(closer) or 0)
            if deeper and self._dubious is None:
                self._dubious = (opener, name)

    def _first_on_line(self, token: Token) -> int | None:
        """The indentation of the token's line, where the file is indented by lines."""
        line = self._lines[token.place.line - 1]
        return len(line) - len(line.lstrip())

    def _indent(self, token: Token) -> int | None:
        """The same, for a token that is the first of its line."""
        indent = self._first_on_line(token)
        return indent if indent == token.place.column - 1 else None

    def _ended(self) -> Broken:
        opener, name = self._dubious or self._open[-1]
        of = f' of "{name}"' if name else ""
        guess = ", by the indentation," if self._dubious else ""
        message = (
            f"The file ends, but the {opener.text}{of} in {opener.place}{guess} is not closed: a "
            f"{_CLOSERS[opener.text]} is missing."
        )
        return Broken(self._next.place, message)

    def _closed_wrongly(self, token: Token) -> Broken:
        opener, name = self._open[-1]
        wanted = _CLOSERS[opener.text]
        if token.text in ("}", "]"):
            of = f' of "{name}"' if name else ""
            message = (
                f"The {opener.text}{of} in {opener.place} is closed by {token.text} here, not "
                f"{wanted}.{self._quote_hint(token)}"
            )
        elif token.text == ",":
            message = "A comma stands here without anything before it: remove it."
        else:
            message = f"{token.text} cannot stand here: a key, a comma or {wanted} is missing."
        return Broken(token.place, message)

    def _quote_hint(self, token: Token) -> str:
        """Where a text is followed by something at once, a quote inside it may have ended it."""
        if self._last.kind != "text" or self._last.end != token.place:
            return ""
        return f' Or a quote belongs to the text before: write \\" inside of {self._last.text}.'


def _shown(node: Node) -> str:
    """An item, for a message: short texts and numbers only."""
    value = node.value
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else ""
    return str(value) if isinstance(value, int | float) else ""
