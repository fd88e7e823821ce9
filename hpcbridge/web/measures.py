"""What Prometheus can read off the service at the moment when it asks.

Nothing here goes through the sessions one by one: their counts are kept as they change.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import hpcbridge
from hpcbridge.clusters.cluster import Cluster
from hpcbridge.sessions.manager import Sessions


class Measures(Collector):
    """All families: what was counted, and what there is."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def collect(self) -> Iterator[Metric]:
        """The families, with the values of this moment."""
        yield from self._sessions.instruments.registry.collect()
        yield InfoMetricFamily(
            "hpcbridge_build", "The service's version.", {"version": hpcbridge.__version__}
        )
        registry = self._sessions.registry
        yield GaugeMetricFamily(
            "hpcbridge_leader", "Whether this service drives the sessions.", registry.leading
        )
        yield self._by_state()
        yield GaugeMetricFamily(
            "hpcbridge_routes",
            "Routes that the front end knows of this service.",
            len(self._sessions.routes),
        )
        clusters = registry.clusters
        yield from _health(clusters.values())
        yield from _tunnels(clusters.values())

    def _by_state(self) -> Metric:
        family = GaugeMetricFamily(
            "hpcbridge_sessions",
            "Sessions by state; ended are those that are still being cleaned up. Every replica "
            "tells of all.",
            labels=("application", "cluster", "state"),
        )
        for kind, count in self._sessions.census.counts.items():
            family.add_metric(kind, count)
        return family


def _health(clusters: Iterable[Cluster]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "hpcbridge_cluster_up",
        "Whether the scheduler answered when it was last asked; no series before that.",
        labels=("cluster",),
    )
    checked = GaugeMetricFamily(
        "hpcbridge_cluster_checked_timestamp_seconds",
        "When the scheduler was last asked, in seconds since the epoch.",
        labels=("cluster",),
    )
    unknown = CounterMetricFamily(
        "hpcbridge_cluster_unknown_seconds",
        "Seconds for which nothing could be known of the cluster's jobs.",
        labels=("cluster",),
    )
    for each in clusters:
        health = each.watcher.health
        unknown.add_metric([each.name], health.unknown_seconds)
        if health.checked_at is not None:
            up.add_metric([each.name], health.silent_since is None)
            checked.add_metric([each.name], health.checked_at)
    return iter((up, checked, unknown))


def _tunnels(clusters: Iterable[Cluster]) -> Iterator[Metric]:
    there = GaugeMetricFamily("hpcbridge_tunnels", "Open tunnels.", labels=("cluster",))
    clients = GaugeMetricFamily(
        "hpcbridge_tunnel_connections", "Clients' connections in them.", labels=("cluster",)
    )
    sent = CounterMetricFamily(
        "hpcbridge_tunnel_bytes",
        "Bytes that went through tunnels, to the application (in) and from it (out).",
        labels=("cluster", "direction"),
    )
    again = CounterMetricFamily(
        "hpcbridge_tunnel_reconnects",
        "Times that a lost SSH connection of tunnels was made again.",
        labels=("cluster",),
    )
    for each in clusters:
        totals = each.tunnels.totals
        there.add_metric([each.name], totals.open)
        clients.add_metric([each.name], totals.traffic.connections)
        sent.add_metric([each.name, "in"], totals.traffic.bytes_in)
        sent.add_metric([each.name, "out"], totals.traffic.bytes_out)
        again.add_metric([each.name], totals.reconnects)
    return iter((there, clients, sent, again))
