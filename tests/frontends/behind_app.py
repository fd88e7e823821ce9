"""A session's application that says what it was sent, and answers with all that it must not."""

PROGRAM = '''
import asyncio, hashlib, json, sys
from aiohttp import web

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
seen, go, came = [], asyncio.Event(), asyncio.Event()
WRONG = {
    "Set-Cookie": "sso=stolen; Domain=localhost; Path=/",
    "Clear-Site-Data": '"cookies"',
    "Strict-Transport-Security": "max-age=9",
    "Alt-Svc": 'h2=":1"',
}


def told(request):
    headers = {key.lower(): value for key, value in request.headers.items()}
    return {"method": request.method, "target": request.raw_path, "headers": headers}


async def websocket(request):
    ws = web.WebSocketResponse(max_msg_size=0)
    ws.headers.update(WRONG)
    await ws.prepare(request)
    await ws.send_str(json.dumps(told(request)))
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws


async def stream(request):
    """The second event comes after somebody has asked for /go."""
    go.clear()
    reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await reply.prepare(request)
    await reply.write(b"data: one\\n\\n")
    await go.wait()
    await reply.write(b"data: two\\n\\n")
    return reply


async def begun(request):
    """Answers when the first bytes of a body to /slow are here."""
    await came.wait()
    return web.json_response({})


async def answer(request):
    path = request.path
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await websocket(request)
    if path.endswith("/seen"):
        return web.json_response(seen)
    seen.append(told(request))
    if path.endswith("/stream"):
        return await stream(request)
    if path.endswith("/begun"):
        return await begun(request)
    if path.endswith("/go"):
        go.set()
    if path.endswith("/hint"):
        request.transport.write(b"HTTP/1.1 103 Early Hints\\r\\nLink: </a.css>; rel=preload\\r\\n"
                                b"Set-Cookie: sso=stolen\\r\\n\\r\\n")
    if path.endswith("/away"):
        raise web.HTTPFound("https://evil.example/")
    digest, size = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        size += len(part)
        if path.endswith("/slow"):
            came.set()
    said = told(request) | {"size": size, "sha256": digest.hexdigest()}
    return web.json_response(said, headers=WRONG)


async def ready(app):
    print("wslink: Starting factory", flush=True)


app = web.Application(client_max_size=1 << 40)
app.router.add_route("*", "/{path:.*}", answer)
app.on_startup.append(ready)
web.run_app(app, host=options["--host"], port=int(options["--port"]), print=None)
'''
