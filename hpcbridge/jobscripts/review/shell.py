"""What goes wrong between the directives and the application: prelude, run line, ports, secret."""

import re
from collections.abc import Iterable, Iterator, Sequence

from hpcbridge.jobscripts.review.findings import Finding, error, warning
from hpcbridge.jobscripts.review.lines import VALUE, Command, Line, code_of
from hpcbridge.jobscripts.review.words import listed, meant
from hpcbridge.jobscripts.rules import Problem, Severity
from hpcbridge.jobscripts.sources import BUILTIN

RUN = "hpcbridge_run"
_NAME = re.compile(r"\bhpcbridge_\w+")
_DEFINED = re.compile(
    r"^\s*(hpcbridge_\w+)\s*\(\)|\b(hpcbridge_\w+)\+?=|-a[A-Za-z]* (hpcbridge_\w+)"
)
_VARIABLE = re.compile(r"\$\{?[#!]?([A-Z][A-Z_]{7,})\b")
_GIVEN = ("HPCBRIDGE_DIRECTORY", "HPCBRIDGE_PORT", "HPCBRIDGE_GRACE")
_KEYWORDS = frozenset(("if", "then", "elif", "else", "do", "while", "until", "{", "!", "time"))
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")
_REDIRECT = re.compile(r"\d*&?(>>?|<)&?[-\d]?")
_PORT = re.compile(r"--?(?:port|listen|bind|p|http[-_]port)(?:=|\s+)['\"]?(?:[\w.]*:)?(\d{4,5})\b")
_PORT_VARIABLE = re.compile(r"\b\w*PORT=['\"]?(\d{4,5})\b")
_TYPOGRAPHY = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": "a blank",
    "\u2013": "-", "\u2014": "-",
}  # fmt: skip
_PYTHON = re.compile(r"(^|/)(python[\d.]*|pvpython|pvbatch|pvserver)$")
# Programs that start another one, which a function of the shell cannot be.
_STARTERS = frozenset(("srun", "mpiexec", "mpirun", "nohup", "setsid", "env", "sudo", "timeout",
                       "nice", "stdbuf", "apptainer", "singularity", "xvfb-run", "numactl",
                       "taskset", "exec", "command"))  # fmt: skip
_AGAIN = {
    "eval": (), "ssh": (), "xargs": (), "bash": ("-c",), "sh": ("-c",), "su": ("-c",),
    "zsh": ("-c",), "python": ("-c",), "python3": ("-c",), "perl": ("-e",), "awk": (),
}  # fmt: skip
_MODULE = listed(
    """
    load add try-load unload rm del delete purge use unuse swap switch list avail spider restore
    save reset refresh show display help whatis keyword is-loaded is-avail overview apropos
    search config initadd initrm
    """
)


def judge(lines: Sequence[Line]) -> Iterator[Problem]:
    """Everything that can be said of the commands of a template with all that it includes."""
    commands = code_of(lines)
    yield from _in_lines(lines)
    yield from _names(lines)
    script = _Script(commands, lines)
    for index, command in enumerate(commands):
        if not command.line.builtin:
            for severity, message in script.judge(index, command):
                yield _problem(command.line, severity, message)
    yield from script.judge_run()


def _problem(line: Line, severity: Severity, message: str) -> Problem:
    return Problem(line.number, message, severity, line.template)


def _in_lines(lines: Iterable[Line]) -> Iterator[Problem]:
    """What is to be seen in one line by itself."""
    for line in lines:
        if line.builtin:
            continue
        text = line.text.lstrip()
        if re.search(r"(^|\s){#", line.source):
            message = "Comments of templates are {%# ... #%}; bash takes {# for a command."
            yield _problem(line, *error(message))
        elif text.startswith("#"):
            continue
        if re.search(r"\\[ \t]+$", line.text):
            message = "There is a blank after the backslash, so the line does not go on."
            yield _problem(line, *error(message))
        for char, plain in _TYPOGRAPHY.items():
            if char in line.text:
                message = f"'{char}' (U+{ord(char):04X}) is for texts; bash wants {plain}."
                yield _problem(line, *error(message))
                break


