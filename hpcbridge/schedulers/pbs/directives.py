"""The ``#PBS`` lines of a job script, as far as they decide when the job would start: qsub(1B)."""

import getopt
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_MARK = "#PBS"
# Those of PBS and of Torque: of no letter one says that it takes a value and the other that not.
_OPTIONS = "a:A:b:c:C:d:D:e:EfF:GhIj:J:k:K:l:L:m:M:nN:o:p:P:q:r:R:S:t:T:u:v:Vw:W:xXz"
_WITHOUT_EFFECT = frozenset("AcejkmMNopPrRSuvVz")

_RESOURCE = re.compile(r"([A-Za-z][\w-]*)=([\w.:+=@-]+)")
_PART = re.compile(r"([A-Za-z][\w-]*)=([\w.@-]+)")
_NODES = re.compile(r"(\d{1,6})(?::ppn=(\d{1,6}))?")
PLACE = re.compile(r"(free|pack|scatter)?:?(excl|exclhost|shared)?")
"""How chunks are put on nodes, as far as it is understood here."""
OF_ONE_CHUNK = frozenset({"ncpus", "mem", "ngpus"})
"""What a job that names no chunks can ask of the one that it gets."""
_OF_THE_JOB = ("walltime", "cput", "pcput", "nice")


@dataclass(frozen=True)
class Chunks:
    """``count`` times the resources of ``each``, arranged on hosts as ``place`` says.

    ``given`` is false where the job names none: then it has one, which defaults can add to.
    """

    count: int = 1
    each: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    given: bool = True


@dataclass(frozen=True)
class Directives:
    """What a job asks for: ``queue`` is "" for the default one, ``walltime`` as it is written.

    ``chunks`` is None where they are of several kinds, or something else decides as well.
    """

    queue: str = ""
    walltime: str = ""
    chunks: Chunks | None = None


def read(script: str) -> Directives | None:
    """The directives of a script; None where they cannot be read."""
    queue, resources, certain = "", list[str](), True
    try:
        for line in _lines(script):
            options, operands = getopt.getopt(shlex.split(line), _OPTIONS)
            if operands:
                return None
            for name, value in options:
                if name == "-q":
                    queue = value
                elif name == "-l":
                    resources += value.split(",")
                elif name == "-W":
                    certain = certain and "depend" not in value
                else:
                    certain = certain and name[1] in _WITHOUT_EFFECT
    except (ValueError, getopt.GetoptError):
        return None
    asked = _resources(resources)
    if asked is None:
        return Directives(queue)
    return Directives(queue, asked.get("walltime", ""), _chunks(asked) if certain else None)


def _lines(script: str) -> Iterator[str]:
    """What follows the mark, up to the first command."""
    for line in map(str.strip, script.split("\n")):
        if line.startswith(_MARK):
            yield line.removeprefix(_MARK)
        elif line and not line.startswith("#"):
            return


def _resources(asked: list[str]) -> dict[str, str] | None:
    found = [_RESOURCE.fullmatch(each.strip()) for each in asked]
    pairs = [(each[1], each[2]) for each in found if each]
    # Of one that is asked for twice it is not documented which counts.
    return dict(pairs) if len({name for name, _ in pairs}) == len(asked) else None


def _chunks(asked: Mapping[str, str]) -> Chunks | None:
    wanted = {name: value for name, value in asked.items() if name not in _OF_THE_JOB}
    place = wanted.pop("place", "")
    if wanted.keys() == {"select"}:
        return _select(wanted["select"], place)
    if wanted.keys() == {"nodes"}:
        nodes = _NODES.fullmatch(wanted["nodes"])
        if nodes is None or not int(nodes[1]) or place:  # PBS takes no place beside nodes
            return None
        return Chunks(int(nodes[1]), {"ncpus": nodes[2] or "1"}, "scatter")
    if wanted.keys() <= OF_ONE_CHUNK:
        return Chunks(1, wanted, place, given=False)
    return None


def _select(text: str, place: str) -> Chunks | None:
    """``4:ncpus=8:mem=16gb``; a count of 1 can be left out."""
    words = text.split(":")
    count = int(words.pop(0)) if re.fullmatch(r"\d{1,6}", words[0]) else 1
    parts = [_PART.fullmatch(each) for each in words]
    pairs = [(each[1], each[2]) for each in parts if each]
    whole = len({name for name, _ in pairs}) == len(parts)
    return Chunks(count, dict(pairs), place) if whole and count else None
