"""Values become script text: quoted, refused, never run, never templates."""

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from hpcbridge.errors import BadParameter, TemplateError
from hpcbridge.jobscripts import ScriptContext, TemplateSet, render
from hpcbridge.jobscripts.values import plain

Made = Callable[..., TemplateSet]

HOSTILE = [
    "$(touch /tmp/owned)",
    "`id`",
    "'; id; '",
    '"; id; "',
    "a'b\"c\\",
    "\\",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "{{ param.__class__ }}",
    "#SBATCH --uid=0",
    "#PBS -q root",
    "-rf",
    "--wrap=id",
    "~root",
    "*",
    "a b\u00a0c",
    "$HOME ${PATH} $((1+1))",
    "x && id || id ; id | id > /dev/null < /dev/null & id",
    "Größe 日本語 😀",
    "!!",
    "",
]
CONTROLS = [
    "a\nb",
    "a\r\nb",
    "a\0b",
    "a\x1b[2Jb",
    "a\x7fb",
    "a\u0085b",
    "a\u2028b",
    "a\u2029b",
    "\ud800",
]


def test_every_hostile_value_arrives_in_bash_as_one_unchanged_word(
    made: Made, context: ScriptContext
) -> None:
    template = "#!/bin/bash\nprintf '%s\\0' {{ param.x }} {{ param.x | sh }} --x={{ param.x }}\n"
    for value in HOSTILE:
        script = render(made(template), "t.sh", replace(context, parameters={"x": value}))
        said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
        assert said.decode().split("\0")[:-1] == [value, value, f"--x={value}"]


@pytest.mark.parametrize("value", CONTROLS, ids=ascii)
def test_control_characters_are_refused_and_the_parameter_is_named(
    made: Made, context: ScriptContext, value: str
) -> None:
    templates = made("#!/bin/bash\necho nothing of it is used\n")
    with pytest.raises(BadParameter, match=r"The parameter title holds the control character U\+"):
        render(templates, "t.sh", replace(context, parameters={"title": value}))
    with pytest.raises(TemplateError, match=r"app\.title holds the control character"):
        render(templates, "t.sh", replace(context, properties={"title": value}))


@pytest.mark.parametrize("value", [*HOSTILE[:10], "gpu 2", "a;b", "", "é", "a\u200bb"], ids=ascii)
def test_a_directive_refuses_what_cannot_be_quoted_there(
    made: Made, context: ScriptContext, value: str
) -> None:
    templates = made("#!/bin/bash\n#SBATCH --gres=gpu:{{ param.gpus | directive }}\n")
    with pytest.raises(BadParameter, match=r"The parameter gpus is .* directive can only hold"):
        render(templates, "t.sh", replace(context, parameters={"gpus": value}))


def test_a_directive_takes_the_admins_value_and_blames_the_admins_key(
    made: Made, context: ScriptContext
) -> None:
    templates = made("#!/bin/bash\n#SBATCH --gres={{ app.gres | directive }}\n")
    good = replace(context, properties={"gres": "gpu:h100:2"})
    assert "#SBATCH --gres=gpu:h100:2\n" in render(templates, "t.sh", good)
    with pytest.raises(TemplateError, match=r"t\.sh, line 2: app\.gres is 'gpu; id'"):
        render(templates, "t.sh", replace(context, properties={"gres": "gpu; id"}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "00:00:59"), (3600, "01:00:00"), (86399, "23:59:59"), (90061, "1-01:01:01")],
)
def test_hms_writes_seconds_as_slurm_reads_them(
    made: Made, context: ScriptContext, seconds: int, text: str
) -> None:
    templates = made("#!/bin/bash\n#SBATCH --time={{ job.walltime | hms }}\n")
    assert f"--time={text}\n" in render(templates, "t.sh", replace(context, walltime=seconds))


def test_hms_without_days_is_what_pbs_reads(made: Made, context: ScriptContext) -> None:
    templates = made("#!/bin/bash\n#PBS -l walltime={{ job.walltime | hms(days=false) }}\n")
    assert "walltime=25:01:01\n" in render(templates, "t.sh", replace(context, walltime=90061))


