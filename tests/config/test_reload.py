"""What of a changed configuration counts at once, and what has to wait for a restart."""

from typing import Any

import pytest

from hpcbridge.config.reload import compare
from hpcbridge.errors import ConfigError


def both(site: Any, **changes: Any) -> Any:
    """What comes of these changes."""
    now = site.settings()
    return compare(now, site.settings(**changes))


def test_the_same_again_changes_nothing(site: Any) -> None:
    change = both(site)
    assert (change.changed, change.restart) == ([], [])


def test_what_may_count_at_once_is_named_and_taken(site: Any) -> None:
    flow = site.config["applications"]["cone"] | {"title": "Flow"}
    change = both(
        site,
        applications={"flow": flow, "mute": None, "cone": {"wait": 7, "title": "Cone"}},
        clusters={"here": {"drain": "maintenance", "title": "Here"}},
        limits={"sessions": 9, "waiting": 4},
        server={"log_level": "debug"},
    )
    assert sorted(change.changed) == [
        "applications.cone.title",
        "applications.cone.wait",
        "applications.flow",
        "applications.mute",
        "clusters.here.drain",
        "clusters.here.title",
        "limits.sessions",
        "limits.waiting",
        "server.log_level",
    ]
    assert change.restart == []
    settings = change.settings
    assert settings.applications["cone"].wait == 7
    assert "mute" not in settings.applications
    assert settings.clusters["here"].drain == "maintenance"
    assert (settings.limits.sessions, settings.server.log_level) == (9, "debug")


def test_what_needs_a_restart_is_named_and_stays_as_it_was(site: Any) -> None:
    change = both(
        site,
        server={"port": 4711, "max_body": 1000},
        limits={"connections_per_address": 3, "sessions": 5},
        clusters={"here": {"slots": 99, "drain": "soon"}, "more": {"scheduler": "slurm"}},
        template_dirs=[str(site.root)],
    )
    assert sorted(change.restart) == [
        "clusters.here.slots",
        "clusters.more",
        "limits.connections_per_address",
        "server.max_body",
        "server.port",
        "template_dirs",
    ]
    assert sorted(change.changed) == ["clusters.here.drain", "limits.sessions"]
    assert change.settings.server.port == 0
    assert change.settings.limits.connections_per_address == 256
    assert list(change.settings.clusters) == ["here"]
    assert change.settings.clusters["here"].slots == 4


def test_another_scheduler_of_the_same_name_needs_a_restart(site: Any) -> None:
    site.config["clusters"]["lab"] = {"scheduler": "slurm", "title": "Lab"}
    now = site.settings()
    site.config["clusters"]["lab"] = {"scheduler": "pbs", "title": "New", "drain": "x"}
    change = compare(now, site.settings())
    assert (change.changed, change.restart) == ([], ["clusters.lab"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "clusters": {"new": {"scheduler": "slurm"}},
                "applications": {"cone": {"cluster": "new"}},
            },
            ["applications.cone.cluster is 'new'", "restarted for: clusters.new."],
        ),
        (
            {
                "frontend": {"session_domain": "sessions.example.org", "server_name": "p.org"},
                "applications": {"cone": {"per_user": 1}},
                "auth": {"accept": ["token"]},
                "clusters": {"here": {"trust_jobs": True}},
            },
            ["applications.cone.per_user needs users", "auth.accept"],
        ),
    ],
)
def test_applications_that_need_what_only_a_restart_brings_are_refused(
    site: Any, changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        both(site, **changes)
    for each in said:
        assert each in str(caught.value)


def test_whoever_holds_the_settings_sees_what_was_taken_over(site: Any) -> None:
    now = site.settings()
    applications, clusters = now.applications, now.clusters
    change = compare(now, site.settings(applications={"late": None}, limits={"sessions": 3}))
    now.take_over(change.settings)
    assert "late" not in applications
    assert list(clusters) == ["here"]
    assert now.limits.sessions == 3
    again = compare(now, site.settings())
    assert sorted(again.changed) == ["applications.late", "limits.sessions"]


def test_the_environment_of_the_start_still_counts(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCBRIDGE_APPLICATIONS__CONE__WAIT", "12")
    now = site.settings()
    change = compare(now, site.settings(applications={"cone": {"wait": 7, "title": "Cone"}}))
    assert change.changed == ["applications.cone.title"]
    assert change.settings.applications["cone"].wait == 12
