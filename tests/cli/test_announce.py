"""``hpcbridge announce``, ``drain`` and ``undrain`` beside a service that runs."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from hpcbridge.cli import main as cli
from tests.replies import refusal
from tests.site import Service, Site
from tests.usersite import audited, auth, named

Command = Callable[..., str]


@pytest.fixture
def hpcbridge(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """What a command says on the site, on either stream."""

    def command(what: str, *arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", what, str(site.path), *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        assert (caught.value.code or 0) == status, said.err
        return said.out + said.err

    return command


def test_a_service_that_runs_tells_and_refuses_at_once(
    site: Site, serve: Callable[..., Service], hpcbridge: Command
) -> None:
    site.write(auth=auth(site))
    service = serve("--end-sessions")
    alice: dict[str, Any] = {"headers": named("alice") | {"Prefer": "respond-async"}}
    assert hpcbridge("announce", "Tea at four") == "the site: Tea at four\n"
    said = hpcbridge("drain", "new disks", "--application", "cone")
    assert said == "application cone: drained (new disks)\n"
    seen = service.http.get("/paraview/applications", **alice).json()["announcements"]
    assert {(each["about"], each["text"]) for each in seen} == {
        ("site", "Tea at four"),
        ("application", "new disks"),
    }
    assert "new disks" in refusal(service.post({"application": "cone"}, **alice), 503)
    listed = hpcbridge("announce")
    assert "root  application cone: drained (new disks)" in listed
    hpcbridge("undrain", "--application", "cone")
    assert service.post({"application": "cone"}, **alice).status_code == 202
    hpcbridge("announce", "--withdraw")
    assert hpcbridge("announce") == ""
    lines = [each for each in audited(site) if each.get("about")]
    assert [each["what"] for each in lines] == ["announce", "drain", "withdraw", "withdraw"]
    assert {each["account"] for each in lines} == {"root"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["announce", "a\nb"], "text: one line"),
        (["announce", "x", "--application", "nosuch"], "There is no application 'nosuch'"),
        (["drain", "--cluster", "nosuch"], "There is no cluster 'nosuch'; there are: here"),
        (["drain", "--cluster", "here", "--application", "cone"], "give one of them"),
        (["undrain"], "the site: nothing is drained"),
        (["announce", "--withdraw"], "the site: nothing is announced"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    site: Site, hpcbridge: Command, arguments: list[str], words: str
) -> None:
    site.write()
    what, *rest = arguments
    said = hpcbridge(what, *rest, status=1)
    assert words in said
    assert "Traceback" not in said


def test_undrain_leaves_what_is_only_said(site: Site, hpcbridge: Command) -> None:
    site.write()
    hpcbridge("announce", "Tea at four")
    hpcbridge("undrain", status=1)
    assert "Tea at four" in hpcbridge("announce")


def test_what_is_said_of_something_that_has_gone_can_be_withdrawn(
    site: Site, hpcbridge: Command
) -> None:
    site.write()
    hpcbridge("drain", "new disks", "--application", "cone")
    hpcbridge("announce", "Tea at four", "--application", "mute")
    site.write(applications={"cone": None, "mute": None})
    assert hpcbridge("undrain", "--application", "cone") == "application cone: withdrawn.\n"
    hpcbridge("announce", "--withdraw", "--application", "mute")
    assert hpcbridge("announce") == ""
    said = hpcbridge("undrain", "--application", "cone", status=1)
    assert "There is no application 'cone'" in said
