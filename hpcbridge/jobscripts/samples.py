"""Templates tried without a launch: with sample values, under a sample name."""

from collections.abc import Iterator, Mapping

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.config.settings import Settings
from hpcbridge.jobscripts.check import check
from hpcbridge.jobscripts.render import ScriptContext, TemplateSet, render
from hpcbridge.jobscripts.rules import Problem, Severity
from hpcbridge.jobscripts.stage import script_context
from hpcbridge.schedulers.base import JobRequest

SAMPLE_JOB = "hpcb-01234567-0123456789abcdef01234567"


def sample_context(
    settings: Settings,
    application: str,
    values: Mapping[str, Primitive],
    cluster_name: str | None = None,
) -> ScriptContext:
    """What a template would see in a launch with these ``values`` of parameters.

    ``cluster_name`` is by default the application's first.
    """
    wanted = settings.applications[application]
    cluster = settings.clusters[cluster_name or wanted.cluster[0]]
    return script_context(
        cluster,
        application,
        wanted,
        values,
        job_name=SAMPLE_JOB,
        directory=f"{cluster.session_root or '/home/USER/.hpcbridge'}/{SAMPLE_JOB}",
    )


def check_all(settings: Settings) -> Iterator[tuple[str, list[Problem]]]:
    """Each application by name, with the problems of its template on any of its clusters."""
    templates = TemplateSet(settings.template_dirs)
    for name, wanted in settings.applications.items():
        problems: dict[Problem, None] = {}
        for cluster in wanted.cluster:
            context = sample_context(settings, name, _samples(wanted), cluster)
            problems |= dict.fromkeys(check(templates, wanted.template, context))
        problems |= dict.fromkeys(_shown_secrets(wanted))
        yield name, list(problems)


def _shown_secrets(wanted: ApplicationSettings) -> Iterator[Problem]:
    if any("${job.secret}" in word for word in wanted.command):
        message = (
            "command: ${job.secret} can be read by everybody on the node. Write ${job.launch} "
            "before a Python script, or ${job.secret_file} for a program that reads files."
        )
        yield Problem(None, message, Severity.WARNING, wanted.template)


def sample_request(settings: Settings, application: str, cluster: str) -> JobRequest:
    """A job of the application as ``cluster`` would get it, of which nothing is staged.

    Raises :class:`~hpcbridge.errors.TemplateError` and :class:`~hpcbridge.errors.BadParameter`.
    """
    wanted = settings.applications[application]
    context = sample_context(settings, application, _samples(wanted), cluster)
    text = render(TemplateSet(settings.template_dirs), wanted.template, context)
    script = f"{context.directory}/job.sh"
    return JobRequest(SAMPLE_JOB, context.directory, script, wanted.walltime, text)


def _samples(wanted: ApplicationSettings) -> dict[str, Primitive]:
    """A value for every parameter, those included that a user has to give."""
    samples: dict[str, Primitive] = {"str": "sample", "int": 1, "float": 1.0, "bool": False}
    return {
        name: next(
            (each for each in (rules.default, *(rules.choices or [])) if each is not None),
            samples[rules.type],
        )
        for name, rules in wanted.parameters.items()
    }
