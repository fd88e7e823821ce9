"""Each key of a launcher file: what it becomes here, and what is said of it when it is wrong."""

import grp
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.config.hosts import HostsCluster
from hpcbridge.config.launcherjson import is_launcher_file, read
from hpcbridge.config.launcherjson.text import toml
from hpcbridge.config.settings import Settings
from hpcbridge.errors import ConfigError
from hpcbridge.frontends.origin import origin_allowed
from tests.config.launcherjson.files import put, refused, translated, without, written


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What the file that works means."""
    return configfile.load(written(tmp_path))


def notifications(folder: Path, *changes: Any) -> str:
    return "\n".join(map(str, translated(folder, *changes).notifications))


# -- what each key becomes


def test_the_service_listens_where_the_launcher_did(settings: Settings) -> None:
    server = settings.server
    assert (server.host, server.port, server.endpoint) == ("localhost", 9000, "/paraview")


@pytest.mark.parametrize("endpoint", ["paraview", "/paraview", "paraview/", "/paraview/"])
def test_an_endpoint_may_have_slashes(tmp_path: Path, endpoint: str) -> None:
    found = configfile.load(written(tmp_path, put("configuration", "endpoint", endpoint)))
    assert found.server.endpoint == "/paraview"


@pytest.mark.parametrize(("given", "port"), [("8081", 8081), (8081.0, 8081)])
def test_numbers_may_be_written_as_the_launcher_took_them(
    tmp_path: Path, given: Any, port: int
) -> None:
    changes = put("configuration", "port", given), put("configuration", "timeout", "7")
    found = configfile.load(written(tmp_path, *changes))
    assert found.server.port == port
    assert found.applications["viewer"].wait == 7


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    found = configfile.load(written(tmp_path, put("configuration", "content", "www")))
    assert found.server.content == tmp_path / "www"
    assert found.frontend.map_file == tmp_path / "proxy.txt"
    assert found.applications["viewer"].properties == {"directory": str(tmp_path)}


def test_no_content_is_the_portal(tmp_path: Path) -> None:
    assert (
        configfile.load(written(tmp_path, put("configuration", "content", ""))).server.content
        is None
    )


def test_the_map_is_written_and_the_built_in_front_end_forwards_too(settings: Settings) -> None:
    assert settings.frontend.kind == "embedded"
    assert settings.frontend.map_file is not None


def test_a_map_stays_the_group_s_that_it_was_shared_with(tmp_path: Path) -> None:
    (tmp_path / "proxy.txt").touch()
    assert "only this account and its group may read the map" in notifications(tmp_path)
    other = next(each for each in grp.getgrall() if each.gr_gid != os.getegid())
    os.chown(tmp_path / "proxy.txt", -1, other.gr_gid)
    assert configfile.load(written(tmp_path)).frontend.group == other.gr_name


def test_the_timeout_is_the_time_that_a_launch_may_take(settings: Settings) -> None:
    assert settings.applications["viewer"].wait == 25


def test_the_session_url_stays_and_names_the_front_end(settings: Settings) -> None:
    assert settings.server.session_url == "ws://viz.example.org/proxy?sessionId=${id}&path=ws"
    assert settings.frontend.server_name == "viz.example.org"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("ws://viz.example.org/proxy?sessionId=${id}", "http://viz.example.org"),
        ("ws://Viz.example.org:80/proxy?sessionId=${id}", "http://viz.example.org"),
        ("wss://viz.example.org/proxy?sessionId=${id}", "https://viz.example.org"),
        ("wss://viz.example.org:8443/proxy?sessionId=${id}", "https://viz.example.org:8443"),
        ("ws://localhost/proxy?sessionId=${id}", "http://localhost"),
    ],
)
def test_pages_behind_the_old_virtual_host_may_launch(tmp_path: Path, url: str, page: str) -> None:
    """It says ``Host: localhost:9000`` to the service, whatever the browser said."""
    found = configfile.load(written(tmp_path, put("configuration", "sessionURL", url)))
    allowed = found.server.cors_origins
    assert origin_allowed(page, "localhost:9000", allowed)
    assert not origin_allowed("http://evil.example.org", "localhost:9000", allowed)


def test_a_session_url_without_a_name_is_told(tmp_path: Path) -> None:
    change = put("configuration", "sessionURL", "ws://USE_HOST/proxy?sessionId=${id}&path=ws")
    assert "name its pages in server.cors_origins" in notifications(tmp_path, change)
    assert configfile.load(tmp_path / "launcher.json").server.cors_origins == []


def test_properties_go_into_the_session_url(tmp_path: Path) -> None:
    url = put("configuration", "sessionURL", "wss://${site}:81/p?s=${id}&c=$$")
    found = configfile.load(written(tmp_path, url, put("properties", "site", "www.example.org")))
    assert found.server.session_url == "wss://www.example.org:81/p?s=${id}&c=$$"


@pytest.mark.parametrize(
    ("url", "path"), [("ws://${host}:${port}/ws", "ws"), ("ws://h:${port}/other/ws?x", "other/ws")]
)
def test_clients_that_went_to_the_application_s_port_come_through_the_service(
    tmp_path: Path, url: str, path: str
) -> None:
    change = put("configuration", "sessionURL", url)
    found = configfile.load(written(tmp_path, change))
    assert found.session_url == (
        "${ws_scheme}://${request_host}/proxy?sessionId=${id}&path=" + path
    )
    assert found.frontend.websocket_paths == [path]
    assert "led to the application's own port" in notifications(tmp_path, change)


def test_a_slot_stands_for_each_port(tmp_path: Path) -> None:
    ranges = [
        {"host": "localhost", "port_range": [9001, 9003]},
        {"host": "127.0.0.1", "port_range": [9003, 9005]},
        {"host": socket.gethostname(), "port_range": [9100, 9400]},
    ]
    found = configfile.load(written(tmp_path, put("resources", ranges)))
    cluster = found.clusters["here"]
    assert (cluster.scheduler, cluster.slots, cluster.queue) == ("local", 306, 0)  # type: ignore[attr-defined]
    assert found.limits.sessions == 306


def test_session_data_is_told_where_fields_ask_for_it(tmp_path: Path) -> None:
    data = {
        "updir": "${dataDir}/$$up",
        "where": "${host}:${port}/${id}/${application}/${file}",
        "hidden": "x",
    }
    changes = put("sessionData", data), put("configuration", "fields", ["updir", "where", "port"])
    found = configfile.load(written(tmp_path, *changes))
    assert found.server.reply == {
        "updir": "/srv/data/$$up",
        "where": "${host}:${port}/${id}/${application}/${param.file}",
    }
    assert found.server.fields == ["port"]
    assert "sessionData.hidden: is not in configuration.fields" in notifications(tmp_path, *changes)


def test_a_file_may_do_without_what_has_a_default(tmp_path: Path) -> None:
    path = tmp_path / "launcher.json"
    app = {"cmd": ["program", "$port"], "ready_line": "x"}
    resources = [{"host": "localhost", "port_range": [9001, 9001]}]
    path.write_text(json.dumps({"configuration": {}, "resources": resources, "apps": {"a": app}}))
    found = configfile.load(path)
    assert (found.server.port, found.server.endpoint) == (8080, "/paraview")
    assert found.applications["a"].command == ["program", "${job.port}"]


def test_the_environment_stands_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCBRIDGE_SERVER__PORT", "9999")
    assert configfile.load(written(tmp_path)).server.port == 9999


def test_files_are_received_where_they_were(tmp_path: Path) -> None:
    said = notifications(tmp_path, put("configuration", "upload_dir", "up"))
    assert "upload_dir: files are sent by PUT to the endpoint's /uploads/NAME" in said
    uploads = configfile.load(tmp_path / "launcher.json").uploads
    assert uploads.directory == tmp_path / "up"
    assert uploads.on
    assert "upload" not in notifications(tmp_path, put("configuration", "upload_dir", ""))
    assert not configfile.load(tmp_path / "launcher.json").uploads.on


def test_output_is_kept_in_a_folder_of_our_own(tmp_path: Path) -> None:
    """It is closed to others, and what is old in it is removed: not so in /tmp, or among others'
    logs."""
    assert "log_dir" not in notifications(tmp_path, put("configuration", "log_dir", "/tmp"))
    assert configfile.load(tmp_path / "launcher.json").log_dir == Path("/tmp/hpcbridge")
    notifications(tmp_path, put("configuration", "log_dir", ""))
    assert configfile.load(tmp_path / "launcher.json").logs.directory is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("apps", "viewer", "ready_line", ""), "apps.viewer.ready_line: there is none."),
        (without("apps", "viewer", "ready_line"), "apps.viewer.ready_line: there is none."),
        (put("comment", "made by hand"), "comment: has no effect, as with ParaViewWeb's launcher"),
        (put("configuration", "note", 1), "configuration.note: has no effect"),
        (put("apps", "viewer", "title", "V"), "apps.viewer.title: has no effect"),
        (put("resources", 0, "gpu", 1), "resources[0].gpu: has no effect"),
        (put("properties", "port", "1"), "properties.port: has no effect"),
        (put("properties", "root", "${dataDir}/x"), "a ${...} in a property is not filled in"),
        (put("configuration", "fields", ["cmd"]), 'configuration.fields: "cmd" is left out'),
    ],
)
def test_what_has_no_effect_is_told_and_the_file_runs(
    tmp_path: Path, change: Any, said: str
) -> None:
    assert said in notifications(tmp_path, change)
    assert configfile.load(tmp_path / "launcher.json")


# -- hosts


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that the resolver knows and that is not ours: 192.0.2.7 (RFC 5737) is nobody's."""
    real = socket.getaddrinfo

    def asked(host: Any, *arguments: Any, **named: Any) -> Any:
        if host == "viz2.example.org":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    return "viz2.example.org"


