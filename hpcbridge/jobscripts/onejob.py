"""Directives by which a script is not one job of the cluster it is submitted to.

A session is one job: job arrays and heterogeneous jobs are listed under other ids than the one that
was told, and a job of another cluster is not listed at all. sbatch(1), qsub(1B), qsub(1).
"""

import re

# Options can be written one after the other (-Ha 1) as far as they take no value; long ones can be
# cut (--arr). Grid Engine's are whole words.
_MANY = "makes several jobs of one (a job array or a heterogeneous job), and a session is one job"
_ELSEWHERE = "sends the job to another cluster, where it would neither be seen nor ended"
_RULES = (
    ("SBATCH", re.compile(r"-[HIkKOQsvVuW]*a.*|--ar(r(ay?)?)?(=.*)?|(het|pack)job"), _MANY),
    ("SBATCH", re.compile(r"-[HIkKOQsvVuW]*M.*|--clusters?(=.*)?"), _ELSEWHERE),
    ("PBS", re.compile(r"-[fhIVXznx]*[Jt].*"), _MANY),
    ("$", re.compile(r"-t"), _MANY),
)
_DIRECTIVE = re.compile(r"\s*#(SBATCH|PBS|\$)(.*)", re.DOTALL)
_SERVER = re.compile(r"\s-q\s*[^\s@]*@")


def why_not_one(line: str) -> str:
    """What is wrong with such a directive, as a sentence; "" for any other line."""
    found = _DIRECTIVE.fullmatch(line)
    if found is None:
        return ""
    system, words = found[1], _options(found[2])
    for kind, pattern, why in _RULES:
        if kind == system and (word := next(filter(pattern.fullmatch, words), "")):
            return f"{word} {why}; remove it."
    if system == "PBS" and _SERVER.search(found[2]):
        return f"-q with a server's name {_ELSEWHERE}; write the queue's name alone."
    return ""


def _options(text: str) -> list[str]:
    """The words before a comment, without their quotes."""
    return [word.strip("'\"") for word in re.sub(r"\s#.*", "", text).split()]
