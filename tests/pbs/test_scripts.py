"""A value in a qsub script is a value: it makes no directive, no option and no command."""

from pathlib import Path

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.config.fields import Primitive
from hpcbridge.config.settings import Settings
from hpcbridge.errors import BadParameter, TemplateError
from hpcbridge.jobscripts.render import TemplateSet, render
from hpcbridge.jobscripts.samples import sample_context

EXAMPLE = Path(__file__).parents[2] / "examples" / "pbs" / "hpcbridge.toml"


def rendered(settings: Settings, file: Primitive = "a.ex2") -> str:
    context = sample_context(settings, "visualizer", {"file": file})
    return render(TemplateSet(settings.template_dirs), "visualizer.sh", context)


def with_options(**options: Primitive) -> Settings:
    settings = configfile.load(EXAMPLE)
    cluster = settings.clusters["pbs"]
    changed = cluster.model_copy(update={"options": {**cluster.options, **options}})
    return settings.model_copy(update={"clusters": {"pbs": changed}})


def directives(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.lstrip().startswith("#PBS")]


def test_the_example_asks_for_what_it_says() -> None:
    assert directives(rendered(with_options())) == [
        "#PBS -q workq",
        "#PBS -A viz",
        "#PBS -l select=1:ncpus=4:mem=8gb",
        "#PBS -l place=pack",
    ]


@pytest.mark.parametrize(
    "value", ["x;id", "$(id)", "`id`", "'; id; '", "-q other", "a b,c=d", "#PBS"]
)
def test_a_users_value_is_one_quoted_word(value: str) -> None:
    script = rendered(with_options(), value)
    assert directives(script) == directives(rendered(with_options()))
    assert "--load-file=" in script


@pytest.mark.parametrize("value", ["x\n#PBS -q other", "x\r#PBS -q other", "x\x00", "x\u2028#PBS"])
def test_a_users_value_with_a_line_end_is_refused(value: str) -> None:
    with pytest.raises(BadParameter):
        rendered(with_options(), value)


@pytest.mark.parametrize(
    "value", ["workq\n#PBS -o /etc/x", "workq -o /etc/x", "x;cmd", "$(id)", "`id`", "'x'", ""]
)
@pytest.mark.parametrize("option", ["queue", "account", "memory"])
def test_an_option_that_is_more_than_a_value_is_refused(option: str, value: str) -> None:
    with pytest.raises(TemplateError):
        rendered(with_options(**{option: value}))
