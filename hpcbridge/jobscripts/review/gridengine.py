"""Options of qsub in ``#$`` lines, and how their values are written: qsub(1) of Grid Engine."""

import re
from collections.abc import Iterator

from hpcbridge.jobscripts.review.findings import Finding, error, warning
from hpcbridge.jobscripts.review.words import listed, meant

_ARITY = {
    **dict.fromkeys(
        listed(
            """
    clear cwd hard soft notify nostdin terse verify V
    """
        ),
        0,
    ),
    **dict.fromkeys(
        listed(
            """
    a ac ar A b binding c ckpt dc C display dl e h hold_jid hold_jid_ad i j js jsv l m M masterq
    mbind N now o P p pty q R r rou S shell sync t tc tcon v w wd xd
    """
        ),
        1,
    ),
    "pe": 2,
}
_WRONG = {
    "verify": "submits nothing",
    "clear": "undoes the options that hpcbridge gives",
}
_OURS = {
    "o": "hpcbridge reads the job's output where it told qsub to write it",
    "e": "hpcbridge reads the job's output where it told qsub to write it",
    "j": "hpcbridge has both outputs in one file already",
    "N": "hpcbridge finds its jobs by the name that it gives them",
}
_LATE = {
    "h": "the job waits until somebody releases it",
    "a": "the job waits until then, whoever wants a session now",
    "hold_jid": "the job waits for another one",
}
_TIMES = ("h_rt", "s_rt", "h_cpu", "s_cpu")
_SIZES = ("h_vmem", "s_vmem", "mem_free", "virtual_free", "h_data", "s_data", "h_rss", "s_rss",
          "h_stack", "s_stack", "h_fsize", "s_fsize", "swap_free", "mem_total")  # fmt: skip
_TIME = re.compile(r"\d+|\d*:\d*:\d*|INFINITY", re.IGNORECASE)
_SIZE = re.compile(r"\d+(\.\d+)?[KkMmGgTt]?|INFINITY", re.IGNORECASE)


def judge(words: list[str]) -> Iterator[Finding]:
    """What is wrong with the words of a ``#$`` line."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            yield error(f"'{word}' is no option: qsub's options begin with -.")
            continue
        name = word[1:]
        if name not in _ARITY:
            hint = meant(word, [f"-{each}" for each in _ARITY], 0.7)
            yield error(f"qsub has no option {word}.{hint}")
            if rest and not rest[0].startswith("-"):
                rest.pop(0)
            continue
        values, rest = rest[: _ARITY[name]], rest[_ARITY[name] :]
        if len(values) < _ARITY[name] or any(value.startswith("--") for value in values):
            wants = "a name and a number of slots" if name == "pe" else "a value"
            yield error(f"{word} needs {wants}.")
            return
        yield from _valued(name, values)


def _valued(name: str, values: list[str]) -> Iterator[Finding]:
    if name in _WRONG:
        yield error(f"-{name} {_WRONG[name]}; remove it.")
    elif name in ("sync", "now") and values[0].lower() in ("y", "yes"):
        why = {"sync": "makes qsub wait for the job's end", "now": "gives up unless it starts now"}
        yield error(f"-{name} {values[0]} {why[name]}; remove it.")
    elif name in _OURS:
        yield warning(f"-{name} is not needed: {_OURS[name]}. Remove it.")
    elif name in _LATE:
        yield warning(f"-{name}: {_LATE[name]}.")
    elif name == "pe" and not re.fullmatch(r"\d+(-\d*)?(,\d+(-\d*)?)*|-\d+", values[1]):
        yield error(f"-pe {values[0]}: '{values[1]}' is no number of slots.")
    elif name == "l":
        yield from _resources(values[0])


def _resources(text: str) -> Iterator[Finding]:
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key in _TIMES and not _TIME.fullmatch(value):
            yield error(f"{key}: '{value}' is no time of Grid Engine: seconds, or HH:MM:SS.")
        elif key in _SIZES and not _SIZE.fullmatch(value):
            yield error(f"{key}: '{value}' is no size: a number with K, M, G or T, such as 8G.")
        elif hint := meant(key, (*_TIMES, *_SIZES), 0.85) if key not in (*_TIMES, *_SIZES) else "":
            yield warning(f"There may be no resource {key}.{hint}")
