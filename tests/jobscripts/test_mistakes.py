"""Mistakes of admins, each found with its line and what to do; and no word about what is right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.jobscripts import Problem, ScriptContext, Severity, TemplateSet, check
from hpcbridge.jobscripts.review import shellcheck
from hpcbridge.jobscripts.samples import check_all

Made = Callable[..., TemplateSet]

SLURM = """\
#!/bin/bash
#SBATCH --time=01:00:00
#SBATCH --partition=viz --mem=8G
{% include "prelude.sh" %}

arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")
hpcbridge_run {{ bridge.python }} launch.py {{ app.script }} "${arguments[@]}"
"""
PBS = SLURM.replace("#SBATCH --time=01:00:00", "#PBS -l walltime=01:00:00").replace(
    "#SBATCH --partition=viz --mem=8G", "#PBS -q viz -l select=1:ncpus=4:mem=8gb"
)
GRIDENGINE = SLURM.replace("#SBATCH --time=01:00:00", "#$ -l h_rt=1:0:0").replace(
    "#SBATCH --partition=viz --mem=8G", "#$ -q viz.q -pe smp 4 -l h_vmem=8G"
)
RUN = 'hpcbridge_run {{ bridge.python }} launch.py {{ app.script }} "${arguments[@]}"'
TIME, PLACE = "#SBATCH --time=01:00:00", "#SBATCH --partition=viz --mem=8G"
INCLUDE = '{% include "prelude.sh" %}'
ARGUMENTS = 'arguments=(--host {{ job.bind }} --port "$HPCBRIDGE_PORT")'


@dataclass(frozen=True)
class Mistake:
    """``old`` of the template becomes ``new``; it is told of ``line`` with the words ``said``."""

    old: str
    new: str
    line: int
    said: str
    scheduler: str = "slurm"

    def template(self) -> str:
        text = {"slurm": SLURM, "pbs": PBS, "torque": PBS, "gridengine": GRIDENGINE}[self.scheduler]
        assert text.count(self.old) == 1, self.old
        return text.replace(self.old, self.new)


def directive(new: str, said: str) -> Mistake:
    return Mistake(PLACE, new, 3, said)


def pbs(new: str, said: str) -> Mistake:
    return Mistake("#PBS -q viz -l select=1:ncpus=4:mem=8gb", new, 3, said, "pbs")


def gridengine(new: str, said: str) -> Mistake:
    return Mistake("#$ -q viz.q -pe smp 4 -l h_vmem=8G", new, 3, said, "gridengine")


def above_run(new: str, said: str) -> Mistake:
    return Mistake(RUN, f"{new}\n{RUN}", 7, said)


def run(new: str, said: str) -> Mistake:
    return Mistake(RUN, new, 7, said)


def argument(new: str, said: str) -> Mistake:
    return Mistake(ARGUMENTS, new, 6, said)


MISTAKES = {
    # The file
    "no shebang": Mistake("#!/bin/bash\n", "", 1, "must begin with #!, for example #!/bin/bash"),
    "a blank line first": Mistake("#!/bin/bash", "\n#!/bin/bash", 1, "must begin with #!"),
    "sh": Mistake("#!/bin/bash", "#!/bin/sh", 1, "need bash"),
    "a strict shebang": Mistake("#!/bin/bash", "#!/bin/bash -eu", 1, "#!/bin/bash."),
    "a byte order mark": Mistake("#!/bin/bash", "\ufeff#!/bin/bash", 1, "save it as UTF-8 without"),
    "Windows": Mistake(ARGUMENTS, f"{ARGUMENTS}\r", 6, "carriage return: dos2unix"),
    "a NUL": Mistake(ARGUMENTS, f"{ARGUMENTS}\0", 6, "NUL character"),
    "a long line": Mistake(ARGUMENTS, "#" + "x" * 5_000_000, 6, "the limit is 16384"),
    # Directives of any batch system
    "directive after a command": Mistake(RUN, f"{RUN}\n#SBATCH --nodes=2", 8, "move it up"),
    "directive after the prelude": Mistake(ARGUMENTS, f"{PLACE}\n{ARGUMENTS}", 6, "move it up"),
    "blank before": directive("  #SBATCH --nodes=2", "a blank before #SBATCH"),
    "blank within": directive("# SBATCH --nodes=2", "a directive begins with #SBATCH"),
    "small letters": directive("#sbatch --nodes=2", "in these letters"),
    "no blank after": directive("#SBATCH--nodes=2", "a blank is missing after #SBATCH"),
    "typographic dash": directive("#SBATCH \u2013\u2013nodes=2", "type the dash anew"),
    "quotation mark missing": directive('#SBATCH --comment="a b', "A quotation mark is missing"),
    "a shell variable": directive("#SBATCH --nodes=$NODES", "put no variables into directives"),
    "no filter": directive("#SBATCH --nodes={{ app.script }}", "app.script | directive"),
    "nothing": directive("#SBATCH", "no option after #SBATCH"),
    "of another system": Mistake(
        f"{TIME}\n{PLACE}", "#PBS -l walltime=1:0:0\n#PBS -q viz", 2, "begin with #SBATCH"
    ),
    # sbatch
    "no dash": directive("#SBATCH nodes=2", "options begin with - or --"),
    "misspelt option": directive("#SBATCH --partiton=viz", "Did you mean --partition?"),
    "option of nobody": directive("#SBATCH --frobnicate=2", "unless a plugin of your site"),
    "short for several": directive("#SBATCH --mem-p=2", "can mean --mem-per-cpu, --mem-per-gpu"),
    "short option of nobody": directive("#SBATCH -Z 3", "no option -Z"),
    "no value": directive("#SBATCH --nodes", "--nodes needs a value"),
    "no short value": directive("#SBATCH -N --mem=1", "-N (--nodes) needs a value"),
    "time in hours": directive("#SBATCH --time=2h", "HH:MM:SS"),
    "time with 90 minutes": directive("#SBATCH -t 1:90:00", "HH:MM:SS"),
    "GiB": directive("#SBATCH --mem=64GiB", "such as 8G"),
    "memory with a blank": directive("#SBATCH --mem=8 G", "'G' is no option"),
    "gres with =": directive("#SBATCH --gres=h100=4", "such as gpu:h100:4"),
    "gres backwards": directive("#SBATCH --gres=gpu:4:h100", "such as gpu:h100:4"),
    "GPUs in words": directive("#SBATCH --gpus-per-node=two", "such as a100:2"),
    "nodes in words": directive("#SBATCH --nodes=four", "such as 2-4"),
    "no CPU": directive("#SBATCH --cpus-per-task=0", "1 or more"),
    "array": directive("#SBATCH --array=0-3", "several jobs of one"),
    "another cluster": directive("#SBATCH --clusters=big", "another cluster"),
    "output": directive("#SBATCH --output=job.out", "--output is not needed"),
    "name": directive("#SBATCH -J visualizer", "-J is not needed"),
    "sbatch waits": directive("#SBATCH --wait", "remove it"),
    "sbatch tries": directive("#SBATCH --test-only", "submits nothing"),
    "held": directive("#SBATCH --hold", "until somebody releases it"),
    "mail": directive("#SBATCH --mail-type=always", "BEGIN, END, FAIL"),
    # qsub of PBS
    "PBS: no such option": pbs("#PBS -Y 3", "no option -Y"),
    "PBS: long option": pbs("#PBS --queue=viz", "one dash, one letter"),
    "PBS: no value": pbs("#PBS -q", "-q needs a value"),
    "PBS: hours": pbs("#PBS -l walltime=2h", "HH:MM:SS"),
    "PBS: misspelt": pbs("#PBS -l waltime=2:00:00", "Did you mean walltime?"),
    "PBS: GiB": pbs("#PBS -l select=1:ncpus=4:mem=64GiB", "such as 8gb"),
    "PBS: property": pbs("#PBS -l select=2:a100", "a chunk is N:NAME=VALUE"),
    "PBS: select and more": pbs("#PBS -l select=1:ncpus=4 -l ncpus=4,select=1", "cannot stand"),
    "PBS: place": pbs("#PBS -l select=1 -l place=scater", "scatter"),
    "PBS: interactive": pbs("#PBS -I", "interactive"),
    "PBS: block": pbs("#PBS -W block=true", "remove it"),
    "PBS: output": pbs("#PBS -j oe", "-j is not needed"),
    "PBS: server": pbs("#PBS -q viz@other", "another cluster"),
    # qsub of Grid Engine
    "Grid Engine: slots": gridengine("#$ -pe smp", "a name and a number of slots"),
    "Grid Engine: hours": gridengine("#$ -l h_rt=2h", "HH:MM:SS"),
    "Grid Engine: size": gridengine("#$ -l h_vmem=8GB", "such as 8G"),
    "Grid Engine: sync": gridengine("#$ -sync y", "remove it"),
    "Grid Engine: unknown": gridengine("#$ -queue viz.q", "no option -queue"),
    "Grid Engine: several": gridengine("#$ -t 1-3", "several jobs of one"),
    # Placeholders
    "quotes around a value": run('hpcbridge_run "{{ app.script }}" launch.py', "outside of quotes"),
    "undefined property": run("hpcbridge_run launch.py {{ app.script }} {{ app.datta }}", "datta"),
    "unknown filter": run("hpcbridge_run x launch.py {{ app.script | quote }}", "no filter named"),
    "a comment of Jinja2": above_run("{# what this does #}", "are {%# ... #%}"),
    "secret in a directive": directive("#SBATCH --comment={{ job.secret | directive }}", "secret"),
    "eval": above_run("eval {{ app.script }}", "once more"),
    "bash -c": run("hpcbridge_run bash -c {{ app.script }} # launch.py", "once more"),
    "ssh": above_run("ssh n2 {{ app.script }}", "once more"),
    "include misspelt": Mistake(INCLUDE, '{% include "prelud.sh" %}', 4, "prelud.sh was not found"),
    "include of itself": Mistake(INCLUDE, '{% include "t.sh" %}', 4, "t.sh -> t.sh"),
    "block not ended": Mistake(ARGUMENTS, "{% if app.script %}", 6, "block"),
    # The prelude and the run line
    "no prelude": Mistake(f"{INCLUDE}\n", "", 6, 'write {% include "prelude.sh" %}'),
    "prelude below": Mistake(f"{INCLUDE}\n\n{ARGUMENTS}\n{RUN}", f"{RUN}\n{INCLUDE}", 4, "move it"),
    "no run line": run("python launch.py {{ app.script }}", "started with hpcbridge_run"),
    "run misspelt": run(RUN.replace("_run", "_rum"), "Did you mean hpcbridge_run?"),
    "run without a command": run("hpcbridge_run # {{ app.script }}", "needs a command"),
    "srun before": run(f"srun {RUN}", "hpcbridge_run srun COMMAND"),
    "exec before": run(f"exec {RUN}", "hpcbridge_run exec COMMAND"),
    "exec in place of it": above_run("exec pvpython launch.py x.py", "exec replaces the"),
    "background": run(f"{RUN} &", "remove the &"),
    "nohup": above_run("nohup Xvfb :1 &", "outlive"),
    "redirected": run(f"{RUN} >app.log 2>&1", "remove the redirection"),
    "all redirected": above_run("exec >app.log 2>&1", "ready line"),
    "tee": run(f"{RUN} 2>&1 | tee app.log", "In a pipe"),
    "exit": above_run("exit 0", "ends here"),
    "strict": Mistake(INCLUDE, f"set -eu\n{INCLUDE}", 4, "below it"),
    "trap": above_run("trap cleanup EXIT", "epilogue"),
    "cd": above_run("cd /data/results", "launch.py is not found"),
    "no launch.py": run("hpcbridge_run pvpython {{ app.script }}", "without launch.py"),
    "secret on the command line": run(f'{RUN} --authKey "$(cat secret)"', "launch.py"),
    "secret in the environment": above_run('export KEY="$(cat secret)"', "secret"),
    # The shell
    "port": argument("arguments=(--host {{ job.bind }} --port 8080)", '"$HPCBRIDGE_PORT"'),
    "port variable": above_run("export PORT=8888", '"$HPCBRIDGE_PORT"'),
    "our port": above_run("HPCBRIDGE_PORT=$((9000 + RANDOM % 100))", "is set by the prelude"),
    "variable misspelt": argument(ARGUMENTS.replace("BRIDGE", "BRDIGE"), "HPCBRIDGE_PORT?"),
    "all addresses": argument(ARGUMENTS.replace("{{ job.bind }}", "0.0.0.0"), "{{ job.bind }}"),
    "continuation forgotten": run(f"{RUN}\n  --size=3", "lacks a \\"),
    "blank after a backslash": run(f"{RUN} \\ \n  --size=3", "blank after the backslash"),
    "quotes of a text": argument("arguments=(--title \u201cA\u201d)", "is for texts"),
    "quote not ended": above_run("title='its", "is not closed"),
    "if not ended": above_run("if true; then", "bash says"),
    "module misspelt": above_run("module laod paraview", "Did you mean load?"),
    "module misspelt itself": above_run("moduel load paraview", "Did you mean module?"),
}  # fmt: skip


@pytest.fixture
def context(context: ScriptContext) -> ScriptContext:
    properties = {"script": "/srv/apps/cone.py"}
    return replace(context, properties=properties, parameters={}, options={}, scheduler="slurm")


LATER = {"continuation forgotten": 1, "quote not ended": 1, "if not ended": 2, "block not ended": 1}
"""How many lines further down a mistake is told: where bash comes to it."""


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_cure(
    made: Made, context: ScriptContext, name: str
) -> None:
    mistake = MISTAKES[name]
    context = replace(context, scheduler=mistake.scheduler)
    found = check(made(mistake.template()), "t.sh", context)
    lines = range(mistake.line, mistake.line + 1 + LATER.get(name, 0))
    right = [each for each in found if each.line in lines and mistake.said in each.message]
    assert right, "\n".join(map(str, found)) or "nothing was found"
    assert right[0].template == "t.sh"
    # One mistake is not told in many ways.
    assert len(found) <= 2, "\n".join(map(str, found))


def errors(problems: list[Problem]) -> list[str]:
    return [str(each) for each in problems if each.severity is Severity.ERROR]


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [("slurm", SLURM), ("slurmrest", SLURM), ("pbs", PBS), ("torque", PBS),
     ("gridengine", GRIDENGINE), ("own", SLURM)],
)  # fmt: skip
def test_nothing_is_said_of_a_template_that_is_right(
    made: Made, context: ScriptContext, scheduler: str, text: str
) -> None:
    assert check(made(text), "t.sh", replace(context, scheduler=scheduler)) == []


GOOD = {
    "directives": [
        "#SBATCH -t 90 -N2 --ntasks-per-node=8 -c 4 --exclusive",
        "#SBATCH --time 2-12 --nodes=2-4 --mem=0 # whole nodes",
        "#SBATCH --gres=gpu:h100:4,license:1 --constraint=\"a100&nvlink\"",
        "#SBATCH --gres=gpu --mem-per-cpu=2500 --tmp=1T --mail-type=END,FAIL",
        "#SBATCH --gpus-per-node=a100:2 -A physics --qos=high --acco=x",
        "#SBATCH --container-image=docker://a/b:1 --container-mounts=/data",
        "#SBATCH --export=NONE --signal=B:TERM@60 --requeue",
        "# SBATCH lines above say what the job needs",
        "#SBATCH --comment='a b c'",
    ],
    "commands": [
        "module load paraview/5.13 openmpi || exit 1",
        "module use /apps/modules && module load vtk",
        "if [[ -d /scratch ]]; then\n  cd /scratch\nfi",
        "(cd /data && ls)",
        "(cd && exec xterm) &",
        "export OMP_NUM_THREADS=4 PATH=/apps/bin:$PATH",
        "echo 'port 8080 is not used; 0.0.0.0 neither' # nor --port 8080",
        "arguments+=(\n  --size 3\n  --title \"a b\"\n)",
        "case $HOSTNAME in\n  n1) echo one ;;\n  *) echo other ;;\nesac",
        "cat >settings.json <<'END'\n{\"listen\": \"127.0.0.1\"}\n--port\nEND",
        "hpcbridge_xvfb 1920x1080",
        "start() {\n  cd /data || exit 1\n  exec \"$@\"\n}",
        "trap 'echo reloaded' USR1",
        "set -x; set -o pipefail",
        "ssh-add -l >/dev/null 2>&1 || true",
        "for n in 1 2 3; do\n  echo \"$n\"\ndone",
    ],
}  # fmt: skip


@pytest.mark.parametrize("line", GOOD["directives"])
def test_nothing_is_said_of_directives_that_sbatch_takes(
    made: Made, context: ScriptContext, line: str
) -> None:
    assert check(made(SLURM.replace(PLACE, line)), "t.sh", context) == []


@pytest.mark.parametrize("line", GOOD["commands"])
def test_nothing_is_said_of_commands_that_do_what_they_say(
    made: Made, context: ScriptContext, line: str
) -> None:
    assert check(made(SLURM.replace(RUN, f"{line}\n{RUN}")), "t.sh", context) == []


def test_an_option_of_the_configuration_is_named_where_its_value_is_wrong(
    context: ScriptContext,
) -> None:
    context = replace(context, options={"memory": "64GiB", "gres": "gpu:h100=4"})
    said = "\n".join(errors(check(TemplateSet(), "trame.sh", context)))
    assert "--mem: '64GiB' is not what sbatch reads there" in said
    assert "That is the option 'memory'." in said
    assert "That is the option 'gres'." in said


def test_templates_that_include_each_other_are_told_with_the_way(
    made: Made, context: ScriptContext
) -> None:
    text = SLURM.replace(INCLUDE, f'{INCLUDE}\n{{% include "a.sh" %}}')
    templates = made(text, a='{% include "b.sh" %}\n', b='# b\n{% include "a.sh" %}\n')
    (found,) = check(templates, "t.sh", context)
    assert str(found) == "b.sh, line 2: This includes itself for ever: a.sh -> b.sh -> a.sh."


SITE = """\
[clusters.lab]
scheduler = "slurm"
options = {{ {cluster} }}

