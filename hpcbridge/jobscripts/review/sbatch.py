"""Options of sbatch in ``#SBATCH`` lines, and how their values are written: sbatch(1).

Plugins of a site (SPANK) add options, so one that is unknown and like none that is known is only
worth a warning.
"""

import re
from collections.abc import Iterator

from hpcbridge.jobscripts.review.findings import Finding, error, warning
from hpcbridge.jobscripts.review.words import listed, meant

_FLAGS = listed(
    """
    contiguous exclusive get-user-env help hold ignore-pbs mem-bind no-kill no-requeue nice
    overcommit oversubscribe parsable propagate quiet reboot requeue spread-job test-only
    use-min-nodes usage verbose version wait consolidate-segments resv-ports stepmgr
    oom-kill-step
    """
)
_VALUED = listed(
    """
    account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment
    constraint container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu
    cpus-per-task deadline delay-boot dependency distribution error exclude export export-file
    extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task
    gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user
    mcs-label mem mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks
    ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output partition
    power prefer priority profile qos reservation segment signal sockets-per-node switches
    thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes
    wckey wrap
    """
)
_SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint",
    "c": "cpus-per-task", "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile",
    "G": "gpus", "H": "hold", "h": "help", "I": "immediate", "i": "input", "J": "job-name",
    "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes",
    "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos",
    "S": "core-spec", "s": "oversubscribe", "t": "time", "u": "usage", "V": "version",
    "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_KNOWN = frozenset((*_FLAGS, *_VALUED))
_PLUGINS = ("container-", "no-container-")  # of pyxis

_TIME = re.compile(r"\d+(-\d+(:\d+){0,2}|(:\d+){0,2})|UNLIMITED|INFINITE", re.IGNORECASE)
_SIXTIES = re.compile(r":(\d+)")
_TIME_RULE = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
_SIZE_RULE = "a whole number of megabytes, or one with K, M, G or T behind it, such as 8G"
_COUNT_RULE = "a whole number of 1 or more"
_GPU_RULE = "a number, or TYPE:NUMBER, such as a100:2"
_GRES_RULE = "NAME, NAME:NUMBER or NAME:TYPE:NUMBER, such as gpu:h100:4, with commas between"
_GRES = r"(gres[:/])?[A-Z][\w.-]*(:[A-Z][\w.-]*)?(:\d+[KMGT]?)?"
_PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    **dict.fromkeys(
        ("mem", "mem-per-cpu", "mem-per-gpu", "tmp"),
        (re.compile(r"\d+([KMGT]B?)?", re.IGNORECASE), _SIZE_RULE),
    ),
    **dict.fromkeys(
        ("cpus-per-task", "cpus-per-gpu", "ntasks", "ntasks-per-node", "ntasks-per-gpu", "mincpus",
         "ntasks-per-socket", "ntasks-per-core", "cores-per-socket", "sockets-per-node",
         "threads-per-core"),
        (re.compile(r"0*[1-9]\d*[kmKM]?"), _COUNT_RULE),
    ),
    **dict.fromkeys(
        ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"),
        (re.compile(r"([A-Za-z][\w.-]*:)?\d+(,[A-Za-z][\w.-]*:\d+)*"), _GPU_RULE),
    ),
    "gres": (re.compile(rf"{_GRES}(,{_GRES})*", re.IGNORECASE), _GRES_RULE),
    "nodes": (
        re.compile(r"\d+[kmKM]?([-,:]\d+[kmKM]?)*(/.*)?"),
        "a number, or LEAST-MOST, such as 2-4",
    ),
    "mail-type": (
        re.compile(r"(NONE|BEGIN|END|FAIL|REQUEUE|ALL|INVALID_DEPEND|STAGE_OUT|ARRAY_TASKS"
                   r"|TIME_LIMIT(_\d\d)?|,)+", re.IGNORECASE),
        "NONE, BEGIN, END, FAIL, REQUEUE, ALL, TIME_LIMIT or several of them with commas",
    ),
}  # fmt: skip
_OURS = {
    "output": "hpcbridge reads the job's output where it told sbatch to write it",
    "error": "standard error would be missing in the output that hpcbridge reads",
    "open-mode": "hpcbridge tells sbatch how to write the output",
    "job-name": "hpcbridge finds its jobs by the name that it gives them",
}
_WRONG = {
    "wait": "makes sbatch wait for the job's end, and the launch with it",
    "test-only": "submits nothing",
    "wrap": "cannot be used together with a script",
    "uid": "is for root alone",
    "gid": "is for root alone",
    "help": "submits nothing",
    "usage": "submits nothing",
    "version": "submits nothing",
}
_LATE = {
    "hold": "the job waits until somebody releases it",
    "begin": "the job waits until then, whoever wants a session now",
    "dependency": "the job waits for another one",
}


def judge(words: list[str]) -> Iterator[Finding]:
    """What is wrong with the words of a ``#SBATCH`` line."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            yield error(f"'{word}' is no option: sbatch's options begin with - or --.")
        elif word.startswith("--"):
            yield from _long(word, rest)
        else:
            yield from _short(word, rest)


def _long(word: str, rest: list[str]) -> Iterator[Finding]:
    written, equals, value = word[2:].partition("=")
    names = [written] if written in _KNOWN else [n for n in _KNOWN if n.startswith(written)]
    if len(names) > 1:
        yield error(f"--{written} can mean {', '.join('--' + n for n in sorted(names))}.")
    elif not names and not written.startswith(_PLUGINS):
        yield _unknown(f"--{written}", meant(f"--{written}", [f"--{name}" for name in _KNOWN]))
        if not equals and rest and not rest[0].startswith("-"):
            rest.pop(0)
    elif names:
        (name,) = names
        if name in _VALUED and not equals:
            if not rest or rest[0].startswith("-"):
                yield error(f"--{name} needs a value: --{name}=VALUE.")
                return
            value = rest.pop(0)
        yield from _valued(f"--{name}", name, value)


def _short(word: str, rest: list[str]) -> Iterator[Finding]:
    for index, letter in enumerate(word[1:], 1):
        name = _SHORT.get(letter)
        if name is None:
            yield _unknown(f"-{letter}", "")
            return
        if name not in _VALUED:
            yield from _valued(f"-{letter}", name, "")
            continue
        value = word[index + 1 :]
        if not value:
            if not rest or rest[0].startswith("-"):
                yield error(f"-{letter} (--{name}) needs a value: -{letter} VALUE.")
                return
            value = rest.pop(0)
        yield from _valued(f"-{letter}", name, value)
        return


def _unknown(option: str, hint: str) -> Finding:
    if hint:
        return error(f"sbatch has no option {option}.{hint}")
    return warning(f"sbatch has no option {option}, unless a plugin of your site adds it.")


def _valued(option: str, name: str, value: str) -> Iterator[Finding]:
    if name in _WRONG:
        yield error(f"{option} {_WRONG[name]}; remove it.")
    elif name in _OURS:
        yield warning(f"{option} is not needed: {_OURS[name]}. Remove it.")
    elif name in _LATE:
        yield warning(f"{option}: {_LATE[name]}.")
    elif name in ("time", "time-min"):
        late = any(int(part) > 59 for part in _SIXTIES.findall(value)) and value.count(":") != 1
        if not _TIME.fullmatch(value) or late:
            yield error(f"{option}: '{value}' is no time of sbatch; it can be {_TIME_RULE}.")
    elif name in _PATTERNS:
        pattern, rule = _PATTERNS[name]
        if not pattern.fullmatch(value):
            yield error(f"{option}: '{value}' is not what sbatch reads there; it can be {rule}.")