def test_hms_of_nothing_is_an_error_with_a_line(made: Made, context: ScriptContext) -> None:
    templates = made("#!/bin/bash\n#SBATCH --time={{ job.walltime | hms }}\n")
    with pytest.raises(TemplateError, match=r"t\.sh, line 2: .* number of seconds above 0"):
        render(templates, "t.sh", replace(context, walltime=None))


def test_numbers_booleans_and_none_have_one_spelling(made: Made, context: ScriptContext) -> None:
    templates = made("#!/bin/bash\necho {{ app.i }} {{ app.f }} {{ app.t }} {{ app.n }}\n")
    properties = {"i": -3, "f": 0.5, "t": True, "n": None}
    assert "echo -3 0.5 true ''\n" in render(
        templates, "t.sh", replace(context, properties=properties)
    )


def test_each_value_of_a_list_is_one_word(made: Made, context: ScriptContext) -> None:
    text = (
        "#!/bin/bash\nwords=()\n"
        "{% for each in app.words | default([]) %}\nwords+=({{ each }})\n{% endfor %}\n"
        "printf '<%s>' \"${words[@]}\"\n"
    )
    words = [*HOSTILE[:10], "a b", "", "-x", "$(id)", 3, True]
    script = render(made(text), "t.sh", replace(context, properties={"words": words}))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"<{plain(word)}>" for word in words)
    assert "words+=" not in render(made(text), "t.sh", replace(context, properties={}))


def test_a_list_as_a_whole_and_a_text_in_place_of_a_list_are_errors(
    made: Made, context: ScriptContext
) -> None:
    whole = made("#!/bin/bash\necho {{ app.words }}\n")
    with pytest.raises(TemplateError, match=r"t\.sh, line 2: app\.words is a list; write its"):
        render(whole, "t.sh", replace(context, properties={"words": ["a", "b"]}))
    loop = made("#!/bin/bash\n{% for each in app.words %}\necho {{ each }}\n{% endfor %}\n")
    with pytest.raises(TemplateError, match=r"line 2: app\.words is a text; \"for\" needs a list"):
        render(loop, "t.sh", replace(context, properties={"words": "--data /x"}))
    for bad in (["a\nb"], [["a"]], [{"a": 1}]):
        with pytest.raises(TemplateError, match=r"app\.words\[0\] (holds|is a)"):
            render(loop, "t.sh", replace(context, properties={"words": bad}))


@pytest.mark.parametrize("value", [["a"], {"a": 1}, object(), b"a", Path("/"), 1j])
def test_only_primitives_reach_a_template(
    made: Made, context: ScriptContext, value: object
) -> None:
    bad = replace(context, parameters={"x": value})  # type: ignore[dict-item]
    with pytest.raises(BadParameter, match="The parameter x is a "):
        render(made("#!/bin/bash\n"), "t.sh", bad)


def test_a_filter_that_is_not_about_quoting_leaves_the_value_quoted(
    made: Made, context: ScriptContext
) -> None:
    text = "#!/bin/bash\necho {{ param.x | lower }} {{ param.y | default('a b') }}\n"
    script = render(made(text), "t.sh", replace(context, parameters={"x": "$(ID)"}))
    assert "echo '$(id)' 'a b'\n" in script


def test_a_parameter_may_be_called_like_a_method_or_like_a_group(
    made: Made, context: ScriptContext
) -> None:
    names = ["items", "keys", "get", "missing", "param", "job", "x-y"]
    text = "#!/bin/bash\n{% for n in param %}\necho {{ n }}={{ param[n] }}\n{% endfor %}\n"
    script = render(made(text), "t.sh", replace(context, parameters=dict.fromkeys(names, "v")))
    assert [line for line in script.split("\n") if "=v" in line] == [f"echo {n}=v" for n in names]


