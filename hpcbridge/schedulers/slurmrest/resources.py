"""What slurmrestd tells of partitions, nodes and reservations.

What an answer lacks is None or empty: v0.0.36 tells no partition's state and no node's use, and
from v0.0.40 to v0.0.44 nothing tells which partition is the default one.
"""

import re
from collections import Counter
from typing import Annotated, Any

from pydantic import AliasChoices, AliasPath, BeforeValidator, Field

from hpcbridge.schedulers.slurmrest.replies import Answer, Number, Part, States, Text, number

_SHUT = {"DOWN": "down", "DRAIN": "drained", "INACTIVE": "inactive"}
# Of the flags in slurm_protocol_defs.c, those that keep no job from starting.
_STARTS = {"IDLE", "MIXED"}
_HARMLESS = {*_STARTS, "CLOUD", "DYNAMIC_NORM"}
_GONE = {"DOWN", "DRAIN", "FAIL"}
# Of a partition's: reservation_required, root_only and exclusive_user are not.
_ORDINARY = {"default", "hidden", "no_root", "least_loaded_nodes", "lln"}


def _limit(value: Any) -> Any:
    """A limit; slurmrestd says -1, 0, or in a box "infinite" for none."""
    limit = number(value)
    if isinstance(limit, int) and limit < -1:
        limit += 1 << 63  # v0.0.37 tells of a CPU's memory as of a node's, with Slurm's own flag
    return None if isinstance(limit, int) and limit <= 0 else limit


Limit = Annotated[int | None, BeforeValidator(_limit)]


def _lower(value: Any) -> Any:
    return [str(word).lower() for word in value] if isinstance(value, list) else value


def _at(old: str, *new: str) -> AliasChoices:
    return AliasChoices(old, AliasPath(*new))


class Partition(Part):
    """One partition. Limits are in minutes, MB, and nodes of a job."""

    name: str
    states: States = Field((), validation_alias=_at("state", "partition", "state"))
    flags: Annotated[tuple[str, ...], BeforeValidator(_lower)] = ()
    hosts: Text = Field(
        "", validation_alias=_at("allowed_allocation_nodes", "nodes", "allowed_allocation")
    )
    groups: Text = Field("", validation_alias=_at("allowed_groups", "groups", "allowed"))
    accounts: Text = Field("", validation_alias=_at("allowed_accounts", "accounts", "allowed"))
    not_accounts: Text = Field("", validation_alias=_at("denied_accounts", "accounts", "deny"))
    qos: Text = Field("", validation_alias=_at("allowed_qos", "qos", "allowed"))
    not_qos: Text = Field("", validation_alias=_at("denied_qos", "qos", "deny"))
    minutes: Limit = Field(None, validation_alias=_at("max_time_limit", "maximums", "time"))
    nodes: Limit = Field(None, validation_alias=_at("maximum_nodes_per_job", "maximums", "nodes"))
    least_nodes: Limit = Field(
        None,
        validation_alias=AliasChoices(
            "min nodes per job", "min_nodes_per_job", AliasPath("minimums", "nodes")
        ),
    )
    cpus: Limit = Field(
        None, validation_alias=_at("maximum_cpus_per_node", "maximums", "cpus_per_node")
    )
    memory: Limit = Field(
        None,
        validation_alias=_at("maximum_memory_per_node", "maximums", "partition_memory_per_node"),
    )
    cpu_memory: Limit = Field(
        None, validation_alias=_at("maximum_memory_per_cpu", "maximums", "partition_memory_per_cpu")
    )
    #: How many jobs share a resource; 0 means that each has whole nodes. Told from v0.0.40 on;
    #: from v0.0.45 on it is 0 anyway, and ``exclusive`` has the word.
    shares: Number = Field(None, validation_alias=AliasPath("maximums", "shares"))
    exclusive: States = Field((), validation_alias=AliasPath("partition", "exclusive"))

    @property
    def is_up(self) -> bool:
        """Whether it starts jobs, of users who have no reservation, on nodes that may be in use by
        others."""
        shared = {"NO", "NODE"}.issuperset(self.exclusive)
        return self.states == ("UP",) and shared and _ORDINARY.issuperset(self.flags)

    @property
    def gives_whole_nodes(self) -> bool:
        """Whether each job has its nodes for itself."""
        return "NODE" in self.exclusive if self.exclusive else self.shares == 0

    @property
    def closed(self) -> str:
        """Why it starts no jobs; "" where it does, or where that is not known."""
        words = [_SHUT[state] for state in self.states if state in _SHUT]
        return f"its partition {self.name} is {words[0]}" if words else ""

    def admits(self, account: str, qos: str) -> bool:
        """Whether jobs of this account and QOS, "" for unknown ones, are certainly let in."""
        return not (self.hosts or self.groups) and (
            _admitted(account, self.accounts, self.not_accounts)
            and _admitted(qos, self.qos, self.not_qos)
        )


