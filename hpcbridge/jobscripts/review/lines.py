"""A template with everything that it includes, as lines that know where they are from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpcbridge.jobscripts.shelltext import Place, ShellText
from hpcbridge.jobscripts.sources import TemplateSet

VALUE = "\ue000"
"""Stands for a placeholder: a character of a word that nobody writes."""

_TAGS = re.compile(r"{%#.*?#%}|{%.*?%}|{{.*?}}", re.DOTALL)
_INCLUDE = re.compile(r"{%-?\s*include\s+[\"']([^\"']+)[\"']")


@dataclass(frozen=True)
class Line:
    """A line of a template, in the order in which bash comes to it, whatever the conditions say.

    ``number`` counts from 1; in ``text`` placeholders are ``VALUE`` and statements are left out;
    ``builtin`` tells lines of hpcbridge's own templates.
    """

    template: str
    number: int
    text: str
    builtin: bool
    source: str
    """The line as it is written, placeholders and statements included."""


@dataclass(frozen=True)
class Command:
    """A command with what stands before it in the same line: ``line`` is where it begins.

    ``words`` have no comments; quotes are left. ``before`` and ``end`` are what separates it from
    its neighbours in the line, such as ``&&``, or "". ``nested`` is whether it stands in a
    subshell, or in a function, a condition or a loop, as far as its indentation shows.
    """

    line: Line
    words: tuple[str, ...]
    before: str
    end: str
    nested: bool


def flatten(templates: TemplateSet, name: str) -> list[Line]:
    """The lines of template ``name``, those that it includes in their place.

    Raises TemplateError for what is not there. No template may include itself.
    """
    source = templates.source(name)
    found = []
    text = _TAGS.sub(_blank, source.text)
    for number, (raw, line) in enumerate(
        zip(source.text.split("\n"), text.split("\n"), strict=True), 1
    ):
        if line.strip() or not raw.strip():  # a statement by itself leaves no line
            found.append(Line(name, number, line, source.builtin, raw))
        for other in _INCLUDE.findall(raw):
            found += flatten(templates, other)
    return found


def _blank(tag: re.Match[str]) -> str:
    value = VALUE if tag[0].startswith("{{") else ""
    return value + "\n" * tag[0].count("\n")


def code_of(lines: Sequence[Line]) -> list[Command]:
    """The commands of ``lines``, in order; here-documents and comments are none."""
    reader, found = _Reader(), []
    for line in lines:
        found += reader.take(line)
    return found


class _Reader:
    """Joins lines to commands: bash(1), SHELL GRAMMAR, as far as telling commands apart goes."""

    def __init__(self) -> None:
        self._shell = ShellText()
        self._first: Line | None = None
        self._text = ""

    def take(self, line: Line) -> list[Command]:
        """The commands that end with this line."""
        code = self._read(line.text)
        if self._first is None and code.strip():
            self._first = line
        self._text += code
        if code.endswith("\\"):
            self._text = self._text[:-1] + " "
            self._shell.feed("\n")
            return []
        self._shell.feed("\n")
        if self._shell.place is not Place.COMMAND or self._shell.depth:
            self._text += " " if _in_array(self._text) else ";"
            return []
        first, text = self._first, self._text
        self._first, self._text = None, ""
        if first is None:
            return []
        nested = first.text[:1].isspace()
        found, before, depth = [], "", 0
        for words, end in _commands(text):
            found.append(Command(first, words, before, end, nested or depth > 0))
            before = end
            depth = max(0, depth + (end == "(") - (end == ")"))
        return found

    def _read(self, text: str) -> str:
        """The line without its comment; nothing of a here-document."""
        if self._shell.place is Place.HEREDOC:
            self._shell.feed(text)
            return ""
        if not re.search(r"(^|\s|[;&|()])#", text):
            self._shell.feed(text)
            return text
        kept = ""
        for char in text:
            self._shell.feed(char)
            if self._shell.place in (Place.COMMENT, Place.DIRECTIVE):
                break
            kept += char
        self._shell.feed(text[len(kept) + 1 :])
        return kept if len(kept) < len(text) else text


_ARRAY = re.compile(r"[A-Za-z_]\w*\+?=\(")
_TOKEN = re.compile(
    r"""[ \t\n]+
    | (?P<end>;;?&?|&&|\|\|?&?|&(?!>)|[()])
    | (?P<redirect>\d*&?(?:<<<|>>|[<>])&?[-\d]?)
    | (?P<word>(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|\$\((?:[^()]|\([^()]*\))*\)|`[^`]*`
        |[^\s;&|()<>\\'"`]|[\\'"`])+)
    """,
    re.VERBOSE | re.DOTALL,
)


def _in_array(text: str) -> bool:
    return bool(re.search(r"[A-Za-z_]\w*\+?=\([^()]*$", text))


def _commands(text: str) -> list[tuple[tuple[str, ...], str]]:
    """The simple commands of a line, each with what ends it ("" for the line's end)."""
    found: list[tuple[tuple[str, ...], str]] = []
    words: list[str] = []
    position = 0
    while position < len(text):
        if not (words and words[-1].endswith("(")) and (array := _ARRAY.match(text, position)):
            position = _end_of_array(text, array.end())
            words.append(text[array.start() : position])
            continue
        token = _TOKEN.match(text, position)
        if token is None:
            position += 1
            continue
        position = token.end()
        if token["end"]:
            found.append((tuple(words), token["end"]))
            words = []
        elif token["redirect"] or token["word"]:
            words.append(token["redirect"] or token["word"])
    if words:
        found.append((tuple(words), ""))
    return found


def _end_of_array(text: str, start: int) -> int:
    """Where the array ends that begins before ``start``; the end of the text if it does not."""
    position = start
    while position < len(text) and text[position] != ")":
        token = _TOKEN.match(text, position)
        position = token.end() if token and token["word"] else position + 1
    return min(position + 1, len(text))
