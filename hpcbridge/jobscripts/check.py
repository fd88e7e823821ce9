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
from hpcbridge.jobscripts.rules import Problem, Severity, included, inspect
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


def check(templates: TemplateSet, name: str, context: ScriptContext) -> list[Problem]:
    """Everything that can be said against template ``name``, errors and warnings; best is ``[]``.

    ``context`` holds sample values. Reads files and runs ``bash -n``, so it blocks for some
    milliseconds; it raises nothing for a bad template, a missing one included.
    """
    usage = Usage()
    try:
        found = _check_sources(templates, name, set(), usage)
    except TemplateError as error:
        return [Problem(None, str(error), template=name)]
    if any(problem.severity is Severity.ERROR for problem in found):
        return found
    usage.add_command(context.command)
    found += usage.unused(name, context)
    try:
        script = render(templates, name, context)
    except LocatedError as error:
        return [*found, error.problem]
    except BridgeError as error:
        return [*found, Problem(None, str(error), template=name)]
    found += _check_script(name, script)
    return found


def _check_sources(
    templates: TemplateSet, name: str, seen: set[str], usage: Usage
) -> list[Problem]:
    """The rules, on this template's text and on everything that it includes."""
    seen.add(name)
    text = templates.source(name).text
    found = [*inspect(environment(templates), name, text), *_find_secrets(name, text)]
    if any(problem.severity is Severity.ERROR for problem in found):
        return found  # a text with a syntax error does not tell what it includes
    usage.add(environment(templates), text)
    for other in included(environment(templates), text):
        if other not in seen:
            found += _check_sources(templates, other, seen, usage)
    return found


def _find_secrets(name: str, text: str) -> list[Problem]:
    message = (
        "A secret on a command line can be read by everybody on the node. Run the program through "
        "launch.py, which hands --authKey over inside the process."
    )
    return [
        Problem(number, message, template=name)
        for number, line in enumerate(text.split("\n"), 1)
        if _names_secret(_COMMENT.sub("", line))
    ]


def _names_secret(line: str) -> bool:
    if "$(" not in line and "`" not in line:
        line = _HARMLESS.sub("", line)
    return bool(_SECRET.search(line))


def _check_script(name: str, script: str) -> list[Problem]:
    found = []
    shebang = script.partition("\n")[0]
    if "bash" not in shebang:
        message = f"The script begins with {shebang}; prelude.sh and this check need bash."
        return [Problem(1, message, Severity.WARNING, name)]
    if "hpcbridge_run" not in script:
        message = (
            "Nothing is started with hpcbridge_run, so nothing ends the application's processes."
        )
        found.append(Problem(None, message, Severity.WARNING, name))
    return found + _check_order(name, script) + _check_syntax(name, script)


def _check_order(name: str, script: str) -> list[Problem]:
    """The rules see one file at a time; an included command can come before a directive."""
    shell = ShellText()
    for number, line in enumerate(script.split("\n"), 1):
        seen = shell.command_seen
        shell.feed(line)
        if seen and shell.place is Place.DIRECTIVE:
            message = f"Directive {line.strip()} comes after a command (rendered line {number})."
            return [Problem(None, message, template=name)]
        why = why_not_one(line) if shell.place is Place.DIRECTIVE else ""
        if why:  # of an option's value, as the texts have been looked at
            return [Problem(None, f"{why} (rendered line {number})", template=name)]
        shell.feed("\n")
    return []


def _check_syntax(name: str, script: str) -> list[Problem]:
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
    first = re.sub(
        r"^bash: line (\d+):", r"in the rendered script, line \1:", said.partition("\n")[0]
    )
    return [Problem(None, f"bash says: {first}", template=name)]
