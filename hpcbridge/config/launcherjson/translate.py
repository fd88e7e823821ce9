"""A launcher file as settings of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbridge.config.launcherjson import configuration, placeholders
from hpcbridge.config.launcherjson.applications import CLUSTER, application
from hpcbridge.config.launcherjson.choices import Rules
from hpcbridge.config.launcherjson.findings import Findings, Notice, as_text
from hpcbridge.config.launcherjson.keys import KEYS
from hpcbridge.config.launcherjson.parse import Node, parse
from hpcbridge.config.launcherjson.resources import cluster
from hpcbridge.config.launcherjson.tokens import Broken
from hpcbridge.errors import ConfigError

__all__ = ["Notice", "Translation", "is_launcher_file", "read"]

SESSIONS = 200
"""Sessions at once without ``limits.sessions``."""

_TOP = ("configuration", "resources", "properties", "apps", "sessionData")


@dataclass(frozen=True)
class Translation:
    """Our settings, as a TOML file would have them, and what admins should know."""

    path: Path
    data: dict[str, Any]
    notifications: list[Notice]


def is_launcher_file(path: Path) -> bool:
    """By its name: ``*.json``, or ``*.config``, as ParaViewWeb's documentation calls it."""
    return path.suffix.lower() in (".json", ".config")


def read(path: Path) -> Translation:
    """Read and translate the launcher file at ``path``. May ask the DNS for the hosts in it.

    Raises :class:`~hpcbridge.errors.ConfigError`, with a line for each thing that is wrong.
    """
    root = _parse(path)
    findings = Findings(path)
    data = _translated(root, findings)
    if findings.errors:
        raise ConfigError("\n".join(findings.errors))
    return Translation(path, data, findings.notifications)


def _parse(path: Path) -> Node:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: line {line}: not UTF-8 (byte {error.start}); save the file as UTF-8."
        ) from error
    except Broken as error:
        raise ConfigError(f"{path}: {error.place}: {error}") from error


def _translated(root: Node, findings: Findings) -> dict[str, Any]:
    top = findings.members(root, "the file")
    configuration.unknown_keys(top, _TOP, "", "", findings)
    for name in ("configuration", "apps"):
        if name not in top:
            findings.wrong(root.at, name, f'is required: "{name}": {{ ... }}.')
    settings = findings.members(top.get("configuration"), "configuration")
    known = (*KEYS, *configuration.SPECIAL)
    configuration.unknown_keys(settings, known, "server", "configuration", findings)
    properties = _properties(top.get("properties"), findings)
    sections: dict[str, dict[str, Any]] = {"server": {}, "frontend": {}}
    for more in (
        configuration.simple(settings, findings),
        configuration.session_url(settings.get("sessionURL"), properties, findings),
        {
            "server": configuration.replies(
                settings.get("fields"), top.get("sessionData"), properties, findings
            )
        },
    ):
        for section, values in more.items():
            sections.setdefault(section, {}).update(values)
    common = sections.pop("applications", {})
    rules = Rules(settings.get("sanitize"), findings)
    here, places = cluster(top.get("resources"), root, findings)
    applications = _applications(top.get("apps"), properties, rules, common, findings)
    _idle_rules(rules, properties, applications, findings)
    _checked_values(settings.get("fields"), sections["server"], applications)
    limits = {"limits": {"sessions": places}} if places > SESSIONS else {}
    return {
        **{key: value for key, value in sections.items() if value},
        **limits,
        "clusters": {CLUSTER: here},
        "applications": applications,
    }


def _properties(node: Node | None, findings: Findings) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, each in findings.members(node, "properties").items():
        key, text = f"properties.{name}", as_text(each.value)
        if text is None:
            findings.wrong(each.at, key, 'must be a text, such as "/opt/paraview/bin/pvpython".')
            continue
        if any(ord(char) < 32 for char in text):
            findings.wrong(each.at, key, "has a line end or another control character.")
            continue
        if name in placeholders.OWN or name == "application":
            said = f"has no effect: ${{{name}}} is filled in by the launcher itself."
            findings.note("", each.key_at, key, said)
        elif "${" in text:
            said = "a ${...} in a property is not filled in, as with ParaViewWeb's launcher."
            findings.note("", each.at, key, said)
        found[name] = text
    return found


def _applications(
    node: Node | None,
    properties: Mapping[str, str],
    rules: Rules,
    common: Mapping[str, Any],
    findings: Findings,
) -> dict[str, Any]:
    members = findings.members(node, "apps")
    if node is not None and node.value == {}:
        findings.wrong(node.at, "apps", 'is empty: write "NAME": { "cmd": [...] }.')
    return {
        name: {"title": name, **common, **application(name, each, properties, rules, findings)}
        for name, each in members.items()
    }


def _checked_values(
    fields: Node | None, server: dict[str, Any], applications: Mapping[str, Mapping[str, Any]]
) -> None:
    """Posted keys in ``fields`` come back as they were used: with the default for a wrong one."""
    wanted = fields.plain if fields is not None and isinstance(fields.value, list) else []
    used = [name for each in applications.values() for name in each.get("parameters", {})]
    again = {name: f"${{param.{name}}}" for name in used if name in wanted}
    if again:
        server["reply"] = again | server.get("reply", {})


def _idle_rules(
    rules: Rules,
    properties: Mapping[str, str],
    applications: Mapping[str, Mapping[str, Any]],
    findings: Findings,
) -> None:
    """Tell of rules that nothing is checked by: somebody relies on them."""
    used = {name for each in applications.values() for name in each.get("parameters", {})}
    for name, node in rules.places.items():
        key = f"configuration.sanitize.{name}"
        if name in properties:
            said = (
                f"has no effect: '{name}' is a property, and what clients post never takes a "
                "property's place. Rename one of them if clients are to choose."
            )
            findings.note("", node.key_at, key, said)
        elif name not in used:
            findings.note("", node.key_at, key, f"has no effect: no cmd has ${{{name}}}.")
