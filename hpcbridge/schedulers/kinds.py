"""The batch systems that this installation speaks: hpcbridge's own, and those of other packages.

Another package adds one with an entry point of the group ``hpcbridge.schedulers`` that names a
:class:`~hpcbridge.schedulers.base.Kind`; ``docs/adapters.md`` shows how.
"""

import logging
from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from hpcbridge.clustersettings import ClusterSettings
from hpcbridge.schedulers import gridengine, local, pbs, slurm, slurmrest
from hpcbridge.schedulers.base import Kind

log = logging.getLogger(__name__)

GROUP = "hpcbridge.schedulers"


def tag(settings: type[ClusterSettings]) -> str | None:
    """The name by which a section chooses these settings."""
    field = settings.model_fields.get("scheduler")
    names = get_args(field.annotation) if field else ()
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def load(point: EntryPoint) -> Kind:
    """The adapter that an entry point names. Raises :class:`ValueError` where it is none."""
    try:
        kind = point.load()
    except (Exception, SystemExit) as error:
        raise ValueError(f"it cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(kind, Kind):
        raise ValueError(f"{point.value} is not a hpcbridge.schedulers.base.Kind")  # noqa: TRY004
    if tag(kind.settings) != point.name:
        raise ValueError(f"its settings have no 'scheduler: Literal[\"{point.name}\"]'")
    if point.name in OWN:
        raise ValueError("hpcbridge has an adapter of that name itself")
    return kind


def _found() -> tuple[dict[str, Kind], dict[str, str]]:
    """All adapters, and of those that cannot be used the reason why."""
    good, broken = dict(OWN), dict[str, str]()
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


_OURS = (local.KIND, slurm.KIND, slurmrest.KIND, pbs.PBS, pbs.TORQUE, gridengine.KIND)
OWN = {str(tag(kind.settings)): kind for kind in _OURS}
KINDS, BROKEN = _found()


def kind_of(settings: ClusterSettings) -> Kind:
    """The kind that these settings are of."""
    return KINDS[str(tag(type(settings)))]
