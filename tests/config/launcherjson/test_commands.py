"""``cmd`` as a job: which words it gets, how the secret gets in, and what clients may fill in."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.config.parameters import check_parameters
from hpcbridge.config.settings import Settings
from hpcbridge.errors import BadParameter, ConfigError, TemplateError
from hpcbridge.jobscripts.render import TemplateSet, render
from hpcbridge.jobscripts.samples import check_all, sample_context
from tests.config.launcherjson.files import cmd, put, refused, translated, without, written

STUB = "${job.launch}"
PORT = ["--port", "${job.port}"]


def command(folder: Path, *words: Any, ready_line: str | None = "Starting factory") -> list[str]:
    """The command that ``words`` become."""
    changes = [cmd(*words)]
    changes.append(
        without("apps", "viewer", "ready_line")
        if ready_line is None
        else put("apps", "viewer", "ready_line", ready_line)
    )
    found: list[str] = translated(folder, *changes).data["applications"]["viewer"]["command"]
    return found


def script(settings: Settings, posted: dict[str, Any] | None = None) -> str:
    """The job script of a launch."""
    wanted = settings.applications["viewer"]
    values = check_parameters(wanted.parameters, posted or {})
    context = sample_context(settings, "viewer", values)
    return render(TemplateSet(settings.template_dirs), wanted.template, context)


def said_by(settings: Settings, posted: dict[str, Any]) -> list[str]:
    """The words that bash makes of the rendered command, port and all."""
    text = script(settings, posted)
    array = text[text.index("command=(") : text.index("start()")]
    shown = (
        f"HPCBRIDGE_PORT=4711 HPCBRIDGE_DIRECTORY=/d\n{array}\nprintf '%s\\n' \"${{command[@]}}\""
    )
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


# -- words


def test_names_are_filled_in_with_and_without_braces(tmp_path: Path) -> None:
    words = ["prog", "$dataDir/${dataDir}x", "-p$port", "${host}", "${application}", "${id}", "$$5"]
    assert command(tmp_path, *words, ready_line="up") == [
        "prog",
        "/srv/data//srv/datax",
        "-p${job.port}",
        "${job.bind}",
        "viewer",
        "${job.name}",
        "$$5",
    ]


def test_the_launcher_s_own_names_stand_above_properties(tmp_path: Path) -> None:
    changes = put("properties", "port", "22"), cmd("prog", "${port}")
    found = translated(tmp_path, *changes).data["applications"]["viewer"]
    assert found["command"] == ["prog", "${job.port}"]


def test_a_property_s_value_is_text_and_nothing_more(tmp_path: Path) -> None:
    value = "a b;$(id)'\"${job.secret}${port}$$"
    path = written(tmp_path, put("properties", "odd", value), cmd("prog", "${odd}", "${port}"))
    assert said_by(configfile.load(path), {}) == ["prog", value, "4711"]


def test_words_keep_their_borders(tmp_path: Path) -> None:
    words = ["prog", "", "a b", "*", "~", "$(id)", "`id`", "#", "é", "${port}"]
    path = written(tmp_path, cmd(*words))
    assert said_by(configfile.load(path), {}) == [*words[:-1], "4711"]


def test_the_program_starts_where_the_file_is(tmp_path: Path) -> None:
    assert f"  cd {tmp_path} || exit 1\n" in script(configfile.load(written(tmp_path)))


# -- the secret


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["${python}", "-dr", "v.py", "--port", "${port}", "--authKey", "${secret}", "-f"],
            ["/opt/pv/bin/pvpython", "-dr", STUB, "v.py", *PORT, "-f"],
        ),
        (
            ["python3.11", "-u", "-X", "dev", "v.py", "--authKey=${secret}", "--port", "$port"],
            ["python3.11", "-u", "-X", "dev", STUB, "v.py", *PORT],
        ),
        (
            ["python", "-m", "paraview.apps.x", "--port", "$port", "--authKey", "$secret"],
            ["python", STUB, "-m", "paraview.apps.x", *PORT],
        ),
        (
            ["pvpython", "--venv", "/v", "v.py", "--port", "$port", "--password", "$secret"],
            ["pvpython", "--venv", "/v", STUB, "--secret-option", "--password", "v.py", *PORT],
        ),
        (
            ["xvfb-run", "-a", "-s", "-screen 0 9x9x24", "vtkpython", "v.py", "--port", "$port"],
            ["xvfb-run", "-a", "-s", "-screen 0 9x9x24", "vtkpython", STUB, "v.py", *PORT],
        ),
        (
            [
                "mpiexec",
                "-n",
                "4",
                "pvbatch",
                "--sym",
                "v.py",
                "--port",
                "$port",
                "--authKey",
                "$secret",
            ],
            ["mpiexec", "-n", "4", "pvbatch", "--sym", STUB, "--keep-secret", "v.py", *PORT],
        ),
        (
            ["pvpython", "--unknown-option", "its-value", "v.py", "--port", "$port"],
            ["pvpython", "--unknown-option", "its-value", STUB, "v.py", *PORT],
        ),
    ],
)
def test_python_gets_the_secret_from_the_launch_stub(
    tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    assert command(tmp_path, *words) == expected
    assert "apps.viewer" not in str(translated(tmp_path, cmd(*words)).notifications)


def test_a_python_program_that_is_no_server_of_wslink_gets_no_secret(tmp_path: Path) -> None:
    words = ["python3", "v.py", "--port", "${port}"]
    assert command(tmp_path, *words, ready_line="listening") == ["python3", "v.py", *PORT]


def test_trame_s_programs_read_the_secret_from_its_file(tmp_path: Path) -> None:
    words = ["/v/bin/my-trame-app", "--server", "--authKey", "${secret}", "--port", "${port}"]
    assert command(tmp_path, *words, ready_line="App running at:") == [
        *("/v/bin/my-trame-app", "--server", *PORT),
        *("--authKeyFile", "${job.secret_file}"),
    ]


def test_a_secret_that_has_to_be_on_a_command_line_is_told(tmp_path: Path) -> None:
    change = cmd("start.sh", "${port}", "${secret}")
    assert "the secret stands on the command line" in str(
        translated(tmp_path, change).notifications
    )
    settings = configfile.load(written(tmp_path, change))
    [(_, problems)] = check_all(settings)
    assert ["${job.secret} can be read by everybody" in str(each) for each in problems] == [True]


def test_a_server_that_is_not_given_the_secret_is_told(tmp_path: Path) -> None:
    said = str(translated(tmp_path, cmd("start.sh", "${port}")).notifications)
    assert "apps.viewer.cmd" in said
    assert "has no ${secret}" in said


# -- what is wrong


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pvpython v.py --port 9001", '[\\"pvpython\\", \\"v.py\\", \\"--port\\", \\"9001\\"].'),
        ("it's", "must be a list of words, not one text"),
        ([], "apps.viewer.cmd: is empty: name a program."),
        ({}, "apps.viewer.cmd: must be a list"),
        (["prog", 9001], 'apps.viewer.cmd[1]: must be a text: write "9001".'),
        (["prog", ["x"]], "apps.viewer.cmd[1]: must be a text"),
        (["prog", "a\nb", "$port"], "apps.viewer.cmd[1]: has a line end"),
        (["prog", "${port"], "apps.viewer.cmd[1]: ${port} is no name"),
        (["prog", "${a-b}", "$port"], "apps.viewer.cmd[1]: ${a-b} is no name"),
        (["prog"], 'has no ${port}, so the program cannot know where to listen: write "--port"'),
        (["prog", "--port", "9001"], 'write "${port}" in place of "9001".'),
        (["prog", "$port", "${sessionURL}"], "${sessionURL} cannot be filled in here"),
        (["prog", "$port", "${error}"], "${error} cannot be filled in here"),
        (["prog", "$port", "${_x}"], "${_x} cannot be filled in here"),
    ],
)
def test_a_wrong_command_is_told_with_its_cure(tmp_path: Path, given: Any, said: str) -> None:
    told = refused(tmp_path, put("apps", "viewer", "cmd", given))
    assert said.replace("\\", "") in told


def test_an_application_without_a_command_is_told(tmp_path: Path) -> None:
    assert "apps.viewer.cmd: is required" in refused(tmp_path, without("apps", "viewer", "cmd"))


# -- no program of the client's choice


@pytest.mark.parametrize(
    "words",
    [
        ["${py}", "v.py", "$port"],
        ["/opt/${version}/bin/pvpython", "v.py", "$port"],
        ["pvpython", "${script}", "--port", "$port"],
        ["pvpython", "-dr", "/srv/${script}.py", "--port", "$port"],
        ["python", "-m", "${module}", "--port", "$port"],
        ["xvfb-run", "${py}", "v.py", "python3", "x.py", "$port"],
        ["xvfb-run", "-a", "${prog}", "$port"],
        ["env", "A=1", "${prog}", "$port"],
        ["vglrun", "${prog}", "$port"],
        ["mpiexec", "-n", "4", "${prog}", "$port"],
        ["timeout", "10", "nice", "-n", "5", "${prog}", "$port"],
        ["bash", "${script}", "$port"],
        ["nice", "-n", "5", "/bin/sh", "${script}", "$port"],
    ],
)
def test_clients_never_choose_the_program(tmp_path: Path, words: list[str]) -> None:
    assert "so clients would choose the program that runs" in refused(tmp_path, cmd(*words))


@pytest.mark.parametrize(
    "words",
    [
        ["bash", "-c", "run --port $port ${file}"],
        ["env", "A=1", "/bin/sh", "-lc", "run $port ${file}"],
        ["python3", "-c", "print('${file}')", "$port"],
        ["perl", "-e", "print '${file}'", "$port"],
        ["ssh", "node1", "run", "$port", "${file}"],
        ["su", "pv", "-c", "run $port ${file}"],
        ["bash", "-c", "-x", "run $port ${file}"],
        ["awk", "BEGIN{${file}}", "$port"],
        ["xterm", "-e", "run $port ${file}"],
    ],
)
def test_clients_never_write_what_a_shell_reads(tmp_path: Path, words: list[str]) -> None:
    assert "stands in text that another program reads as code" in refused(tmp_path, cmd(*words))


@pytest.mark.parametrize(
    "words",
    [
        ["xvfb-run", "-a", "viewer", "${file}", "--port", "$port"],
        ["mpiexec", "-n", "4", "viewer", "--data", "${file}", "$port"],
        ["env", "A=1", "nice", "viewer", "${file}", "$port"],
    ],
)
def test_what_a_wrapped_program_gets_may_be_the_clients(tmp_path: Path, words: list[str]) -> None:
    assert configfile.load(written(tmp_path, cmd(*words))).applications["viewer"].command


def test_clients_may_choose_among_what_the_admin_listed(tmp_path: Path) -> None:
    rule = {"type": "inList", "list": ["5.10", "5.11"], "default": "5.11"}
    changes = (
        put("configuration", "sanitize", {"version": rule}),
        cmd("/opt/${version}/bin/pvpython", "v.py", "--port", "$port"),
    )
    settings = configfile.load(written(tmp_path, *changes))
    assert said_by(settings, {"version": "5.10"})[0] == "/opt/5.10/bin/pvpython"
    assert said_by(settings, {"version": "../../tmp"})[0] == "/opt/5.11/bin/pvpython"


def test_a_posted_key_never_takes_a_property_s_place(tmp_path: Path) -> None:
    settings = configfile.load(written(tmp_path))
    posted = {"python": "/bin/sh", "dataDir": "/", "port": 22, "cmd": ["sh"], "secret": "x"}
    assert said_by(settings, posted) == said_by(settings, {})
    assert settings.applications["viewer"].parameters == {}


def test_a_rule_for_a_property_is_told_to_have_no_effect(tmp_path: Path) -> None:
    rule = {"type": "regexp", "regexp": ".*$", "default": ""}
    said = str(
        translated(tmp_path, put("configuration", "sanitize", {"python": rule})).notifications
    )
    assert "what clients post never takes a property's place" in said


# -- posted values


def with_file(folder: Path, word: str, rule: dict[str, Any] | None = None) -> Settings:
    """The application with a word that clients fill in."""
    changes = [cmd("prog", "$port", word)]
    if rule is not None:
        changes.append(put("configuration", "sanitize", {"file": rule}))
    return configfile.load(written(folder, *changes))


@pytest.mark.parametrize(
    "value",
    [
        "a.vtk",
        "a b",
        "; rm -rf /",
        "$(id)",
        "`id`",
        "'\"",
        "${python}",
        "$port",
        "{{ app.x }}",
        "é",
    ],
)
def test_a_posted_text_stays_one_word(tmp_path: Path, value: str) -> None:
    settings = with_file(tmp_path, "${dataDir}/${file}")
    assert said_by(settings, {"file": value}) == ["prog", "4711", f"/srv/data/{value}"]


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (2.5, "2.5"), (True, "true"), (-1, "-1")])
def test_numbers_are_taken_as_the_launcher_took_them(tmp_path: Path, value: Any, text: str) -> None:
    assert said_by(with_file(tmp_path, "${file}"), {"file": value})[2] == text


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "a\u2028b", "x" * 4097, None, [], {}])
def test_what_cannot_be_a_word_is_refused(tmp_path: Path, value: Any) -> None:
    settings = with_file(tmp_path, "${dataDir}/${file}")
    with pytest.raises(BadParameter, match="Parameter 'file' "):
        script(settings, {"file": value})


@pytest.mark.parametrize("value", ["../etc/passwd", "..", "a/../../b", "a/.."])
def test_a_posted_path_stays_below_its_directory(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadParameter):
        script(with_file(tmp_path, "${dataDir}/${file}"), {"file": value})
    rule = {"type": "regexp", "regexp": "^[-\\w./]{0,100}$", "default": "none"}
    assert said_by(with_file(tmp_path, "${dataDir}/${file}", rule), {"file": value})[2] == (
        "/srv/data/none"
    )


@pytest.mark.parametrize("value", ["..a/b", "a..", "a/..b", "a.b/c"])
def test_dots_in_names_are_no_way_up(tmp_path: Path, value: str) -> None:
    settings = with_file(tmp_path, "${dataDir}/${file}")
    assert said_by(settings, {"file": value})[2] == f"/srv/data/{value}"


@pytest.mark.parametrize("value", ["--authKey=x", "-f", "--"])
def test_a_posted_text_is_never_an_option(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadParameter):
        script(with_file(tmp_path, "${file}"), {"file": value})
    assert said_by(with_file(tmp_path, "--file=${file}"), {"file": value})[2] == f"--file={value}"


def test_a_missing_value_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="Parameter 'file' is required"):
        script(with_file(tmp_path, "${file}"))


# -- sanitize


@pytest.mark.parametrize(
    ("rule", "value", "used"),
    [
        ({"type": "inList", "list": ["a", "b"], "default": "b"}, "a", "a"),
        ({"type": "inList", "list": ["a", "b"], "default": "b"}, "c", "b"),
        ({"type": "inList", "list": ["a"], "default": "none"}, "x", "none"),
        ({"type": "inList", "list": [1, 2], "default": 1}, 2, "2"),
        ({"type": "inList", "list": ["a"], "default": "a"}, ["a"], "a"),
        ({"type": "regexp", "regexp": "^[a-z]+$", "default": "x"}, "abc", "abc"),
        ({"type": "regexp", "regexp": "^[a-z]+$", "default": "x"}, "abc;id", "x"),
        ({"type": "regexp", "regexp": "^[a-z]+$", "default": "x"}, "abc\n", "x"),
        ({"type": "regexp", "regexp": "[a-z]+", "default": "x"}, "abc;id", "x"),
        ({"type": "regexp", "regexp": "^[a-z]+$", "default": "No 1"}, "A", "No 1"),
        ({"type": "regexp", "regexp": "^a|b$", "default": "a"}, "ab", "a"),
        ({"type": "regexp", "regexp": "(?i)^[a-z]+$", "default": "x"}, "ABC", "ABC"),
        ({"type": "regexp", "regexp": "(?i)^[a-z]+$", "default": "x"}, "7", "x"),
        ({"type": "regexp", "regexp": "^[a-z]+$", "default": "-q"}, "--evil", "-q"),
        ({"type": "inList", "list": ["-dr", "-f"], "default": "-f"}, "-dr", "-dr"),
    ],
)
def test_a_value_is_used_where_it_is_allowed_and_else_the_default(
    tmp_path: Path, rule: dict[str, Any], value: Any, used: str
) -> None:
    assert said_by(with_file(tmp_path, "${file}", rule), {"file": value})[2] == used


def test_the_default_is_used_where_nothing_is_posted(tmp_path: Path) -> None:
    rule = {"type": "inList", "list": ["a", "b"], "default": "b"}
    assert said_by(with_file(tmp_path, "${file}", rule), {})[2] == "b"


def test_without_a_default_a_wrong_value_is_refused(tmp_path: Path) -> None:
    settings = with_file(tmp_path, "${file}", {"type": "inList", "list": ["a", "b"]})
    with pytest.raises(BadParameter, match="must be a text, one of a, b"):
        script(settings, {"file": "c"})


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("x", "configuration.sanitize.file: must be an object"),
        ({}, 'configuration.sanitize.file.type: is required; write "inList" or "regexp".'),
        ({"type": "regex", "regexp": "a"}, "'regex' is not known; write"),
        ({"type": "inList"}, "configuration.sanitize.file.list: is required with type inList."),
        ({"type": "inList", "list": "a"}, "configuration.sanitize.file.list: must be a list"),
        ({"type": "inList", "list": []}, "is empty, so nothing would be allowed."),
        ({"type": "inList", "list": [{}]}, "must hold texts and numbers only."),
        ({"type": "regexp"}, "configuration.sanitize.file.regexp: is required with type regexp."),
        ({"type": "regexp", "regexp": "("}, "regexp: is no regular expression: missing ), unter"),
        ({"type": "regexp", "regexp": "a$", "default": []}, "file.default: must be a text"),
    ],
)
def test_a_wrong_rule_is_told(tmp_path: Path, rule: Any, said: str) -> None:
    assert said in refused(tmp_path, put("configuration", "sanitize", {"file": rule}))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"type": "regexp", "regexp": "^a", "default": "a"}, "does not end with $"),
        ({"type": "inList", "list": ["a"], "regexp": "a"}, "has no effect with type inList."),
        ({"type": "inList", "list": ["a"]}, "has no effect: no cmd has ${file}."),
    ],
)
def test_a_rule_that_does_less_than_it_seems_is_told(tmp_path: Path, rule: Any, said: str) -> None:
    found = translated(tmp_path, put("configuration", "sanitize", {"file": rule}))
    assert said in str(found.notifications)


# -- commands in our own files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prog", "${port}"], "a $ begins ${job.NAME}, ${param.NAME} or ${app.NAME}; write $$"),
        (["prog", "$5"], "a $ begins"),
        (["prog", "${job.host}"], "${job.host} is not there; known of job: port, launch"),
        (["prog", "${param.x}"], "${param.x} is not there; known of param: none"),
        (["prog", "${app.x}"], "${app.x} is not there; known of app: name"),
        (["prog", "${env.x}"], "${env.x}: the groups are job, param, app"),
        ([], "command is required with the template commandline.sh"),
    ],
)
def test_a_name_that_is_not_there_is_told_when_the_file_is_read(
    words: list[str], said: str
) -> None:
    given = {"cluster": "here", "template": "commandline.sh", "command": words}
    clusters = {"here": {"scheduler": "local"}}
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        Settings(clusters=clusters, applications={"a": given})  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_app_names_are_filled_in(tmp_path: Path) -> None:
    given = {
        "cluster": "here",
        "template": "commandline.sh",
        "command": ["${app.root}/bin/${app.name}", "${job.port}", "${job.walltime}"],
        "properties": {"root": "/opt/a b"},
        "walltime": 60,
    }
    settings = Settings(
        clusters={"here": {"scheduler": "local"}},  # type: ignore[dict-item]
        applications={"viewer": given},  # type: ignore[dict-item]
    )
    assert said_by(settings, {}) == ["/opt/a b/bin/viewer", "4711", "60"]


@pytest.mark.parametrize(
    ("rules", "fine"),
    [
        ({"type": "str"}, False),
        ({"type": "str", "pattern": "[^-].*"}, True),
        ({"type": "str", "choices": ["-a", "-b"]}, True),
        ({"type": "int"}, True),
    ],
)
def test_a_text_that_could_be_an_option_needs_a_rule(rules: dict[str, Any], fine: bool) -> None:
    given = {
        "cluster": "here",
        "template": "commandline.sh",
        "command": ["prog", "${job.port}", "${param.file}"],
        "parameters": {"file": rules},
    }
    sections: dict[str, Any] = {
        "clusters": {"here": {"scheduler": "local"}},
        "applications": {"a": given},
    }
    if fine:
        assert Settings(**sections)
    else:
        with pytest.raises(ValueError, match="so users could add options to the program"):
            Settings(**sections)


def test_a_default_that_is_not_allowed_is_told_though_it_takes_the_place_of_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hpcbridge.toml"
    path.write_text(
        """
        clusters.here.scheduler = "local"
        [applications.a]
        cluster = "here"
        template = "python.sh"
        parameters.mode = { type = "str", choices = ["a"], default = "b", lenient = true }
        """
    )
    with pytest.raises(ConfigError, match=r"parameters\.mode\.default: 'b' is not possible"):
        configfile.load(path)


def test_a_name_that_is_not_there_is_told_when_a_script_is_made(tmp_path: Path) -> None:
    settings = with_file(tmp_path, "${file}")
    with pytest.raises(TemplateError, match=r"command: param\.file is not defined"):
        render(TemplateSet(()), "commandline.sh", sample_context(settings, "viewer", {}))
