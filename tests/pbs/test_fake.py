"""The fake server prints what the real one printed: the recordings are the measure."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.fakepbs import FAKE, MACHINERY
from tests.schedulers.pbs.recordings import DIRECTORY, recorded

# Recordings of the master's client, whole answers about jobs of any state.
ANSWERS = [
    path.stem
    for pattern in ("E_*", "Ex_*", "nh_*", "qstat_st_*", "qstat_estimated", "down_*")
    for path in sorted(DIRECTORY.glob(f"{pattern}.json"))
    if not path.name.startswith("Ex_dup")  # a key twice, which a dict cannot hold
]


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    def load(name: str, path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    load("machinery", MACHINERY)
    return load("fakepbs_program", FAKE)


@pytest.mark.parametrize("name", ANSWERS)
def test_its_json_is_that_of_the_recordings_byte_for_byte(fake: ModuleType, name: str) -> None:
    text = (DIRECTORY / f"{name}.json").read_text()
    assert fake.cjson(json.loads(text)) + "\n" == text


def test_its_text_is_that_of_the_recordings_byte_for_byte(fake: ModuleType) -> None:
    real = recorded("qstat_text_hostile_w").out
    lines = [line.strip().partition(" = ")[::2] for line in real.splitlines()[1:] if line]
    assert fake.text("287.pbslab", dict(lines)) == real


def test_a_jobs_attributes_have_the_names_of_the_recordings(fake: ModuleType) -> None:
    job = fake.blank("7.pbslab", "n")
    job |= {"state": "COMPLETED", "stime": 1.0, "estimated": 1.0, "runs": 1, "host": "n1"}
    known = set()
    for name in ("qstat_fx_json_finished", "qstat_estimated"):
        answer = json.loads((DIRECTORY / f"{name}.json").read_text())
        known |= {key for each in answer["Jobs"].values() for key in each}
    assert set(fake.attributes({"flavour": "pbs"}, job)) <= known


@pytest.mark.parametrize(
    ("name", "section", "tell"),
    [
        ("qstat_server_Bf_json", "Server", "servers"),
        ("qstat_queues_Qf_json", "Queue", "queues"),
        ("pbsnodes_json", "nodes", "pbsnodes"),
    ],
)
def test_of_its_server_queues_and_node_it_tells_what_the_recordings_tell(
    fake: ModuleType, name: str, section: str, tell: str
) -> None:
    state = {"jobs": {}, "history": True, "hold": False, "node": "pbslab"}
    told = getattr(fake, tell)(state, *([[]] if tell == "pbsnodes" else []))
    if tell == "pbsnodes":
        told = json.loads(told[1])[section]
    real = json.loads((DIRECTORY / f"{name}.json").read_text())[section]
    assert set(told) <= set(real)
    for key, attributes in told.items():
        assert set(attributes) <= set(real[key]) | {"acl_roots"}  # for tests that root runs


@pytest.mark.parametrize("command", ["qsub", "qstat_json", "qselect", "qdel"])
def test_its_outage_is_that_of_the_recordings(fake: ModuleType, command: str) -> None:
    done = recorded(f"down_{command}")
    status, error = fake.DOWN[command.partition("_")[0]]
    assert (status, error) == (done.exit_status, done.err)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("err_name_space", ["-N", "a b"]),
        ("err_name_long", ["-N", "x" * 300]),
        ("err_badqueue", ["-q", "nosuchq"]),
        ("err_disabledq", ["-q", "disabledq"]),
        ("err_aclq", ["-q", "aclq"]),
        ("err_badres_select", ["-l", "select=1:foo=1"]),
        ("err_walltime", ["-q", "short", "-l", "walltime=02:00:00"]),
        ("err_badwalltime", ["-l", "walltime=abc"]),
    ],
)
def test_its_refusals_are_those_of_the_recordings(
    fake: ModuleType, name: str, arguments: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    state = {"flavour": "pbs", "next": 1, "limit": 100}
    with pytest.raises(fake.Refused) as caught:
        fake.qsub(state, [*arguments, str(script)])
    done = recorded(name)
    assert caught.value.args[0] == done.exit_status
    assert caught.value.args[1].partition("\n")[0] == done.err.partition("\n")[0]
