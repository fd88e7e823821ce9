"""Which warm sessions there may be: whoever gets one must be the only one who can use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcbridge.clustersettings import RemoteCluster
from hpcbridge.identity.settings import IdentitySettings
from hpcbridge.warm.settings import DAY

if TYPE_CHECKING:
    from hpcbridge.config import ApplicationSettings, Settings


def warm_wrong(application: ApplicationSettings, settings: Settings) -> str:
    """What is wrong with an application's warm sessions, or ''."""
    warm = application.warm
    if warm is None:
        return ""
    if application.walltime is None:
        return "needs walltime, for a session that has waited must have time left"
    if settings.store.keep_ended < DAY:
        return f"needs a store.keep_ended of {DAY:g} or more, to count the node-hours of a day"
    if warm.users and not settings.auth.on:
        return "users: there are none; set auth.accept"
    modes = {each.mode for each in _identities(application, settings)}
    if modes - {"service"} and not warm.users:
        return (
            "needs users: where jobs are their users' own, a session cannot become another one's, "
            "so it is kept for users that are named"
        )
    if "sudo" in modes and warm.new_secret:
        return "new_secret: not with identity.mode = 'sudo', which writes a file once"
    if settings.auth.on and not (warm.users or warm.new_secret or warm.shared):
        return (
            "whose are they? Set new_secret where the application takes a new secret at the "
            "hand-over, or users, or shared = true"
        )
    return ""


def _identities(application: ApplicationSettings, settings: Settings) -> list[IdentitySettings]:
    clusters = [settings.clusters[name] for name in application.cluster]
    return [each.identity for each in clusters if isinstance(each, RemoteCluster)]
