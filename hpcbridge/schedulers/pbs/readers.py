"""Reads what qstat(1B) printed: JSON, text, and Torque's XML. Every value becomes text.

Each reader returns the attributes of all jobs by their ids, or of queues, nodes and the server by
their names, or None for what is not a whole answer.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

Jobs = dict[str, dict[str, str]]

JOB_ID = re.compile(r"[0-9]{1,12}(\[[0-9]*\])?(\.[A-Za-z0-9][A-Za-z0-9._-]{0,254})?")

_START = re.compile(r'^\{\s*"timestamp"', re.MULTILINE)
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_json(text: str) -> Jobs | None:
    """The answer of ``qstat -f -F json``.

    Releases up to 23.06.06 print other people's variables such as ``+5`` bare, so that it is no
    JSON; later ones guess types (``0012`` is 12) and may tell a key twice.
    """
    answer = _answer(text)
    jobs = _attributes(answer.get("Jobs", {})) if answer else None
    return jobs if jobs is not None and all(map(JOB_ID.fullmatch, jobs)) else None


def read_section(text: str, name: str) -> Jobs | None:
    """A part that the answer has to have: ``Server``, ``Queue``, or the ``nodes`` of pbsnodes."""
    answer = _answer(text)
    return _attributes(answer.get(name)) if answer else None


def _answer(text: str) -> dict[str, Any] | None:
    start = _START.search(text)
    try:
        answer = json.loads(text[start.start() :], strict=False) if start else None
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and "pbs_version" in answer else None


def _attributes(section: object) -> Jobs | None:
    if not isinstance(section, dict) or not all(isinstance(v, dict) for v in section.values()):
        return None
    return {key: _flat(each) for key, each in section.items()}


def _flat(job: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in job.items():
        if key == "Variable_List":
            continue  # of the job's owner, who can write anything there
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": _text(each) for name, each in value.items()}
        else:
            flat[key] = _text(value)
    return flat


def _text(value: object) -> str:
    try:
        return str(value).encode("utf-8", "replace").decode()  # no half of a character
    except ValueError:  # a number of too many digits
        return ""


def read_text(text: str) -> Jobs | None:
    """The answer of ``qstat -f -w``: one attribute a line, line ends in values escaped.

    Without ``-w``, a variable of the job could forge lines of its own.
    """
    jobs: Jobs = {}
    begin = text.find("Job Id: ")
    if begin < 0:
        return {} if not text.strip() else None
    for block in text[begin:].removesuffix("\n\n").split("\n\n"):
        head, *lines = block.split("\n")
        job_id = head.removeprefix("Job Id: ").strip()
        if not head.startswith("Job Id: ") or not JOB_ID.fullmatch(job_id):
            return None
        pairs = [line.strip().partition(" = ")[::2] for line in lines]
        jobs[job_id] = dict(reversed(pairs))  # the first one counts
    return jobs if text.endswith("\n\n") else None


class _Plain(TreeBuilder):
    """A document without definitions of its own: no entity can grow or reach a file."""

    def doctype(self, *_: object) -> None:
        raise ParseError("a document type is not expected")


def read_xml(text: str) -> Jobs | None:
    """The answer of Torque's ``qstat -x``: nothing for no job, a ``<Data>`` for each server."""
    jobs: Jobs = {}
    begin = text.find("<Data>")
    if begin < 0:
        return {} if not text.strip() else None
    for document in _NOT_XML.sub("?", text[begin:]).strip().split("</Data>"):
        if not document.strip():
            continue
        try:
            parser = XMLParser(target=_Plain())  # noqa: S314 - see _Plain
            parser.feed(f"{document}</Data>")
            data: Element = parser.close()
        except ParseError:
            return None
        for job in data.findall("Job"):
            job_id = job.findtext("Job_Id", "")
            if not JOB_ID.fullmatch(job_id):
                return None
            jobs[job_id] = _flat_element(job)
    return jobs if text.rstrip().endswith("</Data>") else None


def read_blocks(text: str, head: str) -> Jobs | None:
    """What Torque's ``qstat -Q -f`` and ``qstat -B -f`` print: attributes below ``Queue: NAME``."""
    parts = re.split(rf"^{head}: (\S+)$", text, flags=re.MULTILINE)[1:]
    found = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        pairs = [line.strip().partition(" = ")[::2] for line in block.split("\n")]
        found[name] = dict(reversed(pairs))
    return found or None


def _flat_element(job: Element) -> dict[str, str]:
    flat: dict[str, str] = {}
    for child in job:
        if len(child):
            flat |= {f"{child.tag}.{each.tag}": each.text or "" for each in child}
        elif child.tag != "Variable_List":
            flat[child.tag] = child.text or ""
    return flat
