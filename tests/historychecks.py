"""What must hold when a history is over and everything has come to rest."""

from typing import Any

from hpcbridge.schedulers.base import EndReason
from hpcbridge.store import SessionRow, State


def at_rest(world: Any) -> bool:
    """All that has begun has come to an end, and what should be there is there."""
    names = {session.row.attempt_name for session in world.sessions}
    jobs = world.scheduler.jobs | world.scheduler._hidden
    living = [jobs[each].name for each in world.scheduler.living]
    return (
        all(session.row.state == State.READY for session in world.sessions)
        and not any(
            session.row.application == "brief" and session.keepalive.free
            for session in world.sessions
        )
        and sorted(living) == sorted(names)
        and world.publisher.routes
        == {session.row.id: session.endpoint.address for session in world.sessions}
        and {path.split("/")[2] for path in world.transport.files} == names
    )


async def check(world: Any) -> None:
    """No job twice, none without a session, and a true reason for each end."""
    names = world.scheduler.accepted
    assert len(set(names)) == len(names), "an attempt was submitted twice"
    rows = await world.service.store.everything()
    known = {name for row in rows for name in row.attempt_names}
    assert set(names) <= known, "a job has no session"
    for row in rows:
        # Only what nobody could find for all of the grace had a successor.
        lost = world.scheduler.late | world.scheduler.deaths.keys()
        assert set(row.attempt_names[:-1]) & set(names) <= lost, "a session had two jobs"
    for row in rows:
        if row.state == State.ENDED:
            _check_end(world, row)
        else:
            assert row.id in {session.row.id for session in world.sessions}, (
                "nobody drives a session"
            )
            assert row.attempt_name not in world.scheduler.cancelled_names
    assert len(world.service.watcher._watches) == len(world.sessions)
    followed = world.service.follower._followed
    assert all(each.quiet for each in followed)  # only for the end of what is ready
    ready = {row.directory for row in rows if row.state == State.READY}
    assert sorted(each.directory for each in followed) == sorted(ready)


def _check_end(world: Any, row: SessionRow) -> None:
    """The session has ended for a reason, which the world has given, and without a trace."""
    assert row.reason is not None
    assert row.message
    assert row.ended_at is not None
    assert row.secret is None
    assert row.job_ended
    death = world.scheduler.deaths.get(row.attempt_name)
    match row.reason:
        case EndReason.STOPPED:
            assert row.id in world.stopped
        case EndReason.IDLE:
            assert row.application == "brief"
            assert row.id not in world.claimed
        case EndReason.REJECTED:
            late = world.scheduler.late
            gone = row.attempt_name not in world.scheduler.accepted or row.attempt_name in late
            assert gone or death is not None
        case EndReason.FAILED:
            assert death is not None
        case EndReason.FINISHED if row.attempt_name in world.scheduler.forgotten:
            assert death is not None
        case _:
            assert row.reason == death
