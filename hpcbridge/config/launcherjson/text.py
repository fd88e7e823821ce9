"""A translated launcher file as TOML that people keep: commented, one section at a time."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from hpcbridge.config.launcherjson.translate import Notice, Translation

_HEAD = """\
# Made from {path} by 'hpcbridge import'.
#
# The secret goes to an application in a file, not on its command line. What clients post stands
# only where ${{param.NAME}} is. To run on a batch system, describe it as another [clusters.NAME]
# and name that as the applications' cluster; 'hpcbridge doctor FILE' tells what is still missing.
"""
_SAID = {
    "server": "Where the service listens, and what it answers (configuration, sessionData).",
    "frontend": "How clients reach sessions: by this service's own /proxy, and by the map.",
    "logs": "Where the output of ended sessions is kept.",
    "uploads": "Where files that users send are put.",
    "limits": "As many sessions as there were ports.",
    "clusters": "The resources: a slot for each port; jobs take free ports themselves.",
}
_WIDTH = 98


def toml(translation: Translation) -> str:
    """The text of a TOML file with the same meaning."""
    left = list(translation.notifications)
    lines = [_HEAD.format(path=translation.path.name)]
    lines += _comments(_taken(left, ""))
    for section, values in translation.data.items():
        if section not in ("clusters", "applications"):
            lines += _section(section, values, _SAID[section], left)
    for kind in ("clusters", "applications"):
        for name, values in translation.data[kind].items():
            lines += _section(f"{kind}.{_key(name)}", values, _SAID.get(kind, ""), left)
    lines += _comments(left)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(title: str, values: Mapping[str, Any], said: str, left: list[Notice]) -> Iterator[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    yield ""
    if said:
        yield f"# {said}"
    yield f"[{title}]"
    yield from _comments(_taken(left, title.replace('"', "")))
    for key, value in plain.items():
        yield from _pair(key, value)
    for key, value in values.items():
        if isinstance(value, dict) and value:
            if all(isinstance(each, dict) for each in value.values()):
                for name, inner in value.items():
                    yield from _section(f"{title}.{key}.{_key(name)}", inner, "", [])
            else:
                yield from _section(f"{title}.{key}", value, "", [])


def _pair(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, list) and len(str(value)) > 70:
        yield f"{_key(key)} = ["
        for item in value:
            yield f"    {_written(item)},"
        yield "]"
    else:
        yield f"{_key(key)} = {_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_written(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).partition(" = ")[0]


def _taken(left: list[Notice], section: str) -> list[Notice]:
    found = [each for each in left if each.section == section]
    left[:] = [each for each in left if each.section != section]
    return found


def _comments(notifications: list[Notice]) -> Iterator[str]:
    for each in notifications:
        said = f"{each.key} (line {each.at.line}): {each.said}"
        yield from textwrap.wrap(
            said,
            _WIDTH,
            initial_indent="# ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