def _admitted(name: str, allowed: str, denied: str) -> bool:
    if not (allowed or denied):
        return True
    if not name or name in denied.split(","):
        return False
    return not allowed or name in allowed.split(",")


class Node(Part):
    """One node. Memory is in MB."""

    state: States = ()
    state_flags: States = ()
    partitions: tuple[str, ...] = ()
    cpus: Number = Field(None, validation_alias=AliasChoices("effective_cpus", "cpus"))
    cpus_used: Number = Field(None, validation_alias="alloc_cpus")
    memory: Number = Field(None, validation_alias="real_memory")
    memory_used: Number = Field(None, validation_alias="alloc_memory")
    threads: Number = None
    features: States = Field((), validation_alias="active_features")
    gres: Text = ""
    gres_used: Text = ""
    owner: Text = ""
    mcs_label: Text = ""

    @property
    def _states(self) -> set[str]:
        return {word.upper() for word in (*self.state, *self.state_flags)}

    @property
    def is_usable(self) -> bool:
        """Whether it certainly starts jobs; not where it is in a state that nobody knows yet."""
        kept = self.owner or self.mcs_label
        return not kept and bool(self._states & _STARTS) and self._states <= _HARMLESS

    @property
    def is_gone(self) -> bool:
        """Whether it is down, or drained, so that it starts no jobs until somebody repairs it."""
        return bool(self._states & _GONE)

    @property
    def idle_cpus(self) -> int | None:
        """CPUs that no job has."""
        return None if self.cpus is None or self.cpus_used is None else self.cpus - self.cpus_used

    @property
    def idle_memory(self) -> int | None:
        """Memory that no job has, in MB."""
        if self.memory is None or self.memory_used is None:
            return None
        return self.memory - self.memory_used

    def idle_gpus(self, kind: str) -> int:
        """Idle GPUs of this kind, "" for any; none where some are shared out in parts."""
        if re.search(r"\b(shard|mps):", self.gres):
            return 0
        all_, used = _gpus(self.gres), _gpus(self.gres_used)
        if not kind:
            return all_.total() - used.total()
        return all_[kind] - used[kind] - used[""]


def _gpus(gres: str) -> Counter[str]:
    """The GPUs in ``gpu:h100:2(S:0-1),gpu:a100:4``, by their kinds."""
    found: Counter[str] = Counter()
    for part in re.sub(r"\([^)]*\)", "", gres).split(","):
        if match := re.fullmatch(r"gpu(?::([^:]+))?:(\d{1,6})", part):
            found[match[1] or ""] += int(match[2])
    return found


class Reservation(Part):
    """One reservation; ``start`` is in seconds since the epoch."""

    start: Number = Field(None, validation_alias="start_time")


class Partitions(Answer):
    """All partitions that the account may see."""

    partitions: tuple[Partition, ...]


class Nodes(Answer):
    """All nodes."""

    nodes: tuple[Node, ...]


class Reservations(Answer):
    """All reservations, those of the future included."""

    reservations: tuple[Reservation, ...]
