"""``hpcbridge template``: job templates are looked at, tried and checked."""

from typing import TYPE_CHECKING, Annotated

import typer

from hpcbridge.cli.options import Application, Config
from hpcbridge.errors import ConfigError

if TYPE_CHECKING:
    from hpcbridge.config.applications import ApplicationSettings
    from hpcbridge.config.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look at job templates and try them.")

Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A value as a user would post it."),
]
OnCluster = Annotated[
    str | None, typer.Option("--cluster", help="One of its clusters; by default the first.")
]


@app.command("list")
def listing(config: Config) -> None:
    """List the templates there are, and which applications use them."""
    from hpcbridge.config import file as configfile
    from hpcbridge.jobscripts.render import TemplateSet

    settings = configfile.load(config)
    templates = TemplateSet(settings.template_dirs)
    for name in templates.names():
        users = [key for key, each in settings.applications.items() if each.template == name]
        used = f"  (used by {', '.join(users)})" if users else ""
        print(f"{name:24} {templates.find(name)}{used}")


@app.command("show")
def show(
    config: Config,
    name: Annotated[str, typer.Argument(metavar="TEMPLATE", help="A name from 'template list'.")],
) -> None:
    """Print a template as it is, to be copied into one of template_dirs and edited there."""
    from hpcbridge.config import file as configfile
    from hpcbridge.jobscripts.render import TemplateSet

    settings = configfile.load(config)
    print(TemplateSet(settings.template_dirs).source(name).text, end="")


@app.command("diff")
def diff(
    config: Config,
    name: Annotated[
        str | None, typer.Argument(metavar="[TEMPLATE]", help="One of them; by default each.")
    ] = None,
) -> None:
    """Show how the site's own copies of shipped templates differ from those of this version.

    After an upgrade: what the new version changed is missing in a copy. Exit status 1 when there
    are differences, as diff(1).
    """
    import difflib

    from hpcbridge.config import file as configfile
    from hpcbridge.jobscripts.render import BUILTIN, TemplateSet

    settings = configfile.load(config)
    templates, shipped = TemplateSet(settings.template_dirs), TemplateSet()
    names = sorted(path.name for path in BUILTIN.iterdir())
    if name is not None and name not in names:
        raise ConfigError(
            f"hpcbridge has no template {name} of its own. It has: {', '.join(names)}."
        )
    differ = False
    for each in [name] if name else names:
        own = templates.source(each)
        if own.builtin:
            continue
        lines = difflib.unified_diff(
            shipped.source(each).text.splitlines(),
            own.text.splitlines(),
            f"hpcbridge's {each}",
            str(own.path),
            lineterm="",
        )
        for line in lines:
            differ = True
            print(line)
    if differ:
        raise typer.Exit(1)
    print("The site's templates are its own, or as they are shipped.")


@app.command("render")
def render(
    config: Config, application: Application, param: Parameters = None, cluster: OnCluster = None
) -> None:
    """Print the job script that a launch of APPLICATION would submit."""
    from hpcbridge.config import file as configfile
    from hpcbridge.config.parameters import check_parameters
    from hpcbridge.jobscripts.render import TemplateSet
    from hpcbridge.jobscripts.render import render as rendered
    from hpcbridge.jobscripts.samples import sample_context

    settings = configfile.load(config)
    wanted = _wanted(settings, application)
    if cluster is not None and cluster not in wanted.cluster:
        names = ", ".join(wanted.cluster)
        raise ConfigError(f"'{application}' does not run on '{cluster}'. Its clusters: {names}.")
    values = check_parameters(wanted.parameters, _posted(application, wanted, param))
    context = sample_context(settings, application, values, cluster)
    print(rendered(TemplateSet(settings.template_dirs), wanted.template, context), end="")


@app.command("check")
def check(config: Config) -> None:
    """Check the templates of all applications; exit status 1 when one cannot be used."""
    from hpcbridge.config import file as configfile
    from hpcbridge.jobscripts.rules import Severity
    from hpcbridge.jobscripts.samples import check_all

    settings = configfile.load(config)
    failed = False
    for name, problems in check_all(settings, thorough=True):
        for problem in problems:
            print(f"{name}: {problem.severity}: {problem}")
        failed = failed or any(each.severity == Severity.ERROR for each in problems)
        if not problems:
            print(f"{name}: {settings.applications[name].template} is fine")
    if failed:
        raise typer.Exit(1)


def _wanted(settings: "Settings", name: str) -> "ApplicationSettings":
    wanted = settings.applications.get(name)
    if wanted is None:
        known = ", ".join(settings.applications)
        raise ConfigError(f"There is no application '{name}'. Applications: {known}.")
    return wanted


def _posted(name: str, wanted: "ApplicationSettings", pairs: list[str] | None) -> dict[str, str]:
    for each in pairs or []:
        if "=" not in each:
            raise ConfigError(f"--param: {each!r} is not like NAME=VALUE.")
    posted = dict(each.partition("=")[::2] for each in pairs or [])
    if unknown := sorted(posted.keys() - wanted.parameters.keys()):
        declared = ", ".join(wanted.parameters) or "none"
        raise ConfigError(f"No parameter '{unknown[0]}' in '{name}'. Parameters: {declared}.")
    return posted
