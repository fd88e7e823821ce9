"""What a person is told of a key: what it is, what it may be, and where it is set now."""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hpcbridge.config import file as configfile
from hpcbridge.config.keys import EACH, NAME, Key, all_keys, first_sentence, shown
from hpcbridge.errors import ConfigError


def explain(text: str, config: Path | None) -> str:
    """All that is known of the key ``text``, as ``clusters.NAME.slots``, ``server`` or ``slots``.

    With the file ``config``, also what it is now. Raises :class:`~hpcbridge.errors.ConfigError`.
    """
    wanted, keys = _parts(text), all_keys()
    found = [key for key in keys if _matches(key.path, wanted)]
    found = found or [key for key in keys if _plain(key.path)[-len(wanted) :] == wanted]
    if not found:
        raise ConfigError(_no_such(text, wanted, keys))
    source = _Source(config) if config is not None else None
    return "\n".join(_explained(key, wanted, keys, source) for key in found)


def listing() -> str:
    """All keys, each with the first sentence of what it is."""
    return "".join(f"{key.name}  {first_sentence(key.description)}\n" for key in all_keys())


def _parts(text: str) -> tuple[str, ...]:
    """The parts of a key, which may be quoted as in TOML where a name has dots."""
    wrong = f"'{text}' is no key, such as server.port."
    if "\n" in text:
        raise ConfigError(wrong)
    parts: list[str] = []
    try:
        found: Any = tomllib.loads(f"{text.replace(EACH, '')} = 0")
        while isinstance(found, dict):
            ((part, found),) = found.items()
            parts.append(part)
    except ValueError as error:  # tomllib.TOMLDecodeError is one; so are several keys, or none
        raise ConfigError(wrong) from error
    return tuple(parts)


def _plain(path: Sequence[str]) -> tuple[str, ...]:
    """As it is written where it does not matter that a part is a list."""
    return tuple(part.removesuffix(EACH) for part in path)


def _matches(path: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(path) == len(wanted) and all(
        part in (NAME, given) for part, given in zip(_plain(path), wanted, strict=True)
    )


def _no_such(text: str, wanted: tuple[str, ...], keys: Sequence[Key]) -> str:
    names = {".".join(_filled(key.path, wanted)): key for key in keys}
    close = difflib.get_close_matches(".".join(wanted), names, n=1, cutoff=0.75)
    lasts = [key.path[-1] for key in keys]
    close = close or difflib.get_close_matches(wanted[-1], lasts, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"There is no setting '{text}'.{hint} 'hpcbridge config explain' lists all."


def _filled(path: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The path with the names that were given, where it has as many parts."""
    given = wanted if len(wanted) == len(path) else path
    return tuple(mine if part == NAME else part for part, mine in zip(path, given, strict=True))


def _explained(
    key: Key, wanted: tuple[str, ...], keys: Sequence[Key], source: "_Source | None"
) -> str:
    lines = [key.name + (f"  (scheduler = {', '.join(key.kinds)})" if key.kinds else "")]
    lines.append(f"  {key.description}")
    lines.append(f"  type:     {key.type}" + (f" {key.allowed}" if key.allowed else ""))
    if not key.keys:
        lines.append(f"  default:  {key.default or 'none, it has to be given'}")
    if key.variable:
        lines.append(f"  variable: {key.variable}")
    if key.keys:
        inside = [each for each in keys if _is_inside(each, key)]
        listed = (f"    {each.path[-1]}  {first_sentence(each.description)}" for each in inside)
        lines += ["  keys:", *dict.fromkeys(listed)]
    elif source is not None:
        path = _filled(key.path, wanted)
        lines += [f"  now:      {each}" for each in source.told(path)]
    return "\n".join(lines) + "\n"


def _is_inside(key: Key, table: Key) -> bool:
    """Whether a key stands directly in a table, or in one of the tables that it has by name."""
    rest = key.path[len(table.path) :]
    start = key.path[: len(table.path)]
    same = [part.removesuffix(EACH) for part in start] == [*table.path]
    return same and (len(rest) == 1 or (len(rest) == 2 and rest[0] == NAME))


class _Source:
    """A configuration file with what it and the environment say, and what comes of both."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = configfile.read(path)
        self._settings = configfile.checked(path, self._data)

    def told(self, path: tuple[str, ...]) -> Iterator[str]:
        """The value and where it is set; of each, where ``path`` stands for several."""
        found = list(self._values(self._settings, path, ()))
        if not found:
            yield "nothing of this name is configured"
        for where, value in found:
            name = f"{'.'.join(where)} = " if NAME in path or EACH in "".join(path) else ""
            text = "not set" if value is None else shown(configfile.plain(value))
            yield f"{name}{text}; {self._set_by(where)}"

    def _values(
        self, value: Any, path: Sequence[str], done: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], Any]]:
        if not path:
            yield done, value
            return
        part, rest = path[0], path[1:]
        if isinstance(value, BaseModel):
            plain = part.removesuffix(EACH)
            if plain in type(value).model_fields:
                yield from self._values(getattr(value, plain), rest, (*done, plain))
        elif isinstance(value, Mapping):
            for name in value if part == NAME else [part] if part in value else []:
                yield from self._values(value[name], rest, (*done, name))
        elif isinstance(value, list):
            for number, each in enumerate(value):
                yield from self._values(each, path, (*done[:-1], f"{done[-1]}[{number}]"))

    def _set_by(self, where: tuple[str, ...]) -> str:
        given = {name.upper(): name for name in os.environ}
        for end in range(len(where), 0, -1):
            name = given.get("HPCBRIDGE_" + "__".join(where[:end]).upper())
            if name and (end == len(where) or _has(_json(os.environ[name]), where[end:])):
                return f"set by the environment's {name}"
        return f"set in {self._path}" if _has(self._data, where) else "the default"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _has(data: Any, path: Sequence[str]) -> bool:
    """Whether there is something at ``path``, of which a part may be ``NAME[NUMBER]``."""
    for part in path:
        name, _, number = part.partition("[")
        if not isinstance(data, dict) or name not in data:
            return False
        data = data[name]
        if number and isinstance(data, list):
            data = data[int(number.rstrip("]"))]
    return True
