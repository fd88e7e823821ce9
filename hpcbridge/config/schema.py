"""What the types of settings are made of, for whoever goes through them by their keys."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def strip(model: Any) -> Any:
    """The type without ``Annotated`` and without ``| None``."""
    if get_origin(model) is Annotated:
        return strip(get_args(model)[0])
    if is_union(model):
        real = [each for each in get_args(model) if each is not type(None)]
        if len(real) == 1:
            return strip(real[0])
    return model


def is_union(model: Any) -> bool:
    """Whether it is one of several types."""
    return get_origin(model) in (Union, types.UnionType)


def is_section(model: Any) -> bool:
    """Whether it is a table of known keys."""
    return isinstance(model, type) and issubclass(model, BaseModel)


def tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """The values of ``scheduler`` that mean this section, of several."""
    field = model.model_fields.get("scheduler")
    return get_args(field.annotation) if field else ()


def step(model: Any, key: str, siblings: Any = None) -> Any:
    """The type of ``model``'s member ``key``; None where there is none."""
    model = strip(model)
    if is_section(model):
        field = model.model_fields.get(key)
        return field.annotation if field else None
    if get_origin(model) is dict:
        return get_args(model)[1]
    if is_union(model):
        wanted = siblings.get("scheduler") if isinstance(siblings, dict) else None
        for each in get_args(model):
            if is_section(each) and wanted in tags(each):
                return step(each, key)
            if get_origin(each) is dict:
                return get_args(each)[1]
    return None
