"""What is found in a launcher file: what is wrong, and what admins should know about the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbridge.config.launcherjson.parse import Node
from hpcbridge.config.launcherjson.tokens import Place


@dataclass(frozen=True)
class Notice:
    """A key that works differently here, or not at all, and what to do instead.

    ``section`` is ours that it belongs to, such as ``server`` or ``applications.loader``; ``key``
    the file's.
    """

    section: str
    key: str
    at: Place
    said: str

    def __str__(self) -> str:
        return f"{self.at}: {self.key}: {self.said}"


class Findings:
    """Collects errors and notices; an error does not keep others from being found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[str] = []
        self.notifications: list[Notice] = []

    def wrong(self, at: Place, key: str, said: str) -> None:
        """An error: ``said`` is a sentence or two."""
        self.errors.append(f"{self.path}: {at}: {key}: {said}")

    def note(self, section: str, at: Place, key: str, said: str) -> None:
        """Something that does not keep the file from running."""
        self.notifications.append(Notice(section, key, at, said))

    def members(self, node: Node | None, key: str) -> dict[str, Node]:
        """The members of an object; none, and an error, where it is something else."""
        if node is None:
            return {}
        if isinstance(node.value, dict):
            return node.value
        self.wrong(node.at, key, 'must be an object: { "NAME": ... }.')
        return {}

    def items(self, node: Node, key: str, example: str) -> list[Node]:
        """The items of a list; none, and an error, where it is something else."""
        if isinstance(node.value, list):
            return node.value
        self.wrong(node.at, key, f"must be a list, such as {example}.")
        return []

    def text(self, node: Node, key: str, example: str) -> str | None:
        """A text that is not empty."""
        if isinstance(node.value, str) and node.value.strip():
            return node.value
        self.wrong(node.at, key, f'must be a text, such as "{example}".')
        return None


def as_text(value: Any) -> str | None:
    """A text, number or boolean as ParaViewWeb's launcher wrote it; None for anything else."""
    return str(value) if isinstance(value, str | int | float | bool) else None
