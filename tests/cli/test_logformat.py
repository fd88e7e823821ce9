"""The service's log: one event one line, whatever a job prints or a client sends."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from hpcbridge.cli.logformat import JSON, Text
from tests.site import Service, Site
from tests.usersite import auth, named

AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +hpcbridge[a-z.]*: "
FORGED = (
    '2026-01-01 00:00:00,000 INFO    hpcbridge.auth.audit: {"time": "2026-01-01T00:00:00.000Z", '
    '"what": "stop", "result": "done", "user": "bob"}'
)
FORGER = (
    f"#!/bin/sh\nprintf 'x\\n%s\\n\\r%s\\342\\200\\250%s\\n' '{FORGED}' '{FORGED}' 'z'\nexit 7\n"
)


def forge(site: Site, serve: Callable[..., Service], form: str) -> list[str]:
    """The lines of a service's log to which a job's output got."""
    site.config["applications"]["crash"]["properties"]["program"] = site.program("forger", FORGER)
    users = auth(site)
    del users["audit_file"]
    site.write(server={"log_format": form}, auth=users)
    service = serve("--end-sessions")
    reply = service.post({"application": "crash"}, headers=named("alice"))
    assert "hpcbridge.auth.audit" in reply.json()["error"], "the user sees what was printed"
    service.http.get("/paraview/x%0a%e2%80%a8" + FORGED, headers=named("alice"))
    service.stop()
    assert FORGED.partition("{")[2][:20] in service.log.replace("\\", "")
    return service.log.splitlines()


@pytest.mark.servers
def test_a_jobs_output_puts_no_line_into_the_log(site: Site, serve: Callable[..., Service]) -> None:
    lines = forge(site, serve, "text")
    assert not [line for line in lines if not re.match(AT, line)]
    told = [line for line in lines if re.match(AT.replace("[a-z.]*", ".auth.audit"), line)]
    audited = [json.loads(line[line.index("{") :]) for line in told]
    assert {each["user"] for each in audited} == {"alice"}
    assert [each["what"] for each in audited] == ["launch"]


@pytest.mark.servers
def test_structured_logs_are_an_object_a_line(site: Site, serve: Callable[..., Service]) -> None:
    lines = [json.loads(line) for line in forge(site, serve, "json")]
    assert {"time", "level", "logger"} <= set.intersection(*(set(each) for each in lines))
    audited = [each["audit"] for each in lines if "audit" in each]
    assert [(each["what"], each["user"]) for each in audited] == [("launch", "alice")]
    assert all(each["logger"] == "hpcbridge.auth.audit" for each in lines if "audit" in each)
    assert any(FORGED in each.get("message", "") for each in lines)


class Odd(str):
    """A text whose representation is the text itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@pytest.mark.parametrize("form", [Text(), JSON()])
def test_a_traceback_is_one_line_and_nothing_acts_on_a_terminal(form: logging.Formatter) -> None:
    wrong = Odd("one\ntwo\x1b[2J\u202e\u2028\u2029\x85\x0b")
    try:
        int(wrong)
    except ValueError as error:
        record = _record("failed: %s\r\n%s", "\x1b]0;x\x07", "\x9b31m", error)
    told = form.format(record)
    assert len(told.splitlines()) == 1
    assert told.isprintable()
    assert "Traceback" in told
    assert "ValueError: invalid literal" in told


def _record(text: str, *values: Any) -> logging.LogRecord:
    *given, error = values
    raised = (type(error), error, error.__traceback__)
    return logging.LogRecord("hpcbridge.x", logging.ERROR, "", 1, text, tuple(given), raised)
