"""The rules that a job template keeps, checked on its text when it is loaded, and by ``check``.

They make quoting certain rather than likely: a placeholder may stand only where bash reads a
command (its value then becomes one quoted word) or, with ``| directive``, in a ``#SBATCH`` line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from jinja2 import Environment, TemplateSyntaxError, nodes

from hpcbridge.jobscripts.onejob import why_not_one
from hpcbridge.jobscripts.shelltext import Place, ShellText

LINE_LIMIT = 16_384
"""Characters that a line may have: nobody writes longer ones, and judging them takes long."""

DIRECTIVE_FILTERS = frozenset({"directive", "hms"})
_STATEMENTS = (nodes.If, nodes.For, nodes.Assign, nodes.Include, nodes.Output)


class Severity(StrEnum):
    """An error keeps the template from being used; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Problem:
    """Something about a template. ``line`` counts from 1; None where no line is to blame."""

    line: int | None
    message: str
    severity: Severity = Severity.ERROR
    template: str = ""

    def __str__(self) -> str:
        where = self.template if self.line is None else f"{self.template}, line {self.line}"
        return f"{where}: {self.message}"


_KNOWN_MOST = 256
_known: dict[tuple[str, str], list[Problem]] = {}


def inspect(environment: Environment, name: str, text: str) -> list[Problem]:
    """What is wrong with one template's text (its includes have their own turn), in line order.

    What was found is kept: the text decides it alone, and all templates include the same few.
    """
    key = name, text
    if key not in _known:
        if len(_known) >= _KNOWN_MOST:
            _known.clear()
        _known[key] = _inspect(environment, name, text)
    return list(_known[key])


def _inspect(environment: Environment, name: str, text: str) -> list[Problem]:
    if wrong := unfit(text):
        return [Problem(*wrong, template=name)]
    try:
        tree = environment.parse(text)
    except TemplateSyntaxError as error:
        message = f"{(error.message or 'Syntax error').rstrip('.')}."
        return [Problem(error.lineno, message, template=name)]
    found = [
        *_windows_ends(text),
        *_forbidden_syntax(tree),
        *_unknown_filters(environment, tree),
        *_Walk(environment, text).problems(),
    ]
    return sorted(
        {Problem(one.line, one.message, one.severity, name): None for one in found},
        key=lambda problem: problem.line or 0,
    )


def unfit(text: str) -> tuple[int, str] | None:
    """Line and reason where the file is not what editors on Linux write."""
    if text.startswith("\ufeff"):
        return 1, "The file begins with a byte order mark (BOM); save it as UTF-8 without one."
    for number, line in enumerate(text.split("\n"), 1):
        if "\0" in line:
            return number, "The line holds a NUL character; this is no text file."
        if len(line) > LINE_LIMIT:
            return number, f"The line has {len(line)} characters; the limit is {LINE_LIMIT}."
    return None


def _windows_ends(text: str) -> Iterator[Problem]:
    """Scripts get Unix line ends whatever the template has; what else reads it may stumble."""
    for number, line in enumerate(text.split("\n"), 1):
        if "\r" in line:
            message = "The line ends as on Windows, with a carriage return: dos2unix FILE."
            yield Problem(number, message, Severity.WARNING)
            return


def included(environment: Environment, text: str) -> list[tuple[int, str]]:
    """The templates that this text includes: line and name."""
    found = environment.parse(text).find_all(nodes.Include)
    return [
        (node.lineno, node.template.value)
        for node in found
        if isinstance(node.template, nodes.Const)
    ]


def _forbidden_syntax(tree: nodes.Template) -> Iterator[Problem]:
    for statement in tree.find_all(nodes.Stmt):
        if not isinstance(statement, _STATEMENTS):
            word = type(statement).__name__.lower()
            yield Problem(
                statement.lineno, f"Job templates know if, for, set and include, not {word}."
            )
    for include in tree.find_all(nodes.Include):
        if not isinstance(include.template, nodes.Const):
            yield Problem(include.lineno, "Write the name of an included template in quotes.")
    for call in tree.find_all(nodes.Call):
        yield Problem(
            call.lineno, "Job templates have values and filters, but no functions to call."
        )
    for attribute in tree.find_all(nodes.Getattr):
        if not isinstance(attribute.node, nodes.Name):
            message = f"A value has no attributes, so .{attribute.attr} cannot be asked for."
            yield Problem(attribute.lineno, message)


