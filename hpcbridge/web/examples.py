"""An example for each answer, for the OpenAPI document. Times are of one session's launch."""

from typing import Any

_ID = "8f0c1be2d3a4958677c0ffee00112233445566aa"
_URL = f"wss://viz.example.org/proxy?sessionId={_ID}&path=ws"
_NOW = 1790000000.0
LAUNCH = {"application": "visualizer"}

_BEGUN: dict[str, Any] = {
    "id": _ID,
    "application": "visualizer",
    "cluster": "main",
    "owner": "alice",
    "parameters": {"cores": 4},
    "state": "queued",
    "message": "Waiting for 2 GPUs; 14 jobs are ahead in partition viz.",
    "viewer": "portal",
    "job_id": "4711",
    "queue": "viz",
    "position": 15,
    "waits_for": "2 GPUs",
    "estimated_start": _NOW + 600,
    "gives_up_at": _NOW + 1800,
    "times": {"submitting": _NOW, "queued": _NOW + 0.2},
}
_READY: dict[str, Any] = {
    "id": _ID,
    "application": "visualizer",
    "cluster": "main",
    "owner": "alice",
    "parameters": {"cores": 4},
    "state": "ready",
    "message": "Ready.",
    "viewer": "portal",
    "job_id": "4711",
    "host": "gpu012",
    "sessionURL": _URL,
    "tunnel": "open",
    "traffic": {"bytes_in": 1, "bytes_out": 2, "connections": 1, "reconnects": 0},
    "ends": {"at": _NOW + 7800, "reason": "timed_out", "message": "The walltime is used up."},
    "times": {
        "submitting": _NOW,
        "queued": _NOW + 0.2,
        "starting": _NOW + 590,
        "ready": _NOW + 600,
    },
}
_ENDED: dict[str, Any] = {
    "id": _ID,
    "application": "visualizer",
    "cluster": "main",
    "owner": "alice",
    "parameters": {"cores": 4},
    "state": "ended",
    "message": "The application ended with exit status 7.\ncannot open display: mist",
    "error": "The application ended with exit status 7.\ncannot open display: mist",
    "reason": "failed",
    "exit_status": 7,
    "viewer": "portal",
    "job_id": "4711",
    "times": {"submitting": _NOW, "queued": _NOW + 0.2, "starting": _NOW + 1, "ended": _NOW + 2},
}
_SAID = {
    "about": "cluster",
    "name": "main",
    "text": "New disks on Monday",
    "drain": False,
    "at": _NOW,
    "by": None,
}
_ANNOUNCING = ("announcements", "announce", "announce_site", "withdraw", "withdraw_site")
_FILE = {"name": "disk.vtu", "size": 1048576, "modified": _NOW}

REPLIES: dict[tuple[str, str], Any] = {
    ("listing", "200"): {
        "user": "alice",
        "operator": False,
        "sessions": [_READY, _ENDED],
        "next": "MTc5MDAwMDAwMC4wIGhwY2ItMDEyMzQ1NjctYWI",
    },
    ("launch", "200"): {
        **LAUNCH,
        "cores": 4,
        "id": _ID,
        "sessionURL": _URL,
        "secret": "5e1f0c...",
        "viewer": "portal",
    },
    ("launch", "202"): {**_BEGUN, "secret": "5e1f0c..."},
    ("applications", "200"): {
        "applications": [
            {
                "name": "visualizer",
                "title": "ParaView Visualizer",
                "description": "ParaView in the browser.",
                "viewer": "portal",
                "page": None,
                "choosable": False,
                "notice": "",
                "warm": False,
                "clusters": [
                    {
                        "name": "main",
                        "title": "Main cluster",
                        "notice": "",
                        "unknown_since": None,
                        "wait": None,
                    }
                ],
            }
        ],
        "announcements": [_SAID],
    },
    **{(operation, "200"): {"announcements": [_SAID]} for operation in _ANNOUNCING},
    ("status", "200"): _READY,
    ("stop", "200"): _READY,
    ("progress", "200"): 'data: {"id": "8f0c...", "state": "queued", "message": "..."}\n\n',
    ("changes", "200"): 'data: {"id": "8f0c...", "state": "ready", "message": "Ready."}\n\n',
    ("log", "200"): "Starting factory\n",
    ("files", "200"): {
        "files": [_FILE],
        "file_limit": 1073741824,
        "total_limit": 10737418240,
        "count_limit": 100,
    },
    ("put", "200"): _FILE,
    ("put", "201"): _FILE,
    ("delete", "200"): _FILE,
}
"""By the operation and the status."""

ERRORS = {
    "400": "Parameter 'cores' must be a whole number, at least 1, at most 64.",
    "401": "Log in first, or send an API token.",
    "403": "This token is not for 'launch'; it is for: read.",
    "404": "There is no such session.",
    "409": "Another request was sent with this Idempotency-Key and still waits for its session. "
    "Make a new key.",
    "413": "The request has more than 65536 bytes.",
    "422": "This Idempotency-Key was used for another request. Make a new one.",
    "429": "Too many wrong logins. Try again in 60 s.",
    "500": "Internal error; the service's log has details.",
    "502": "The application ended with exit status 7.\ncannot open display: mist",
    "503": "The session is not ready yet: Waiting for 2 GPUs. Send the same again.",
    "504": "The job was still in the queue after 1800 s and was cancelled. Try again later.",
    "507": "All files together would have more than 10240 MiB.",
    "default": "This method is not allowed here.",
}
"""By the status: an error's sentence."""
