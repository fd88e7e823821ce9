"""A site that has users, and clients that come through its front end or past it."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

SECRET = "0123456789abcdef" * 3
USER, PROOF = "X-Remote-User", "X-Hpcbridge-Secret"


def auth(site: Any, *accept: str, **changes: Any) -> dict[str, Any]:
    """The section ``[auth]``; olga is an operator. Writes the front end's secret, and says that
    jobs of the service's own account are meant."""
    for each in getattr(site, "config", {}).get("clusters", {}).values():
        if each["scheduler"] == "local":
            each["trust_jobs"] = True
    secret = site.root / "front-end.secret"
    secret.touch(mode=0o600)
    secret.write_text(f"{SECRET}\n")
    given = {"secret_file": str(secret), "audit_file": str(site.root / "audit.jsonl")}
    return {"accept": [*accept] or ["header"], "operators": ["olga"]} | given | changes


def named(user: str, **more: str) -> dict[str, str]:
    """The headers of a request that the front end sends for a user."""
    return {USER: user, PROOF: SECRET} | more


def bearer(token: str) -> dict[str, str]:
    """The header of a request with an API token."""
    return {"Authorization": f"Bearer {token}"}


@contextlib.asynccontextmanager
async def client(
    api: Any, headers: Any = None, peer: str | None = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose connections come from ``peer``; None is a unix socket."""
    app = api.client._transport.app

    async def from_peer(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": (peer, 40000) if peer else None}, receive, send)

    transport = httpx.ASGITransport(from_peer)
    base = "http://portal.example.org"
    async with httpx.AsyncClient(
        transport=transport, base_url=base, headers=headers, timeout=90
    ) as client:
        yield client


def audited(site: Any) -> list[dict[str, Any]]:
    """The lines of the audit log."""
    path = site.root / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
