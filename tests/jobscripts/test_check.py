"""What a template may not do, told before a user meets it, with the line."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbridge.errors import TemplateError
from hpcbridge.jobscripts import Problem, ScriptContext, Severity, TemplateSet, check, render

Made = Callable[..., TemplateSet]
EVERYTHING = {
    "partition": "gpu", "queue": "gpu", "account": "abc", "project": "p", "qos": "high",
    "reservation": "r1", "constraint": "a100", "nodes": 2, "tasks": 4, "cpus": 2, "pe": "mpi",
    "memory": "8G", "gpus": 2, "gres": "license:1", "exclusive": True,
    "modules": "paraview/5.13 openmpi", "prologue": "/site/pro.sh", "epilogue": "/site/epi.sh",
    "container": "/site/paraview.sif", "container_options": "--bind /data",
}  # fmt: skip
PROPERTIES: dict[str, dict[str, str | list[str]]] = {
    "command.sh": {"program": "/bin/true"},
    "commandline.sh": {"directory": "/srv/apps"},
    "pvserver.sh": {"pvpython": "pvpython", "pvserver": "pvserver", "script": "/srv/cone.py"},
    "xvfb.sh": {"pvpython": "pvpython", "script": "/srv/cone.py"},
}

COMMAND = ("${job.launch}", "viewer.py", "--port", "${job.port}", "--title", "${param.title}")


@pytest.fixture
def context(context: ScriptContext) -> ScriptContext:
    """Without properties and parameters: each template has its own."""
    return replace(context, properties={}, parameters={})


@pytest.mark.parametrize("scheduler", ["slurm", "slurmrest", "pbs", "torque", "gridengine", "own"])
@pytest.mark.parametrize("name", TemplateSet().names())
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["bare", "all options"])
def test_our_own_templates_have_no_problem(
    context: ScriptContext, scheduler: str, name: str, options: dict[str, str | int]
) -> None:
    context = replace(
        context,
        scheduler=scheduler,
        # PBS asks for a kind of node by a resource.
        options=options | ({"constraint": "gpu=a100"} if options and scheduler == "pbs" else {}),
        properties=PROPERTIES.get(name, {"script": "/srv/apps/cone.py"}),
        parameters={} if name == "command.sh" else {"title": "a 'b' $(c)"},
        command=COMMAND if name == "commandline.sh" else (),
    )
    assert check(TemplateSet(), name, context) == []
    script = render(TemplateSet(), name, context)
    with_placeholders = [line for line in script.split("\n") if "{{" in line or "{%" in line]
    assert with_placeholders == []


@pytest.mark.parametrize(
    "body",
    [
        'echo "{{ param.x }}"',
        "echo '{{ param.x }}'",
        "echo $'{{ param.x }}'",
        'echo $"{{ param.x }}"',
        "echo `echo {{ param.x }}`",
        'echo "$(echo {{ param.x }})"',
        'echo "$(echo "{{ param.x }}")"',
        "echo ${y:-{{ param.x }}}",
        "echo $(( {{ param.x }} + 1 ))",
        "(( y = {{ param.x }} ))",
        "cat <<END\n{{ param.x }}\nEND",
        "cat <<-'END'\n{{ param.x }}\n\tEND",
        "cat <<A <<B\nA\n{{ param.x }}\nB",
        "echo $(cat <<END\n{{ param.x }}\nEND\n)",
        "cat << {{ param.x }}",
        "echo \\{{ param.x }}",
        "echo ${{ param.x }}",
        'echo a"b{{ param.x }}c"d',
        "echo 'it'\"s\"'{{ param.x }}'",
        'echo "a\\"{{ param.x }}"',
        'echo "# {{ param.x }}"',
        "echo x#'{{ param.x }}'",
        'echo "{% if param.x %}a{% endif %}"',
        "echo '{% if param.x %}'{% endif %}{{ param.x }}'",
        "echo \\{% if 1 %}x{% endif %}{{ param.x }}",
        "echo x{% if 1 %} {% endif %}# '{{ param.x }}'",
        "cat <{%# a comment #%}<END\n{{ param.x }}\nEND",
        "cat <{% raw %}<END{% endraw %}\n{{ param.x }}\nEND",
        "# comment {% if param.y is defined %}\n{% endif %} ' {{ param.x }}",
        "echo {{ param.x | directive }}",
        "#SBATCH --comment={{ param.x }}",
        "#SBATCH --comment={{ param.x | sh }}",
        "#SBATCH --comment={{ param.x | directive | lower }}",
        "#SBATCH --comment={{ 'a' ~ (param.x | directive) }}",
        "#SBATCH --comment={{\n param.x }}",
        "#SBATCH -J a --comment={{ job.name | directive }}{{ param.x }}",
        "  #PBS -N {{ param.x }}",
        "#$ -N {{ param.x }}",
        "{% macro m() %}{% endmacro %}",
        "{% set y %}{{ param.x }}{% endset %}",
        "{% filter lower %}a{% endfilter %}",
        "{% include param.x %}",
        "{% include ['a', 'b'] %}",
        "{% import 'a' as b %}",
        "{% extends 'python.sh' %}",
        "{{ range(3) }}",
        "{{ param.x.upper() }}",
        "{{ param.x | attr('y') }}",
        "{{ param.x",
        "{% if %}",
    ],
)
def test_a_placeholder_where_quoting_does_not_hold_is_refused_by_check_and_by_render(
    made: Made, context: ScriptContext, body: str
) -> None:
    templates = made(f"#!/bin/bash\n{body}\n")
    context = replace(context, parameters={"x": "safe"})
    errors = [one for one in check(templates, "t.sh", context) if one.severity is Severity.ERROR]
    assert errors
    assert errors[0].template == "t.sh"
    assert errors[0].line is not None
    assert errors[0].line >= 2
    with pytest.raises(TemplateError, match=r"t\.sh, line [2-9]"):
        render(templates, "t.sh", context)


@pytest.mark.parametrize(
    "body",
    [
        "printf '%s\\n' --x={{ param.x }}/{{ param.x }}#{{ param.x }}",
        "a=(--x={{ param.x }} {{ job.name }}) # it's {{ param.x }}\nprintf '%s\\n' \"${a[@]}\"",
        "echo $(printf '%s' x={{ param.x }})",
        'y={{ param.x }} # it\'s\necho "$y" ${#y} $# $((1 << 2)) $(( (1 + 2) * 3 ))',
        "cat <<'END'\n'\"`\nEND\necho x={{ param.x }}",
        "cat <<<{{ param.x }}",
        "echo 'it'\\''s' \"a\\\"b\" $'a\\'b' x={{ param.x }}",
        "case {{ param.x }} in a) echo '(' ;; *) echo \"x\" ;; esac\necho x={{ param.x }}",
        "echo x \\\n  --x={{ param.x }}",
        "echo x \\\n{% if param.x %}\n  --x={{ param.x }} \\\n{% endif %}\n  # it's",
        "{%# it's a comment #%}\n{% raw %}\necho ${a:-{{}}\n{% endraw %}\necho --x={{ param.x }}",
        'f() { echo "$1"; }\nf {{ param.x }}',
        '[[ {{ param.x }} == *"("* ]] || echo x={{ param.x }}',
    ],
)
def test_a_placeholder_in_a_command_is_one_word_whatever_its_value(
    made: Made, context: ScriptContext, tmp_path: Path, body: str
) -> None:
    owned = tmp_path / "owned"
    templates = made(f"#!/bin/bash\n{body}\n")
    for hostile in (f"$(touch {owned})", f"'; touch {owned}; '", f'"; touch {owned}; "', "`", "\\"):
        value = replace(context, parameters={"x": hostile})
        assert [one for one in check(templates, "t.sh", value) if one.severity == "error"] == []
        script = render(templates, "t.sh", value)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert not owned.exists()


def problems(templates: TemplateSet, context: ScriptContext) -> list[str]:
    return [f"{one.severity}: {one}" for one in check(templates, "t.sh", context)]


PRELUDE = '{% include "prelude.sh" %}\n'
RUN = f"{PRELUDE}hpcbridge_run true\n"


def test_a_directive_after_the_first_command_is_told(made: Made, context: ScriptContext) -> None:
    found = problems(made(f"#!/bin/bash\n# c\n\n{RUN}#SBATCH -n1\n"), context)
    assert found == [
        "error: t.sh, line 6: Batch systems ignore directives after the first command; move it up."
    ]
    assert problems(made(f"#!/bin/bash\n#SBATCH -n1\n# c\n\n#SBATCH -c1\n{RUN}"), context) == []
    heredoc = f"#!/bin/bash\n{RUN}cat <<END\n#SBATCH -n1\nEND\n"
    assert problems(made(heredoc), context) == []


def test_a_directive_after_an_included_command_is_told(made: Made, context: ScriptContext) -> None:
    text = "#!/bin/bash\n{% include 'part.sh' %}\n#SBATCH -n1\n"
    (found,) = problems(made(text, part=RUN), context)
    assert "t.sh, line 3: This comes after a command" in found


def test_a_bash_mistake_is_told(made: Made, context: ScriptContext) -> None:
    (found,) = problems(made(f"#!/bin/bash\n{RUN}if true; then\n"), context)
    assert "error: t.sh, line 5: bash says: syntax error" in found


def test_a_missing_shebang_is_told(made: Made, context: ScriptContext) -> None:
    (found,) = problems(made(f"echo\n{RUN}"), context)
    assert "must begin with #!" in found


@pytest.mark.parametrize(
    "line",
    [
        "hpcbridge_run app --authKey abc",
        'hpcbridge_run app --authKey "$(cat secret)"',
        'hpcbridge_run app "$(< "$HPCBRIDGE_DIRECTORY/secret")"',
        "hpcbridge_run env SECRET=x app",
        "hpcbridge_run app --auth-key=x",
    ],
)
def test_a_secret_on_a_command_line_is_refused(
    made: Made, context: ScriptContext, line: str
) -> None:
    (found,) = problems(made(f"#!/bin/bash\n{line}\n"), context)
    assert "error: t.sh, line 2: A secret on a command line can be read by everybody" in found


@pytest.mark.parametrize(
    "line",
    [
        "hpcbridge_run python3 launch.py --secret-option --authKey --keep-secret app.py",
        'hpcbridge_run trame --authKeyFile "$HPCBRIDGE_DIRECTORY/secret"',
        "hpcbridge_run app # finds the secret by itself",
    ],
)
def test_the_launch_stub_and_the_path_of_the_secret_are_allowed(
    made: Made, context: ScriptContext, line: str
) -> None:
    assert problems(made(f"#!/bin/bash\n{PRELUDE}{line}\n"), context) == []


def test_habits_that_can_go_wrong_are_warnings(made: Made, context: ScriptContext) -> None:
    given = replace(context, parameters={"resolution": 8})
    (found,) = problems(
        made(f"#!/bin/bash\n{PRELUDE}hpcbridge_run app {{{{ param.resolution }}}}\n"), given
    )
    assert found.startswith("warning: t.sh, line 3: A value that begins with - would be taken")
    (found,) = problems(made("#!/bin/bash\napp &\n"), context)
    assert found.startswith("warning: t.sh, line 2: Nothing is started with hpcbridge_run")
    (found,) = problems(made(f"#!/bin/zsh\n{PRELUDE}hpcbridge_run app\n"), context)
    assert found.startswith("warning: t.sh, line 1: The script begins with #!/bin/zsh")


def test_a_missing_template_is_a_problem_and_not_an_exception(
    made: Made, context: ScriptContext
) -> None:
    (found,) = check(made("#!/bin/bash\n"), "nope.sh", context)
    assert found.severity is Severity.ERROR
    assert "nope.sh was not found" in found.message


def test_a_sample_value_that_does_not_fit_is_a_problem(made: Made, context: ScriptContext) -> None:
    templates = made(f"#!/bin/bash\n#SBATCH --gres={{{{ param.gres | directive }}}}\n{RUN}")
    (found,) = check(templates, "t.sh", replace(context, parameters={"gres": "a b"}))
    assert "The parameter gres is 'a b'" in found.message


def test_a_problem_reads_as_a_sentence_with_its_place() -> None:
    assert str(Problem(3, "No.", template="t.sh")) == "t.sh, line 3: No."
    assert str(Problem(None, "No.", template="t.sh")) == "t.sh: No."


def test_a_property_that_the_template_does_not_use_is_an_error(
    made: Made, context: ScriptContext
) -> None:
    text = f"#!/bin/bash\n{{% include 'part.sh' %}}\necho {{{{ app.script }}}}\n{RUN}"
    templates = made(text, part="{% if app.data is defined %}\n:\n{% endif %}\n")
    given = {"script": "a.py", "data": "/data"}
    assert problems(templates, replace(context, properties=given)) == []
    found = problems(templates, replace(context, properties=given | {"datta": "/typo"}))
    assert found == [
        "error: t.sh: It does nothing with the property 'datta' (app.datta). "
        "Did you mean 'data'? It knows: data, script."
    ]


def test_a_parameter_that_the_template_does_not_use_is_an_error(
    made: Made, context: ScriptContext
) -> None:
    given = replace(context, parameters={"size": 1})
    (found,) = problems(made(f"#!/bin/bash\n{RUN}"), given)
    assert "It does nothing with the parameter 'size' (param.size). It knows: none." in found
    for uses in ("--size={{ param.size }}", "--size={{ param['size'] }}"):
        assert problems(made(f"#!/bin/bash\n{PRELUDE}hpcbridge_run a {uses}\n"), given) == []


def test_a_template_that_goes_through_all_parameters_uses_each(
    made: Made, context: ScriptContext
) -> None:
    text = "{% for name in param %}\n: --{{ name }}={{ param[name] }}\n{% endfor %}\n"
    given = replace(context, parameters={"one": 1, "two": 2})
    assert problems(made(f"#!/bin/bash\n{RUN}{text}"), given) == []


def test_an_option_among_the_properties_is_told_where_it_belongs(context: ScriptContext) -> None:
    given = replace(context, properties={"script": "a.py", "gpus": 1}, scheduler="slurm")
    (found,) = check(TemplateSet(), "egl.sh", given)
    assert "(app.gpus). Did you mean options.gpus?" in found.message
    (found,) = check(
        TemplateSet(), "egl.sh", replace(given, properties={"script": "a", "pvpython": "pvpython"})
    )
    assert "It does nothing with the property 'pvpython'" in found.message


SEVERAL = [
    "#SBATCH --array=0-1",
    "#SBATCH --arr 0-1",
    "#SBATCH -a0-1",
    "#SBATCH --exclusive -Ha 3",
    '#SBATCH "--array=1-{{ param.n | directive }}"',
    "#SBATCH hetjob",
    "#SBATCH packjob",
    "#PBS -J 0-9",
    "#PBS -hJ0-9",
    "#PBS -t 1-3",
    "#$ -t 1-10",
]
ELSEWHERE = [
    "#SBATCH --clusters=big",
    "#SBATCH --cluster big",
    "#SBATCH -M big",
    "#SBATCH -Mbig",
    "#PBS -q batch@other",
    "#PBS -q @other",
]


@pytest.mark.parametrize("line", [*SEVERAL, *ELSEWHERE])
def test_a_script_that_is_more_than_one_job_or_one_elsewhere_is_refused_with_its_line(
    made: Made, context: ScriptContext, line: str
) -> None:
    context = replace(context, parameters={"n": "3"})
    templates = made(f"#!/bin/bash\n#SBATCH --ntasks=1\n{line}\n\n{RUN}")
    (problem,) = [
        each for each in check(templates, "t.sh", context) if each.severity is Severity.ERROR
    ]
    assert problem.line == 3
    assert ("several jobs" if line in SEVERAL else "another cluster") in problem.message


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --account=array --mem=1G -A big",
        "#SBATCH --cluster-constraint=x # not --array=1",
        "#SBATCH --acctg-freq=1 -J a-M",
        "#PBS -N Jt -q batch -l select=1",
        "#$ -tc 3 -N t",
        "cat <<END\n#SBATCH --array=1\nEND",
        "# --array=0-1",
    ],
)
def test_what_only_looks_like_several_jobs_is_fine(
    made: Made, context: ScriptContext, line: str
) -> None:
    templates = made(f"#!/bin/bash\n{line}\n\n{RUN}")
    errors = [e for e in check(templates, "t.sh", context) if e.severity is Severity.ERROR]
    assert errors == []


def test_an_options_value_that_makes_several_jobs_is_refused_as_well(
    made: Made, context: ScriptContext
) -> None:
    context = replace(context, options={"partition": "--array=0-1"})
    templates = made(
        "#!/bin/bash\n#SBATCH {{ cluster.partition | directive }}\n\nhpcbridge_run true\n"
    )
    assert [e for e in check(templates, "t.sh", context) if "several jobs" in e.message]
