"""One HTTP request to an application, to see whether it answers yet."""

import h11

from hpcbridge.network.stream import Stream

#: Bytes of an answer's head that are read.
HEAD_LIMIT = 64 * 1024


async def status_of(stream: Stream, host: str, path: str, seconds: float) -> int | None:
    """The status with which GET ``path`` is answered; None where the answer is no HTTP.

    ``seconds`` is the most that each of its waits takes. Raises TimeoutError and OSError. The
    connection is dropped in any case: what comes after the head is not wanted.
    """
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    headers = [("Host", host), ("Connection", "close"), ("User-Agent", "hpcbridge")]
    request = h11.Request(method="GET", target=path, headers=headers)
    try:
        await stream.send(peer.send(request) or b"", seconds)
        peer.send(h11.EndOfMessage())
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                peer.receive_data(await stream.receive(seconds))
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    finally:
        stream.abort()
