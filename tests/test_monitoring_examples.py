"""examples/monitoring on a real Prometheus: it reads the service, its rules and its panels work."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import wait_until

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus"),
]

EXAMPLES = Path(__file__).parents[1] / "examples/monitoring"
OURS = re.compile(r"\bhpcbridge_[a-z_]+")


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=EXAMPLES, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A real one, with the example's configuration but for the address and the interval."""

    def __init__(self, folder: Path, target: str) -> None:
        text = (EXAMPLES / "prometheus.yml").read_text()
        for before, after in (("127.0.0.1:8080", target), ("15s", "200ms")):
            assert before in text
            text = text.replace(before, after)
        (folder / "prometheus.yml").write_text(text)
        shutil.copy(EXAMPLES / "hpcbridge-alerts.yml", folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=f"http://{self.address}", timeout=30)

    def get(self, path: str, **query: str) -> Any:
        with contextlib.suppress(httpx.TransportError):  # it is starting
            reply = self._http.get(f"/api/v1/{path}", params=query)
            if reply.status_code != 503:
                assert reply.json()["status"] == "success", reply.text
                return reply.json()["data"]
        return None

    def value(self, query: str) -> float | None:
        """The one value of a query."""
        found = self.get("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def close(self) -> None:
        self._http.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._log.close()


@pytest.fixture(scope="module")
def prometheus(shared_service: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """It reads a service that has one session."""
    assert shared_service.post({"application": "cone"}).status_code == 200
    started = Prometheus(
        tmp_path_factory.mktemp("prometheus"), shared_service.url.partition("//")[2]
    )
    yield started
    started.close()


def expressions() -> dict[str, str]:
    """What each panel asks, as Grafana would fill it in."""
    found = {}
    for panel in json.loads((EXAMPLES / "grafana-dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5s")
            text = re.sub(r"\$(application|cluster)", ".*", text)
            assert "$" not in text, text
            found[f"{panel['title']} {target['refId']}"] = text
    return found


def test_the_rules_are_valid_and_fire_when_they_should_and_not_before() -> None:
    assert "13 rules found" in promtool("check", "rules", "hpcbridge-alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "hpcbridge-alerts-test.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_each_rule_is_tried_by_the_examples_own_test() -> None:
    rules = re.findall(r"alert: (\w+)", (EXAMPLES / "hpcbridge-alerts.yml").read_text())
    test = (EXAMPLES / "hpcbridge-alerts-test.yml").read_text()
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts:\n", test)
    assert set(fired) == set(rules)


def test_prometheus_reads_the_service(prometheus: Prometheus, shared_service: Any) -> None:
    ready = 'hpcbridge_sessions{application="cone",cluster="here",state="ready"}'
    assert wait_until(lambda: prometheus.value(ready)) == 1
    assert prometheus.value("hpcbridge_leader") == 1
    assert prometheus.value('up{job="hpcbridge"}') == 1
    (target,) = prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    told = prometheus.get("metadata")  # by families, as OpenMetrics names them
    assert told["hpcbridge_launches"][0]["type"] == "counter"
    assert told["hpcbridge_build"][0]["type"] == "info"


def test_the_rules_can_be_evaluated_on_what_the_service_tells(prometheus: Prometheus) -> None:
    def evaluated() -> Any:
        groups = (prometheus.get("rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_until(evaluated, "that all rules were evaluated")
    assert len(rules) == 13
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert rule["state"] == "inactive", rule


def test_every_series_that_rules_and_panels_name_is_there(
    prometheus: Prometheus, shared_service: Any
) -> None:
    text = shared_service.http.get("/metrics").text
    there = set()
    for family in text_string_to_metric_families(text):
        kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        there |= {family.name + suffix for suffix in kinds.get(family.type, ("",))}
    named = set(OURS.findall(" ".join(expressions().values())))
    rules = (EXAMPLES / "hpcbridge-alerts.yml").read_text()
    named |= set(OURS.findall(rules))
    assert named <= there, named - there


def test_every_series_is_documented(shared_service: Any) -> None:
    text = shared_service.http.get("/metrics").text
    families = {each.name for each in text_string_to_metric_families(text)}
    page = (EXAMPLES.parents[1] / "docs/monitoring.md").read_text()
    assert families == {each.removesuffix("_total") for each in OURS.findall(page)}


def test_every_panel_shows_something(prometheus: Prometheus, shared_service: Any) -> None:
    for number in range(2):  # rates are told of two moments
        posted = shared_service.post({"application": "crash", "n": number})
        assert posted.status_code == 502
        ends, wanted = 'hpcbridge_session_ends_total{application="crash"}', number + 1
        wait_until(lambda ends=ends, wanted=wanted: prometheus.value(ends) == wanted)
    waits = 'sum(hpcbridge_scheduler_requests_total{operation="list"})'
    before = wait_until(lambda: prometheus.value(waits))
    wait_until(lambda: (prometheus.value(waits) or 0) > before)
    silent = {
        name
        for name, query in expressions().items()
        if not wait_until(lambda query=query: prometheus.get("query", query=query))["result"]
    }
    # No front end is told of anything by the built-in one; all clusters answer.
    assert silent <= {"Telling the front end of routes A"}, silent


def test_a_service_that_is_gone_is_seen(prometheus: Prometheus, shared_service: Any) -> None:
    shared_service.stop()
    wait_until(lambda: prometheus.value('up{job="hpcbridge"}') == 0)
    wait_until(
        lambda: any(
            rule["name"] == "HpcbridgeDown" and rule["state"] == "pending"
            for group in prometheus.get("rules")["groups"]
            for rule in group["rules"]
        )
    )
