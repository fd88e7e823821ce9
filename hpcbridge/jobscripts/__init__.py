"""Job scripts: the templates that admins copy and edit, and what turns them into a script."""

from hpcbridge.jobscripts.check import check
from hpcbridge.jobscripts.render import ScriptContext, TemplateSet, render
from hpcbridge.jobscripts.rules import Problem, Severity
from hpcbridge.jobscripts.sources import LAUNCH_STUB

__all__ = [
    "LAUNCH_STUB",
    "Problem",
    "ScriptContext",
    "Severity",
    "TemplateSet",
    "check",
    "render",
]