def _names(lines: Sequence[Line]) -> Iterator[Problem]:
    """Functions and variables of ours that are not there, or not yet."""
    defined: set[str] = set()
    everywhere = {name for line in lines for name in _defined(line.text)}
    shipped = _shipped()
    for line in lines:
        used = [] if line.builtin else _NAME.findall(re.sub(r"(^|\s)#.*", "", line.text))
        defined |= set(_defined(line.text))
        for name in used:
            if name in defined:
                continue
            if name in everywhere:
                where = next(each for each in lines if name in _defined(each.text)).template
                message = f"{name} comes from {where}, which is included further down; move it up."
            elif name in shipped:
                message = (
                    f"{name} comes from {shipped[name]}: write "
                    f'{{% include "{shipped[name]}" %}} on a line above.'
                )
            else:
                message = f"There is no {name}.{meant(name, {*everywhere, *shipped})}"
            yield _problem(line, *error(message))
        if line.builtin:
            continue
        for name in _VARIABLE.findall(line.text):
            if name not in _GIVEN and (hint := meant(name, _GIVEN, 0.8)):
                yield _problem(line, *error(f"There is no variable {name}.{hint}"))


def _defined(text: str) -> list[str]:
    return [next(filter(None, groups)) for groups in _DEFINED.findall(text)]


def _shipped() -> dict[str, str]:
    """What hpcbridge's own templates define, and in which."""
    return {
        name: each
        for each in ("ranks.sh", "environment.sh", "prelude.sh")
        for line in (BUILTIN / each).read_text().split("\n")
        for name in _defined(line)
    }


class _Script:
    """The commands of a script, with the places of those that matter to the others."""

    def __init__(self, commands: Sequence[Command], lines: Sequence[Line]) -> None:
        self._commands = commands
        self._lines = lines
        self._runs = [
            index
            for index, each in enumerate(commands)
            if not each.line.builtin and RUN in each.words
        ]
        ours = [index for index, each in enumerate(commands) if each.line.template == "prelude.sh"]
        self._prelude = ours[-1] if ours else -1

    def judge_run(self) -> Iterator[Problem]:
        """What is wrong if nothing is wrong with any command: what is missing."""
        own = next((line for line in self._lines if not line.builtin), None)
        if own is None:
            return
        text = "\n".join(line.text for line in self._lines if not line.builtin)
        if not self._runs and RUN not in text:
            near = set(_NAME.findall(text)) - set(_shipped())
            if not any(meant(name, [RUN]) for name in near):
                last = [line for line in self._lines if not line.builtin and line.text.strip()][-1]
                message = (
                    f"Nothing is started with {RUN}, so nobody learns when the application is "
                    f"ready or over, and nothing ends its processes: write {RUN} COMMAND."
                )
                yield _problem(last, *warning(message))
        for index in self._runs:
            command = self._commands[index]
            programs = [word for word in command.words if _PYTHON.search(word.strip("\"'"))]
            if programs and "launch.py" not in text and "secret" not in text:
                message = (
                    f"{programs[0]} is started without launch.py, so the application never "
                    f"gets the session's secret: {RUN} {programs[0]} launch.py SCRIPT ..."
                )
                yield _problem(command.line, *warning(message))

    def judge(self, index: int, command: Command) -> Iterator[Finding]:
        """What is wrong with one command."""
        words = _without_keywords(command.words)
        if not words:
            return
        yield from self._flow(index, command, words)
        yield from _options(words)
        yield from _started(words)
        if RUN in words:
            yield from self._run_line(index, command, words)

    def _flow(self, index: int, command: Command, words: tuple[str, ...]) -> Iterator[Finding]:
        """Commands that the script does not come back from, or that change what follows."""
        first, before_run = words[0], bool(self._runs) and index < self._runs[0]
        after_prelude = 0 <= self._prelude < index
        if first == "exec":
            programs = [word for word in words[1:] if not _REDIRECT.match(word)]
            redirected = any(_REDIRECT.fullmatch(word) for word in words)
            if redirected and len(programs) < 2 and any(">" in word for word in words):
                yield error(
                    "exec sends all output elsewhere, where hpcbridge does not look for the ready "
                    "line; remove it."
                )
            elif not redirected and programs and not command.nested and RUN not in words:
                yield warning(
                    f"exec replaces the job's shell, so nothing of the prelude is left to watch "
                    f"the application and end it: write {RUN} {programs[0]} ..."
                )
        strict = any(re.fullmatch(r"-[a-z]*[eu][a-z]*|errexit|nounset", word) for word in words)
        if first == "set" and strict and not after_prelude and self._prelude >= 0:
            yield error(
                "set -e and set -u end the prelude where it goes on on purpose; write them "
                "below it, if at all."
            )
        if first == "trap" and after_prelude and words[-1] in _SIGNALS and len(words) > 2:
            yield error(
                f"This takes the place of the prelude's own trap for {words[-1]}, which ends the "
                f"application's processes. What is to be done at the end is the option epilogue."
            )
        always = not command.nested and command.before in ("", ";") and command.words[0] == first
        if first == "exit" and always and before_run:
            yield error(f"The script ends here, before {RUN}.")
        if first in ("cd", "pushd") and always and before_run and after_prelude:
            run = self._commands[self._runs[0]]
            if any(word.strip("\"'") in ("launch.py", "rank.sh") for word in run.words):
                yield error(
                    "After this, launch.py is not found: it lies in the session directory. Write "
                    '"$HPCBRIDGE_DIRECTORY/launch.py", or (cd ... && COMMAND) where it is needed.'
                )
        assigned = _ASSIGNMENT.match(words[1] if first in _DECLARES and words[1:] else first)
        if assigned and assigned[1] in _GIVEN[:2]:
            yield error(f"{assigned[1]} is set by the prelude, and hpcbridge counts on its value.")

    def _run_line(self, index: int, command: Command, words: tuple[str, ...]) -> Iterator[Finding]:
        place = words.index(RUN)
        starter = next((word for word in words[:place] if word in _STARTERS), "")
        if starter:
            yield error(
                f"{starter} starts programs, and {RUN} is a function of the shell: write "
                f"{RUN} {starter} COMMAND."
            )
        if any(">" in word for word in words[place:] if _REDIRECT.fullmatch(word)):
            yield error(
                "The output goes elsewhere, where hpcbridge does not look for the ready line; "
                "remove the redirection."
            )
        if len(words) == place + 1:
            yield error(f"{RUN} needs a command: {RUN} COMMAND [ARGUMENT]...")
        if command.end in ("|", "|&"):
            yield error(
                f"In a pipe, {RUN} is a child of the job's shell, which then cannot end the "
                f"application; the output is kept anyway."
            )
        elif command.end == "&" and not any(
            "wait" in each.words for each in self._commands[index + 1 :]
        ):
            yield error("The script goes on, and ends, while the application runs; remove the &.")


