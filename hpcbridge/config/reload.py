"""What of a changed configuration may count while the service runs, and what only after a restart.

What may: applications, how many sessions there may be, why a cluster takes no new ones, its title,
and the log's level. All else was used when the service was put together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError

OF_CLUSTERS = ("drain", "title")
OF_LIMITS = ("sessions", "per_user", "waiting", "waiting_per_user")
OF_SERVER = ("log_level",)


@dataclass(frozen=True)
class Change:
    """``settings`` are the new ones, as far as they may count now; ``changed`` names the keys that
    do so, and ``restart`` those that do not."""

    settings: Settings
    changed: list[str]
    restart: list[str]


class _Given(Settings):
    """Settings of nothing but what they are given."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment has had its say."""
        return (init_settings,)


def compare(now: Settings, fresh: Settings) -> Change:
    """What comes of ``fresh`` for a service that runs with ``now``.

    Raises :class:`~hpcbridge.errors.ConfigError` where what may count needs what may not.
    """
    given: dict[str, Any] = {name: getattr(now, name) for name in Settings.model_fields}
    given["applications"] = fresh.applications
    given["clusters"] = {
        name: _with(each, fresh.clusters.get(name), OF_CLUSTERS)
        for name, each in now.clusters.items()
    }
    given["limits"] = _with(now.limits, fresh.limits, OF_LIMITS)
    given["server"] = _with(now.server, fresh.server, OF_SERVER)
    restart = list(_differences(fresh, Settings.model_construct(**given), ()))
    try:
        merged = _Given(**given)
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
        needed = f" The service has to be restarted for: {', '.join(restart)}." if restart else ""
        raise ConfigError(f"{why.removeprefix('Value error, ')}.{needed}") from error
    return Change(merged, list(_differences(now, merged, ())), restart)


def _with(now: Any, fresh: Any, names: tuple[str, ...]) -> Any:
    """``now`` with these values of ``fresh``, where that is the same kind of thing."""
    if type(now) is not type(fresh):
        return now
    return now.model_copy(update={name: getattr(fresh, name) for name in names})


def _differences(one: Any, other: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The keys of which they have different values, or only one has a value."""
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        names = type(one).model_fields
        if names.keys() == type(other).model_fields.keys():
            for name in names:
                yield from _differences(getattr(one, name), getattr(other, name), (*path, name))
            return
    elif isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*one, *other]):
            if name in one and name in other:
                yield from _differences(one[name], other[name], (*path, name))
            else:
                yield ".".join((*path, name))
        return
    if one != other:
        yield ".".join(path)
