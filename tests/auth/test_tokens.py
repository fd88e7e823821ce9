"""API tokens: made by a command beside the service, good for what they say, until they are not."""

import asyncio
import logging
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, update

from hpcbridge.auth import tokens as tokens_module
from hpcbridge.auth.identity import Scope
from hpcbridge.auth.tokens import TokenRow, Tokens
from hpcbridge.cli import main as cli
from hpcbridge.errors import StoreError
from hpcbridge.sessions import manager as sessions
from hpcbridge.web import events
from hpcbridge.web import launcher as web_launcher
from hpcbridge.web.access import Access
from tests.replies import refusal
from tests.site import Launch
from tests.usersite import audited, auth, bearer, client, named
from tests.waiting import until

pytestmark = pytest.mark.servers

Command = Callable[..., tuple[int, str, str]]
CONE = {"application": "cone"}
NO_WAIT = {"Prefer": "respond-async"}
ALL = (Scope.LAUNCH, Scope.READ, Scope.STOP)
HOUR = 3600.0


async def made(api: Any, user: str = "alice", *scopes: Scope, lasts: float = HOUR) -> str:
    """A new token of the site."""
    _, token = await Tokens(api.sessions.store).create(user, scopes or ALL, lasts=lasts)
    return token


async def status(api: Any, headers: Any, peer: str = "192.0.2.7") -> int:
    async with client(api, headers, peer) as somebody:
        return int((await somebody.get("/paraview")).status_code)


# -- at the service