def test_other_machines_get_their_share_beside_this_one(tmp_path: Path, other_machine: str) -> None:
    ranges = [
        {"host": other_machine, "port_range": [9001, 9050]},
        {"host": "localhost", "port_range": [9001, 9002]},
        {"host": other_machine, "port_range": [9041, 9060]},
    ]
    change = put("resources", ranges)
    said = notifications(tmp_path, change)
    assert said.count("'viz2.example.org' is another machine, which gets its share") == 1
    assert "programs on other machines get nothing of this service's environment" in said
    cluster = configfile.load(tmp_path / "launcher.json").clusters["here"]
    assert isinstance(cluster, HostsCluster)
    assert [(each.name, each.slots) for each in cluster.hosts] == [
        (other_machine, 60),
        ("localhost", 2),
    ]
    assert (cluster.queue, "DISPLAY" in cluster.inherit) == (0, True)


def test_other_machines_alone_are_a_cluster_too(tmp_path: Path, other_machine: str) -> None:
    ranges = [{"host": other_machine, "port_range": [9001, 9300]}]
    found = configfile.load(written(tmp_path, put("resources", ranges)))
    cluster = found.clusters["here"]
    assert isinstance(cluster, HostsCluster)
    assert [(each.name, each.slots) for each in cluster.hosts] == [(other_machine, 300)]
    assert (found.limits.sessions, cluster.inherit) == (300, [])


