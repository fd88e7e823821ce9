"""How Hypothesis makes random histories for a state machine whose parts are processes and tasks."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def live_through(histories: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """The same ``examples`` histories each time, of ``steps`` steps at most."""
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # two runs are never quite the same: nothing can be shrunk
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
