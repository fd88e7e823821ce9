"""The configuration: what is refused and how that is told, and what is in force."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from hpcbridge.config import file as configfile
from hpcbridge.config.batchsystems import LocalCluster, SlurmCluster
from hpcbridge.config.fields import Primitive, Seconds, Section
from hpcbridge.config.settings import Settings
from hpcbridge.config.shown import show
from hpcbridge.errors import ConfigError

CLUSTER_KEYS = (
    "scheduler, title, session_root, options, python, drain, grace, slots, queue, environment, "
    "run_as, trust_jobs"
)
SSH_KEYS = (
    "user, known_hosts, config, identity_files, connect_timeout, keepalive_interval, "
    "keepalive_count, host, port"
)


@pytest.fixture
def refusal(site: Any) -> Callable[..., str]:
    """What is said of a configuration that differs from a good one by these keys."""

    def told(**sections: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            site.settings(**sections)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{site.path}: ") for line in lines)
        return "\n".join(line.removeprefix(f"{site.path}: ") for line in lines)

    return told


def application(**keys: Any) -> dict[str, Any]:
    return {"applications": {"cone": keys}}


def parameter(**keys: Any) -> dict[str, Any]:
    return application(parameters={"p": {"type": "str"} | keys})


def slurm(**keys: Any) -> dict[str, Any]:
    return {"clusters": {"big": {"scheduler": "slurm"} | keys}}


def test_a_good_file_is_read(site: Any) -> None:
    settings = site.settings()
    assert isinstance(settings.clusters["here"], LocalCluster)
    assert settings.applications["cone"].ready_line == ["Starting factory", "App running at:"]
    assert settings.server.endpoint == "/paraview"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"srever": {}}, "srever: unknown key. Did you mean 'server'? Allowed: server, store,"),
        ({"server": {"prot": 1}}, "server.prot: unknown key. Did you mean 'port'? Allowed: host,"),
        ({"server": {"zzz": 1}}, "server.zzz: unknown key. Allowed: host, port,"),
        (
            {"clusters": {"here": {"slotss": 1}}},
            f"clusters.here.slotss: unknown key. Did you mean 'slots'? Allowed: {CLUSTER_KEYS}.",
        ),
        (
            slurm(ssh={"host": "login", "known_host": "x"}),
            "clusters.big.ssh.known_host: unknown key. Did you mean 'known_hosts'? "
            f"Allowed: {SSH_KEYS}.",
        ),
        (
            {"clusters": {"slurm": {"scheduler": "slurm", "tunnel": {"vai": "x"}}}},
            "clusters.slurm.tunnel.vai: unknown key. Did you mean 'via'?",
        ),
        (
            {"clusters": {"local": {"scheduler": "local", "ssh": {"host": "x"}}}},
            f"clusters.local.ssh: unknown key. Allowed: {CLUSTER_KEYS}.",
        ),
        (
            parameter(tpye="int"),
            "applications.cone.parameters.p.tpye: unknown key. Did you mean 'type'?",
        ),
    ],
)
def test_an_unknown_key_is_told_with_those_that_are_allowed(
    refusal: Callable[..., str], sections: dict[str, Any], said: str
) -> None:
    assert refusal(**sections).startswith(said)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"server": {"port": "many"}}, "server.port: Input should be a valid integer"),
        ({"server": {"port": True}}, "server.port: Input should be a valid integer"),
        ({"server": {"max_body": False}}, "server.max_body: Input should be a valid integer"),
        ({"limits": {"per_user": True}}, "limits.per_user: Input should be a valid integer"),
        ({"store": {"keep_ended": True}}, "store.keep_ended: Input should be a valid number"),
        (application(walltime=True), "applications.cone.walltime: Input should be a valid integer"),
        (application(idle=True), "applications.cone.idle: Input should be a valid number"),
        (parameter(type="int", min=True), "applications.cone.parameters.p.min: Input should be a "),
        ({"clusters": {"here": {"slots": True}}}, "clusters.here.slots: Input should be a valid i"),
        (slurm(ssh={"host": "a", "port": True}), "clusters.big.ssh.port: Input should be a valid"),
        ({"server": {"port": 65536}}, "server.port: Input should be less than or equal to 65535"),
        ({"server": {"max_body": 10}}, "server.max_body: Input should be greater than or equal"),
        ({"server": {"endpoint": "paraview"}}, "server.endpoint: String should match pattern"),
        ({"server": {"endpoint": "/a/\n"}}, "server.endpoint: String should match pattern"),
        ({"server": {"log_level": "loud"}}, "server.log_level: Input should be 'debug', 'info',"),
        ({"server": {"fields": ["host", "hots"]}}, "server.fields: hots not known; allowed: "),
        ({"server": {"cors_origins": [1]}}, "server.cors_origins.0: Input should be a valid str"),
        ({"server": 5}, "server: must be a table."),
        ({"clusters": 5}, "clusters: must be a table."),
        ({"clusters": {"here": 5}}, "clusters.here: must be a table."),
        ({"clusters": {"here": {"slots": 0}}}, "clusters.here.slots: Input should be greater"),
        ({"clusters": {"here": {"scheduler": None}}}, "clusters.here.scheduler: required, but mis"),
        ({"clusters": {"here": {"scheduler": "slrum"}}}, "clusters.here.scheduler: 'slrum' is no"),
        ({"server": {"state_dir": 3}}, "server.state_dir: must be a path, as text."),
        ({"server": {"cors_origins": ["a.org"]}}, "server.cors_origins.0: 'a.org' is no origin, "),
        ({"server": {"cors_origins": ["http://a/"]}}, "server.cors_origins.0: 'http://a/' is no o"),
        ({"server": {"trusted_proxies": ["portal"]}}, "server.trusted_proxies.0: 'portal' is no "),
        ({"frontend": {"kind": "apache"}}, "frontend: kind = 'apache' needs map_file, or local_"),
        (parameter(type="int", min=3, max=2), "applications.cone.parameters.p: min = 3 is above "),
        ({"clusters": {"here": {"session_root": "~/x"}}}, "clusters.here.session_root: String sh"),
        ({"clusters": {"a b": {"scheduler": "local"}}}, "clusters.a b: String should match"),
        (slurm(ssh={}), "clusters.big.ssh.host: required, but missing."),
        (slurm(tunnel={"via": "wormhole"}), "clusters.big.tunnel.via: Input should be 'node', "),
        (slurm(tunnel={"via": "login"}), "clusters.big: tunnel.via = 'login' needs an [ssh]"),
        (slurm(tunnel={"node_pattern": "("}), "clusters.big.tunnel.node_pattern: not a regular"),
        (slurm(command_timeout=0), "clusters.big.command_timeout: Input should be greater than 0"),
        (application(cluster=None), "applications.cone.cluster: required, but missing."),
        (application(cluster="no"), "applications.cone.cluster is 'no'; clusters: here."),
        (application(cluster=[]), "applications.cone.cluster: List should have at least 1 item"),
        (application(cluster=5), "applications.cone.cluster: Input should be a valid list"),
        (application(cluster=["here", "no"]), "applications.cone.cluster is 'no'; clusters: here."),
        (application(cluster=["here"] * 2), "applications.cone: cluster: 'here' is there twice."),
        (application(cluster=["-p"]), "applications.cone.cluster.0: String should match pattern"),
        (application(choose="luckiest"), "applications.cone.choose: Input should be 'soonest' or"),
        (
            application(
                cluster_by_request=True,
                parameters={"cluster": {"type": "str", "default": "x"}},
            ),
            "applications.cone: parameters.cluster: means the cluster with cluster_by_request",
        ),
        ({"clusters": {"here": {"drain": True}}}, "clusters.here.drain: Input should be a valid s"),
        ({"clusters": {"here": {"drain": ""}}}, "clusters.here.drain: String should have at least"),
        (application(wait=float("inf")), "applications.cone.wait: Input should be a finite"),
        (application(wait=float("nan")), "applications.cone.wait: Input should be "),
        (application(walltime=0), "applications.cone.walltime: Input should be greater"),
        (application(ready_line=""), "applications.cone.ready_line.0: String should have at least"),
        (application(ready_path="api"), "applications.cone.ready_path: String should match"),
        (application(ready_path="/a b"), "applications.cone.ready_path: String should match"),
        (
            application(ready_path="/", ready_port=True),
            "applications.cone: ready_path and ready_port: give one of them",
        ),
        (
            application(ready_line="Up", ready_port=True),
            "applications.cone: ready_line and ready_port: give one of them",
        ),
        (application(ready_line=[]), "applications.cone.ready_line: List should have at least 1"),
        (
            application(properties={"a": {"b": 1}}),
            "applications.cone.properties.a: must be a text, a number, true or false, or a list of",
        ),
        (application(properties={"a": [[1]]}), "applications.cone.properties.a: must be a text, a"),
        (application(parameters={"secret": {"type": "str"}}), "applications.cone.parameters: sec"),
        (parameter(type="text"), "applications.cone.parameters.p.type: Input should be 'str', "),
        (parameter(default={}), "applications.cone.parameters.p.default: must be a text, a numb"),
        (parameter(pattern="a("), "applications.cone.parameters.p.pattern: not a regular expres"),
        (parameter(choices=[]), "applications.cone.parameters.p.choices: List should have"),
        (parameter(default=5), "applications.cone.parameters.p.default: 5 is not possible. Param"),
        (
            parameter(type="int", default=7, max=6),
            "applications.cone.parameters.p.default: 7 is not possible. Parameter 'p' must be a "
            "whole number, at most 6.",
        ),
        (
            parameter(type="int", choices=[1, True]),
            "applications.cone.parameters.p.choices: True is not possible.",
        ),
        ({"frontend": {"websocket_paths": []}}, "frontend.websocket_paths: List should have at"),
        ({"limits": {"sessions": 0}}, "limits.sessions: Input should be greater than or equal to"),
        ({"applications": None}, "applications: required, but missing."),
        ({"clusters": None}, "clusters: required, but missing."),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(
    refusal: Callable[..., str], sections: dict[str, Any], said: str
) -> None:
    told = refusal(**sections)
    assert told.startswith(said)
    assert len(told.splitlines()) == 1


def test_a_ready_line_may_be_one_or_several(site: Any) -> None:
    one = site.settings(**application(ready_line="Listening"))
    assert one.applications["cone"].ready_line == ["Listening"]
    several = site.settings(**application(ready_line=["Listening", "Ready"]))
    assert several.applications["cone"].ready_line == ["Listening", "Ready"]


def test_empty_tables_of_clusters_and_applications_are_refused(site: Any) -> None:
    site.path.write_text("[clusters]\n[applications]\n")
    with pytest.raises(ConfigError) as caught:
        configfile.load(site.path)
    assert len(str(caught.value).splitlines()) == 2


def test_everything_that_is_wrong_is_told_at_once(refusal: Callable[..., str]) -> None:
    told = refusal(server={"port": -1, "prot": 1}, limits={"sessions": "few"})
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"port = = 1", "not TOML: "),
        (b"\xff\xfe[server]", "not TOML: byte 0 is not UTF-8."),
        (b"[server]\nport = 1\nport = 2\n", "not TOML: "),
        (b"", "required, but missing."),
    ],
)
def test_a_file_that_is_not_a_configuration_is_told(site: Any, content: bytes, said: str) -> None:
    site.path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        configfile.load(site.path)
    assert str(site.path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        configfile.load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        configfile.load(tmp_path)


def test_relative_paths_count_from_the_files_directory(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    settings = site.settings(
        template_dirs=["templates", "/etc/templates"],
        frontend={"map_file": "map/sessions"},
        clusters={
            "big": {
                "scheduler": "slurm",
                "ssh": {"host": "login", "identity_files": ["key"], "known_hosts": "../hosts"},
            }
        },
    )
    assert settings.server.state_dir == tmp_path / "state"
    assert settings.template_dirs == [tmp_path / "templates", Path("/etc/templates")]
    assert settings.frontend.map_file == tmp_path / "map/sessions"
    big = settings.clusters["big"]
    assert isinstance(big, SlurmCluster)
    assert big.ssh is not None
    assert big.ssh.identity_files == [tmp_path / "key"]
    assert big.ssh.known_hosts == tmp_path.parent / "hosts"


def test_text_that_looks_like_a_path_stays_as_it_is(site: Any) -> None:
    settings = site.settings(**application(template="own.sh", properties={"script": "a/b.py"}))
    assert settings.applications["cone"].template == "own.sh"
    assert settings.applications["cone"].properties["script"] == "a/b.py"


# -- the environment


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"HPCBRIDGE_{name}", value)

    return put


def test_the_environment_stands_above_the_file(site: Any, environment: Callable[..., None]) -> None:
    environment(
        SERVER__PORT="1234",
        CLUSTERS__HERE__SLOTS="7",
        SERVER__CORS_ORIGINS='["https://a.example.org"]',
        APPLICATIONS__CONE__WAIT="2.5",
    )
    settings = site.settings()
    assert settings.server.port == 1234
    assert settings.clusters["here"].slots == 7
    assert settings.clusters["here"].session_root == str(site.session_root)
    assert settings.server.cors_origins == ["https://a.example.org"]
    assert settings.applications["cone"].wait == 2.5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVER__PORT", "many", "Input should be a valid integer"),
        ("SERVER__PORT", "true", "Input should be a valid integer"),
        ("SERVER__PROT", "1", "unknown key. Did you mean 'port'?"),
        ("CLUSTERS__HERE__SLOTS", "-1", "Input should be greater than or equal to 1"),
        ("SERVER__CORS_ORIGINS", "https://a.example.org", "must be JSON"),
        ("SERVER", "8080", "must be a table"),
        ("SERVER", "{", "must be JSON"),
        ("TEMPLATE_DIRS", "/etc/templates", "must be JSON"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(
    site: Any, environment: Callable[..., None], name: str, value: str, said: str
) -> None:
    environment(**{name: value})
    with pytest.raises(ConfigError) as caught:
        site.settings()
    assert f"HPCBRIDGE_{name}" in str(caught.value)
    assert said in str(caught.value)


def test_variables_of_jobs_are_not_settings(site: Any, environment: Callable[..., None]) -> None:
    environment(DIRECTORY="/somewhere", PORT="1", JOB="hpcb-1")
    assert site.settings().server.port == 0


def test_paths_of_the_environment_become_absolute(
    site: Any, environment: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment(SERVER__STATE_DIR="elsewhere")
    assert site.settings().server.state_dir == tmp_path / "elsewhere"


def test_systemds_state_directory_is_the_default(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/hpcbridge:/var/lib/other")
    assert site.settings(server=None).server.state_dir == Path("/var/lib/hpcbridge")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert site.settings(server=None).server.state_dir == Path("/home/u/state/hpcbridge")


# -- what is shown


URL = "postgresql+asyncpg://bridge:p4ssw0rd@db.example.org/sessions"


def test_the_databases_password_is_masked(site: Any) -> None:
    slurm = {"here": {"scheduler": "slurm"}}
    settings = site.settings(store={"url": URL}, clusters=slurm)
    assert settings.store_url == URL
    assert "p4ssw0rd" not in show(settings)
    assert "p4ssw0rd" not in repr(settings)


def test_what_is_shown_is_a_configuration_that_says_the_same(site: Any, tmp_path: Path) -> None:
    settings = site.settings(
        clusters={
            "big": {
                "scheduler": "slurm",
                "ssh": {"host": "login", "identity_files": ["key"]},
                "options": {"partition": "viz", "cpus": 4, "exclusive": True},
            }
        },
        **application(title='"Cone"\n\t☃', properties={"x.y": 0.1}),
    )
    shown = tmp_path / "shown.toml"
    shown.write_text(show(settings))
    assert configfile.load(shown) == settings
    assert tomllib.loads(shown.read_text())["clusters"]["big"]["options"]["cpus"] == 4


def test_what_is_shown_includes_defaults_and_the_environment(
    site: Any, environment: Callable[..., None]
) -> None:
    environment(SERVER__PORT="1234")
    shown = tomllib.loads(show(site.settings()))
    assert shown["server"]["port"] == 1234
    assert shown["server"]["host"] == "127.0.0.1"
    assert shown["limits"]["sessions"] == 200


class _Numbers(Section):
    """Numbers wherever a section may have them; an adapter of another package may."""

    one: int = 0
    bounded: Seconds | None = None
    several: list[float] = Field(default_factory=list)
    named: dict[str, int | None] = Field(default_factory=dict)
    deep: dict[str, list[Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)
    values: dict[str, Primitive] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "loc"),
    [
        ({"one": True}, ("one",)),
        ({"bounded": True}, ("bounded",)),
        ({"several": [1, 2.5, True]}, ("several", 2)),
        ({"named": {"a": 1, "b": False}}, ("named", "b")),
        ({"deep": {"a": [0], "b": [3, True]}}, ("deep", "b", 1)),
    ],
)
def test_true_and_false_are_no_numbers(values: dict[str, Any], loc: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        _Numbers(**values)
    (problem,) = caught.value.errors()
    assert problem["loc"] == loc
    assert problem["type"] in ("int_parsing", "float_parsing")


def test_text_is_read_as_a_number_and_booleans_stay_what_they_are() -> None:
    read = _Numbers(
        one="7",
        bounded="2.5",
        several=["1"],
        values={"a": True, "b": 1},
    )
    assert (read.one, read.bounded, read.several) == (7, 2.5, [1.0])
    assert (read.values["a"], read.values["b"]) == (True, 1)
    assert (type(read.values["a"]), type(read.values["b"])) == (bool, int)


def _fields(model: Any) -> Any:
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field


def test_every_setting_is_described() -> None:
    from hpcbridge.config import clusters as clustersettings
    from hpcbridge.config import settings as config
    from hpcbridge.config.adapters import OWN

    values = [*vars(config).values(), *vars(clustersettings).values()]
    models = [each for each in values if isinstance(each, type)]
    models += OWN.values()
    sections = [each for each in models if issubclass(each, Section) and each.model_fields]
    assert len(sections) > 8
    bare = [
        name
        for model in (Settings, *sections)
        for name, field in _fields(model)
        if not field.description and model is not Settings
    ]
    assert bare == []
