"""All keys of the configuration with what is known of each, read from the settings' own fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tomli_w
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from hpcbridge.config.adapters import OWN, SETTINGS
from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.config.fields import Primitive, Property
from hpcbridge.config.schema import is_section, is_union, strip, tags
from hpcbridge.config.settings import Settings

NAME = "NAME"
"""Stands in a path for a name that the admin chooses."""
EACH = "[]"
"""At the end of a path's part: a list of tables."""
_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text",
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_PHRASES: dict[Any, str] = {
    Primitive: "text, number, true or false",
    Property: "text, number, true, false or a list of these",
}


@dataclass(frozen=True)
class Key:
    """One key. ``allowed`` says more of the values that it may have, "" where there is no more.

    ``default`` is as in TOML, or a phrase; "" where it has to be given. ``kinds`` are the
    schedulers for whose clusters there is the key; none elsewhere. ``keys`` says that it is a table
    of further keys.
    """

    path: tuple[str, ...]
    description: str
    type: str
    allowed: str
    default: str
    kinds: tuple[str, ...] = ()
    keys: bool = False

    @property
    def name(self) -> str:
        """As it is written with dots."""
        return ".".join(self.path)

    @property
    def variable(self) -> str | None:
        """The environment's variable that stands above the file; None where there can be none."""
        if any(part.endswith(EACH) for part in self.path):
            return None
        return "HPCBRIDGE_" + "__".join(self.path).upper()


def all_keys(*, adapters_of_others: bool = True) -> list[Key]:
    """Every key, in the order of the settings; with those of other packages' adapters or not."""
    clusters: Sequence[type[ClusterSettings]] = SETTINGS if adapters_of_others else [*OWN.values()]
    return list(_walk(Settings, (), clusters))


def _walk(
    model: type[BaseModel], path: tuple[str, ...], clusters: Sequence[type[ClusterSettings]]
) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        yield from _below(name, field, path, clusters)


def _below(
    name: str, field: FieldInfo, path: tuple[str, ...], clusters: Sequence[type[ClusterSettings]]
) -> Iterator[Key]:
    own, inner = (*path, name), strip(field.annotation)
    if own == ("clusters",):
        yield _key(own, field, keys=True)
        yield from _of_clusters((*own, NAME), clusters)
        return
    for kind, step in ((inner, own), *_members(inner, own)):
        if is_section(kind):
            yield _key(own, field, keys=True)
            yield from _walk(kind, step, clusters)
            return
    yield _key(own, field)


def _members(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """What a list or a table of names has in it, and under which path."""
    if get_origin(kind) is dict:
        yield strip(get_args(kind)[1]), (*path, NAME)
    if get_origin(kind) is list:
        yield strip(get_args(kind)[0]), (*path[:-1], path[-1] + EACH)


def _of_clusters(path: tuple[str, ...], clusters: Sequence[type[ClusterSettings]]) -> Iterator[Key]:
    """The keys of all kinds of clusters; those that mean the same stand once."""
    found: dict[Key, list[str]] = {}
    for settings in clusters:
        for key in _walk(settings, path, ()):
            found.setdefault(key, []).extend(map(str, tags(settings)))
    names = [each.name for each in found]
    for key in sorted(found, key=lambda key: names.index(key.name)):
        yield replace(key, kinds=tuple(found[key]))


def _key(path: tuple[str, ...], field: FieldInfo, *, keys: bool = False) -> Key:
    description = field.description or _about(field.annotation)
    said = [field.annotation, *field.metadata]
    kind = "table" if keys else word(field.annotation)
    return Key(path, description, kind, _allowed(said), _default(field, keys=keys), (), keys)


def _about(annotation: Any) -> str:
    """The first paragraph of a section's own documentation."""
    section = strip(annotation)
    text = section.__doc__ if is_section(section) else ""
    return " ".join((text or "").partition("\n\n")[0].split()).replace("``", "")


def first_sentence(description: str) -> str:
    """The beginning of a description, for lists."""
    return description.partition(". ")[0].partition("; ")[0].rstrip(".")


def word(annotation: Any) -> str:
    """A type in words."""
    kind = strip(annotation)
    if kind in _PHRASES:
        return _PHRASES[kind]
    if get_origin(kind) is Annotated:
        return word(get_args(kind)[0])
    if is_union(kind):
        words = [word(each) for each in get_args(kind) if each is not type(None)]
        return " or ".join(dict.fromkeys(words))
    if get_origin(kind) is Literal:
        return "one of"
    if get_origin(kind) is list:
        inner = strip(get_args(kind)[0])
        return "list of tables" if is_section(inner) else f"list of {word(inner)}"
    if get_origin(kind) is dict:
        return f"table of {word(get_args(kind)[1])}"
    return "table" if is_section(kind) else _WORDS.get(kind, "text")


def _allowed(said: Sequence[Any]) -> str:
    """Choices and bounds, as far as types tell them."""
    choices, bounds = list[str](), list[str]()
    for each in _told(said):
        if get_origin(each) is Literal:
            choices += [f'"{value}"' for value in get_args(each)]
            continue
        for name, said_so in (
            ("ge", "at least"),
            ("gt", "above"),
            ("le", "at most"),
            ("lt", "below"),
        ):
            if (bound := getattr(each, name, None)) is not None:
                bounds.append(f"{said_so} {_number(bound)}")
        if pattern := getattr(each, "pattern", None):
            bounds.append(f"matches {pattern}")
    return ", ".join(dict.fromkeys(choices + bounds))


def _told(said: Sequence[Any]) -> Iterator[Any]:
    """The types inside of types, and all that is said of each."""
    for each in said:
        if get_origin(each) is dict:
            yield from _told(get_args(each)[1:])  # of its names nothing
        elif get_origin(each) in (Annotated, list) or is_union(each):
            yield from _told(get_args(each))
        elif isinstance(each, FieldInfo):
            yield from each.metadata
        else:
            yield each


def _default(field: FieldInfo, *, keys: bool) -> str:
    if isinstance(field.json_schema_extra, dict) and "default" in field.json_schema_extra:
        return str(field.json_schema_extra["default"])
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "not set"
    return "" if keys else shown(str(value) if isinstance(value, Path) else value)


def shown(value: Any) -> str:
    """A plain value as TOML has it, in one line; a table as ``{...}``."""
    if isinstance(value, dict):
        inside = ", ".join(f"{each} = {shown(value[each])}" for each in value)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, float):
        return _number(value)
    return tomli_w.dumps({"k": value}).removeprefix("k = ").rstrip("\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
