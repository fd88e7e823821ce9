"""Users whom the front end names: who is believed, who is refused, and what that leaves behind."""

import os
import stat
import threading
from typing import Any

import pytest

from hpcbridge.auth.failures import Failures, place
from hpcbridge.errors import ConfigError
from tests.replies import refusal
from tests.site import Launch
from tests.usersite import PROOF, SECRET, USER, audited, auth, client, named

pytestmark = pytest.mark.servers

CONE = {"application": "cone"}
NO_WAIT = {"Prefer": "respond-async"}


# -- who is believed


async def test_a_user_whom_the_front_end_names_gets_a_session(site: Any, launcher: Launch) -> None:
    async with launcher(auth=auth(site)) as api, client(api, named("alice")) as alice:
        reply = await alice.post("/paraview", json=CONE)
        assert reply.status_code == 200, reply.text
        row = await api.row(reply.json()["id"])
        assert row.user == "alice"
        (line,) = audited(site)
        assert (line["what"], line["result"]) == ("launch", "done")
        assert (line["user"], line["how"], line["from"]) == ("alice", "header", "127.0.0.1")
        assert (line["application"], line["cluster"], line["as"]) == ("cone", "here", "root")
        assert line["session"] == row.job_name
        text = (site.root / "audit.jsonl").read_text()
        assert row.id not in text
        assert SECRET not in text


async def test_a_front_end_on_a_unix_socket_needs_no_address(site: Any, launcher: Launch) -> None:
    proxies = {"trusted_proxies": []}
    async with launcher(auth=auth(site), server=proxies) as api:
        async with client(api, named("alice"), peer=None) as alice:
            assert (await alice.get("/paraview")).json()["user"] == "alice"
        async with client(api, named("alice"), peer="127.0.0.1") as stranger:
            refusal(await stranger.get("/paraview"), 401)


async def test_nobody_named_is_nobody(site: Any, launcher: Launch) -> None:
    """Apache sets an empty header where nobody is logged in."""
    async with launcher(auth=auth(site)) as api:
        for headers in ({}, {PROOF: SECRET}, named(""), named(" ")):
            async with client(api, headers) as somebody:
                reply = await somebody.post("/paraview", json=CONE)
                assert "Log in" in refusal(reply, 401)
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        assert not site.directories()
        assert not (site.root / "audit.jsonl").read_text()


