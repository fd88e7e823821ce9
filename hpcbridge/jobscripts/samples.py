"""Templates tried without a launch: with sample values, under a sample name."""

import difflib
import re
from collections.abc import Iterator, Mapping

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.fields import Primitive
from hpcbridge.config.settings import Settings
from hpcbridge.jobscripts.check import check
from hpcbridge.jobscripts.render import ScriptContext, TemplateSet, options_used, render
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


def check_all(settings: Settings, *, thorough: bool = False) -> Iterator[tuple[str, list[Problem]]]:
    """Each application by name, with the problems of its template on any of its clusters.

    ``thorough`` is that of :func:`hpcbridge.jobscripts.check.check`; it finds no further errors.
    """
    templates = TemplateSet(settings.template_dirs)
    used: dict[str, set[str]] = {}
    found: dict[str, dict[Problem, None]] = {}
    for name, wanted in settings.applications.items():
        problems = found[name] = {}
        for cluster in wanted.cluster:
            context = sample_context(settings, name, _samples(wanted), cluster)
            told = check(templates, wanted.template, context, thorough=thorough)
            problems |= dict.fromkeys(told)
            if any(each.severity is Severity.ERROR for each in told):
                used[cluster] = {*used.get(cluster, ()), *context.options}  # nobody can tell
                continue
            seen = options_used(templates, wanted.template, context)
            used[cluster] = used.get(cluster, set()) | seen
            idle = _idle_options(f"applications.{name}", wanted.options, seen, context.scheduler)
            problems |= {Problem(None, each, template=wanted.template): None for each in idle}
        problems |= dict.fromkeys((*_shown_secrets(wanted), *_patterns(wanted)))
    for cluster, seen in used.items():
        first = next(n for n, each in settings.applications.items() if cluster in each.cluster)
        kind, options = settings.clusters[cluster].scheduler, settings.clusters[cluster].options
        for each in _idle_options(f"clusters.{cluster}", options, seen, kind):
            found[first][Problem(None, each, Severity.WARNING, "options")] = None
    yield from ((name, list(problems)) for name, problems in found.items())


_NAMES = {
    "slurm": {"queue": "partition", "mem": "memory", "ntasks": "tasks", "cores": "cpus"},
    "pbs": {"partition": "queue", "mem": "memory", "ncpus": "cpus", "ngpus": "gpus"},
    "gridengine": {"partition": "queue", "mem": "memory", "slots": "cpus"},
}


def _idle_options(
    where: str, options: Mapping[str, Primitive], seen: set[str], scheduler: str
) -> Iterator[str]:
    """A sentence for each of ``options`` that nothing asks for."""
    kind = {"slurmrest": "slurm", "torque": "pbs"}.get(scheduler, scheduler)
    for key in options:
        if key in seen:
            continue
        close = difflib.get_close_matches(key, sorted(seen), n=1)
        other = _NAMES.get(kind, {}).get(key) or (close[0] if close else "")
        hint = f"Did you mean {other}? " if other else ""
        known = ", ".join(sorted(seen)) or "none"
        yield (
            f"{where}.options.{key} does nothing with {scheduler}. {hint}"
            f"The templates ask for: {known}."
        )


_REGULAR = re.compile(r"\\[dwsSDWb]|\.[*+]|\[[^\]]*\][*+]|^\^|\(\?|\(.*\|.*\)")


def _patterns(wanted: ApplicationSettings) -> Iterator[Problem]:
    for line in wanted.ready_lines:
        if _REGULAR.search(line):
            message = (
                f"ready_line {line!r} looks like a regular expression; it is a text that the "
                f"output holds as it is, any part of the line."
            )
            yield Problem(None, message, Severity.WARNING, wanted.template)


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
