"""Which properties and parameters a template uses; one that it does not is a slip of the pen."""

import contextlib
import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from jinja2 import Environment, nodes

from hpcbridge.config.commandwords import parts
from hpcbridge.jobscripts.rules import Problem
from hpcbridge.jobscripts.values import ScriptContext

_GROUPS = {"app": "property", "param": "parameter"}


@dataclass
class Usage:
    """The names that some templates look up in ``app``, ``param`` and ``cluster``.

    ``every`` are the groups that they go through as a whole, as ``{% for name in param %}`` does.
    """

    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    every: set[str] = field(default_factory=set)

    def add(self, environment: Environment, text: str) -> None:
        """Take in one template's text, which must have no syntax error."""
        self._visit(environment.parse(text))

    def add_command(self, command: Iterable[str]) -> None:
        """Take in an application's ``command``, whose words name properties and parameters."""
        for word in command:
            with contextlib.suppress(ValueError):  # which rendering tells
                for part in parts(word):
                    if not isinstance(part, str):
                        self.names[part.group].add(part.name)

    def _visit(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name):
            key = node.attr if isinstance(node, nodes.Getattr) else _constant(node.arg)
            if key is not None:
                self.names[node.node.name].add(key)
                return
        if isinstance(node, nodes.Name):
            self.every.add(node.name)
        for child in node.iter_child_nodes():
            self._visit(child)

    def unused(self, name: str, context: ScriptContext) -> Iterator[Problem]:
        """An error for each property and parameter of ``context`` that template ``name`` lacks."""
        given: Mapping[str, Iterable[str]] = {
            "app": context.properties,
            "param": context.parameters,
        }
        for group, kind in _GROUPS.items():
            known = sorted(self.names[group] - {"name"})
            for key in given[group] if group not in self.every else ():
                if key not in known:
                    yield Problem(None, self._message(kind, group, key, known), template=name)

    def _message(self, kind: str, group: str, key: str, known: list[str]) -> str:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        if not hint and key in self.names["cluster"]:
            hint = f" Did you mean options.{key}?"
        return (
            f"It does nothing with the {kind} '{key}' ({group}.{key}).{hint} "
            f"It knows: {', '.join(known) or 'none'}."
        )


def _constant(node: nodes.Expr) -> str | None:
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None