_SIGNALS = frozenset(("EXIT", "0", "TERM", "INT", "HUP", "SIGTERM", "SIGINT", "SIGHUP", "15"))
_DECLARES = frozenset(("export", "declare", "local", "readonly", "typeset"))


def _without_keywords(words: tuple[str, ...]) -> tuple[str, ...]:
    position = 0
    while position < len(words) and words[position] in _KEYWORDS:
        position += 1
    return words[position:]


def _options(words: tuple[str, ...]) -> Iterator[Finding]:
    """Ports and addresses that are written down."""
    first, text = words[0], " ".join(word for word in words if not re.search(r"['\"].*\s", word))
    if first.startswith("-"):
        yield error(f"bash takes '{first}' for a command: the line above lacks a \\ at its end.")
    if fixed := _PORT.search(text) or _PORT_VARIABLE.search(text):
        yield error(
            f"Port {fixed[1]} can be taken, by another session on the same node first of all; "
            f'hpcbridge connects to "$HPCBRIDGE_PORT".'
        )
    if re.search(r"(?<![\d.])0\.0\.0\.0(?![\d.])|=::(?=$|\s)", text):
        yield error(
            "On all addresses of the node, anybody in the network can connect: write "
            "{{ job.bind }}, which is what hpcbridge connects to."
        )


def _started(words: tuple[str, ...]) -> Iterator[Finding]:
    """Programs that read a value again, or that get away."""
    first = words[0].rpartition("/")[2]
    after = words[1:]
    if RUN in words and words.index(RUN) + 1 < len(words):
        first = words[words.index(RUN) + 1].rpartition("/")[2]
        after = words[words.index(RUN) + 2 :]
    again = _AGAIN.get(first)
    if again is not None and (not again or set(again) & set(after)) and VALUE in "".join(after):
        yield error(
            f"{first} reads its words as a script once more, so quoting does not protect the "
            f"value: hand it over as an argument or in a variable that is exported."
        )
    if first in ("nohup", "setsid", "disown", "daemonize", "at", "batch"):
        yield warning(
            f"{first} lets a process outlive its parent; the batch system and the prelude end what "
            f"belongs to the job."
        )
    if first == "module" and after and not after[0].startswith(("-", "$", VALUE)):
        if after[0] not in _MODULE:
            yield error(f"module has no command '{after[0]}'.{meant(after[0], _MODULE, 0.6)}")
    elif after[:1] and after[0] in _MODULE and first != "module" and meant(first, ["module"], 0.7):
        yield error(f"There is no command '{first}'. Did you mean module?")
