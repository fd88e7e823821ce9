"""From a template and its values to the script that is submitted.

Rendered once, in a sandbox: a value is text, never a template. Every value becomes one shell word
unless a filter of ours says otherwise, and the rules see to it that it stands where that holds.
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateSyntaxError, pass_context
from jinja2.exceptions import TemplateRuntimeError, UndefinedError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from hpcbridge.errors import BadParameter, TemplateError
from hpcbridge.jobscripts import values
from hpcbridge.jobscripts.gpuwords import why_not_both
from hpcbridge.jobscripts.rules import Problem, Severity, inspect
from hpcbridge.jobscripts.shelltext import DIRECTIVE
from hpcbridge.jobscripts.sources import BUILTIN, LAUNCH_STUB, TemplateSet, TemplateSource
from hpcbridge.jobscripts.values import Namespace, Primitive, ScriptContext, Verbatim, Watched
from hpcbridge.jobscripts.words import shell_words

__all__ = [
    "BUILTIN",
    "LAUNCH_STUB",
    "LocatedError",
    "Primitive",
    "ScriptContext",
    "TemplateSet",
    "TemplateSource",
    "environment",
    "options_used",
    "render",
]

SIZE_LIMIT = 1 << 20
"""Bytes a rendered script may have. PBS loses scripts over its own limit without a word."""

_NEUTRAL = "_neutral"
_HARMLESS_FILTERS = ("abs", "default", "float", "int", "lower", "replace", "round", "trim", "upper")


class LocatedError(TemplateError):
    """A template is wrong at a known place."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"Job template {problem}")
        self.problem = problem


def render(templates: TemplateSet, name: str, context: ScriptContext) -> str:
    """The job script, as text with LF line ends, at most ``SIZE_LIMIT`` bytes.

    Raises TemplateError when the template (or an admin's value) is wrong, and BadParameter when a
    user's value cannot be put into a script. Reads files; takes about a millisecond once loaded.
    """
    names = _names(context, context.namespaces())
    script = _run(templates, name, names, neutral=False)
    _accept_script(name, script)
    growth = _directives(script) - _directives(_run(templates, name, names, neutral=True))
    if growth:
        raise TemplateError(f"Job template {name}: a value made {growth} scheduler directives.")
    return script


def options_used(templates: TemplateSet, name: str, context: ScriptContext) -> set[str]:
    """The options that a job script of ``context`` depends on: all that its template asks for.

    Raises as :func:`render` does.
    """
    watched = Watched("cluster", context.options)
    names = _names(context, {**context.namespaces(), "cluster": watched})
    _run(templates, name, names, neutral=False)
    return watched.seen


def _names(context: ScriptContext, groups: Mapping[str, Namespace]) -> dict[str, object]:
    """What a template can look up."""
    return {**groups, "command": shell_words(context.command, groups)}


def environment(templates: TemplateSet) -> Environment:
    """The Jinja2 environment for these templates: one a set, to keep its compiled templates."""
    cached = _environments.get(templates)
    if cached is None:
        cached = _environments[templates] = _Environment(templates)
    return cached


_environments: "WeakKeyDictionary[TemplateSet, Environment]" = WeakKeyDictionary()


class _Missing(StrictUndefined):
    """What is not there: using it is an error that says what there is."""

    def __init__(
        self,
        hint: str | None = None,
        obj: object = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = UndefinedError,
    ) -> None:
        if hint is None and obj is missing:
            hint = f"{name} is not defined; there are: app, bridge, cluster, job, param"
        super().__init__(hint, obj, name, exc)


class _Loader(BaseLoader):
    """Hands templates to Jinja2 after the rules have seen them; reads a changed file again."""

    def __init__(self, templates: TemplateSet) -> None:
        self._templates = templates

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        source = self._templates.source(template)
        stamp = _stamp(source.path)
        for problem in inspect(environment, template, source.text):
            if problem.severity is Severity.ERROR:
                raise LocatedError(problem)

        def is_current() -> bool:
            try:
                return (
                    self._templates.find(template) == source.path and _stamp(source.path) == stamp
                )
            except (OSError, TemplateError):
                return False

        return source.text, str(source.path), is_current


class _Environment(ImmutableSandboxedEnvironment):
    """Knows our filters and namespaces and nothing else."""

    def __init__(self, templates: TemplateSet) -> None:
        super().__init__(
            # Bash writes ${#array[@]}, which holds the usual start of a Jinja2 comment.
            comment_start_string="{%#",
            comment_end_string="#%}",
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            undefined=_Missing,
            finalize=_finalize,
            loader=_Loader(templates),
        )
        self.globals.clear()
        ours = {
            "sh": values.sh,
            "directive": values.directive,
            "hms": values.hms,
            "choice": values.placement,
            "positive": values.positive,
        }
        self.filters = {name: self.filters[name] for name in _HARMLESS_FILTERS} | ours

    def getattr(self, obj: object, attribute: str) -> object:
        return self.getitem(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        if isinstance(obj, Namespace):
            if isinstance(argument, str) and argument in obj:
                return obj[argument]
            return self.undefined(obj.missing(str(argument)), obj=obj, name=str(argument))
        return super().getitem(obj, argument)


@pass_context
def _finalize(context: Context, value: object) -> str:
    """The last thing that happens to every placeholder."""
    if context.get(_NEUTRAL):
        return "x"
    return value if isinstance(value, Verbatim) else values.sh(value)


def _run(templates: TemplateSet, name: str, names: Mapping[str, object], *, neutral: bool) -> str:
    """Render; ``neutral`` takes the same branches but writes ``x`` for every placeholder."""
    try:
        return environment(templates).get_template(name).render({**names, _NEUTRAL: neutral})
    except (LocatedError, BadParameter):
        raise
    except TemplateSyntaxError as error:
        problem = Problem(error.lineno, error.message or "Syntax error.", template=name)
        raise LocatedError(problem) from error
    except Exception as error:  # whatever an expression in a template can do
        where, line = _where(error, name)
        if isinstance(error, TemplateError) and line is None:
            raise
        message = f"{str(error).rstrip('.') or type(error).__name__}."
        raise LocatedError(Problem(line, message, template=where)) from error


def _where(error: Exception, name: str) -> tuple[str, int | None]:
    """The template and line that an error came from: the innermost one of its traceback."""
    found: tuple[str, int | None] = (name, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        if "__jinja_exception__" in frame.f_globals:
            found = (Path(frame.f_code.co_filename).name, line)
    return found


def _accept_script(name: str, script: str) -> None:
    if not script.startswith("#!"):
        message = "A job script must begin with #!, for example #!/bin/bash."
        raise LocatedError(Problem(1, message, template=name))
    if len(script.encode()) > SIZE_LIMIT:
        raise TemplateError(f"Job template {name} makes a script of more than {SIZE_LIMIT} bytes.")
    if why := why_not_both(script):
        raise TemplateError(f"Job template {name}: {why}.")


def _directives(script: str) -> int:
    return sum(bool(DIRECTIVE.match(line)) for line in script.split("\n"))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