LOOK_ALIKE = "\u0430lice".encode()
"""With the Cyrillic letter that looks like an a."""


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ([(USER, "alice")], 401, "without the front end's secret"),
        ([(USER, "alice"), (PROOF, "")], 401, "without the front end's secret"),
        ([(USER, "alice"), (PROOF, SECRET[:-1])], 401, "without the front end's secret"),
        ([(USER, "alice"), (PROOF, SECRET + "0")], 401, "without the front end's secret"),
        ([(USER, "alice"), (PROOF, SECRET.upper())], 401, "without the front end's secret"),
        ([(USER, "alice"), (PROOF, SECRET), (PROOF, SECRET)], 401, "without the front end's"),
        ([(USER, "alice"), (USER, "bob"), (PROOF, SECRET)], 401, "two user headers"),
        ([(USER, "alice"), (USER.upper(), "alice"), (PROOF, SECRET)], 401, "two user headers"),
        ([(USER, ""), (USER.lower(), "alice"), (PROOF, SECRET)], 401, "two user headers"),
        ([(USER, "alice,bob"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice, bob"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "root"), (PROOF, SECRET)], 403, "an account of the system"),
        ([(USER, "daemon"), (PROOF, SECRET)], 403, "an account of the system"),
        ([(USER, "_apt"), (PROOF, SECRET)], 403, "below auth.least_uid"),
        ([(USER, "Alice"), (PROOF, SECRET)], 403, "not in auth.users_allowed"),
        ([(USER, "-oProxyCommand=x"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "../x"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "a..b"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice\nbob"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice\n"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice\r\nX: y"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice\x00"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice bob"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "a" * 300), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, LOOK_ALIKE), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "ａlice".encode()), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, b"\xe4lice"), (PROOF, SECRET)], 403, "not a user's name"),
        ([(USER, "alice@example.org"), (PROOF, SECRET)], 403, "not in auth.users_allowed"),
    ],
)
async def test_whoever_is_not_named_as_agreed_is_refused_and_written_down(
    site: Any, launcher: Launch, headers: list[tuple[str, Any]], status: int, why: str
) -> None:
    raw = [(key, each.encode() if isinstance(each, str) else each) for key, each in headers]
    async with launcher(auth=auth(site)) as api, client(api) as somebody:
        reply = await somebody.post("/paraview", json=CONE, headers=raw)
        said = refusal(reply, status)
        assert not any(str(each) in said for _, each in headers if each)
        assert not site.directories()
    (line,) = audited(site)
    assert (line["what"], line["result"]) == ("POST launch", "refused")
    assert why in line["why"]
    assert "user" not in line
    assert set(line["claimed"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789_.@+-?")  # fmt: skip
    assert len(line["claimed"]) <= 64
    assert SECRET not in (site.root / "audit.jsonl").read_text()


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", "::2", "::ffff:127.0.0.1", "nonsense"])
async def test_a_header_from_elsewhere_names_nobody(site: Any, launcher: Launch, peer: str) -> None:
    """Neither with the secret, nor with headers that say where it came from."""
    lies = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "::1"}
    async with launcher(auth=auth(site)) as api, client(api, named("alice"), peer) as somebody:
        for headers in ({}, lies):
            refusal(await somebody.post("/paraview", json=CONE, headers=headers), 401)
            refusal(await somebody.get("/paraview", headers=headers), 401)
    assert {line["why"] for line in audited(site)} == {
        "a user header from an address that is not trusted"
    }
    assert {line["from"] for line in audited(site)} == {peer}


async def test_what_is_written_otherwise_is_another_header(site: Any, launcher: Launch) -> None:
    others = {"X_Remote_User": "alice", "Remote-User": "alice", "X-Forwarded-User": "alice"}
    async with launcher(auth=auth(site)) as api, client(api, {PROOF: SECRET}) as somebody:
        for header, value in others.items():
            refusal(await somebody.get("/paraview", headers={header: value}), 401)


async def test_a_site_may_allow_other_names_but_never_everything(
    site: Any, launcher: Launch
) -> None:
    open_to_all = auth(site, users_allowed=r"(?s).*")
    async with launcher(auth=open_to_all) as api:
        for user, status in {
            "Alice.B@example.org": 200,
            "root@example.org": 403,
            "ROOT": 403,
            "-alice": 403,
            ".alice": 403,
            "a/b": 403,
            "x" * 65: 403,
        }.items():
            async with client(api, named(user)) as somebody:
                assert (await somebody.get("/paraview")).status_code == status, user


# -- a secret that is not one


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o644, SECRET, "has the mode 0644"),
        (0o640, SECRET, "has the mode 0640"),
        (0o660, SECRET, "has the mode 0660"),
        (0o600, "short", "32 or more"),
        (0o600, "", "32 or more"),
        (0o600, f"{SECRET} {SECRET}", "one line"),
        (0o600, f"{SECRET}\n{SECRET}", "one line"),
        (0o600, "ü" * 40, "letters, digits and signs"),
        (0o600, "x" * 70_000, "more than 65536 bytes"),
    ],
)
async def test_a_secret_that_others_can_reach_or_guess_is_refused_at_the_start(
    site: Any, launcher: Launch, mode: int, text: str, said: str
) -> None:
    section = auth(site)
    path = site.root / "front-end.secret"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=said) as caught:
        async with launcher(auth=section):
            pass
    assert "auth.secret_file" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_credential_of_systemd_is_taken(site: Any, launcher: Launch) -> None:
    """root:root 0440; its ACL, which lets the service read it, shows as the group's bits."""
    section = auth(site)
    (site.root / "front-end.secret").chmod(0o440)
    async with launcher(auth=section) as api, client(api, named("alice")) as alice:
        assert (await alice.get("/paraview")).status_code == 200


@pytest.mark.parametrize("kind", ["missing", "link", "directory", "fifo", "another's"])
async def test_a_secret_must_be_a_file_of_ours(site: Any, launcher: Launch, kind: str) -> None:
    section = auth(site)
    path = site.root / "front-end.secret"
    if kind == "another's":
        os.chown(path, 12345, -1)
    else:
        path.rename(site.root / "moved")
    if kind == "link":
        path.symlink_to(site.root / "moved")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match=r"auth\.secret_file"):
        async with launcher(auth=section):
            pass


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"auth": {"secret_file": None}}, "needs secret_file"),
        ({"auth": {"user_header": "X-Hpcbridge-Secret"}}, "two headers"),
        ({"auth": {"user_header": "Authorization"}}, "two headers"),
        ({"auth": {"secret_header": "Cookie"}}, "two headers"),
        ({"auth": {"user_header": "X User"}}, "user_header"),
        ({"auth": {"users_allowed": "("}}, "not a regular expression"),
        ({"auth": {"accept": ["password"]}}, "accept"),
        ({"server": {"host": "0.0.0.0"}}, "server.host"),
        ({"server": {"host": "::"}}, "server.host"),
        ({"server": {"trusted_proxies": ["*"]}}, "trusted_proxies"),
        ({"server": {"trusted_proxies": ["0.0.0.0/0"]}}, "trusted_proxies"),
        ({"server": {"trusted_proxies": ["portal"]}}, "trusted_proxies"),
        ({"server": {"cors_origins": ["*"]}}, "cors_origins"),
    ],
)
def test_a_configuration_that_would_believe_everybody_is_refused(
    site: Any, sections: dict[str, Any], said: str
) -> None:
    site.config["auth"] = auth(site)
    with pytest.raises(ConfigError, match=said):
        site.settings(**sections)


