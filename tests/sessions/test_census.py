"""How many sessions there are of each kind, whatever happens to them."""

from hypothesis import given
from hypothesis import strategies as some

from hpcbridge.sessions.census import Census, Kind
from hpcbridge.states import State
from hpcbridge.store import SessionRow


def row(session_id: str, application: str = "cone", state: State = State.QUEUED) -> SessionRow:
    return SessionRow(
        id=session_id,
        application=application,
        cluster="lab",
        state=state,
        secret="",
        job_name="",
        message="",
    )


def test_a_session_counts_once_wherever_it_goes() -> None:
    census, one, other = Census(), row("a"), row("b")
    census.put(one)
    census.put(one)
    census.put(other)
    assert census.counts[Kind("cone", "lab", "queued")] == 2
    one.state = State.READY
    census.put(one)
    assert census.counts == {Kind("cone", "lab", "queued"): 1, Kind("cone", "lab", "ready"): 1}
    census.drop("a")
    census.drop("a")
    census.drop("nobody")
    assert +census.counts == {Kind("cone", "lab", "queued"): 1}  # type: ignore[operator]


steps = some.lists(
    some.tuples(some.sampled_from("abc"), some.sampled_from([*State, None]), some.booleans())
)


@given(steps)
def test_it_is_what_counting_all_of_them_would_find(
    steps: list[tuple[str, State | None, bool]],
) -> None:
    census, there = Census(), dict[str, Kind]()
    for name, state, flow in steps:
        if state is None:
            census.drop(name)
            there.pop(name, None)
        else:
            found = row(name, "flow" if flow else "cone", state)
            census.put(found)
            there[name] = Kind(found.application, "lab", state)
    expected = {kind: list(there.values()).count(kind) for kind in there.values()}
    assert {kind: count for kind, count in census.counts.items() if count} == expected
