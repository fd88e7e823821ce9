"""The pools that the configuration asks for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.config.parameters import check_parameters
from hpcbridge.config.settings import Settings
from hpcbridge.config.warm import WarmSettings
from hpcbridge.errors import BadParameter, ConfigError
from hpcbridge.warm.plan import longest_age

_JOB_SETTINGS = {"cluster", "template", "walltime", "options", "properties"}
_READY_SETTINGS = {"ready_line", "ready_path", "ready_port"}


@dataclass(frozen=True)
class Pool:
    """Sessions that are the same to whoever gets one; ``user`` None is anybody.

    ``name`` is another one when what their jobs are made of is changed in the configuration.
    """

    name: str
    application: str
    user: str | None
    settings: ApplicationSettings
    warm: WarmSettings
    parameters: Mapping[str, Primitive]
    nodes: int

    @property
    def longest_age(self) -> float:
        """Seconds that a job may have run when its session is handed out."""
        return longest_age(self.warm, self.settings.walltime or 0)


def pools_of(settings: Settings) -> list[Pool]:
    """All pools. Raises :class:`~hpcbridge.errors.ConfigError` for parameters that cannot be."""
    found = []
    for application, each in settings.applications.items():
        if each.warm is None:
            continue
        try:
            parameters = check_parameters(each.parameters, each.warm.parameters)
        except BadParameter as error:
            raise ConfigError(f"applications.{application}.warm.parameters: {error}") from error
        made_of = each.model_dump(mode="json", include=_JOB_SETTINGS | _READY_SETTINGS)
        users: list[str | None] = [*each.warm.users] or [None]
        for user in users:
            parts = [application, user, parameters, made_of, each.warm.new_secret]
            name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
            nodes = _nodes(application, each, settings)
            found.append(Pool(name, application, user, each, each.warm, parameters, nodes))
    return found


def _nodes(name: str, application: ApplicationSettings, settings: Settings) -> int:
    """The most nodes that one session has, on whichever cluster."""
    if application.warm is not None and application.warm.nodes is not None:
        return application.warm.nodes
    most = 1
    for cluster in application.cluster:
        nodes = (settings.clusters[cluster].options | application.options).get("nodes", 1)
        try:
            most = max(most, int(nodes))
        except ValueError as error:
            raise ConfigError(
                f"applications.{name}.warm.nodes: to be set, for the option 'nodes' is '{nodes}', "
                "which is no number."
            ) from error
    return most
