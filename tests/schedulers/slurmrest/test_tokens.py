"""Where tokens come from, and who may read the files that hold them."""

import os
import time
from pathlib import Path

import jwt
import pytest
from pydantic import ValidationError

from hpcbridge.errors import ClusterUnreachable
from hpcbridge.schedulers.slurmrest import tokens
from hpcbridge.schedulers.slurmrest.tokens import Tokens, tokens_for
from tests.schedulers.printed import printed
from tests.schedulers.slurmrest.fakerest import Hands, settings

KEY = bytes(range(32))


def token(seconds: float = 3600, name: str = "alice") -> str:
    return jwt.encode({"exp": int(time.time() + seconds), "sun": name}, KEY, algorithm="HS256")


def private(path: Path, text: str | bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def source(hands: Hands | None = None, **given: object) -> Tokens:
    found = tokens_for(settings(**given), hands or Hands())  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["{}", "{}\n", "SLURM_JWT={}\n", "  {}  \n\n"])
async def test_a_file_holds_a_token_or_what_scontrol_prints(tmp_path: Path, form: str) -> None:
    text = token()
    given = source(token_file=private(tmp_path / "token", form.format(text)))
    assert await given.current() == text


async def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = private(tmp_path / "token", token())
    given = source(token_file=file)
    before = await given.current()
    assert await given.renewed(before) is None
    file.write_text(token(name="other"))
    assert await given.renewed(before) == await given.current() != before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610])
@pytest.mark.parametrize("kind", ["token_file", "jwt_key_file"])
async def test_a_secret_that_others_may_touch_is_refused(
    tmp_path: Path, mode: int, kind: str
) -> None:
    file = private(tmp_path / "secret", token() if kind == "token_file" else KEY)
    file.chmod(mode)
    with pytest.raises(ClusterUnreachable, match="others may read or replace") as caught:
        await source(**{kind: file}).current()
    assert caught.value.lasting
    assert f"{mode:04o}" in str(caught.value)


async def test_a_secret_that_others_could_replace_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "secret", token())
    tmp_path.chmod(0o2775)
    with pytest.raises(ClusterUnreachable, match="others could replace what is in") as caught:
        await source(token_file=file).current()
    assert caught.value.lasting


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_secret_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "secret", token())
    os.chown(file, 4711, 4711)
    with pytest.raises(ClusterUnreachable, match="owner 4711"):
        await source(token_file=file).current()


async def test_links_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    private(tmp_path / "token", token())
    (tmp_path / "link").symlink_to(tmp_path / "token")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in {
        "link": "cannot be read",
        "pipe": "not a regular file",
        "none": "cannot be read: No such file",
    }.items():
        with pytest.raises(ClusterUnreachable, match=words):
            await source(token_file=tmp_path / name).current()


@pytest.mark.parametrize(
    "text", ["", "hunter2", "a.b", "a.b.c d.e.f", "a.b.c\r\nX-Evil: 1", "é.é.é"]
)
async def test_what_is_no_token_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ClusterUnreachable, match="holds no token") as caught:
        await source(token_file=private(tmp_path / "file", text)).current()
    assert "hunter2" not in str(caught.value)


async def test_a_command_is_run_once_while_its_token_lasts() -> None:
    first, second = token(), token(name="again")
    hands = Hands(printed(f"Welcome!\nSLURM_JWT={first}\n"), printed(f"SLURM_JWT={second}\n"))
    given = source(hands, token_command=["scontrol", "token", "lifespan=3600"])
    assert [await given.current() for _ in range(3)] == [first] * 3
    assert hands.asked == [["scontrol", "token", "lifespan=3600"]]
    assert await given.renewed(first) == second
    assert await given.renewed(first) == second  # somebody else was refused the old one as well
    assert len(hands.asked) == 2


async def test_a_token_is_replaced_before_it_ends() -> None:
    hands = Hands(printed(token(tokens.MARGIN - 5)), printed(token(tokens.MARGIN + 60)))
    given = source(hands, token_command=["t"])
    first = await given.current()
    assert await given.current() != first
    assert len(hands.asked) == 2


@pytest.mark.parametrize(
    ("out", "status"), [("", 0), ("token: hunter2", 0), ("SLURM_JWT=hunter2.b.c", 1)]
)
async def test_a_command_without_a_token_is_told_and_not_its_output(out: str, status: int) -> None:
    hands = Hands(printed(out, "error: hunter2", status))
    with pytest.raises(ClusterUnreachable, match="printed no token") as caught:
        await source(hands, token_command=["scontrol", "token"]).current()
    assert "hunter2" not in str(caught.value)


async def test_a_token_is_signed_with_the_sites_key_for_the_account_and_a_short_time(
    tmp_path: Path,
) -> None:
    given = source(jwt_key_file=private(tmp_path / "key", KEY))
    text = await given.current()
    claims = jwt.decode(text, KEY, algorithms=["HS256"])
    assert claims["sun"] == "alice"
    assert claims["exp"] - time.time() <= tokens.LIFETIME
    assert await given.current() == text


async def test_an_empty_key_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreachable, match="no key for HS256"):
        await source(jwt_key_file=private(tmp_path / "key", b"")).current()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://head:6820"}, "wants a token"),
        ({"url": "ftp://head"}, "allowed are http"),
        ({"url": "head:6820"}, "allowed are http"),
        ({"url": "http://alice:pw@head"}, "no user, password"),
        ({"url": "http://head/?a=b"}, "query"),
        ({"url": "unix:relative"}, "absolute path"),
        ({"user": "a\r\nX-Evil: 1"}, "pattern"),
        ({"user": ""}, "pattern"),
        ({"version": "v0.0.39"}, "v0.0.42"),
        ({"version": "../x"}, "pattern"),
        ({"token_command": []}, "at least 1"),
        ({"token_command": ["t"], "token_file": "/t"}, "one of"),
        ({"ca": "/ca.pem"}, "https"),
        ({"environment": {"A B": "1"}}, "A B"),
        ({"environment": {"A": "1\0"}}, "NUL"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**changes)
