"""What the doctor says of a PBS server, by what a real one told of itself."""

from typing import Any

import pytest

from hpcbridge.doctor.pbs import findings, unprivileged
from hpcbridge.schedulers.pbs.readers import read_section
from tests.schedulers.pbs.recordings import recorded

(SERVER,) = (read_section(recorded("qstat_server_Bf_json").out, "Server") or {}).values()
KNOWN = {"root": False, "others": False, "keeps": True}


@pytest.mark.parametrize(
    ("told", "known", "fine", "said"),
    [
        ({}, {}, True, "PBS 23.06.06"),
        ({}, {"root": True}, False, "takes no jobs of root's"),
        ({"acl_roots": "root@*"}, {"root": True}, True, "PBS"),
        ({"query_other_jobs": "False"}, {}, True, "PBS"),
        ({"query_other_jobs": "False"}, {"others": True}, False, "identity.listing"),
        ({"job_history_enable": "False"}, {}, True, "job_history_enable = True"),
        ({"job_history_enable": "False"}, {"keeps": False}, True, "PBS"),
    ],
)
def test_what_keeps_jobs_away_or_their_ends_untold_is_said(
    told: dict[str, str], known: dict[str, bool], fine: bool, said: str
) -> None:
    more: dict[str, Any] = {**KNOWN, **known}
    (found,) = findings("lab: PBS server", {**SERVER, **told}, **more)
    assert (found.good, said in found.said) == (fine, True)


def test_a_process_without_new_privileges_is_known() -> None:
    assert unprivileged("Seccomp:\t0\nNoNewPrivs:\t1\n")
    assert not unprivileged("NoNewPrivs:\t0\n")
