"""What is wrong with the directives of a rendered script, told with the template's line."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from hpcbridge.jobscripts.review import gridengine, qsub, sbatch
from hpcbridge.jobscripts.review.findings import Finding, error, warning
from hpcbridge.jobscripts.review.origin import Origin
from hpcbridge.jobscripts.rules import Problem, Severity
from hpcbridge.jobscripts.shelltext import DIRECTIVE, Place, ShellText

_MARKS: Mapping[str, tuple[str, Callable[[list[str]], Iterator[Finding]]]] = {
    "slurm": ("#SBATCH", sbatch.judge),
    "slurmrest": ("#SBATCH", sbatch.judge),
    "pbs": ("#PBS", qsub.judge),
    "torque": ("#PBS", qsub.judge),
    "gridengine": ("#$", gridengine.judge),
}
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_NOT_QUITE = re.compile(r"#\s*(SBATCH|PBS)\s+--?[A-Za-z]|#\s+\$\s+-[a-z]", re.IGNORECASE)


def judge(scheduler: str, script: str, origin: Origin) -> Iterator[Problem]:
    """Everything about the directives of ``script`` that ``scheduler`` would not take as meant."""
    mark, judge_words = _MARKS.get(scheduler, ("", None))
    if judge_words is None:
        return
    shell, of_others, ours = ShellText(), [], 0
    for number, line in enumerate(script.split("\n"), 1):
        at_start = shell.place is Place.COMMAND
        if at_start and not shell.command_seen and number > 1:
            if DIRECTIVE.match(line):
                if line.lstrip().startswith(mark):
                    ours += 1
                    for severity, message in _line(mark, judge_words, line):
                        yield origin.problem(number, message, severity)
                else:
                    of_others.append((number, line))
            elif _NOT_QUITE.match(line) or line.upper().startswith(mark + " "):
                message = f"This is a comment: a directive begins with {mark}, in these letters."
                yield origin.problem(number, message)
        shell.feed(line + "\n")
    if of_others and not ours:
        number, line = of_others[0]
        found = line.split()[0]
        message = f"{found} is of another batch system: here, directives begin with {mark}."
        yield origin.problem(number, message, Severity.WARNING)


def _line(
    mark: str, judge_words: Callable[[list[str]], Iterator[Finding]], line: str
) -> Iterator[Finding]:
    if not line.startswith(mark):
        yield error(f"There is a blank before {mark}, so the batch system does not read the line.")
        return
    text = line[len(mark) :]
    if text[:1] and not text[0].isspace():
        yield error(f"{line.split()[0]}: a blank is missing after {mark}.")
        return
    if found := next((char for char in text if char in _DASHES), ""):
        yield error(f"'{found}' (U+{ord(found):04X}) is no minus sign; type the dash anew: -.")
        return
    try:
        words = shlex.split(re.sub(r"(^|\s)#.*", "", text))
    except ValueError:
        yield error("A quotation mark is missing in this directive.")
        return
    if not words:
        yield warning(f"There is no option after {mark}.")
        return
    if expanded := next((word for word in words if re.search(r"\$[\w{(]|`", word)), ""):
        yield error(
            f"'{expanded}': batch systems put no variables into directives. Write the value, or "
            f"{{{{ cluster.NAME | directive }}}} for one of the options."
        )
        return
    yield from judge_words(words)
