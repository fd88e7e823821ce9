"""The configuration in force as TOML, what is not set among it as comments; secrets masked."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hpcbridge.config.file import plain
from hpcbridge.config.keys import first_sentence, word
from hpcbridge.config.schema import is_section, strip
from hpcbridge.config.settings import Settings

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def show(settings: Settings) -> str:
    """A configuration file that says the same."""
    return "\n".join(_table(settings, "", "[{}]")).lstrip("\n") + "\n"


def _table(value: BaseModel | Mapping[str, Any], path: str, header: str) -> Iterator[str]:
    fields = type(value).model_fields if isinstance(value, BaseModel) else {}
    items = {key: getattr(value, key) for key in fields} if fields else dict(value)
    tables = {key: each for key, each in items.items() if _is_table(each)}
    rows = {key: each for key, each in items.items() if key not in tables}
    if path and (rows or not tables or "[[" in header):
        yield f"\n{header.format(path)}"
    for key, each in rows.items():
        yield _unset(key, fields[key], path) if each is None else _row(key, each)
    for key, each in tables.items():
        name = _joined(path, key)
        if isinstance(each, list):
            for one in each:
                yield from _table(one, name, "[[{}]]")
        else:
            yield from _table(each, name, "[{}]")


def _is_table(value: Any) -> bool:
    listed = isinstance(value, list) and any(isinstance(each, BaseModel) for each in value)
    return listed or isinstance(value, BaseModel | Mapping)


def _row(key: str, value: Any) -> str:
    return tomli_w.dumps({key: plain(value)}).rstrip("\n")


def _unset(key: str, field: FieldInfo, path: str) -> str:
    said = first_sentence(field.description or "")
    if is_section(strip(field.annotation)):
        return f"# [{_joined(path, key)}]  # {said}"
    return f"# {key} =  # {word(field.annotation)}: {said}"


def _joined(path: str, key: str) -> str:
    name = key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{name}" if path else name
