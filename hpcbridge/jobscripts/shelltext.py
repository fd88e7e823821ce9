"""Where in a bash script a position stands: in a command, a comment, a quote, a here-document, ...

A shell-quoted value is one harmless word only where bash reads a command. Inside ``"..."`` the same
text would run ``$(...)``, so the rules refuse placeholders there; this module tells places apart.
It errs towards "not in a command". Quoting rules: bash(1), QUOTING and REDIRECTION.
"""

import re
from enum import StrEnum

DIRECTIVE = re.compile(r"[ \t]*#(SBATCH|PBS|BSUB|\$)")
"""A line that a batch system reads: Slurm, PBS, LSF, Grid Engine."""

_HEREDOC = re.compile(
    r"<<(?P<tabs>-?)[ \t]*(?P<word>(?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s;&|()<>'\"\\])+)"
)
_WORD_BREAK = frozenset(" \t\n;&|()<>")


class Place(StrEnum):
    """What bash reads at a position; the value fits into "inside ...\" in a message."""

    COMMAND = "a command"
    DIRECTIVE = "a directive"
    COMMENT = "a comment"
    SINGLE = "single quotes"
    ANSI = "$'...' quotes"
    DOUBLE = "double quotes"
    BACKTICK = "backquotes"
    BRACE = "${...}"
    ARITHMETIC = "((...))"
    HEREDOC = "a here-document"
    ESCAPED = "a word, right after a backslash, a dollar sign or a quote"
    SUBSHELL = "a subshell"


_HEREDOC_BEGUN = re.compile(r"(?<!<)<<-?[ \t]*$")
_CODE = (Place.COMMAND, Place.SUBSHELL)
_CLOSERS = {
    Place.SINGLE: "'",
    Place.ANSI: "'",
    Place.DOUBLE: '"',
    Place.BACKTICK: "`",
    Place.BRACE: "}",
    Place.ARITHMETIC: ")",
    Place.SUBSHELL: ")",
}


class ShellText:
    """Reads a script piece by piece and knows where it stands after each piece."""

    def __init__(self) -> None:
        self.line = ""
        """The text since the last line end."""
        self.command_seen = False
        """Whether a command has begun: batch systems stop reading directives there."""
        self._stack: list[Place] = [Place.COMMAND]
        self._heredocs: list[tuple[str, bool]] = []
        self._escaped = False
        self._previous = self._before_escape = "\n"

    @property
    def place(self) -> Place:
        """Where the next character would stand."""
        top = self._stack[-1]
        if top is Place.COMMENT and DIRECTIVE.match(self.line):
            return Place.DIRECTIVE
        if self._heredocs or _HEREDOC_BEGUN.search(self.line):
            return Place.HEREDOC
        if self._escaped or (self._previous in "$'\"`" and top in _CODE):
            return Place.ESCAPED
        unsafe = [place for place in self._stack if place not in _CODE]
        return unsafe[-1] if unsafe else Place.COMMAND

    @property
    def depth(self) -> int:
        """In how many parentheses the next character would stand: subshells and arrays."""
        return self._stack.count(Place.SUBSHELL)

    @property
    def between_words(self) -> bool:
        """Whether a word has just ended, so that text may be left out here or put in."""
        return self._previous in " \t\n;()" and not self._escaped

    def feed_word(self) -> None:
        """Read a value: some characters of a word, which end nothing."""
        self._step("x")

    def feed(self, text: str) -> None:
        """Read literal script text."""
        position = 0
        while position < len(text):
            if self._heredocs and self._previous == "\n" and self._stack[-1] in _CODE:
                position = self._skip_heredoc(text, position)
                continue
            opened = self._heredoc_at(text, position)
            if opened:
                self._heredocs.append(opened)
            self._step(text[position])
            position += 1

    def _step(self, char: str) -> None:
        top = self._stack[-1]
        escaped, self._escaped = self._escaped, False
        if top is Place.COMMENT:
            if char == "\n":
                self._stack.pop()
        elif not escaped:
            if char == "\\" and top is not Place.SINGLE:
                self._escaped, self._before_escape = True, self._previous
            elif char == _CLOSERS.get(top):
                self._stack.pop()
            elif top not in (Place.SINGLE, Place.ANSI, Place.BACKTICK):
                self._open(char, top)
        if not char.isspace() and self._stack[-1] is not Place.COMMENT:
            self.command_seen = True
        if escaped:  # bash drops an escaped line end; an escaped character is part of a word
            self._previous = self._before_escape if char == "\n" else "\\"
        else:
            self._previous = char
        self.line = "" if char == "\n" else self.line + char

    def _open(self, char: str, top: Place) -> None:
        """Enter what ``char`` opens, if anything; ``$(`` opens at its last character."""
        code = top in _CODE
        if char == '"':
            self._stack.append(Place.DOUBLE)
        elif char == "`":
            self._stack.append(Place.BACKTICK)
        elif char == "'" and top is not Place.DOUBLE:
            self._stack.append(Place.ANSI if self._previous == "$" else Place.SINGLE)
        elif char == "{" and self._previous == "$":
            self._stack.append(Place.BRACE)
        elif char == "(" and (code or top is Place.ARITHMETIC or self._previous == "$"):
            if self._previous == "(" and top is Place.SUBSHELL:
                self._stack[-1] = Place.ARITHMETIC
                self._stack.append(Place.ARITHMETIC)
            else:
                self._stack.append(Place.ARITHMETIC if top is Place.ARITHMETIC else Place.SUBSHELL)
        elif char == "#" and code and self._previous in _WORD_BREAK:
            self._stack.append(Place.COMMENT)

    def _heredoc_at(self, text: str, position: int) -> tuple[str, bool] | None:
        if self._stack[-1] not in _CODE or self._escaped:
            return None
        if self._previous == "<" or text.startswith("<<<", position):
            return None
        found = _HEREDOC.match(text, position)
        return (re.sub(r"['\"\\]", "", found["word"]), bool(found["tabs"])) if found else None

    def _skip_heredoc(self, text: str, position: int) -> int:
        """Read one line of a here-document, or what there is of it."""
        end = text.find("\n", position)
        stop = len(text) if end < 0 else end
        self.line += text[position:stop]
        if end < 0:
            return stop
        delimiter, tabs = self._heredocs[0]
        if (self.line.lstrip("\t") if tabs else self.line) == delimiter:
            del self._heredocs[0]
        self.line = ""
        return stop + 1