@pytest.mark.parametrize("limit", ["per_user", "waiting_per_user"])
def test_a_limit_of_each_user_needs_users(site: Any, limit: str) -> None:
    for sections in ({"limits": {limit: 1}}, {"applications": {"cone": {limit: 1}}}):
        with pytest.raises(ConfigError, match=rf"\.{limit} needs users: set auth\.accept"):
            site.settings(**sections)


# -- too many failures


async def test_an_address_that_guesses_is_slowed_down_and_no_other(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = auth(site, failures=3)
    wrong = {USER: "alice", PROOF: "x" * 40}
    async with launcher(auth=section) as api:
        behind = {"X-Forwarded-For": "198.51.100.9"}
        async with client(api, wrong | behind) as guesser:
            replies = [await guesser.get("/paraview") for _ in range(10)]
        assert [each.status_code for each in replies] == [401] * 3 + [429] * 7
        assert 1 <= int(replies[-1].headers["Retry-After"]) <= 60
        assert "Try again" in refusal(replies[-1], 429)
        assert len(audited(site)) == 3
        async with client(api, wrong | {"X-Forwarded-For": "198.51.100.10"}) as another:
            refusal(await another.get("/paraview"), 401)
        async with client(api, named("alice") | behind) as alice:
            assert (await alice.get("/paraview")).status_code == 200
        monkeypatch.setattr("hpcbridge.auth.failures.WINDOW", 0.0)
        async with client(api, wrong | behind) as guesser:
            refusal(await guesser.get("/paraview"), 401)


# -- pages of other sites


@pytest.mark.parametrize("check_origin", [True, False])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://portal.example.org.evil.org"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example.org", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://portal.example.org", "Sec-Fetch-Site": "same-origin"}, 202),
        ({}, 202),
    ],
)
async def test_only_pages_of_this_site_act_for_a_user_whom_the_front_end_knows(
    site: Any, launcher: Launch, headers: dict[str, str], status: int, check_origin: bool
) -> None:
    server = {"check_origin": check_origin}
    async with launcher(auth=auth(site), server=server) as api:
        async with client(api, named("alice") | NO_WAIT) as alice:
            begun = await alice.post("/paraview", json=CONE)
            path = f"/paraview/{begun.json()['id']}"
            reply = await alice.post("/paraview", json=CONE, headers=headers)
            assert reply.status_code == status
            stop = await alice.delete(path, headers=headers)
            assert stop.status_code == (403 if status == 403 else 200)
        if status == 403:
            assert {line["why"] for line in audited(site)[1:]} == {
                "Pages of this site may not use the launcher. "
                "Its admins can allow them in server.cors_origins."
            }


