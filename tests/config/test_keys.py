"""Every key of the configuration is described, explained and found, and docs/settings.md has it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.config.environment import NOT_SETTINGS, unknown
from hpcbridge.config.explain import explain, listing
from hpcbridge.config.keys import NAME, Key, all_keys
from hpcbridge.config.shown import show
from hpcbridge.errors import ConfigError
from scripts import settings as page

KEYS = all_keys()
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/settings.md"


def one(name: str) -> Key:
    (found,) = [key for key in KEYS if key.name == name]
    return found


# -- the keys


def test_every_key_is_described_and_has_a_type() -> None:
    assert len(KEYS) > 180
    for key in KEYS:
        assert key.description, key.name
        assert key.type, key.name
        assert key.type != "one of" or key.allowed.startswith('"'), key.name


def test_what_is_known_of_a_key_is_what_the_settings_hold_it_to() -> None:
    port = one("server.port")
    assert (port.type, port.allowed) == ("integer", "at least 0, at most 65535")
    assert port.default == "8080"
    assert one("frontend.kind").allowed.startswith('"embedded", "apache"')
    assert one("clusters.NAME.hosts[].name").kinds == ("hosts",)
    assert one("clusters.NAME.hosts[].name").variable is None
    assert one("clusters.NAME.slots").variable == "HPCBRIDGE_CLUSTERS__NAME__SLOTS"
    assert one("applications.NAME.template").default == ""
    assert one("applications.NAME.options").allowed == ""
    assert one("server.trusted_proxies").default == '["127.0.0.1", "::1"]'
    assert one("store.url").default == "not set"


def test_no_default_tells_of_the_machine_on_which_it_was_looked_up() -> None:
    assert not [key.name for key in KEYS if str(Path.home()) in key.default]


def test_defaults_are_values_as_the_file_takes_them() -> None:
    for key in KEYS:
        told = key.default not in ("", "not set") and not key.keys
        if told and key.name != "server.state_dir":
            assert "k" in tomllib.loads(f"k = {key.default}"), key.name


# -- explained


def test_every_key_can_be_asked_for() -> None:
    for key in KEYS:
        text = explain(key.name, None)
        assert key.name in text
        assert key.description in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("port", ["server.port", "clusters.NAME.ssh.port"]),
        ("warm.count", ["applications.NAME.warm.count"]),
        ("clusters.lab.slots", ["clusters.NAME.slots"]),
        ('clusters."a.b".slots', ["clusters.NAME.slots"]),
        ("hosts[].slots", ["clusters.NAME.hosts[].slots"]),
        ("clusters.lab.hosts.slots", ["clusters.NAME.hosts[].slots"]),
        ("limits", ["limits"]),
    ],
)
def test_a_key_is_found_by_its_end_and_with_its_real_name(text: str, found: list[str]) -> None:
    heads = [line for line in explain(text, None).splitlines() if line[:1].strip()]
    assert [head.partition("  (")[0] for head in heads] == found


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("server.prot", "Did you mean 'server.port'?"),
        ("readyline", "Did you mean 'ready_line'?"),
        ("clusters.lab.slotz", "Did you mean 'clusters.lab.slots'?"),
        ("qqqqqqqq", "'hpcbridge config explain' lists all."),
        ("a = {b = 1, c = 2} #", "is no key"),
        ("a = {} #", "is no key"),
        ("a b", "is no key"),
        ("x = 1\ny", "is no key"),
        ("[server]\nport", "is no key"),
        ("server.port.more", "There is no setting"),
    ],
)
def test_a_key_that_is_none_is_told_with_one_that_is(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(text, None)
    assert hint in str(caught.value)


def test_a_table_is_explained_with_its_keys() -> None:
    text = explain("applications.NAME.parameters", None)
    assert "    choices  The only values allowed\n" in text
    assert "    slots  " in explain("clusters.NAME.hosts", None)
    assert "    run_as  " in explain("clusters", None)
    assert "    known_hosts  " not in explain("clusters", None)


def test_it_is_told_where_a_value_comes_from(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCBRIDGE_LIMITS__SESSIONS", "7")
    monkeypatch.setenv("HPCBRIDGE_CLUSTERS", '{"here": {"queue": 5}}')
    path = site.write(limits={"waiting": 3})

    def now(key: str) -> list[str]:
        lines = explain(key, path).splitlines()
        return [line.partition("now:")[2].strip() for line in lines if "now:" in line]

    assert now("limits.sessions") == ["7; set by the environment's HPCBRIDGE_LIMITS__SESSIONS"]
    assert now("limits.waiting") == [f"3; set in {path}"]
    assert now("limits.connections_per_address") == ["256; the default"]
    assert now("limits.per_user") == ["not set; the default"]
    assert now("clusters.here.queue") == ["5; set by the environment's HPCBRIDGE_CLUSTERS"]
    assert now("clusters.here.session_root") == [f'"{site.session_root}"; set in {path}']
    assert now("clusters.nowhere.slots") == ["nothing of this name is configured"]
    waits = now("applications.NAME.wait")
    assert f"applications.mute.wait = 3; set in {path}" in waits
    assert len(waits) == len(site.config["applications"])


def test_a_secret_is_not_told(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.config["clusters"]["here"] = {"scheduler": "slurm"}
    monkeypatch.setenv("HPCBRIDGE_STORE__URL", "postgresql+asyncpg://me:p4ssw0rd@db/x")
    text = explain("store.url", site.write())
    assert "p4ssw0rd" not in text
    assert '"********"; set by the environment\'s HPCBRIDGE_STORE__URL' in text


def test_the_list_has_a_line_for_each_key() -> None:
    names = [line.partition("  ")[0] for line in listing().splitlines()]
    assert names == [key.name for key in KEYS]


# -- shown


def test_what_is_not_set_is_a_comment_where_it_could_be_set(site: Any, tmp_path: Path) -> None:
    site.config["clusters"]["lab.gpu"] = {
        "scheduler": "hosts",
        "hosts": [{"name": "a"}, {"name": "b", "slots": 2}],
        "session_root": "/shared",
    }
    settings = site.settings()
    text = show(settings)
    lines = text.splitlines()
    assert any(each.startswith("# unix_socket =  # path: Unix socket to listen") for each in lines)
    assert any(each.startswith("# [applications.cone.warm]  # Sessions") for each in lines)
    assert lines.count('[[clusters."lab.gpu".hosts]]') == 2
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert configfile.load(again) == settings
    again.write_text(text.replace("# hold =  # number", "hold = 11  # number", 1))
    assert configfile.load(again).applications["cone"].hold == 11


def test_all_keys_are_shown_set_or_not(site: Any) -> None:
    text = f"\n{show(site.settings())}"
    for key in KEYS:
        if NAME not in key.path:
            forms = (f"\n{key.path[-1]} = ", f"\n# {key.path[-1]} = ", f"[{key.name}")
            assert any(each in text for each in forms), key.name


# -- the environment


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HPCBRIDGE_SERVER_PORT", "Did you mean HPCBRIDGE_SERVER__PORT?"),
        ("HPCBRIDGE_SERVR__PORT", "Did you mean HPCBRIDGE_SERVER__PORT?"),
        ("hpcbridge_store_url", "Did you mean HPCBRIDGE_STORE__URL?"),
        ("HPCBRIDGE_SESSION_URL", "Did you mean HPCBRIDGE_SERVER__SESSION_URL?"),
        ("HPCBRIDGE_QQQQQQQQQQQQQQQQQQQQ", "'hpcbridge config explain' lists them."),
    ],
)
def test_a_variable_that_sets_nothing_is_an_error(
    site: Any, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "s3cret-value")
    with pytest.raises(ConfigError) as caught:
        site.settings()
    said = str(caught.value)
    assert name in said
    assert hint in said
    assert "s3cret-value" not in said


def test_variables_with_another_meaning_are_none(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NOT_SETTINGS:
        monkeypatch.setenv(name, "/somewhere")
    assert site.settings().server.port == 0
    assert list(unknown({"PATH": "/bin", "HPCBRIDGE": "x", "MY_HPCBRIDGE_X": "x"})) == []
    # As Kubernetes names them for a Service called hpcbridge.
    pod = ("PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT_HTTP")
    assert list(unknown({f"HPCBRIDGE_{name}": "x" for name in pod})) == []


def test_each_of_the_variables_with_another_meaning_is_used_somewhere() -> None:
    here = (Path(__file__), ROOT / "hpcbridge/config/environment.py")
    folders = (ROOT / folder for folder in ("hpcbridge", "testbed", "tests"))
    files = [path for folder in folders for path in folder.rglob("*") if path not in here]
    text = "\n".join(path.read_text() for path in files if path.suffix in (".py", ".sh"))
    assert [name for name in sorted(NOT_SETTINGS) if name not in text] == []


def test_no_variable_of_a_setting_is_taken_for_unknown() -> None:
    variables = {key.variable: "1" for key in KEYS if key.variable}
    assert len(variables) > 150
    assert list(unknown(variables)) == []


# -- the page


def test_the_page_has_every_key_of_ours() -> None:
    text = PAGE.read_text()
    for key in all_keys(adapters_of_others=False):
        parts = key.path[2 if key.path[1:2] == (NAME,) else 1 :]
        if parts:
            assert f"`{'.'.join(parts)}`" in text, key.name
    assert page.main(["--check"]) == 0


def test_a_page_that_is_not_up_to_date_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "settings.md"
    assert page.main(["--check", "--page", str(old)]) == 1
    assert page.main(["--page", str(old)]) == 0
    assert page.main(["--check", "--page", str(old)]) == 0
    old.write_text(old.read_text().replace("8080", "8081"))
    assert page.main(["--check", "--page", str(old)]) == 1
    assert "run 'python -m scripts.settings'" in capsys.readouterr().err


def test_every_row_of_the_page_has_four_cells() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 150
    for row in rows:
        assert row.replace("\\|", "").count("|") == 5, row
