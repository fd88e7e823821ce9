"""Options of qsub in ``#PBS`` lines, and how their values are written.

qsub(1B) of OpenPBS and PBS Pro, pbs_resources(7B), and qsub(1) of Torque.
"""

import re
from collections.abc import Iterator

from hpcbridge.jobscripts.review.findings import Finding, error, warning
from hpcbridge.jobscripts.review.words import meant

_FLAGS = frozenset("fhIVXznxGDE")
_VALUED = frozenset("AabCcdeFiJjKkLlMmNoPpqRrSTtuvWw")
_PURPOSE = {
    "I": "makes an interactive job, which a script cannot be",
    "X": "is for interactive jobs",
    "f": "makes qsub wait for the job's end, and the launch with it",
}
_OURS = {
    "o": "hpcbridge reads the job's output where it told qsub to write it",
    "e": "hpcbridge reads the job's output where it told qsub to write it",
    "j": "hpcbridge has both outputs in one file already",
    "N": "hpcbridge finds its jobs by the name that it gives them",
}
_SIZE = re.compile(r"\d+[kmgtp]?[bw]?", re.IGNORECASE)
_SIZE_RULE = "a whole number with kb, mb, gb or tb behind it, such as 8gb"
_COUNT_RULE = "a whole number"
_TIME_RULE = "seconds, MM:SS or HH:MM:SS"
_SIZES = ("mem", "vmem", "pmem", "pvmem", "file")
_TIMES = ("walltime", "cput", "pcput")
_COUNTS = ("ncpus", "ngpus", "mpiprocs", "ompthreads", "ppn", "gpus", "nice")
_KNOWN = (*_SIZES, *_TIMES, *_COUNTS, "select", "place", "nodes", "arch", "host", "vnode", "qos",
          "software", "feature", "naccesspolicy", "advres", "epilogue", "prologue")  # fmt: skip
_PLACES = frozenset(("free", "pack", "scatter", "vscatter", "excl", "exclhost", "shared"))


def judge(words: list[str]) -> Iterator[Finding]:
    """What is wrong with the words of a ``#PBS`` line."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            yield error(f"'{word}' is no option: qsub's options begin with -.")
            continue
        if word.startswith("--"):
            yield error(f"'{word}' is no option of qsub: its options have one dash, one letter.")
            if "=" not in word and rest and not rest[0].startswith("-"):
                rest.pop(0)
            continue
        for index, letter in enumerate(word[1:], 1):
            if letter in _FLAGS:
                yield from _flag(letter)
                continue
            if letter not in _VALUED:
                yield error(f"qsub has no option -{letter}.")
                break
            value = word[index + 1 :]
            if not value:
                if not rest or rest[0].startswith("-"):
                    yield error(f"-{letter} needs a value.")
                    break
                value = rest.pop(0)
            yield from _valued(letter, value)
            break


def _flag(letter: str) -> Iterator[Finding]:
    if letter in _PURPOSE:
        yield error(f"-{letter} {_PURPOSE[letter]}; remove it.")
    elif letter == "h":
        yield warning("-h: the job waits until somebody releases it.")


def _valued(letter: str, value: str) -> Iterator[Finding]:
    if letter in _OURS:
        yield warning(f"-{letter} is not needed: {_OURS[letter]}. Remove it.")
    elif letter == "W" and re.search(r"\bblock\s*=\s*(true|t|1|y)", value, re.IGNORECASE):
        yield error("-W block=true makes qsub wait for the job's end; remove it.")
    elif letter == "W" and "depend" in value:
        yield warning("-W depend: the job waits for another one.")
    elif letter == "a":
        yield warning("-a: the job waits until then, whoever wants a session now.")
    elif letter == "l":
        yield from _resources(value)


def _resources(text: str) -> Iterator[Finding]:
    names = []
    for item in re.split(r",(?=[A-Za-z_]+(?:=|$))", text):
        name, equals, value = item.partition("=")
        names.append(name)
        if not equals:
            yield error(f"-l {item}: a resource is written NAME=VALUE.")
        elif name == "select":
            for chunk in value.split("+"):
                yield from _chunk(chunk)
        elif name == "nodes":
            yield from _old_nodes(value)
        elif name == "place":
            yield from _place(value)
        else:
            yield from _resource(name, value)
    if "select" in names and (other := {"ncpus", "nodes", "mem", "ngpus"} & set(names)):
        yield error(f"-l {sorted(other)[0]} cannot stand beside select: write it into the chunk.")


def _chunk(text: str) -> Iterator[Finding]:
    first, *rest = text.split(":")
    for item in rest if first.isdigit() else (first, *rest):
        name, equals, value = item.partition("=")
        if not equals or not value:
            yield error(f"select: '{item}' is not like NAME=VALUE; a chunk is N:NAME=VALUE:....")
        else:
            yield from _resource(name, value)


def _old_nodes(text: str) -> Iterator[Finding]:
    for part in text.split("+"):
        for item in part.split(":")[1:]:
            name, equals, value = item.partition("=")
            if equals:
                yield from _resource(name, value)


def _place(text: str) -> Iterator[Finding]:
    for word in text.split(":"):
        if word not in _PLACES and not word.startswith("group="):
            known = ", ".join(sorted(_PLACES))
            yield error(f"place: '{word}' is unknown; it can be {known} or group=RESOURCE.")


def _resource(name: str, value: str) -> Iterator[Finding]:
    rules = (
        (_TIMES, re.compile(r"(\d+:){0,2}\d+(\.\d+)?"), _TIME_RULE),
        (_SIZES, _SIZE, _SIZE_RULE),
        (_COUNTS, re.compile(r"-?\d+"), _COUNT_RULE),
    )
    for names, pattern, rule in rules:
        if name in names and not pattern.fullmatch(value):
            yield error(f"{name}: '{value}' is not what qsub reads there; it can be {rule}.")
    # Sites define resources of their own, whose names are short.
    if len(name) > 4 and name not in _KNOWN and (hint := meant(name, _KNOWN, 0.8)):
        yield error(f"There is no resource {name}.{hint}")
