"""``hpcbridge template check``: what is wrong with a job template, before a user meets it."""

import re
import subprocess

from hpcbridge.errors import BridgeError, TemplateError
from hpcbridge.jobscripts.onejob import why_not_one
from hpcbridge.jobscripts.render import (
    LocatedError,
    ScriptContext,
    TemplateSet,
    environment,
    render,
)
from hpcbridge.jobscripts.review import directives, shell, shellcheck
from hpcbridge.jobscripts.review.lines import flatten
from hpcbridge.jobscripts.review.origin import Origin
from hpcbridge.jobscripts.rules import Problem, Severity, included, inspect, unfit
from hpcbridge.jobscripts.shelltext import Place, ShellText
from hpcbridge.jobscripts.usage import Usage

_BASH_TIMEOUT = 10.0
_COMMENT = re.compile(r"^\s*#.*|\s#\s.*")
_SECRET = re.compile(r"(?<![a-z])(auth-?key|secret)(?![a-z])", re.IGNORECASE)
# What may be said of the secret: options of the launch stub, and the path of its file.
_HARMLESS = re.compile(
    r"--secret-(?:option|file)[ =]\S+|--keep-secret\b"
    r"|--auth-?key-?file[ =]|\"\$HPCBRIDGE_DIRECTORY/secret\"|\"\$HPCBRIDGE_DIRECTORY\"/secret\b",
    re.IGNORECASE,
)


def check(
    templates: TemplateSet, name: str, context: ScriptContext, *, thorough: bool = False
) -> list[Problem]:
    """Everything that can be said against template ``name``, errors and warnings; best is ``[]``.

    ``context`` holds sample values. Reads files and runs ``bash -n``, so it blocks for some
    milliseconds, and with ``thorough`` ShellCheck, which takes some tenths of a second. It raises
    nothing for a bad template, a missing one included.
    """
    usage = Usage()
    try:
        found = _check_sources(templates, name, (), set(), usage)
    except TemplateError as error:
        return [Problem(None, str(error), template=name)]
    if any(problem.severity is Severity.ERROR for problem in found):
        return found
    lines = flatten(templates, name)
    usage.add_command(context.command)
    found += [*usage.unused(name, context), *shell.judge(lines)]
    try:
        script = render(templates, name, context)
    except LocatedError as error:
        return [*found, error.problem]
    except BridgeError as error:
        return [*found, Problem(None, str(error), template=name)]
    origin = Origin(lines, script)
    found += _check_script(name, script, context, origin)
    if thorough and not any(problem.severity is Severity.ERROR for problem in found):
        found += shellcheck.judge(script, origin)
    return list(dict.fromkeys(found))


def _check_sources(
    templates: TemplateSet, name: str, above: tuple[str, ...], seen: set[str], usage: Usage
) -> list[Problem]:
    """The rules, on this template's text and on everything that it includes.

    ``above`` are the templates that led here, each by an include of the one before.
    """
    seen.add(name)
    text = templates.source(name).text
    found = inspect(environment(templates), name, text)
    if unfit(text):  # of which nothing more is to be said, nor in reasonable time
        return found
    found += _find_secrets(name, text)
    if any(problem.severity is Severity.ERROR for problem in found):
        return found  # a text with a syntax error does not tell what it includes
    usage.add(environment(templates), text)
    for line, other in included(environment(templates), text):
        chain = (*above, name)
        if other in chain:
            way = " -> ".join((*chain[chain.index(other) :], other))
            return [*found, Problem(line, f"This includes itself for ever: {way}.", template=name)]
        if other not in seen:
            try:
                found += _check_sources(templates, other, chain, seen, usage)
            except TemplateError as error:
                found.append(Problem(line, str(error), template=name))
    return found


def _find_secrets(name: str, text: str) -> list[Problem]:
    message = (
        "A secret on a command line can be read by everybody on the node. Run the program through "
        "launch.py, which hands --authKey over inside the process."
    )
    shell_text, found = ShellText(), []
    for number, line in enumerate(text.split("\n"), 1):
        # What a here-document holds is no command line.
        if shell_text.place is not Place.HEREDOC and _names_secret(_COMMENT.sub("", line)):
            found.append(Problem(number, message, template=name))
        shell_text.feed(f"{line}\n")
    return found


def _names_secret(line: str) -> bool:
    if "$(" not in line and "`" not in line:
        line = _HARMLESS.sub("", line)
    return bool(_SECRET.search(line))


def _check_script(name: str, script: str, context: ScriptContext, origin: Origin) -> list[Problem]:
    shebang = script.partition("\n")[0]
    if "bash" not in shebang:
        message = f"The script begins with {shebang}; prelude.sh and this check need bash."
        return [Problem(1, message, Severity.WARNING, name)]
    found = [
        *directives.judge(context.scheduler, script, origin),
        *_check_order(script, origin),
        *_check_syntax(name, script, origin),
    ]
    if re.search(r"\s-[a-z]*[eu]", shebang):
        message = "With -e or -u the prelude ends where it goes on on purpose: #!/bin/bash."
        found.append(Problem(1, message, template=name))
    return found


def _check_order(script: str, origin: Origin) -> list[Problem]:
    """The rules see one file at a time; an included command can come before a directive."""
    text = ShellText()
    for number, line in enumerate(script.split("\n"), 1):
        seen = text.command_seen
        text.feed(line)
        if seen and text.place is Place.DIRECTIVE:
            message = "This comes after a command, and batch systems ignore it; move it up."
            return [origin.problem(number, message)]
        why = why_not_one(line) if text.place is Place.DIRECTIVE else ""
        if why:  # of an option's value, as the texts have been looked at
            return [origin.problem(number, why)]
        text.feed("\n")
    return []


_SAID = re.compile(r"bash: line (\d+): (.*)")


def _check_syntax(name: str, script: str, origin: Origin) -> list[Problem]:
    command = ["bash", "-n"]  # found on PATH, as /usr/bin/env would
    try:
        result = subprocess.run(  # noqa: S603 - a fixed command; the script is only parsed
            command, input=script.encode(), capture_output=True, timeout=_BASH_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"bash could not be asked about the script's syntax: {error}."
        return [Problem(None, message, Severity.WARNING, name)]
    said = result.stderr.decode(errors="replace").strip()
    if result.returncode == 0 and not said:
        return []
    # The first line says what is wrong, "unexpected end of file" the place of nothing.
    lines = [found for each in said.split("\n") if (found := _SAID.fullmatch(each))]
    if not lines:
        return [Problem(None, f"bash says: {said.partition(chr(10))[0]}.", template=name)]
    return [origin.problem(int(lines[0][1]), f"bash says: {lines[0][2]}.")]
