"""A wslink client: says hello with the secret, calls methods, takes pushed pictures."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import msgpack
import numpy as np
from PIL import Image
from wslink.chunking import UnChunker, generate_chunks

TIMEOUT = 30
CHUNK = 4 * 2**20


class WslinkClient:
    """One connection to an application (wslink 2.x: MessagePack in chunks)."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._parts = UnChunker()
        self._parts.set_max_message_size(2**30)
        self._pushed: list[dict[str, Any]] = []
        self._calls = 0

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, secret: str, **options: Any) -> AsyncIterator[Self]:
        """Connect and say hello; a wrong secret raises PermissionError."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0, **options) as socket,
        ):
            client = cls(socket)
            reply = await client._call("system:c0:0", "wslink.hello", [{"secret": secret}])
            if "error" in reply:
                raise PermissionError(reply["error"]["message"])
            yield client

    async def call(self, method: str, *arguments: Any) -> Any:
        """The method's result."""
        self._calls += 1
        reply = await self._call(f"rpc:c0:{self._calls}", method, list(arguments))
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    async def picture(self, width: int = 400, height: int = 300) -> np.ndarray:
        """The next pushed picture of the active view, as (height, width, 3) bytes."""
        self._pushed.clear()
        await self.call("viewport.image.push.observer.add", -1)
        await self.call("viewport.image.push", {"view": -1, "size": [width, height]})
        while True:
            message = self._pushed.pop(0) if self._pushed else await self._receive()
            image = (message.get("result") or {}).get("image")
            if str(message.get("id", "")).startswith("publish:viewport.image.push") and image:
                return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))

    async def _call(self, call_id: str, method: str, arguments: list[Any]) -> dict[str, Any]:
        message = {"wslink": "1.0", "id": call_id, "method": method, "args": arguments}
        await self._send({**message, "kwargs": {}})
        while True:
            reply = await self._receive()
            if reply.get("id") == call_id:
                return reply
            self._pushed.append(reply)

    async def _send(self, message: dict[str, Any]) -> None:
        for chunk in generate_chunks(msgpack.packb(message), CHUNK):
            await self._socket.send_bytes(chunk)

    async def _receive(self) -> dict[str, Any]:
        while True:
            message = await self._socket.receive(TIMEOUT)
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise ConnectionError(f"closed: {message.type.name} {message.data}")
            whole = self._parts.process_chunk(message.data)
            if whole is not None:
                return dict(whole)


class Wslink1Client(WslinkClient):
    """The same for wslink 1.x, which ParaView's pages speak: JSON, and bytes before it."""

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_json(message)

    async def _receive(self) -> dict[str, Any]:
        blobs: list[bytes] = []
        names: list[str] = []
        while True:
            message = await self._socket.receive(TIMEOUT)
            if message.type is aiohttp.WSMsgType.BINARY:
                blobs.append(message.data)
                continue
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"closed: {message.type.name} {message.data}")
            said = dict(message.json())
            if said.get("method") == "wslink.binary.attachment":
                names += said["args"]
                continue
            attached = dict(zip(names, blobs, strict=True))
            result = said.get("result")
            if isinstance(result, dict):
                said["result"] = {
                    key: attached.get(each, each) if isinstance(each, str) else each
                    for key, each in result.items()
                }
            return said


def colours(picture: np.ndarray) -> int:
    """How many different colours a picture has: one or two when nothing is drawn."""
    return len(np.unique(picture.reshape(-1, 3), axis=0))
