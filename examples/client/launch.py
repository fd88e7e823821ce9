"""Launch an application, follow it until it is ready, and stop it: ADDRESS TOKEN-FILE NAME."""

import sys

from hpcbridge.client import Client

address, token_file, name = sys.argv[1:]
with Client(address, token_file=token_file) as bridge:
    session = bridge.launch(name, progress=lambda now: print(now.state, now.message))
    print(session.id, "runs on", session.host, "and is at", session.page or session.session_url)
    bridge.stop(session.id)
