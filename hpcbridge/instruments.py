"""What is counted while the service works, for Prometheus: one :class:`Instruments` a service.

What can be read off when it is asked for (sessions, tunnels, clusters) is not counted here: see
:mod:`hpcbridge.web.measures`. No label holds a user's name or a session's id, and each one has a
closed set of values: names of the configuration, and words of this module and of
:mod:`hpcbridge.states`.
"""

import asyncio
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third of all lines, for nobody

STEPS = (1, 3, 10, 30, 60, 300, 1800)
"""Upper bounds in seconds of what a session waits for."""
REQUESTS = (0.1, 0.5, 2, 10, 30)
"""The same of one question to a scheduler."""
WRITES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
"""The same of telling the front ends, and of what waits on the event loop."""
LOOK = 0.5
"""Seconds between two looks at how late the event loop is."""


class Instruments:
    """Each attribute is a family of series in :attr:`registry`, which is this service's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.launches = Counter(
            "hpcbridge_launches",
            "Launches that were asked for here, by what came of the request: begun, warm, joined, "
            "no_capacity, invalid, unavailable or failed.",
            ("application", "result"),
            registry=self.registry,
        )
        self.ends = Counter(
            "hpcbridge_session_ends",
            "Sessions that ended while this service drove them, by reason.",
            ("application", "cluster", "reason"),
            registry=self.registry,
        )
        self.steps = Histogram(
            "hpcbridge_session_step_seconds",
            "Seconds that sessions took to a state (queued, starting, ready) from the one before.",
            ("cluster", "step"),
            buckets=STEPS,
            registry=self.registry,
        )
        self.launched = Histogram(
            "hpcbridge_launch_seconds",
            "Seconds from the request to a ready session, of those that nobody kept ready.",
            ("application",),
            buckets=STEPS,
            registry=self.registry,
        )
        self.requests = Counter(
            "hpcbridge_scheduler_requests",
            "Requests to schedulers by their result: ok, rejected, unreachable, unexpected (a "
            "reply that could not be read), unknown (an outcome that nobody told) or failed.",
            ("cluster", "operation", "result"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "hpcbridge_scheduler_request_seconds",
            "Seconds that a request to a scheduler took, whatever came of it.",
            ("cluster", "operation"),
            buckets=REQUESTS,
            registry=self.registry,
        )
        self.publishing = Histogram(
            "hpcbridge_route_publish_seconds",
            "Seconds that it took to tell the front end of changed routes.",
            buckets=WRITES,
            registry=self.registry,
        )
        self.publish_failures = Counter(
            "hpcbridge_route_publish_failures",
            "Times that the front end could not be told of changed routes.",
            registry=self.registry,
        )
        self.reload_good = Gauge(
            "hpcbridge_configuration_reload_successful",
            "Whether the configuration could be used when it was last read.",
            registry=self.registry,
        )
        self.reload_at = Gauge(
            "hpcbridge_configuration_read_timestamp_seconds",
            "When that was, in seconds since the epoch.",
            registry=self.registry,
        )
        self.reload_good.set(1)
        self.reload_at.set(time.time())
        self.loop_delay = Histogram(
            "hpcbridge_event_loop_delay_seconds",
            "Seconds that what was due waited on the event loop.",
            buckets=WRITES,
            registry=self.registry,
        )

    def published(self, seconds: float, told: bool) -> None:
        """The front ends were to be told of routes."""
        self.publishing.observe(seconds)
        if not told:
            self.publish_failures.inc()

    async def watch_loop(self) -> None:
        """Look for ever at how late the event loop is."""
        while True:
            due = time.monotonic() + LOOK
            await asyncio.sleep(LOOK)
            self.loop_delay.observe(max(0.0, time.monotonic() - due))
