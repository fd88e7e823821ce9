"""Where a session stands, and why it ended: closed sets that every part of hpcbridge speaks of."""

from enum import StrEnum


class State(StrEnum):
    """Where a session stands; see ``docs/architecture.md``."""

    SUBMITTING = "submitting"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"


LIVING = tuple(state for state in State if state != State.ENDED)
"""A session's states until it has ended."""


class EndReason(StrEnum):
    """Why a session ended; the vocabulary of ``docs/architecture.md``."""

    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAILED = "node_failed"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    NEVER_READY = "never_ready"
    IDLE = "idle"
    REJECTED = "rejected"
