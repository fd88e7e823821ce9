"""How much is measured: everything that takes time, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes and times (seconds) of all parts."""

    kills: int = 200
    clients: int = 8
    #: Between a start of the service and its kill.
    shortest: float = 0.4
    longest: float = 3.0
    #: Sessions while the controller is down, and for how long it is.
    outage_sessions: int = 50
    outage: float = 60
    #: Sessions when connections are cut and the service is killed, and how often each.
    crowd: int = 100
    rounds: int = 3
    #: How often one of two replicas, the one that leads, is killed.
    failovers: int = 6
    #: Ready sessions at a restart without a cluster.
    restart_sessions: int = 1000
    #: Sizes at which queries are counted, and for how long.
    query_sizes: tuple[int, ...] = (1, 100, 1000)
    window: float = 30
    ready_window: float = 45


QUICK = Plan(
    kills=10,
    clients=4,
    outage_sessions=6,
    outage=10,
    crowd=10,
    rounds=1,
    failovers=2,
    restart_sessions=100,
    query_sizes=(1, 20),
    window=10,
    ready_window=20,
)
