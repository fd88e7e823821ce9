"""``configuration`` and ``sessionData`` as settings of ours, by section."""

import difflib
import grp
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcbridge.config.commandwords import Hole, Part
from hpcbridge.config.launcherjson.findings import Findings
from hpcbridge.config.launcherjson.keys import KEYS
from hpcbridge.config.launcherjson.parse import Node
from hpcbridge.config.launcherjson.placeholders import BadName, fill
from hpcbridge.config.launcherjson.tokens import Place

SPECIAL = ("sessionURL", "fields", "sanitize")
"""Keys that are not one setting alone: read by the functions below, and by ``choices``."""

_OURS = ("id", "secret", "sessionURL", "error")
_NAMES = {
    Hole("job", "name"): "${id}",
    Hole("job", "bind"): "${host}",
    Hole("job", "port"): "${port}",
}


def simple(members: Mapping[str, Node], findings: Findings) -> dict[str, dict[str, Any]]:
    """The settings of the keys that are one setting each, by section."""
    found: dict[str, dict[str, Any]] = {}
    for name, each in KEYS.items():
        node = members.get(name)
        if node is None:
            continue
        key = f"configuration.{name}"
        value = each.read(node, key, findings)
        if value is None:
            continue
        section, setting = each.setting
        found.setdefault(section, {})[setting] = value
    path = found.get("frontend", {}).get("map_file")
    if path is not None and (group := _group(path)) is not None:
        found["frontend"]["group"] = group
    elif path is not None:
        findings.note(
            "frontend",
            members["proxy_file"].key_at,
            "configuration.proxy_file",
            "only this account and its group may read the map. Where Apache runs as another one, "
            "name its group (frontend.group, or HPCBRIDGE_FRONTEND__GROUP=www-data in the "
            "environment), of which this account has to be a member.",
        )
    return found


def _group(path: str) -> str | None:
    """The group that a map was shared with so far, if it is another one than ours."""
    try:
        gid = Path(path).stat().st_gid
        return None if gid == os.getegid() else grp.getgrgid(gid).gr_name
    except (OSError, KeyError, ValueError):  # a text that can be no path, too
        return None


def session_url(
    node: Node | None, properties: Mapping[str, str], findings: Findings
) -> dict[str, dict[str, Any]]:
    """``sessionURL``, as settings by section."""
    key = "configuration.sessionURL"
    text = None if node is None else findings.text(node, key, "ws://HOST/proxy?sessionId=${id}")
    if node is None or text is None:
        return {}
    written = _written(text, properties, key, node.at, findings, posted=False)
    if written is None:
        return {}
    if written.startswith(("ws://", "wss://")) and "${port}" in written:
        return _through_us(written, node.key_at, key, findings)
    found: dict[str, dict[str, Any]] = {"server": {"session_url": written}}
    host = _host(written)
    if host in ("use_host", "use_hostname"):
        findings.note(
            "server",
            node.key_at,
            key,
            "does not tell under which name browsers reach the front end. Where Apache forwards "
            "without 'ProxyPreserveHost On', name its pages in server.cors_origins (or "
            "HPCBRIDGE_SERVER__CORS_ORIGINS='[\"https://viz.example.org\"]').",
        )
    elif host and written.startswith(("ws://", "wss://")):
        # ParaViewWeb's virtual host does not pass the name on that browsers used.
        found["server"]["cors_origins"] = [_page(written, host)]
        found["frontend"] = {"server_name": host}
    return found


def _through_us(url: str, at: Place, key: str, findings: Findings) -> dict[str, dict[str, Any]]:
    """In place of an address at the application's own port, one of ours."""
    findings.note(
        "server",
        at,
        key,
        "led to the application's own port, which only this machine can reach here: clients get an "
        "address of this service instead, which forwards.",
    )
    path = url.partition("://")[2].partition("/")[2].partition("?")[0] or "ws"
    if path == "ws" or not re.fullmatch(r"[A-Za-z0-9._/-]+", path):
        return {}
    address = "${ws_scheme}://${request_host}/proxy?sessionId=${id}&path=" + path
    return {"server": {"session_url": address}, "frontend": {"websocket_paths": [path]}}


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host if re.fullmatch(r"[a-z0-9._-]+", host) else ""


def _page(url: str, host: str) -> str:
    """The origin of the pages that are served beside a WebSocket's address."""
    secure = url.startswith("wss")
    try:
        port = urlsplit(url).port
    except ValueError:
        port = None
    shown = "" if port in (None, 443 if secure else 80) else f":{port}"
    return f"{'https' if secure else 'http'}://{host}{shown}"


def replies(
    fields: Node | None,
    data: Node | None,
    properties: Mapping[str, str],
    findings: Findings,
) -> dict[str, Any]:
    """``fields`` and ``sessionData``: what a launch's reply has besides what always is there.

    Posted keys come back in any case; ``fields`` only kept the others out.
    """
    wanted: list[str] = []
    items = [] if fields is None else findings.items(fields, "configuration.fields", '["file"]')
    for each in items:
        if isinstance(each.value, str):
            wanted.append(each.value)
        else:
            findings.wrong(each.at, "configuration.fields", 'must hold texts, such as "file".')
        if each.value == "cmd":
            said = '"cmd" is left out: clients are not told command lines.'
            findings.note("server", each.at, "configuration.fields", said)
    reply: dict[str, str] = {}
    for name, node in findings.members(data, "sessionData").items():
        key = f"sessionData.{name}"
        if name in _OURS:
            findings.wrong(node.key_at, key, "is a key of the launcher itself; rename it.")
            continue
        if not isinstance(node.value, str | int | float | bool):
            findings.wrong(node.at, key, 'must be a text, such as "/Home".')
            continue
        written = _written(str(node.value), properties, key, node.at, findings, posted=True)
        if name not in wanted:
            said = "is not in configuration.fields, so clients were never told it; left out."
            findings.note("server", node.key_at, key, said)
        elif written is not None:
            reply[name] = written
    ours = [each for each in ("host", "port") if each in wanted and each not in reply]
    return {key: value for key, value in (("fields", ours), ("reply", reply)) if value}


def _written(
    text: str,
    properties: Mapping[str, str],
    key: str,
    at: Place,
    findings: Findings,
    *,
    posted: bool,
) -> str | None:
    """A text with the launcher's ``${...}`` as our settings write them; None if it has others."""
    try:
        parts: list[Part] = fill(text, properties)
    except BadName as error:
        findings.wrong(at, key, str(error))
        return None
    found = ""
    for part in parts:
        if isinstance(part, str):
            found += part.replace("$", "$$")
        elif part in _NAMES:
            found += _NAMES[part]
        elif posted and part == Hole("param", "application"):
            found += "${application}"
        elif posted and part.group == "param":
            found += str(part)
        else:
            name = "secret" if part.group == "job" else part.name
            also = ", and what clients post" if posted else ""
            known = f"${{id}}, ${{host}}, ${{port}}, properties{also}"
            findings.wrong(at, key, f"${{{name}}} is not filled in here; only {known}.")
            return None
    return found


def unknown_keys(
    members: Mapping[str, Node],
    known: Collection[str],
    section: str,
    within: str,
    findings: Findings,
) -> None:
    """Tell of keys that the launcher never read: a misspelt one is an error."""
    for name, node in members.items():
        if name in known:
            continue
        key = f"{within}.{name}" if within else name
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if close:
            findings.wrong(node.key_at, key, f"unknown key. Did you mean '{close[0]}'?")
        else:
            said = f"has no effect, as with ParaViewWeb's launcher. Known: {', '.join(known)}."
            findings.note(section, node.key_at, key, said)
