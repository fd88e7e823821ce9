"""The values that users post, checked against what the application declares.

They live in a namespace of their own (``param.NAME`` in templates): nothing that a client posts can
take the place of a value of the admin's, and keys that are not declared have no effect.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from hpcbridge.config.applications import ParameterSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.errors import BadParameter

INT_LIMIT = 10**18
"""Whole numbers stay below this, as text and as JSON."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_parameters(
    declared: Mapping[str, ParameterSettings], posted: Mapping[str, Any]
) -> dict[str, Primitive]:
    """The declared parameters with their posted or default values.

    Raises :class:`~hpcbridge.errors.BadParameter`, naming the parameter and what is allowed.
    """
    values: dict[str, Primitive] = {}
    for name, rules in declared.items():
        value = posted.get(name)
        if value is None:
            value = rules.default
        if value is None:
            raise BadParameter(f"Parameter '{name}' is required: {_allowed(rules)}.")
        values[name] = _check(name, rules, value)
    return values


def _check(name: str, rules: ParameterSettings, value: Any) -> Primitive:
    converted = _convert(rules, value)
    if converted is None or not _fits(rules, converted):
        if rules.lenient and rules.default is not None:
            return rules.default
        raise BadParameter(f"Parameter '{name}' must be {_allowed(rules)}.")
    return converted


def _convert(rules: ParameterSettings, value: Any) -> Primitive | None:
    """``value`` in the declared type; text is read, as page addresses carry all values as text."""
    match rules.type:
        case "str":
            if rules.lenient and isinstance(value, bool | int | float):
                return json.dumps(value)
            return value if isinstance(value, str) else None
        case "bool":
            words = {"true": True, "false": False}
            return value if isinstance(value, bool) else words.get(str(value).lower())
        case "int":
            if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
                return int(value)
            whole = isinstance(value, int) and not isinstance(value, bool)
            return value if whole and abs(value) < INT_LIMIT else None
        case "float":
            number = r"[+-]?[0-9.]{1,30}([eE][+-]?[0-9]{1,3})?"
            if isinstance(value, str) and re.fullmatch(number, value):
                value = _number(value)
            if not isinstance(value, int | float) or isinstance(value, bool):
                return None
            value = _number(value)
            return value if value is not None and math.isfinite(value) else None


def _number(value: str | float) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _fits(rules: ParameterSettings, value: Primitive) -> bool:
    if rules.choices is not None and value not in rules.choices:
        return False
    if isinstance(value, str):
        plain = len(value) <= rules.max_length and not _UNPRINTABLE.search(value)
        return plain and (rules.pattern is None or re.fullmatch(rules.pattern, value) is not None)
    low = rules.min is None or value >= rules.min
    return low and (rules.max is None or value <= rules.max)


def _allowed(rules: ParameterSettings) -> str:
    words = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
    said = words[rules.type]
    if rules.choices is not None:
        said += f", one of {', '.join(map(str, rules.choices))}"
    if rules.type == "str":
        said += f" of at most {rules.max_length} characters without control characters"
        said += f", matching {rules.pattern}" if rules.pattern else ""
    if rules.min is not None:
        said += f", at least {rules.min:.15g}"
    if rules.max is not None:
        said += f", at most {rules.max:.15g}"
    return said
