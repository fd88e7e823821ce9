"""The ``#SBATCH`` lines of a job script, read as sbatch(1) reads them.

slurmrestd takes the script as it is and does not look at these lines. Which options there are, and
what becomes of each, is in :mod:`hpcbridge.schedulers.slurmrest.options`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.slurmrest.options import OPTIONS, SHORT, Takes

_MARK = "#SBATCH"


@dataclass(frozen=True)
class _Word:
    text: str
    line: int


def directives(script: str) -> dict[str, str]:
    """The options that the script's directives give, by their long names; "" where none is taken.

    The last one counts where an option is given twice. Raises
    :class:`~hpcbridge.errors.JobRejected`, naming the directive, for one that cannot be handed to
    slurmrestd.
    """
    found: dict[str, str] = {}
    words = _words(script)
    for word in words:
        if word.text.startswith("--") and len(word.text) > 2:
            name, given, value = word.text[2:].partition("=")
            if name not in OPTIONS:
                raise _untranslatable(f"--{name}", word.line)
            found[name] = _long(name, value if given else None, word, words)
        elif word.text.startswith("-") and len(word.text) > 1:
            found |= _short(word, words)
        else:
            raise _wrong(word.text, word.line, "it is not an option")
    return found


def _long(name: str, value: str | None, word: _Word, words: Iterator[_Word]) -> str:
    takes = OPTIONS[name].takes
    if value is not None and takes is Takes.NOTHING:
        raise _wrong(word.text, word.line, "this option takes no value")
    if value is None and takes is Takes.VALUE:
        value = _next(word, words)
    return value or ""


def _short(word: _Word, words: Iterator[_Word]) -> dict[str, str]:
    """``-N2``, ``-N 2``, and ``-HN2`` for options without a value."""
    found = {}
    rest = word.text[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        name = SHORT.get(letter)
        if name is None:
            raise _untranslatable(f"-{letter}", word.line)
        found[name] = ""
        if OPTIONS[name].takes is Takes.VALUE:
            found[name], rest = rest or _next(word, words), ""
    return found


def _next(word: _Word, words: Iterator[_Word]) -> str:
    value = next(words, None)
    if value is None:
        raise _wrong(word.text, word.line, "its value is missing")
    return value.text


def _words(script: str) -> Iterator[_Word]:
    """The words of all directives; the first line that is no comment ends them."""
    for number, line in enumerate(script.split("\n"), 1):
        if line.startswith(_MARK):
            for text in _split(line.removeprefix(_MARK), number):
                yield _Word(text, number)
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def _split(line: str, number: int) -> Iterator[str]:
    """The words of a line; quotes group, a backslash takes the next character as it is."""
    word: str | None = None
    quote = ""
    letters = iter(line)
    for letter in letters:
        if letter == "\\":
            word = (word or "") + next(letters, "")
        elif quote:
            quote = "" if letter == quote else quote
            word = (word or "") + (letter if quote else "")
        elif letter in "'\"":
            quote, word = letter, word or ""
        elif letter == "#":
            break
        elif letter.isspace():
            if word is not None:
                yield word
            word = None
        else:
            word = (word or "") + letter
    if quote:
        raise _wrong(line.strip(), number, f"the quote {quote} is not closed")
    if word is not None:
        yield word


def _wrong(text: str, line: int, why: str) -> JobRejected:
    return JobRejected(f"The job script's line {line}, {_MARK} {text}: {why}.")


def _untranslatable(option: str, line: int) -> JobRejected:
    can = ", ".join(f"--{name}" for name in sorted(OPTIONS))
    return JobRejected(
        f"The job script's line {line}, {_MARK} {option}: this option cannot be handed to "
        f"slurmrestd. Those that can: {can}."
    )
