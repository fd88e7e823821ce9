"""What clients may post: the names that commands leave open, with the file's ``sanitize``."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpcbridge.config.commandwords import Hole, Part
from hpcbridge.config.launcherjson.findings import Findings, as_text
from hpcbridge.config.launcherjson.parse import Node

LENGTH = 4096
"""Characters of a posted text; paths have at most as many."""
_KINDS = ("inList", "regexp")
_NO_OPTION = r"(?!-(?![0-9.]))"
_NO_WAY_UP = r"(?!(?:.*/)?\.\.(?:/|$))"


class Rules:
    """The file's ``sanitize``: what a client's value may be, and what takes its place if not."""

    def __init__(self, node: Node | None, findings: Findings) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        self.places = {} if node is None else findings.members(node, "configuration.sanitize")
        for name, rule in self.places.items():
            self._found[name] = _rule(rule, f"configuration.sanitize.{name}", findings)

    def listed(self, name: str) -> bool:
        """Whether the admin listed all the values that there may be."""
        return "choices" in self._found.get(name, {})

    def parameter(self, name: str, words: Sequence[Sequence[Part]]) -> dict[str, Any]:
        """The settings of a parameter that stands in these words.

        A text that would be an option of the program, or that leads out of the directory which it
        is put behind, is not allowed, whatever the file says; the default then takes its place.
        """
        rules: dict[str, Any] = {"type": "str", "lenient": True, "max_length": LENGTH}
        rules |= self._found.get(name, {})
        if "choices" in rules:
            return rules
        here = Hole("param", name)
        guards = _NO_OPTION if any(word[:1] == [here] for word in words) else ""
        guards += _NO_WAY_UP if any(_in_path(word, here) for word in words) else ""
        if guards or "pattern" in rules:
            pattern, default = guards + rules.get("pattern", ".*"), rules.get("default")
            if default is not None and not re.fullmatch(pattern, default):
                pattern = f"(?:{pattern}|{re.escape(default)})"  # the admin's own word
            rules["pattern"] = pattern
        return rules


def _in_path(word: Sequence[Part], hole: Hole) -> bool:
    around = [
        str(near)
        for at, each in enumerate(word)
        if each == hole
        for near in (*word[max(0, at - 1) : at], *word[at + 1 : at + 2])
        if isinstance(near, str)
    ]
    return any(text.startswith("/") or text.endswith("/") for text in around)


def _rule(node: Node, key: str, findings: Findings) -> dict[str, Any]:
    members = findings.members(node, key)
    kind = members["type"].value if "type" in members else None
    if kind not in _KINDS:
        told = "is required" if kind is None else f"{kind!r} is not known"
        if isinstance(node.value, dict):
            at = members["type"].at if "type" in members else node.at
            allowed = " or ".join(f'"{each}"' for each in _KINDS)
            findings.wrong(at, f"{key}.type", f"{told}; write {allowed}.")
        return {}
    wanted = "list" if kind == "inList" else "regexp"
    for name, each in members.items():
        if name not in ("type", "default", wanted):
            findings.note("", each.key_at, f"{key}.{name}", f"has no effect with type {kind}.")
    if wanted not in members:
        findings.wrong(node.at, f"{key}.{wanted}", f"is required with type {kind}.")
        return {}
    default = _default(members.get("default"), key, findings)
    if kind == "inList":
        return _listed(members["list"], key, default, findings)
    return _matched(members["regexp"], key, default, findings)


def _default(node: Node | None, key: str, findings: Findings) -> Mapping[str, str]:
    if node is None:
        return {}
    text = as_text(node.value)
    if text is None:
        findings.wrong(node.at, f"{key}.default", 'must be a text, such as "none".')
        return {}
    return {"default": text}


def _listed(node: Node, key: str, default: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    texts: list[str] = []
    for each in findings.items(node, f"{key}.list", '["a", "b"]'):
        text = as_text(each.value)
        if text is None:
            findings.wrong(each.at, f"{key}.list", "must hold texts and numbers only.")
        elif text not in texts:
            texts.append(text)
    if not node.value:
        findings.wrong(node.at, f"{key}.list", "is empty, so nothing would be allowed.")
    # What is not listed becomes the default, so the default itself may be posted, too.
    texts += [each for each in default.values() if each not in texts]
    return {**default, "choices": texts}


def _matched(
    node: Node, key: str, default: Mapping[str, str], findings: Findings
) -> dict[str, Any]:
    text = findings.text(node, f"{key}.regexp", "^[A-Za-z0-9_.-]*$")
    if text is None:
        return {}
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        findings.wrong(node.at, f"{key}.regexp", f"is no regular expression: {error}.")
        return {}
    if not re.search(r"(?<!\\)\$$", text):
        said = "does not end with $; here the whole value has to match, not its beginning only."
        findings.note("", node.at, f"{key}.regexp", said)
    flags = re.match(r"\(\?([aimsux]+)\)", text)  # those of a whole pattern stand at its start only
    scoped = f"(?{flags[1]}:{text[flags.end() :]})" if flags else f"(?:{text})"
    return {**default, "pattern": scoped}