# -- the record


async def test_the_audit_log_is_private_and_outlives_its_rotation(
    site: Any, launcher: Launch
) -> None:
    path = site.root / "audit.jsonl"
    path.touch(mode=0o644)
    async with launcher(auth=auth(site)) as api, client(api, named("alice") | NO_WAIT) as alice:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        session_id = (await alice.post("/paraview", json=CONE)).json()["id"]
        path.rename(site.root / "audit.jsonl.1")
        await alice.delete(f"/paraview/{session_id}")
        refusal(await alice.delete(f"/paraview/{session_id}"), 404)
    stopped, refused = audited(site)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (stopped["what"], stopped["result"], stopped["owner"]) == ("stop", "done", "alice")
    assert (refused["what"], refused["result"]) == ("stop", "refused")
    assert stopped["time"].endswith("Z")


async def test_an_audit_log_that_cannot_be_written_stops_the_start(
    site: Any, launcher: Launch
) -> None:
    (site.root / "link").symlink_to("/dev/null")
    for path in (site.root, site.root / "no/such", site.root / "link"):
        with pytest.raises(ConfigError, match=r"auth\.audit_file"):
            async with launcher(auth=auth(site, audit_file=str(path))):
                pass


async def test_without_a_file_the_record_goes_to_the_log(
    site: Any, launcher: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hpcbridge.auth.audit")
    section = auth(site)
    del section["audit_file"]
    async with launcher(auth=section) as api, client(api, named("alice") | NO_WAIT) as alice:
        assert (await alice.post("/paraview", json=CONE)).status_code == 202
    assert '"what": "launch", "result": "done", "user": "alice"' in caplog.text
    assert SECRET not in caplog.text


async def test_without_the_section_all_is_as_it_was(site: Any, launcher: Launch) -> None:
    async with launcher() as api, client(api, named("alice"), "192.0.2.7") as anybody:
        reply = await anybody.post("/paraview", json=CONE)
        assert reply.status_code == 200
        assert (await api.row(reply.json()["id"])).user is None
        listed = (await anybody.get("/paraview")).json()
        assert listed == {"user": None, "operator": False, "sessions": [], "next": None}
        async with client(api) as another:
            path = f"/paraview/{reply.json()['id']}"
            assert (await another.delete(path)).status_code == 200


# -- the rules by themselves


async def test_accounts_that_cannot_be_looked_up_are_not_let_in(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr("hpcbridge.identity.users._uid_of", lambda _: gate.wait(20))
    monkeypatch.setattr("hpcbridge.identity.users.LOOK_UP_TIME", 0.05)
    async with launcher(auth=auth(site)) as api, client(api, named("alice")) as alice:
        assert "Try again" in refusal(await alice.get("/paraview"), 503)
        gate.set()
        monkeypatch.setattr("hpcbridge.identity.users.LOOK_UP_TIME", 20)
        monkeypatch.setattr("hpcbridge.identity.users._uid_of", lambda _: None)
        assert (await alice.get("/paraview")).status_code == 200


async def test_an_account_is_looked_up_once_in_a_while(
    site: Any, launcher: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("hpcbridge.identity.users._uid_of", asked.append)
    async with launcher(auth=auth(site)) as api:
        for user in ("alice", "bob", "alice"):
            async with client(api, named(user)) as somebody:
                assert (await somebody.get("/paraview")).status_code == 200
        assert asked == ["alice", "bob"]
        monkeypatch.setattr("hpcbridge.identity.users.REMEMBERED", 0.0)
        async with client(api, named("alice")) as alice:
            await alice.get("/paraview")
        assert asked == ["alice", "bob", "alice"]


def test_failures_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcbridge.auth.failures.MOST", 100)
    failures = Failures(2)
    for number in range(5000):
        failures.add(f"address {number}")
    assert len(failures._counts) == 100
    for _ in range(2):
        assert failures.wait("address mine") == 0
        failures.add("address mine")
    assert 0 < failures.wait("address mine") <= 60
    assert failures.wait("address another") == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_a_network_of_ipv6_is_one_place(address: str, counted: str) -> None:
    assert place(address) == counted
