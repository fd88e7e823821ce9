"""An application's ``command`` as the shell words that its template writes.

Every value becomes quoted text; what only the job knows (its port) is a quoted variable of its
shell. Nothing is filled in twice.
"""

from collections.abc import Mapping, Sequence

from hpcbridge.config.commandwords import JOB_WORDS, Part, parts
from hpcbridge.errors import TemplateError
from hpcbridge.jobscripts.values import Namespace, Verbatim, sh


def shell_words(command: Sequence[str], names: Mapping[str, Namespace]) -> tuple[Verbatim, ...]:
    """The command's words, ready for bash.

    Raises TemplateError for a name that is not there.
    """
    return tuple(_word(each, names) for each in command)


def _word(word: str, names: Mapping[str, Namespace]) -> Verbatim:
    try:
        found = parts(word)
    except ValueError as error:
        raise TemplateError(f"command: {error}.") from error
    return Verbatim("".join(_written(part, names) for part in found) or "''")


def _written(part: Part, names: Mapping[str, Namespace]) -> str:
    if isinstance(part, str):
        return sh(part)
    if part.group == "job" and part.name in JOB_WORDS:
        return JOB_WORDS[part.name]
    group = names.get(part.group)
    if group is None or part.name not in group:
        missing = group.missing(part.name) if group else f"{part} is not there"
        raise TemplateError(f"command: {missing}.")
    return sh(group[part.name])
