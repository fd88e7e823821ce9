"""Types of settings: what a section is made of."""

import ipaddress
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Primitive = str | int | float | bool
Property = Primitive | list[Primitive]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _compiles(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


def _is_network(text: str) -> str:
    if text != "*":
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ValueError(
                f"'{text}' is no address or network, such as 192.0.2.10 or 192.0.2.0/24"
            ) from error
    return text


def _is_origin(text: str) -> str:
    # As browsers write it: no path, no slash at the end, lower case; sandboxed pages are "null".
    if text not in ("*", "null") and not re.fullmatch(r"https?://[a-z0-9._\[\]:-]+", text):
        raise ValueError(f"'{text}' is no origin, such as https://portal.example.org, nor '*'")
    return text


def _is_folder(text: str) -> str:
    if not re.fullmatch(r"/|(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", text):
        raise ValueError(f"'{text}' is no path of a folder, such as /visualizer")
    return text


def _is_domain(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text):
        raise ValueError(f"'{text}' is no name such as sessions.example.org, in lower case")
    return text


Pattern = Annotated[str, AfterValidator(_compiles)]
Domain = Annotated[str, AfterValidator(_is_domain)]
HostName = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)$")]
Folder = Annotated[str, AfterValidator(_is_folder)]
Origin = Annotated[str, AfterValidator(_is_origin)]
Network = Annotated[str, AfterValidator(_is_network)]
# Paths of the file are absolute already; one of the environment counts from where we were started.
FilePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]

USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
"""A user's name, whatever the site allows: no option, no path, no second line."""


def _told_apart(kind: Any, value: Any) -> Any:
    """``value`` with each boolean as text where the type ``kind`` has a number and no boolean.

    Text that is no number is then refused in its place, together with all else that is wrong.
    """
    kinds = list(_members(kind))
    if isinstance(value, bool) and {int, float} & set(kinds) and bool not in kinds:
        return str(value).lower()
    for each in kinds:
        if isinstance(value, dict) and get_origin(each) is dict:
            value = {key: _told_apart(get_args(each)[1], item) for key, item in value.items()}
        elif isinstance(value, list) and get_origin(each) is list:
            value = [_told_apart(get_args(each)[0], item) for item in value]
    return value


def _members(kind: Any) -> Iterator[Any]:
    """The types that a value of ``kind`` may have, without what is said of them."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for each in get_args(kind):
            yield from _members(each)
    else:
        yield kind


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values do not change, and ``true`` is not 1.

    Text is read as a number all the same, since the environment has nothing else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kinds = {key: field.annotation for key, field in cls.model_fields.items()}
        return {key: _told_apart(kinds.get(key), value) for key, value in given.items()}