def test_a_printed_list_of_machines_is_the_same_cluster(tmp_path: Path, other_machine: str) -> None:
    ranges = [
        {"host": other_machine, "port_range": [9001, 9050]},
        {"host": "localhost", "port_range": [9001, 9002]},
    ]
    path = written(tmp_path, put("resources", ranges))
    (tmp_path / "again.toml").write_text(toml(read(path)))
    again, first = configfile.load(tmp_path / "again.toml"), configfile.load(path)
    assert again.clusters == first.clusters


def look_ups_fail(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    """Have every look-up of a host's name fail so."""

    def asked(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(code, said)

    monkeypatch.setattr(socket, "getaddrinfo", asked)


def test_a_resolver_that_does_not_answer_is_not_a_host_that_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups_fail(monkeypatch, socket.EAI_AGAIN, "Temporary failure in name resolution")
    said = refused(tmp_path, put("resources", 0, "host", "viz2.example.org"))
    assert "could not be looked up now (Temporary failure in name resolution)" in said


def test_a_host_that_does_not_exist_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups_fail(monkeypatch, socket.EAI_NONAME, "Name or service not known")
    said = refused(tmp_path, put("resources", 0, "host", "viz.invalid"))
    assert "resources[0].host: there is no host 'viz.invalid'." in said


# -- what is wrong


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("configuration"), 'line 1, column 1: configuration: is required: "configuration"'),
        (without("apps"), 'apps: is required: "apps": { ... }.'),
        (without("resources"), 'resources: is required, such as [{ "host": "localhost"'),
        (put("configuration", []), 'configuration: must be an object: { "NAME": ... }.'),
        (
            put("configuration", "host", 1),
            'configuration.host: must be a text, such as "localhost"',
        ),
        (put("configuration", "host", "${launcher_IP}"), "'${launcher_IP}' is no address"),
        (put("configuration", "port", "http"), "configuration.port: must be a whole number from 1"),
        (put("configuration", "port", 70000), "must be a whole number from 1 to 65535."),
        (put("configuration", "port", True), "configuration.port: must be a whole number"),
        (put("configuration", "timeout", 0), "configuration.timeout: must be a whole number"),
        (put("configuration", "timeout", 2.5), "configuration.timeout: must be a whole number"),
        (
            put("configuration", "endpoint", "a b"),
            "configuration.endpoint: 'a b' must have letters",
        ),
        (put("configuration", "endpoint", "/"), "configuration.endpoint: '/' must have letters"),
        (put("configuration", "content", 5), "configuration.content: must be a text"),
        (put("configuration", "proxy_file", ["x"]), "configuration.proxy_file: must be a text"),
        (put("configuration", "log_dir", 7), "configuration.log_dir: must be a text"),
        (put("configuration", "upload_dir", 7), "configuration.upload_dir: must be a text"),
        (put("configuration", "sessionURL", None), "configuration.sessionURL: must be a text"),
        (put("configuration", "sessionURL", "ws://h/${file}"), "${file} is not filled in here"),
        (put("configuration", "sessionURL", "ws://h/${secret}"), "${secret} is not filled in here"),
        (put("configuration", "sessionURL", "ws://h/${a-b}"), "${a-b} is no name"),
        (put("configuration", "fields", "file"), "configuration.fields: must be a list, such as"),
        (put("configuration", "fields", [1]), "configuration.fields: must hold texts"),
        (put("configuration", "sanitise", {}), "configuration.sanitise: unknown key. Did you mean"),
        (put("aps", {}), "aps: unknown key. Did you mean 'apps'?"),
        (put("sessionData", []), "sessionData: must be an object"),
        (
            put("sessionData", {"secret": "x"}),
            "sessionData.secret: is a key of the launcher itself",
        ),
        (put("sessionData", {"a": []}), "sessionData.a: must be a text"),
        (put("properties", 5), "properties: must be an object"),
        (put("properties", {"a": {}}), "properties.a: must be a text"),
        (put("properties", {"a": "x\ny"}), "properties.a: has a line end"),
        (put("resources", {}), "resources: must be a list, such as"),
        (put("resources", []), "resources: is empty"),
        (put("resources", ["localhost"]), "resources[0]: must be an object"),
        (put("resources", 0, "host", 5), "resources[0].host: must be a text"),
        (without("resources", 0, "host"), "resources[0].host: is required"),
        (put("resources", 0, "host", "a..b"), "resources[0].host: "),
        (without("resources", 0, "port_range"), "resources[0].port_range: is required"),
        (put("resources", 0, "port_range", 9001), "must be the first and the last port"),
        (put("resources", 0, "port_range", [9001]), "must be the first and the last port"),
        (put("resources", 0, "port_range", [9003, 9001]), "must be the first and the last port"),
        (put("resources", 0, "port_range", ["9001", "9003"]), "must be the first and the last"),
        (put("resources", 0, "port_range", [1, 99999]), "must be the first and the last port"),
        (put("apps", {}), 'apps: is empty: write "NAME": { "cmd": [...] }.'),
        (put("apps", []), "apps: must be an object"),
        (put("apps", "a b", {}), "apps.a b: 'a b' cannot be an application's name"),
        (put("apps", "viewer", "x"), "apps.viewer: must be an object"),
        (put("apps", "viewer", "ready_line", 5), "apps.viewer.ready_line: must be a text"),
        (put("apps", "viewer", "readyline", "x"), "Did you mean 'ready_line'?"),
    ],
)
def test_a_wrong_key_is_told_by_its_name_in_the_file(
    tmp_path: Path, change: Any, said: str
) -> None:
    told = refused(tmp_path, change)
    assert said in told
    assert told.startswith(f"{tmp_path}/launcher.json: line ")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    changes = put("configuration", "port", 0), put("apps", "viewer", "cmd", "x")
    assert len(refused(tmp_path, *changes).splitlines()) == 2


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "launcher.json"
    with pytest.raises(ConfigError, match=r"launcher\.json: cannot be read: No such file"):
        configfile.load(path)
    path.write_bytes(b'{\n"a": "\xe9"}')
    with pytest.raises(ConfigError, match=r"line 2: not UTF-8 \(byte 8\); save the file as UTF-8"):
        configfile.load(path)
    path.write_text('{"apps": {"a": {} "b": {}}}')
    with pytest.raises(ConfigError, match='line 1, column 18: A comma is missing between "a" and'):
        configfile.load(path)


def test_a_launcher_file_is_known_by_its_name() -> None:
    assert is_launcher_file(Path("/etc/launcher.json"))
    assert is_launcher_file(Path("launcher.config"))
    assert not is_launcher_file(Path("hpcbridge.toml"))


@pytest.mark.parametrize("key", ["id", "secret", "sessionURL", "error"])
def test_a_reply_s_own_keys_cannot_be_replaced(tmp_path: Path, key: str) -> None:
    path = tmp_path / "hpcbridge.toml"
    path.write_text(
        f"""
        server.reply = {{ {key} = "x" }}
        clusters.here.scheduler = "local"
        applications.a = {{ cluster = "here", template = "python.sh" }}
        """
    )
    with pytest.raises(ConfigError, match=f"server.reply: {key}: reserved by the launcher API"):
        configfile.load(path)
