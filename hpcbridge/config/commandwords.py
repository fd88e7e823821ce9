"""The words of an application's ``command``: text with ``${...}``, each filled in once.

The syntax is that of :class:`string.Template`, with the groups of a template in front of the names:
``${job.port}``, ``${param.file}``. ``$$`` is a dollar sign.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

JOB_WORDS = {
    "port": '"$HPCBRIDGE_PORT"',
    "launch": '"$HPCBRIDGE_DIRECTORY/launch.py"',
    "secret_file": '"$HPCBRIDGE_DIRECTORY/secret"',
    "secret": '"$(<"$HPCBRIDGE_DIRECTORY/secret")"',
}
"""What only the running job knows, as its shell writes it."""
JOB_VALUES = ("bind", "name", "directory", "walltime")

_PART = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<group>[a-z]+)\.(?P<name>[^{}$]+)\}|(?P<wrong>))")


@dataclass(frozen=True)
class Hole:
    """A value that goes in here: ``${group.name}``."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"${{{self.group}.{self.name}}}"


Part = str | Hole


def parts(word: str) -> list[Part]:
    """The texts and holes of one word. Raises ValueError for a ``$`` that means nothing."""
    found: list[Part] = []
    position = 0
    for match in _PART.finditer(word):
        if match["wrong"] is not None:
            raise ValueError(
                f"'{word}': a $ begins ${{job.NAME}}, ${{param.NAME}} or ${{app.NAME}}; write $$ "
                "for a dollar sign"
            )
        found.append(word[position : match.start()])
        found.append("$" if match["dollar"] else Hole(match["group"], match["name"]))
        position = match.end()
    return [each for each in (*found, word[position:]) if each != ""]


def written(word: Collection[Part]) -> str:
    """The opposite of :func:`parts`."""
    return "".join(each.replace("$", "$$") if isinstance(each, str) else str(each) for each in word)


def first(word: str) -> Hole | None:
    """The hole with which a word begins, if it begins with one."""
    found = parts(word)
    return found[0] if found and isinstance(found[0], Hole) else None


def unknown(word: str, there: Mapping[str, Collection[str]]) -> str | None:
    """What is wrong with a word, as a sentence without its end; ``there`` are the admin's names."""
    try:
        holes = [each for each in parts(word) if isinstance(each, Hole)]
    except ValueError as error:
        return str(error)
    known = {"job": (*JOB_WORDS, *JOB_VALUES), **there}
    for hole in holes:
        if hole.group not in known:
            return f"{hole}: the groups are {', '.join(known)}"
        if hole.name not in known[hole.group]:
            names = ", ".join(known[hole.group]) or "none"
            return f"{hole} is not there; known of {hole.group}: {names}"
    return None
