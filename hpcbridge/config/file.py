"""Reading the configuration file, and saying exactly what is wrong with it."""

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError

from hpcbridge.config import launcherjson
from hpcbridge.config.adapters import BROKEN
from hpcbridge.config.environment import unknown
from hpcbridge.config.fields import Primitive, Property
from hpcbridge.config.parameters import check_parameters
from hpcbridge.config.schema import is_section, is_union, step, strip, tags
from hpcbridge.config.settings import Settings
from hpcbridge.errors import BadParameter, ConfigError

log = logging.getLogger(__name__)

MASK = "********"


def load(path: Path) -> Settings:
    """Read the TOML file at ``path``, or one of ParaViewWeb's launcher, and the environment.

    Relative paths in the file count from the file's directory. Raises
    :class:`~hpcbridge.errors.ConfigError`, with a line for each thing that is wrong.
    """
    return checked(path, read(path))


def read(path: Path) -> dict[str, Any]:
    """What the file says, unchecked; raises as :func:`load` does."""
    if launcherjson.is_launcher_file(path):
        translation = launcherjson.read(path)
        for notice in translation.notifications:
            log.warning("%s: %s", path, notice)
        return translation.data
    return _toml(path)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not TOML: byte {error.start} is not UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}.") from error


def checked(path: Path, data: dict[str, Any]) -> Settings:
    """The settings that the file at ``path`` holds as ``data``; raises as :func:`load` does."""
    try:
        settings = Settings(**_absolute(Settings, data, path.resolve().parent))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, error))) from error
    except SettingsError as error:
        raise ConfigError(_explain_environment()) from error
    if wrong := [*unknown(), *_impossible(path, settings)]:
        raise ConfigError("\n".join(wrong))
    return settings


def plain(value: Any) -> Any:
    """A value of the settings as TOML can have it: no section, no path, no secret."""
    if isinstance(value, BaseModel):
        items = ((key, getattr(value, key)) for key in type(value).model_fields)
        return {key: plain(item) for key, item in items if item is not None}
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _absolute(model: Any, value: Any, base: Path) -> Any:
    """``value`` with every relative path, as far as ``model`` knows of any, put below ``base``."""
    model = strip(model)
    either = get_args(model) if is_union(model) else (model,)
    if isinstance(value, str) and Path in map(strip, either):
        return os.path.normpath(base / Path(value).expanduser())
    if isinstance(value, dict):
        return {key: _absolute(step(model, key, value), item, base) for key, item in value.items()}
    if isinstance(value, list) and get_origin(model) is list:
        return [_absolute(get_args(model)[0], item, base) for item in value]
    return value


def _explain(path: Path, error: ValidationError) -> Iterator[str]:
    told: set[str] = set()
    for problem in error.errors(include_url=False, include_input=False):
        model, keys = _locate(problem["loc"])
        source = f"{path}: {'.'.join(keys)}" if keys else str(path)
        variable = "HPCBRIDGE_" + "__".join(keys).upper()
        if variable in os.environ:
            source += f" (or the environment's {variable})"
        if source in told and _is_value(model):
            continue  # one for each type that the value might have had
        told.add(source)
        kind = problem["type"]
        if kind == "extra_forbidden":
            yield f"{source}: unknown key.{_allowed(model, keys[-1])}"
        elif kind == "missing":
            yield f"{source}: required, but missing."
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            given = problem.get("ctx", {}).get("tag")
            wrong = "required, but missing" if given is None else f"'{given}' is not known"
            allowed = ", ".join(_schedulers(model))
            broken = "".join(f" Besides, {each}." for each in BROKEN.values())
            yield f"{source}.scheduler: {wrong}. Allowed: {allowed}.{broken}"
        elif kind == "path_type":
            yield f"{source}: must be a path, as text."
        elif kind.startswith(("model_type", "model_attributes_type", "dict_type")):
            yield f"{source}: must be a table."
        elif _is_value(model):
            lists = ", or a list of these" if Property == model else ""
            yield f"{source}: must be a text, a number, true or false{lists}."
        else:
            yield f"{source}: {problem['msg'].removeprefix('Value error, ')}."


def _locate(loc: tuple[int | str, ...]) -> tuple[Any, list[str]]:
    """The model that holds the last key of ``loc``, and the keys as the file spells them."""
    model: Any = Settings
    keys: list[str] = []
    for depth, part in enumerate(map(str, loc)):
        stripped = strip(model)
        tagged = [each for each in get_args(stripped) if is_section(each) and part in tags(each)]
        if tagged:
            model = tagged[0]
            continue
        if part == "[key]":
            continue
        inner = step(model, part)
        if _is_value(inner):
            return inner, [*keys, part]
        keys.append(part)
        if depth < len(loc) - 1 or is_union(strip(inner)):
            model = inner
    return model, keys


def _is_value(model: Any) -> bool:
    """Whether any text, number or boolean will do."""
    return set(get_args(Primitive)) <= set(get_args(model))


def _schedulers(model: Any) -> list[str]:
    return [str(tag) for each in get_args(strip(model)) for tag in tags(each)]


def _explain_environment() -> str:
    """Variables of tables and lists hold JSON; one of them does not."""
    for name, value in os.environ.items():
        prefix, _, keys = name.lower().partition("hpcbridge_")
        model: Any = Settings
        for key in keys.split("__"):
            model = strip(step(model, key))
        if not prefix and (is_section(model) or get_origin(model) in (list, dict)):
            try:
                json.loads(value)
            except ValueError:
                return f'The environment\'s {name}: must be JSON, such as ["a"] or {{"key": 1}}.'
    return "A variable HPCBRIDGE_... of the environment holds a table or a list that is not JSON."


def _impossible(path: Path, settings: Settings) -> Iterator[str]:
    """Defaults and choices that the parameter's own rules do not allow."""
    for name, application in settings.applications.items():
        for key, rules in application.parameters.items():
            given = [] if rules.default is None else [("default", rules.default)]
            given += [("choices", each) for each in rules.choices or []]
            for where, value in given:
                try:
                    strict = rules.model_copy(update={"lenient": False})
                    check_parameters({key: strict}, {key: value})
                except BadParameter as error:
                    place = f"applications.{name}.parameters.{key}.{where}"
                    yield f"{path}: {place}: {value!r} is not possible. {error}"


def _allowed(model: Any, key: str) -> str:
    model = strip(model)
    if not is_section(model):
        return ""
    names = list(model.model_fields)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Allowed: {', '.join(names)}."
