"""Launches that are posted as they are, and what is read out of a refusal."""

from typing import Any

import httpx


async def ask(api: Any, content: str | bytes) -> httpx.Response:
    """Post this, byte by byte."""
    reply = await api.client.post("/paraview", content=content)
    assert isinstance(reply, httpx.Response)
    return reply


def refusal(reply: httpx.Response, status: int) -> str:
    """The error of a reply that has nothing else."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    assert "Traceback" not in body["error"]
    return str(body["error"])