async def test_a_token_launches_looks_and_stops_from_anywhere(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        token = await made(api)
        async with client(api, bearer(token), "192.0.2.7") as alice:
            begun = await alice.post("/paraview", json=CONE)
            assert begun.status_code == 200, begun.text
            path = f"/paraview/{begun.json()['id']}"
            assert (await api.row(begun.json()["id"])).user == "alice"
            assert (await alice.get(path)).json()["state"] == "ready"
            assert (await alice.delete(path)).status_code == 200
    launched, stopped = audited(site)
    for line in (launched, stopped):
        assert (line["user"], line["how"], line["token"]) == ("alice", "token", token[5:17])
        assert line["from"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([Scope.LAUNCH], {"POST"}),
        ([Scope.READ], {"GET"}),
        ([Scope.STOP], {"DELETE"}),
        ([Scope.OPERATE], set()),
    ],
)
async def test_a_token_is_good_for_its_scopes_only(
    site: Any, launcher: Launch, scopes: list[Scope], allowed: set[str]
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        async with client(api, bearer(await made(api)) | NO_WAIT) as alice:
            path = f"/paraview/{(await alice.post('/paraview', json=CONE)).json()['id']}"
        async with client(api, bearer(await made(api, "alice", *scopes)) | NO_WAIT) as alice:
            replies = {
                "POST": await alice.post("/paraview", json=CONE),
                "GET": await alice.get(path),
                "DELETE": await alice.delete(path),
            }
        for method, reply in replies.items():
            if method in allowed:
                assert reply.status_code in (200, 202), method
            else:
                assert "This token is not for" in refusal(reply, 403)


def wrong_tokens(token: str) -> dict[str, str]:
    """Tokens that look like this one."""
    _, token_id, secret = token.split("_")
    return {
        "truncated": token[:-1],
        "without its secret": f"hpcb_{token_id}_",
        "longer": token + "0",
        "with another secret": f"hpcb_{token_id}_{'0' * 64}",
        "with another id": f"hpcb_{'0' * 12}_{secret}",
        "in capitals": token.upper(),
        "of another program": "ghp_" + "x" * 36,
        "with a space in it": token[:30] + " " + token[30:],
        "with SQL": f"hpcb_' OR 1=1 --_{secret}",
        "not ASCII": "hpcb_" + "é" * 12 + "_" + secret,
        "empty": "",
        "long": "hpcb_" + "a" * 10_000,
    }


async def test_what_is_no_valid_token_is_refused_in_the_same_words(
    site: Any, launcher: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    """Expired, revoked, foreign and truncated ones cannot be told apart by who sends them."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # the command line makes it silent
    async with launcher(auth=auth(site, "token", failures=1000)) as api:
        token = await made(api)
        wrong = wrong_tokens(token)
        wrong["expired"] = await made(api, lasts=0.0)
        wrong["revoked"] = await made(api)
        await Tokens(api.sessions.store).revoke(wrong["revoked"][5:17])
        said, before = set(), len(caplog.records)
        for kind, each in wrong.items():
            header = [(b"Authorization", b"Bearer " + each.encode())]
            async with client(api, header) as somebody:
                reply = await somebody.post("/paraview", json=CONE)
            assert reply.status_code == 401, kind
            said.add(reply.text)
        assert len(said) == 1
        assert not site.directories()
        assert len(caplog.records) > before
        assert await status(api, bearer(token)) == 200
    whys = {line["why"] for line in audited(site)}
    assert whys == {"not a token of ours", "no such token", "a wrong secret", "expired", "revoked"}
    record = caplog.text + (site.root / "audit.jsonl").read_text()
    assert not any(each in record for each in [token, *wrong.values()] if len(each) > 20)
    assert token.split("_")[2] not in record


async def test_an_open_stream_of_events_ends_with_its_token(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_launcher, "ASK_AGAIN", 0.0)
    async with launcher(auth=auth(site, "token", failures=3)) as api:
        async with client(api, bearer(await made(api))) as alice:
            session = (await alice.post("/paraview", json=CONE)).json()["id"]
        tokens, token = Tokens(api.sessions.store), await made(api, "alice", Scope.READ)

        async def used() -> bool:
            return any(row.id == token[5:17] and row.used_at for row in await tokens.all())

        async with client(api, bearer(token)) as alice, asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(alice.get(f"/paraview/{session}/events"))
            await until(used, "the stream's first look at the token")
            guesses = [await status(api, bearer("hpcb_nonsense"), "127.0.0.1") for _ in range(4)]
            assert guesses == [401] * 3 + [429]
            await asyncio.sleep(2 * events.LOOK)
            assert not stream.done(), "others' guesses ended it"
            await tokens.revoke(token[5:17])
        told = stream.result()
        assert told.status_code == 200
        assert '"state": "ready"' in told.text
        assert '"state": "ended"' not in told.text
    assert audited(site)[-1]["why"] == "revoked"


async def test_who_is_at_a_session_stays_as_long_as_its_token_and_no_longer(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither others' guesses cut it off, nor a database that is away; nor do own ones help."""
    async with launcher(auth=auth(site, "token", failures=3)) as api:
        token, tokens = await made(api), Tokens(api.sessions.store)
        async with client(api, bearer(token) | NO_WAIT) as alice:
            session = (await alice.post("/paraview", json=CONE)).json()["id"]
        access = Access(api.settings, api.sessions)

        async def admitted(said: str, **again: bool) -> bool:
            header = [(b"authorization", f"Bearer {said}".encode())]
            return await access.admits(session, header, "192.0.2.7", **again)

        assert await admitted(token)
        assert [await admitted("hpcb_nonsense") for _ in range(4)] == [False] * 4
        assert not await admitted(token)
        assert await admitted(token, again=True)

        async def away(*_: object) -> None:
            raise StoreError("The database is away.")

        with monkeypatch.context() as patched:
            patched.setattr(Tokens, "check", away)
            assert await admitted(token, again=True)
            assert not await admitted(token)
        await tokens.revoke(token[5:17])
        assert not await admitted(token, again=True)
    assert (audited(site)[-1]["what"], audited(site)[-1]["why"]) == ("visit", "revoked")


async def test_two_credentials_at_once_are_nobodys(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site, "header", "token")) as api:
        token = await made(api)
        assert await status(api, bearer(token)) == 200
        assert await status(api, named("alice"), "127.0.0.1") == 200
        assert await status(api, named("alice") | bearer(token), "127.0.0.1") == 401
        twice = [("Authorization", f"Bearer {token}")] * 2
        assert await status(api, twice) == 401
        # What a front end passes on of its own is none of ours.
        others = named("alice") | {"Authorization": "Bearer eyJhbGciOi.of.oidc"}
        assert await status(api, others, "127.0.0.1") == 200
        others["Authorization"] = "Basic YWxpY2U6c2VjcmV0"
        assert await status(api, others, "127.0.0.1") == 200


async def test_tokens_and_headers_count_only_where_they_are_accepted(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        token = await made(api)
        assert await status(api, named("alice"), "127.0.0.1") == 401
        assert await status(api, named("bob") | bearer(token), "127.0.0.1") == 200
    async with launcher(auth=auth(site, "header")) as api:
        assert await status(api, bearer(token), "127.0.0.1") == 401


async def test_a_token_of_somebody_who_may_be_no_user_any_more_is_refused(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        token = await made(api)
    async with launcher(auth=auth(site, "token", users_allowed="b.*")) as api:
        assert await status(api, bearer(token)) == 403


async def test_an_operators_token_reaches_others_only_where_it_says_so(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        async with client(api, bearer(await made(api)) | NO_WAIT) as alice:
            path = f"/paraview/{(await alice.post('/paraview', json=CONE)).json()['id']}"
        plain = await made(api, "olga")
        full = await made(api, "olga", *Scope)
        false = await made(api, "bob", *Scope)
        for token, expected in ((plain, 404), (false, 404), (full, 200)):
            async with client(api, bearer(token)) as somebody:
                assert (await somebody.get(path)).status_code == expected


@pytest.mark.parametrize(
    ("scope", "admitted"),
    [(Scope.LAUNCH, True), (Scope.READ, True), (Scope.STOP, False), (Scope.OPERATE, False)],
)
async def test_a_token_leads_to_sessions_only_where_it_is_for_using_them(
    site: Any, launcher: Launch, scope: Scope, admitted: bool
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        async with client(api, bearer(await made(api)) | NO_WAIT) as alice:
            session = (await alice.post("/paraview", json=CONE)).json()["id"]
        token = (await made(api, "alice", scope)).encode()
        header = [(b"authorization", b"Bearer " + token)]
        assert await Access(api.settings, api.sessions).admits(session, header, None) == admitted


async def test_guesses_on_the_way_to_a_session_shut_out_nobody_else_behind_the_front_end(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token", failures=3)) as api:
        token = await made(api)
        async with client(api, bearer(token) | NO_WAIT) as alice:
            session = (await alice.post("/paraview", json=CONE)).json()["id"]
        access = Access(api.settings, api.sessions)

        async def admitted(token: str, client: str, peer: str | None) -> bool:
            header = [(b"authorization", f"Bearer {token}".encode())]
            header.append((b"x-forwarded-for", client.encode()))
            return await access.admits(session, header, peer)

        for peer in ("127.0.0.1", None):
            wrong = [await admitted("nonsense", f"192.0.2.{peer is None:d}", peer) for _ in "12345"]
            assert not any(wrong)
            assert await admitted(token, "192.0.2.100", peer)
            assert not await admitted(token, f"192.0.2.{peer is None:d}", peer)
        # Only the front end is believed.
        assert not await admitted("nonsense", "192.0.2.100", "192.0.2.66")
        refused = audited(site)[-1]
        assert (refused["what"], refused["from"]) == ("visit", "192.0.2.66")


async def test_guesses_at_a_token_end_and_its_owner_elsewhere_is_not_shut_out(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token", failures=3)) as api:
        token = await made(api)
        wrong = bearer(token[:-64] + "0" * 64)
        seen = [await status(api, wrong, "192.0.2.7") for _ in range(5)]
        assert seen == [401] * 3 + [429] * 2
        # From many addresses at once: the token's own count.
        assert [await status(api, wrong, f"192.0.2.{n}") for n in range(8, 12)] == [429] * 4
        assert len(audited(site)) == 3
        assert await status(api, bearer(token), "192.0.2.100") == 200
        # One network of IPv6 is one place.
        nonsense = bearer("nonsense")
        seen = [await status(api, nonsense, f"2001:db8::{n}") for n in range(1, 6)]
        assert seen == [401] * 3 + [429] * 2
        assert await status(api, bearer(token), "2001:db8:0:1::1") == 200


async def test_a_guess_among_many_at_once_learns_no_more_than_one_alone(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are asked for before the first is found wrong; the right one is found last."""
    wrong_ones, arrived = asyncio.Event(), []
    check = Tokens.check

    async def late(self: Tokens, token: str) -> TokenRow:
        arrived.append(token)
        if token.endswith("f" * 64):
            await until(everybody_is_here, "all guesses")
        else:
            await wrong_ones.wait()
        return await check(self, token)

    async def everybody_is_here() -> bool:
        return len(arrived) == 9

    async with launcher(auth=auth(site, "token", failures=3)) as api:
        token = await made(api)
        monkeypatch.setattr(Tokens, "check", late)
        guesses = [f"hpcb_{number:012x}_{'f' * 64}" for number in range(8)]
        async with asyncio.TaskGroup() as tasks:
            right = tasks.create_task(status(api, bearer(token)))
            wrong = [tasks.create_task(status(api, bearer(each))) for each in guesses]
            await asyncio.wait(wrong)
            wrong_ones.set()
    assert sorted(each.result() for each in wrong) == [401] * 3 + [429] * 5
    assert right.result() == 429


async def test_the_last_use_is_noted_once_a_minute(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        tokens, token = Tokens(api.sessions.store), await made(api)
        (row,) = await tokens.all()
        assert row.used_at is None
        assert await status(api, bearer(token)) == 200
        (first,) = await tokens.all("alice")
        assert first.used_at == pytest.approx(time.time(), abs=10)
        assert await status(api, bearer(token)) == 200
        (again,) = await tokens.all()
        assert again.used_at == first.used_at
        monkeypatch.setattr(tokens_module, "USE_INTERVAL", 0.0)
        assert await status(api, bearer(token)) == 200
        (later,) = await tokens.all()
        assert later.used_at is not None
        assert later.used_at > first.used_at


async def test_a_use_that_cannot_be_noted_is_still_one(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with launcher(auth=auth(site, "token")) as api:
        token = await made(api)

        def locked() -> None:
            raise StoreError("The database is locked.")

        monkeypatch.setattr(api.sessions.store, "writing", locked)
        assert await status(api, bearer(token)) == 200


async def test_tokens_that_ended_long_ago_are_forgotten(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PRUNE_INTERVAL", 0.05)
    settings = {"auth": auth(site, "token"), "store": {"keep_ended": HOUR}}
    async with launcher(**settings) as api:
        store, lasts = api.sessions.store, {"valid": HOUR, "expired": -60.0, "old": -2 * HOUR}
        for user, seconds in lasts.items():
            await made(api, user, lasts=seconds)
        for user, ago in {"revoked": 60.0, "long-revoked": 2 * HOUR}.items():
            await made(api, user)
            async with store.writing() as session:
                mine = update(TokenRow).where(col(TokenRow.user) == user)
                await session.execute(mine.values(revoked_at=time.time() - ago))

        async def forgotten() -> bool:
            kept = {row.user for row in await Tokens(store).all()}
            return kept == {"valid", "expired", "revoked"}

        await until(forgotten, "old tokens to go")


async def test_the_migration_makes_the_table_that_the_model_says(
    site: Any, launcher: Launch
) -> None:
    async with launcher(auth=auth(site, "token")):
        with sqlite3.connect(site.state_dir / "hpcbridge.sqlite") as database:
            made = database.execute("PRAGMA table_info(tokens)").fetchall()
        database.close()
    columns = TokenRow.metadata.tables["tokens"].columns
    assert {(name, bool(needed)) for _, name, _, needed, _, _ in made} == {
        (column.name, not column.nullable) for column in columns
    }


# -- the command


@pytest.fixture
def command(
    site: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Exit status, output and errors of ``hpcbridge token ARGUMENT...`` on the site."""
    site.config["auth"] = auth(site, "token")
    site.write()

    def run(what: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpcbridge", "token", what, str(site.path), *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def test_a_token_is_printed_once_and_kept_as_a_digest(site: Any, command: Command) -> None:
    note = "nightly renders"
    code, out, error = command("create", "--user", "alice", "--expires", "30d", "--note", note)
    assert (code, re.fullmatch(r"hpcb_[0-9a-f]{12}_[0-9a-f]{64}\n", out) is not None) == (0, True)
    token = out.strip()
    assert token not in error
    with sqlite3.connect(site.state_dir / "hpcbridge.sqlite") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert token[5:17] in dump
    assert token[18:] not in dump
    _, listed, _ = command("list")
    assert token[18:] not in listed
    line = listed.splitlines()[1]
    for part in (token[5:17], "valid", "alice", "launch,read,stop", "never", note):
        assert part in line
    (made_line,) = audited(site)
    assert (made_line["what"], made_line["owner"]) == ("token create", "alice")
    assert made_line["account"] == "root"
    assert token[18:] not in str(made_line)


def test_a_revoked_token_is_listed_as_such(command: Command) -> None:
    token = command("create", "--user", "alice")[1].strip()
    other = command("create", "--user", "bob")[1].strip()
    code, out, _ = command("revoke", token[5:17])
    assert (code, out) == (0, f"Token {token[5:17]} of alice is revoked.\n")
    listed = command("list")[1]
    assert re.search(rf"{token[5:17]} +revoked +alice", listed)
    assert re.search(rf"{other[5:17]} +valid +bob", listed)
    assert token[5:17] not in command("list", "--user", "bob")[1]
    assert command("revoke", token[5:17])[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "root"], "--user: 'root' may not be a user: an account of the system."),
        (["--user", "../x"], "--user: '../x' may not be a user"),
        (["--user", "alice\nbob"], "may not be a user"),
        (["--user", "a" * 300], "may not be a user"),
        (["--user", "alice", "--scope", "everything"], "allowed: launch, read, stop, operate."),
        (["--user", "alice", "--scope", ""], "--scope"),
        (["--user", "alice", "--scope", "read,operate"], "alice is not in auth.operators"),
        (["--user", "alice", "--expires", "never"], "allowed: 1m to 366d"),
        (["--user", "alice", "--expires", "0d"], "allowed: 1m to 366d"),
        (["--user", "alice", "--expires", "-1d"], "allowed: 1m to 366d"),
        (["--user", "alice", "--expires", "367d"], "allowed: 1m to 366d"),
        (["--user", "alice", "--expires", "9999999w"], "allowed: 1m to 366d"),
        (["--user", "alice", "--note", "a\nb"], "--note"),
        (["--user", "alice", "--note", "\x1b[31m"], "--note"),
        (["--user", "alice", "--note", "x" * 201], "--note"),
    ],
)
def test_a_token_that_should_not_be_is_not_made(
    command: Command, arguments: list[str], said: str
) -> None:
    code, out, error = command("create", *arguments)
    assert (code, out) == (1, "")
    assert said in error
    assert len(command("list")[1].splitlines()) == 1


def test_an_unknown_token_cannot_be_revoked(command: Command) -> None:
    code, _, error = command("revoke", "nosuch")
    assert code == 1
    assert "no token with this id" in error


def test_where_tokens_are_not_accepted_none_is_made(site: Any, command: Command) -> None:
    site.write(auth=auth(site) | {"accept": ["header"]})
    code, out, error = command("create", "--user", "alice")
    assert (code, out) == (1, "")
    assert "auth.accept has no 'token'" in error


def test_the_wrong_account_makes_no_database(site: Any, command: Command) -> None:
    site.state_dir.mkdir()
    os.chown(site.state_dir, 12345, -1)
    code, _, error = command("create", "--user", "alice")
    assert code == 1
    assert "is uid 12345's. Run this as uid 12345." in error
    assert list(site.state_dir.iterdir()) == []


async def test_commands_take_effect_while_the_service_runs(
    site: Any, command: Command, launcher: Launch
) -> None:
    async with launcher() as api:
        create = ("create", "--user", "alice", "--scope", "read")
        token = (await asyncio.to_thread(command, *create))[1].strip()
        assert await status(api, bearer(token)) == 200
        await asyncio.to_thread(command, "revoke", token[5:17])
        assert await status(api, bearer(token)) == 401


def test_a_token_works_on_a_service_that_runs_and_is_in_none_of_its_words(
    site: Any, serve: Callable[..., Any]
) -> None:
    """As on a site: two programs, one database."""
    path = site.write(auth=auth(site, "token"), server={"log_level": "debug"})
    service = serve("--end-sessions")
    hpcbridge = [sys.executable, "-m", "hpcbridge", "token"]

    def command(what: str, *arguments: str) -> str:
        line = [*hpcbridge, what, str(path), *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    token = command("create", "--user", "alice")
    headers = bearer(token)
    assert service.post(CONE, headers=headers).status_code == 200
    assert service.http.get("/paraview", headers=headers).json()["user"] == "alice"
    truncated = bearer(token[:-1])
    assert service.http.get("/paraview", headers=truncated).status_code == 401
    command("revoke", token[5:17])
    assert service.http.get("/paraview", headers=headers).status_code == 401
    assert service.stop() == 0
    secret = token[18:-1].encode()
    files = [path for path in site.root.rglob("*") if path.is_file()]
    assert site.root / "service.log" in files
    assert [path for path in files if secret in path.read_bytes()] == []
