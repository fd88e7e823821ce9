"""``apps``: each command line as an application of ours."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from hpcbridge.config.commandwords import Hole, written
from hpcbridge.config.launcherjson import programs
from hpcbridge.config.launcherjson.choices import Rules
from hpcbridge.config.launcherjson.configuration import unknown_keys
from hpcbridge.config.launcherjson.findings import Findings
from hpcbridge.config.launcherjson.parse import Node
from hpcbridge.config.launcherjson.placeholders import BadName, fill, literal, posted
from hpcbridge.config.launcherjson.programs import Word

CLUSTER = "here"
TEMPLATE = "commandline.sh"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESERVED = ("id", "secret", "sessionURL", "error", "application")


def application(
    name: str,
    node: Node,
    properties: Mapping[str, str],
    rules: Rules,
    findings: Findings,
) -> dict[str, Any]:
    """The settings of one application, or {} where an error was found."""
    key, section = f"apps.{name}", f"applications.{name}"
    if not _NAME.fullmatch(name):
        findings.wrong(
            node.key_at,
            key,
            f"{name!r} cannot be an application's name: letters, digits, _ . and - only, at most "
            "64. Rename it, here and in the pages that launch it.",
        )
        return {}
    members = findings.members(node, key)
    unknown_keys(members, ("cmd", "ready_line"), section, key, findings)
    ready = _ready_line(members.get("ready_line"), node, key, section, findings)
    if not isinstance(node.value, dict):
        return {}
    if "cmd" not in members:
        findings.wrong(node.at, f"{key}.cmd", 'is required: ["PROGRAM", "--port", "${port}"].')
        return {}
    words = _words(members["cmd"], f"{key}.cmd", properties, name, findings)
    if words is None:
        return {}
    open_names = _check(members["cmd"], f"{key}.cmd", words, rules, findings)
    command = _secret(members["cmd"], f"{key}.cmd", section, words, ready, findings)
    found: dict[str, Any] = {"cluster": CLUSTER, "template": TEMPLATE}
    if ready is not None:
        found["ready_line"] = ready
    found["command"] = [written(word) for word in command]
    found["properties"] = {"directory": str(findings.path.absolute().parent)}
    found["parameters"] = {each: rules.parameter(each, words) for each in open_names}
    return found


def _ready_line(
    node: Node | None, owner: Node, key: str, section: str, findings: Findings
) -> str | None:
    if node is not None and node.value not in (None, ""):
        return findings.text(node, f"{key}.ready_line", "Starting factory")
    findings.note(
        section,
        owner.key_at,
        f"{key}.ready_line",
        "there is none. The application is ready when it prints what servers of wslink print; if "
        "it prints anything else, name that here. (ParaViewWeb's launcher ended applications "
        "without a ready_line when timeout was over.)",
    )
    return None


def _words(
    node: Node, key: str, properties: Mapping[str, str], name: str, findings: Findings
) -> list[Word] | None:
    if isinstance(node.value, str):
        try:
            meant = ", ".join(f'"{each}"' for each in shlex.split(node.value))
        except ValueError:
            meant = '"PROGRAM", "--port", "${port}"'
        findings.wrong(node.at, key, f"must be a list of words, not one text: [{meant}].")
        return None
    items = findings.items(node, key, '["PROGRAM", "--port", "${port}"]')
    if not items:
        if isinstance(node.value, list):
            findings.wrong(node.at, key, "is empty: name a program.")
        return None
    words: list[Word] = []
    for place, each in enumerate(items):
        if not isinstance(each.value, str):
            shown = each.value if isinstance(each.value, int | float) else "..."
            findings.wrong(each.at, f"{key}[{place}]", f'must be a text: write "{shown}".')
            continue
        if re.search(r"[\x00-\x1f\x7f]", each.value):
            findings.wrong(
                each.at, f"{key}[{place}]", "has a line end or another control character."
            )
            continue
        try:
            words.append(fill(each.value, properties, name))
        except BadName as error:
            findings.wrong(each.at, f"{key}[{place}]", str(error))
    return words if len(words) == len(items) else None


def _check(node: Node, key: str, words: list[Word], rules: Rules, findings: Findings) -> list[str]:
    """The names that clients fill in, each once, after all that must not be was told."""
    names = list(dict.fromkeys(name for word in words for name in posted(word)))
    for name in names:
        if name in _RESERVED or not _NAME.fullmatch(name):
            said = f"${{{name}}} cannot be filled in here; use another name, without _ in front."
            findings.wrong(node.at, key, said)
    if not any(Hole("job", "port") in word for word in words):
        texts = [literal(word) or "" for word in words]
        ports = [each for each in texts if re.fullmatch(r"[0-9]{4,5}", each)]
        write = f'"${{port}}" in place of "{ports[0]}"' if ports else '"--port", "${port}"'
        said = f"has no ${{port}}, so the program cannot know where to listen: write {write}."
        findings.wrong(node.at, key, said)
    free = {name for name in names if not rules.listed(name)}
    for name in dict.fromkeys(programs.chosen_programs(words, free)):
        findings.wrong(
            node.at,
            key,
            f"${{{name}}} is no property, so clients would choose the program that runs. Add "
            f"'{name}' to properties, or list what they may choose from in configuration.sanitize.",
        )
    for name in dict.fromkeys(programs.read_by_shells(words, free)):
        findings.wrong(
            node.at,
            key,
            f"${{{name}}} stands in text that another program reads as code, so clients could run "
            'anything. Hand it over as an argument of its own, as in ["bash", "-c", '
            '"run \\"$$1\\"", "run", "${file}"], or list its values in configuration.sanitize.',
        )
    return names


def _secret(
    node: Node,
    key: str,
    section: str,
    words: list[Word],
    ready: str | None,
    findings: Findings,
) -> list[Word]:
    """The command with the secret where ``ps`` does not show it, as far as that is possible."""
    stubbed = programs.with_stub(words, ready)
    if stubbed is not None:
        return stubbed
    if not any(programs.SECRET in word for word in words):
        if programs.starts_wslink(ready) and programs.script_at(words) is None:
            findings.note(
                section,
                node.at,
                key,
                "has no ${secret}. If the program is a server of wslink, its secret is one that "
                'everybody knows, and clients cannot log in: add "--authKey", "${secret}".',
            )
        return words
    if ready is not None and "App running at" in ready:
        by_file = programs.with_secret_file(words)
        if by_file is not None:
            return by_file
    findings.note(
        section,
        node.at,
        key,
        "the secret stands on the command line, where everybody on this machine can read it. If "
        'the program can read a file, write "${job.secret_file}" for it in the TOML.',
    )
    return words