[applications.cone]
cluster = "lab"
template = "trame.sh"
properties = {{ script = "/srv/apps/cone.py" }}
options = {{ {application} }}
{more}
"""


@pytest.mark.parametrize(
    ("cluster", "application", "more", "said"),
    [
        ('queue = "viz"', "", "", "warning: options: clusters.lab.options.queue does nothing"),
        ('queue = "viz"', "", "", "Did you mean partition?"),
        ("", "memroy = 1", "", "error: trame.sh: applications.cone.options.memroy does nothing"),
        ("", "memroy = 1", "", "Did you mean memory?"),
        ("", "frobnicate = 1", "", "The templates ask for: account, "),
        ("", "", 'ready_line = "App running at:.*"', "looks like a regular expression"),
        ("", "", 'ready_line = "^Listening on port [0-9]+"', "looks like a regular expression"),
    ],
)
def test_what_the_configuration_says_in_vain_is_told(
    tmp_path: Path, cluster: str, application: str, more: str, said: str
) -> None:
    file = tmp_path / "hpcbridge.toml"
    file.write_text(SITE.format(cluster=cluster, application=application, more=more))
    told = [
        f"{problem.severity}: {problem}"
        for _, problems in check_all(configfile.load(file))
        for problem in problems
    ]
    assert len(told) == 1
    assert said in told[0]


def test_nothing_is_said_of_options_that_one_of_the_templates_uses(tmp_path: Path) -> None:
    file = tmp_path / "hpcbridge.toml"
    more = 'ready_line = "Listening (on port 1234)..."'
    options = 'partition = "viz", modules = "paraview", qos = "high"'
    file.write_text(SITE.format(cluster=options, application='gres = "gpu:1"', more=more))
    assert [problems for _, problems in check_all(configfile.load(file))] == [[]]


def test_what_shellcheck_says_of_own_lines_is_told_with_their_line(
    made: Made, context: ScriptContext
) -> None:
    text = SLURM.replace(RUN, f'ls $tmpdir && [ "$a" = b -a c ]\n{RUN}')
    told = [str(each) for each in check(made(text), "t.sh", context, thorough=True)]
    assert "t.sh, line 7: ShellCheck says: tmpdir is referenced but not assigned (SC2154)." in told
    assert {each.partition(" line ")[2][:1] for each in told} == {"7"}
    assert check(made(SLURM), "t.sh", context, thorough=True) == []


def test_without_shellcheck_nothing_is_missing(
    made: Made, context: ScriptContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shellcheck, "program", lambda: None)
    text = SLURM.replace(RUN, f"echo $tmpdir\n{RUN}")
    assert check(made(text), "t.sh", context, thorough=True) == []
