"""The batch systems that can be configured: hpcbridge's own, and those of other packages.

Another package adds one with an entry point of the group ``hpcbridge.schedulers`` that names a
:class:`~hpcbridge.schedulers.base.Kind`; ``docs/adapters.md`` shows how. Here only the settings of
each are looked at; :mod:`hpcbridge.schedulers.kinds` has the adapters.
"""

import logging
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from hpcbridge.config.batchsystems import (
    GridEngineCluster,
    LocalCluster,
    PBSCluster,
    SlurmCluster,
    TorqueCluster,
)
from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.config.slurmrest import SlurmRestCluster

log = logging.getLogger(__name__)

GROUP = "hpcbridge.schedulers"

_OURS: tuple[type[ClusterSettings], ...] = (
    LocalCluster,
    SlurmCluster,
    SlurmRestCluster,
    PBSCluster,
    TorqueCluster,
    GridEngineCluster,
    HostsCluster,
)


def tag(settings: type[ClusterSettings]) -> str:
    """The name by which a section chooses these settings; "" where they have none."""
    field = settings.model_fields.get("scheduler")
    names = get_args(field.annotation) if field else ()
    return names[0] if len(names) == 1 and isinstance(names[0], str) else ""


def load(point: EntryPoint) -> Any:
    """The adapter that an entry point names. Raises :class:`ValueError` where it is none."""
    try:
        kind = point.load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"it cannot be imported: {type(error).__name__}: {error}") from error
    settings = getattr(kind, "settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ClusterSettings)):
        raise ValueError(f"{point.value} is not a hpcbridge.schedulers.base.Kind")  # noqa: TRY004
    if tag(settings) != point.name:
        raise ValueError(f"its settings have no 'scheduler: Literal[\"{point.name}\"]'")
    if point.name in OWN:
        raise ValueError("hpcbridge has an adapter of that name itself")
    return kind


def _found() -> tuple[dict[str, Any], dict[str, str]]:
    """The adapters of other packages, and of those that cannot be used the reason why."""
    good, broken = dict[str, Any](), dict[str, str]()
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else "a package"
        why = ""
        try:
            kind = load(point)
        except ValueError as error:
            why = str(error)
        else:
            if good.setdefault(point.name, kind) is not kind:
                why = "another package, which comes first, has one of that name"
        if why:
            told = f"the adapter '{point.name}' of {package} is not used: {why}"
            broken[f"{point.name} of {package}"] = told
            log.warning("%s", told)
    return good, broken


OWN = {tag(each): each for each in _OURS}
FOREIGN, BROKEN = _found()
SETTINGS = (*_OURS, *(kind.settings for kind in FOREIGN.values()))
