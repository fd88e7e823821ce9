"""``${...}`` as the launcher wrote it, and what each name is here.

There, what a client posted was filled in before the admin's properties, so a posted ``pvpython``
ran any program. Here a name is the launcher's own, else a property, else a parameter: what clients
post can only stand where the file leaves a name to them.
"""

import re
import string
from collections.abc import Mapping, Sequence

from hpcbridge.config.commandwords import Hole, Part

OWN = {
    "port": Hole("job", "port"),
    "host": Hole("job", "bind"),
    "id": Hole("job", "name"),
    "secret": Hole("job", "secret"),
}
"""Names that the launcher filled in itself, before all others."""

_LOOKS_LIKE_ONE = re.compile(r"\{([^{}]*)\}?")


class BadName(Exception):
    """A ``${...}`` that is no name; the sentence says why."""


def fill(text: str, properties: Mapping[str, str], application: str = "") -> list[Part]:
    """The parts of a text: what the admin wrote, joined, and holes for the rest.

    Raises :class:`BadName`.
    """
    found: list[Part] = []
    position = 0
    for match in string.Template.pattern.finditer(text):
        _add(found, text[position : match.start()])
        position = match.end()
        name = match["named"] or match["braced"]
        if name is None:
            _add(found, "$")
            tail = _LOOKS_LIKE_ONE.match(text, position)
            if match["escaped"] is None and tail:
                raise BadName(
                    f"${{{tail[1]}}} is no name: names have letters, digits and _, and a brace at "
                    "their end."
                )
        elif name == "application" and application:
            _add(found, application)
        elif name in OWN:
            found.append(OWN[name])
        elif name in properties:
            _add(found, properties[name])
        else:
            found.append(Hole("param", name))
    _add(found, text[position:])
    return found


def _add(parts: list[Part], text: str) -> None:
    if not text:
        return
    if parts and isinstance(parts[-1], str):
        parts[-1] += text
    else:
        parts.append(text)


def literal(word: Sequence[Part]) -> str | None:
    """A word without holes; None for one that has some."""
    return "".join(map(str, word)) if all(isinstance(each, str) for each in word) else None


def posted(word: Sequence[Part]) -> list[str]:
    """The names that clients fill in."""
    return [each.name for each in word if isinstance(each, Hole) and each.group == "param"]