def _unknown_filters(environment: Environment, tree: nodes.Template) -> Iterator[Problem]:
    for used in tree.find_all(nodes.Filter):
        if used.name not in environment.filters:
            known = ", ".join(sorted(environment.filters))
            yield Problem(used.lineno, f"There is no filter named {used.name}; there are: {known}.")


class _Walk:
    """Goes through a template's tokens and judges every tag by its place in the script."""

    def __init__(self, environment: Environment, text: str) -> None:
        self._environment = environment
        self._tokens = iter(list(environment.lex(text)))
        self._shell = ShellText()
        self._quoted_since: int | None = None  # the line whose quotation mark is still open

    def problems(self) -> Iterator[Problem]:
        last = 1
        for line, kind, value in self._tokens:
            last = line + (value.count("\n") if kind == "data" else 0)
            if kind == "data":
                yield from self._data(line, value)
            elif kind == "variable_begin":
                yield from self._expression(line, self._until("variable_end"))
            elif kind == "block_begin":
                self._until("block_end")
                yield from self._tag(line)
            elif kind in ("comment_begin", "raw_begin"):
                yield from self._tag(line)
        yield from self._one_job(last)

    def _until(self, end: str) -> str:
        collected = []
        for _, kind, value in self._tokens:
            if kind == end:
                break
            collected.append(value)
        return "".join(collected)

    def _data(self, line: int, text: str) -> Iterator[Problem]:
        for offset, piece in enumerate(text.split("\n")):
            if offset:
                yield from self._one_job(line + offset - 1)
                self._shell.feed("\n")
                open_quote = self._shell.place in (Place.SINGLE, Place.DOUBLE)
                since = self._quoted_since or line + offset - 1
                self._quoted_since = since if open_quote else None
            was_seen, was_directive = self._shell.command_seen, self._in_directive()
            self._shell.feed(piece)
            if was_seen and not was_directive and self._in_directive():
                message = "Batch systems ignore directives after the first command; move it up."
                yield Problem(line + offset, message)

    def _one_job(self, number: int) -> Iterator[Problem]:
        """Judge a directive once its line is whole."""
        why = why_not_one(self._shell.line) if self._in_directive() else ""
        if why:
            yield Problem(number, why)

    def _expression(self, line: int, code: str) -> Iterator[Problem]:
        place, last = self._shell.place, self._last_filter(code)
        if place is Place.DIRECTIVE and last not in DIRECTIVE_FILTERS:
            yield Problem(line, f"In a directive line, write {{{{{code.rstrip()} | directive }}}}.")
        elif place is not Place.DIRECTIVE and last == "directive":
            yield Problem(line, "The filter directive is for #SBATCH, #PBS and #$ lines only.")
        elif self._quoted_since is not None:
            message = f"The quotation mark in this line is not closed before line {line}."
            yield Problem(self._quoted_since, message)
        elif place not in (Place.COMMAND, Place.DIRECTIVE, Place.COMMENT):
            yield Problem(
                line,
                f"{{{{{code}}}}} stands inside {place}, where its quotes would not protect it. "
                f"Values are quoted by themselves: write them outside of quotes.",
            )
        elif place is Place.COMMAND and "param" in code and self._shell.line[-1:].isspace():
            message = "A value that begins with - would be taken for an option; write --name={{ }}."
            yield Problem(line, message, Severity.WARNING)
        self._shell.feed_word()

    def _tag(self, line: int) -> Iterator[Problem]:
        place = self._shell.place
        if place is not Place.COMMAND or not self._shell.between_words:
            where = "a word" if place is Place.COMMAND else place
            yield Problem(line, f"{{% %}} stands inside {where}; put it on a line of its own.")

    def _in_directive(self) -> bool:
        return self._shell.place is Place.DIRECTIVE

    def _last_filter(self, code: str) -> str | None:
        output = self._environment.parse("{{" + code + "}}").body[0]
        last = output.nodes[0] if isinstance(output, nodes.Output) else None
        return last.name if isinstance(last, nodes.Filter) else None
