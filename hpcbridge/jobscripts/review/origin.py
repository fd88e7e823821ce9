"""From a line of a rendered script back to the template's line that it came from."""

import re
from collections.abc import Sequence

from hpcbridge.jobscripts.review.lines import VALUE, Line
from hpcbridge.jobscripts.rules import Problem, Severity

_OPTION = re.compile(r"{{\s*(?:cluster\.)?(\w+)\s*\|")


class Origin:
    """Knows where the lines of ``script`` come from, which ``lines`` were rendered to.

    Both are gone through at once: a line that a condition leaves out is passed over, and a loop
    begins again. Where no line fits, the template is named alone.
    """

    def __init__(self, lines: Sequence[Line], script: str) -> None:
        self._name = lines[0].template if lines else ""
        self._found: list[Line | None] = []
        patterns = [_pattern(line.text) for line in lines]
        position = 0
        for text in script.split("\n"):
            order = (*range(position, len(lines)), *range(position))
            at = next((index for index in order if patterns[index].fullmatch(text)), None)
            self._found.append(None if at is None else lines[at])
            position = position if at is None else at + 1

    def line(self, number: int) -> Line | None:
        """The template's line of the script's line ``number``, which counts from 1."""
        return self._found[number - 1] if 0 < number <= len(self._found) else None

    def problem(self, number: int, message: str, severity: Severity = Severity.ERROR) -> Problem:
        """A problem of the script's line ``number``, told of the template's."""
        line = self.line(number)
        if line is None:
            return Problem(None, f"{message} (rendered line {number})", severity, self._name)
        if line.builtin and (option := _OPTION.search(line.source)):
            message += f" That is the option '{option[1]}'."
        return Problem(line.number, message, severity, line.template)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split(VALUE)))
