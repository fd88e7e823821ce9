"""What clusters say of themselves, and the configuration that comes of it."""

import tomllib
from pathlib import Path

import pytest

from hpcbridge.config import file as configfile
from hpcbridge.errors import UnexpectedReply
from hpcbridge.setup import survey as surveys
from hpcbridge.setup.draft import Wanted, draft
from hpcbridge.setup.survey import Survey, read
from hpcbridge.transports.local import LocalTransport


def answer(**sections: str) -> str:
    """An answer of the script, with these sections; the others are empty."""
    names = ("programs", "version", "partitions", "accounts", "queues", "slots", "python", "home",
             "modules", "end")  # fmt: skip
    return "".join(f"\n==hpcbridge {name}==\n{sections.get(name, '')}\n" for name in names)


SLURM = answer(
    programs="sbatch /usr/bin/sbatch\nsqueue /usr/bin/squeue\npython3 /usr/bin/python3",
    version="/usr/bin/sbatch\nslurm-wlm 22.05.8",
    partitions="""\
viz*|up|1:00:00|4|4|4000|gpu:2
big|up|infinite|12|128|512000|gpu:h100:4
big|up|infinite|4|64|256000|(null)
closed|down|infinite|4|4|4000|(null)""",
    accounts="physics|viz|normal,high\nmaths||normal",
    python="Python 3.11.2",
    home="/home/alice\nnas:/home nfs4 1000 10 990 1% /home",
    modules="paraview/5.13.2\nparaview/\nvtk/9.4",
)
PBS = answer(
    programs="qsub /opt/pbs/bin/qsub\nqstat /opt/pbs/bin/qstat\npbsnodes /opt/pbs/bin/pbsnodes",
    version="/opt/pbs/bin/qstat\npbs_version = 23.06.06",
    queues="""\
/opt/pbs/bin/qstat
Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type
---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----
stoppedq             0     0 yes  no     0     0     0     0     0     0 Exec
workq                0     2 yes yes     0     2     0     0     0     0 Exec""",
    home="/home/alice\n/dev/sda1 ext4 1000 10 990 1% /",
)
GRIDENGINE = answer(
    programs="qsub /usr/bin/qsub\nqstat /usr/bin/qstat\nqconf /usr/bin/qconf",
    queues="/usr/bin/qconf\nall.q\nviz.q",
    slots="/usr/bin/qconf\nsmp\nmpi",
)


def test_slurm_tells_partitions_accounts_and_qos() -> None:
    found = read("Welcome to the cluster!\n" + SLURM)
    assert (found.scheduler, found.version) == ("slurm", "slurm-wlm 22.05.8")
    assert [each.name for each in found.partitions] == ["viz", "big", "closed"]
    assert str(found.partitions[0]) == "viz (4 nodes, 4 CPUs, 4000 MB, gpu:2, up to 1:00:00)"
    assert str(found.partitions[2]) == "closed (4 nodes, 4 CPUs, 4000 MB, down)"
    assert found.partition is found.partitions[0]
    assert [each.name for each in found.with_gpus] == ["viz", "big"]
    assert (found.accounts, found.qos) == (["physics", "maths"], ["normal", "high"])
    assert (found.home, found.filesystem, found.python) == ("/home/alice", "nfs4", "3.11.2")
    assert found.modules[0] == "paraview/5.13.2"


def test_pbs_tells_queues_and_the_first_that_is_open_is_taken() -> None:
    found = read(PBS)
    assert found.scheduler == "pbs"
    assert [each.name for each in found.partitions] == ["stoppedq", "workq"]
    assert found.partition is not None
    assert found.partition.name == "workq"
    assert read(PBS.replace("pbs_version = 23.06.06", "Version: 6.1.2")).scheduler == "torque"


def test_grid_engine_tells_queues_and_parallel_environments() -> None:
    found = read(GRIDENGINE)
    assert found.scheduler == "gridengine"
    assert [each.name for each in found.partitions] == ["all.q", "viz.q"]
    assert found.environments == ["smp", "mpi"]


def test_a_machine_without_any_runs_jobs_itself() -> None:
    assert read(answer(home="/root")).scheduler == "local"


@pytest.mark.parametrize("text", ["", "Connection closed", SLURM.replace("hpcbridge end", "x")])
def test_an_answer_that_is_cut_off_is_none(text: str) -> None:
    with pytest.raises(UnexpectedReply, match="has no end"):
        read(text)


async def test_this_machine_can_be_asked() -> None:
    found = await surveys.survey(LocalTransport())
    assert found.home.startswith("/")
    assert "python3" in found.programs


@pytest.mark.parametrize(
    ("text", "login"),
    [(SLURM, "alice@login.example.org"), (PBS, "login"), (GRIDENGINE, ""), (answer(), "")],
    ids=["slurm", "pbs", "gridengine", "local"],
)
def test_what_is_drafted_is_a_configuration(tmp_path: Path, text: str, login: str) -> None:
    found = read(text)
    partition = found.partition.name if found.partition else ""
    account = found.accounts[0] if found.accounts else ""
    wanted = Wanted("my-cluster", found.scheduler, login, partition, account, 8123)
    file = tmp_path / "hpcbridge.toml"
    file.write_text(draft(wanted, found))
    settings = configfile.load(file)
    cluster = settings.clusters["my-cluster"]
    assert cluster.scheduler == found.scheduler
    assert settings.server.port == 8123
    assert settings.applications["hello"].cluster == ["my-cluster"]
    if found.scheduler == "slurm":
        assert cluster.options == {"partition": "viz", "account": "physics"}
        raw = tomllib.loads(file.read_text())["clusters"]["my-cluster"]
        assert raw["ssh"] == {"host": "login.example.org", "user": "alice"}
        assert "# [applications.paraview]" in file.read_text()
        assert '# options = { modules = "paraview/5.13.2", gpus = 1 }' in file.read_text()
    if found.scheduler == "pbs":
        assert cluster.options == {"queue": "workq"}
        assert "though it is on ext4" in file.read_text()


def test_what_a_cluster_tells_does_not_act_on_the_terminal() -> None:
    told = SLURM.replace("physics", "phy\x1b]0;owned\x07sics\x1b[2J\u202e")
    found = read(told)
    assert found.accounts[0] == "physics"
    assert "\x1b" not in repr(found)


def test_names_that_a_cluster_tells_cannot_change_the_file(tmp_path: Path) -> None:
    evil = 'x"\n[server]\nport = 1\n#'
    found = Survey("slurm", accounts=[evil], programs={"python3": evil})
    file = tmp_path / "hpcbridge.toml"
    file.write_text(draft(Wanted(evil, "slurm", evil, evil, evil), found))
    assert tomllib.loads(file.read_text())["server"]["port"] == 8080