def test_user_and_admin_values_cannot_meet(made: Made, context: ScriptContext) -> None:
    text = "#!/bin/bash\n{{ app.pvpython }} {{ job.directory }} {{ bridge.python }}\n"
    attack = {"pvpython": "/bin/sh", "app": "x", "job": "x", "directory": "/", "python": "x"}
    script = render(made(text), "t.sh", replace(context, parameters=attack))
    assert shlex.split(script.split("\n")[1]) == ["pvpython", context.directory, context.python]


@pytest.mark.parametrize(
    "expression",
    [
        "param.x.__class__",
        "param.x.__class__.__mro__",
        "param.__class__",
        "param._values",
        "param.missing",
        "param['__class__']",
        "param.x['__class__']",
        "param.x._key",
        "app['__init__']",
        "self",
        "self.__init__",
        "cycler",
        "lipsum.__globals__",
        "namespace()",
        "param.x.format(1)",
        "'{0.__class__}'.format(param.x)",
        "param.x | attr('__class__')",
        "[].__class__",
        "config",
        "param",
    ],
)
def test_a_template_cannot_reach_behind_the_values(
    made: Made, context: ScriptContext, expression: str
) -> None:
    templates = made("#!/bin/bash\necho {{ " + expression + " }}\n")
    with pytest.raises(TemplateError, match=r"t\.sh, line 2: "):
        render(templates, "t.sh", replace(context, parameters={"x": "v"}))


def test_a_typo_is_told_with_what_there_is(made: Made, context: ScriptContext) -> None:
    def message(text: str) -> str:
        with pytest.raises(TemplateError) as caught:
            render(made(f"#!/bin/bash\n\n{text}\n"), "t.sh", context)
        return str(caught.value)

    assert message("x {{ param.resoluton }}") == (
        "Job template t.sh, line 3: param.resoluton is not defined; "
        "declared parameters: resolution."
    )
    assert "app.scrpt is not defined; available: name, script, program" in message(
        "{{ app.scrpt }}"
    )
    assert "parm is not defined; there are: app, bridge, cluster, job" in message("{{ parm }}")
    assert "parm is not defined" in message("{{ parm.resolution }}")
    assert "line 3: There is no filter named dierctive; there are: " in message("{{ 1|dierctive }}")
    assert "line 3: " in message("{% if x %}")
    assert "line 3: " in message("{{ 1 +* 2 }}")
    assert "by zero." in message("{{ 1 // 0 }}")


def test_a_mistake_in_an_included_file_names_that_file(made: Made, context: ScriptContext) -> None:
    templates = made("#!/bin/bash\n{% include 'part.sh' %}\n", part="\necho {{ param.nope }}\n")
    with pytest.raises(TemplateError, match=r"part\.sh, line 2: param\.nope is not defined"):
        render(templates, "t.sh", context)


def test_a_template_that_includes_itself_is_an_error(made: Made, context: ScriptContext) -> None:
    with pytest.raises(TemplateError, match=r"t\.sh"):
        render(made("#!/bin/bash\n{% include 't.sh' %}\n"), "t.sh", context)


def test_values_are_never_templates(made: Made, context: ScriptContext) -> None:
    script = render(
        made("#!/bin/bash\necho {{ param.a }} {{ param.b }}\n"),
        "t.sh",
        replace(context, parameters={"a": "{{", "b": "param.a }}{% raw %}"}),
    )
    assert "echo '{{' 'param.a }}{% raw %}'\n" in script


def test_what_is_rendered_must_be_a_unix_script(made: Made, context: ScriptContext) -> None:
    with pytest.raises(TemplateError, match="must begin with #!"):
        render(made("echo\n#!/bin/bash\n"), "t.sh", context)
    with pytest.raises(TemplateError, match="byte order mark"):
        render(made("\ufeff#!/bin/bash\n"), "t.sh", context)
    with pytest.raises(TemplateError, match="NUL"):
        render(made("#!/bin/bash\necho \0\n"), "t.sh", context)
    with pytest.raises(TemplateError, match="more than 1048576 bytes"):
        render(made("#!/bin/bash\n" + "# é\n" * 300_000), "t.sh", context)


