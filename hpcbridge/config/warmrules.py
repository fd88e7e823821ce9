"""Which warm sessions there may be: whoever gets one must be the only one who can use it."""

from collections.abc import Collection

from hpcbridge.config.warm import DAY, WarmSettings


def warm_wrong(
    warm: WarmSettings,
    *,
    walltime: int | None,
    keep_ended: float,
    has_users: bool,
    modes: Collection[str],
) -> str:
    """What is wrong with an application's warm sessions, or ''.

    ``modes`` are the identity modes of its clusters; the other values are those of its settings
    and of the service's (seconds).
    """
    if walltime is None:
        return "needs walltime, for a session that has waited must have time left"
    if keep_ended < DAY:
        return f"needs a store.keep_ended of {DAY:g} or more, to count the node-hours of a day"
    if warm.users and not has_users:
        return "users: there are none; set auth.accept"
    if set(modes) - {"service"} and not warm.users:
        return (
            "needs users: where jobs are their users' own, a session cannot become another one's, "
            "so it is kept for users that are named"
        )
    if "sudo" in modes and warm.new_secret:
        return "new_secret: not with identity.mode = 'sudo', which writes a file once"
    if has_users and not (warm.users or warm.new_secret or warm.shared):
        return (
            "whose are they? Set new_secret where the application takes a new secret at the "
            "handover, or users, or shared = true"
        )
    return ""