def test_windows_line_ends_become_unix_ones(made: Made, context: ScriptContext) -> None:
    assert "\r" not in render(made("#!/bin/bash\r\necho {{ job.name }}\r\n"), "t.sh", context)


def test_bash_array_lengths_are_not_comments(made: Made, context: ScriptContext) -> None:
    script = render(made("#!/bin/bash\na=(1)\necho ${#a[@]} ${#a}\n"), "t.sh", context)
    assert script.endswith("echo ${#a[@]} ${#a}\n")


def test_conditions_may_choose_directives(made: Made, context: ScriptContext) -> None:
    text = "#!/bin/bash\n{% if param.mode == 'gpu' %}\n#SBATCH --gres=gpu:1\n{% endif %}\n"
    for mode, count in (("gpu", 1), ("cpu", 0)):
        script = render(made(text), "t.sh", replace(context, parameters={"mode": mode}))
        assert script.count("#SBATCH") == count


def test_an_edited_template_counts_from_the_next_job_on(made: Made, context: ScriptContext) -> None:
    templates = made("#!/bin/bash\necho one\n")
    assert "one" in render(templates, "t.sh", context)
    made("#!/bin/bash\necho second\n")
    assert "second" in render(templates, "t.sh", context)


def test_the_admins_file_hides_the_builtin_one_also_when_it_comes_later(
    tmp_path: Path, context: ScriptContext
) -> None:
    (tmp_path / "admin").mkdir()
    templates = TemplateSet([tmp_path / "admin"])
    assert "hpcbridge_run" in render(templates, "python.sh", context)
    (tmp_path / "admin" / "python.sh").write_text("#!/bin/bash\necho mine\n")
    assert "mine" in render(templates, "python.sh", context)
    assert not templates.source("python.sh").builtin
    assert templates.source("xvfb.sh").builtin


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "", ".", "a/../../x", "x\0y", "..", "no.sh"]
)
def test_a_template_name_stays_inside_the_directories(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("#!/bin/bash\n")
    (tmp_path / "admin").mkdir()
    with pytest.raises(TemplateError, match=r"not allowed|not found"):
        TemplateSet([tmp_path / "admin"]).source(name)


def test_a_template_that_cannot_be_used_says_why(tmp_path: Path, made: Made) -> None:
    templates = made("#!/bin/bash\n")
    (tmp_path / "admin" / "latin.sh").write_bytes(b"#!/bin/bash\n# \xe9\n")
    (tmp_path / "outside.sh").write_text("#!/bin/bash\n")
    (tmp_path / "admin" / "link.sh").symlink_to("../outside.sh")
    with pytest.raises(TemplateError, match=r"not UTF-8 text \(byte 14\)"):
        templates.source("latin.sh")
    with pytest.raises(TemplateError, match="link to a file outside"):
        templates.source("link.sh")


def test_names_lists_scripts_and_not_what_they_include() -> None:
    assert TemplateSet().names() == [
        "command.sh", "commandline.sh", "egl.sh", "osmesa.sh", "paraview.sh", "pvserver.sh",
        "python.sh", "trame.sh", "xvfb.sh",
    ]  # fmt: skip


def test_a_context_has_no_place_for_a_secret() -> None:
    assert not [field.name for field in fields(ScriptContext) if "secret" in field.name.lower()]


@pytest.mark.parametrize(
    "change",
    [
        {"job_name": "hpcb-$(id)"},
        {"job_name": "-x"},
        {"directory": "relative"},
        {"bind": "::"},
        {"properties": {"name": "other"}},
    ],
    ids=str,
)
def test_our_own_values_are_checked_too(
    made: Made, context: ScriptContext, change: dict[str, object]
) -> None:
    with pytest.raises(TemplateError):
        render(made("#!/bin/bash\n"), "t.sh", replace(context, **change))  # type: ignore[arg-type]
