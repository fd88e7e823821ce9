"""What slurmrestd is told of a job: the script's directives in its own words."""

import json
from typing import Any

import pytest

from hpcbridge.config.slurmrestversions import KNOWN
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.schedulers.slurmrest.amounts import megabytes, minutes
from hpcbridge.schedulers.slurmrest.description import submission
from hpcbridge.schedulers.slurmrest.directives import directives
from hpcbridge.schedulers.slurmrest.options import OPTIONS

ENVIRONMENT = {"PATH": "/bin", "HOME": "/home/alice"}
NEW, OLD = "v0.0.42", "v0.0.38"


def described(*lines: str, version: str = NEW, **changes: Any) -> dict[str, Any]:
    """The job that a script with these directives is."""
    text = "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), "true", ""])
    given = {"name": "hpcb-1", "directory": "/d", "script": "/d/job.sh", "text": text}
    body = submission(JobRequest(**(given | changes)), version, ENVIRONMENT)
    assert body["script"] == given["text"]
    return dict(body["job"])


def number(value: int) -> dict[str, object]:
    return {"set": True, "infinite": False, "number": value}


# -- reading, as sbatch does


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("#SBATCH --partition=viz", {"partition": "viz"}),
        ("#SBATCH --partition viz", {"partition": "viz"}),
        ("#SBATCH -p viz", {"partition": "viz"}),
        ("#SBATCH -pviz -N2 -n 4", {"partition": "viz", "nodes": "2", "ntasks": "4"}),
        ("#SBATCH -HN2", {"hold": "", "nodes": "2"}),
        ("#SBATCH --exclusive", {"exclusive": ""}),
        ("#SBATCH --exclusive=user", {"exclusive": "user"}),
        ("#SBATCH --comment='a b' -p \"viz\"", {"comment": "a b", "partition": "viz"}),
        ("#SBATCH --comment=a\\ b\\#c", {"comment": "a b#c"}),
        ("#SBATCH --comment='a # b' # partition=x", {"comment": "a # b"}),
        ("#SBATCH --nodes\n#SBATCH 2", {"nodes": "2"}),
        ("#SBATCH -p a\n#SBATCH -p b", {"partition": "b"}),
        ("# a comment\n\n  # another\n#SBATCH -p viz", {"partition": "viz"}),
        ("##SBATCH -p viz\n #SBATCH -p x\n#sbatch -p y", {}),
        ("echo\n#SBATCH -p viz", {}),
        ("", {}),
    ],
)
def test_directives_are_read_as_sbatch_reads_them(lines: str, found: dict[str, str]) -> None:
    assert directives(f"#!/bin/bash\n{lines}\n") == found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--array=1-9", "--array: this option cannot"),
        ("--wrap=id", "--wrap"),
        ("--uid=root", "--uid"),
        ("-a 1-9", "-a: this option cannot"),
        ("--part=viz", "--part:"),
        ("hetjob", "hetjob: it is not an option"),
        ("viz", "viz: it is not an option"),
        ("--partition", "its value is missing"),
        ("-p", "its value is missing"),
        ("--hold=yes", "takes no value"),
        ("--comment='a", "the quote ' is not closed"),
        ("--ntasks=many", "whole number"),
        ("--mem=lots", "K, M, G or T"),
        ("--time=soon", "HOURS:MIN:SEC"),
        ("--exclusive=me", "user and mcs"),
        ("--signal=;", "SIGNAL"),
    ],
)
def test_a_directive_that_cannot_be_told_is_named_with_its_place(line: str, words: str) -> None:
    with pytest.raises(JobRejected) as caught:
        described(line)
    assert words in str(caught.value)
    assert "#SBATCH" in str(caught.value)


def test_the_options_that_can_be_told_are_listed_where_one_cannot() -> None:
    with pytest.raises(JobRejected, match=r"Those that can: .*--gres, .*--partition") as caught:
        described("--array=1")
    assert "line 2" in str(caught.value)


def test_an_option_that_one_version_lacks_is_refused_in_that_one() -> None:
    assert described("--contiguous")["contiguous"] is True
    with pytest.raises(JobRejected, match=r"v0\.0\.38 .*has no words.*--partition"):
        described("--contiguous", version=OLD)


# -- what hpcbridge sets


@pytest.mark.parametrize("version", KNOWN)
def test_hpcbridges_own_values_count_more_than_directives(version: str) -> None:
    job = described(
        "-J evil --output=/etc/x -e /etc/y -D / --requeue -i /etc/shadow --time=1",
        version=version,
        walltime=61,
    )
    assert job["name"] == "hpcb-1"
    assert job["current_working_directory"] == "/d"
    assert job["standard_input"] == "/dev/null"
    assert job["standard_output"] == job["standard_error"] == "/d/scheduler.out"
    typed = version >= "v0.0.40"
    assert job["time_limit"] == (number(2) if typed else 2)
    assert job.get("requeue", False) is False
    assert typed or job["no_requeue"] is True


@pytest.mark.parametrize("name", ["--wrap=id", "a\nb", '"},{"', "$(id)", "x" * 300])
def test_a_name_is_only_a_name(name: str) -> None:
    assert json.loads(json.dumps(described(name=name)))["name"] == name


@pytest.mark.parametrize("version", KNOWN)
def test_the_environment_has_the_shape_of_the_version(version: str) -> None:
    environment = described("-c 3", "--export=ALL,A=b=c,D", version=version)["environment"]
    if version >= "v0.0.40":
        assert {"PATH=/bin", "HOME=/home/alice", "A=b=c", "SLURM_CPUS_PER_TASK=3"} <= set(
            environment
        )
        assert not [entry for entry in environment if entry.startswith("D")]
    else:
        assert environment == ENVIRONMENT | {"A": "b=c", "SLURM_CPUS_PER_TASK": "3"}


def test_a_login_environment_is_asked_for_as_sbatch_does() -> None:
    for line in ("--export=NONE", "--export=nil", "--get-user-env", "--get-user-env=5"):
        assert "SLURM_GET_USER_ENV=1" in described(line)["environment"]


# -- translations


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        ("-A acc", {"account": "acc"}, {"account": "acc"}),
        ("--gres=gpu:h100:2,shard:1", {"gres": "gpu:h100:2,shard:1"},
         {"tres_per_node": "gres/gpu:h100:2,gres/shard:1"}),
        ("-G h100:2", {"gpus": "h100:2"}, {"tres_per_job": "gres/gpu:h100:2"}),
        ("--gpus-per-node=2", {"gpus_per_node": "2"}, {"tres_per_node": "gres/gpu:2"}),
        ("--gpus-per-task=h100:1", {"gpus_per_task": "h100:1"},
         {"tres_per_task": "gres/gpu:h100=1", "tres_bind": "gres/gpu:per_task:1"}),
        ("--mem=2G", {"memory_per_node": "2G"}, {"memory_per_node": number(2048)}),
        ("--mem-per-cpu=1", {"memory_per_cpu": "1"}, {"memory_per_cpu": number(1)}),
        ("-t 1-2", {"time_limit": 1560}, {"time_limit": number(1560)}),
        ("-w n[1,3]", {"nodelist": "n[1,3]"}, {"required_nodes": ["n[1,3]"]}),
        ("-x n1", {"exclude_nodes": "n1"}, {"excluded_nodes": ["n1"]}),
        ("--exclusive", {"exclusive": "exclusive"}, {"shared": ["none"]}),
        ("-N 2-4", {"nodes": "2-4", "tasks": 2}, {"nodes": "2-4", "minimum_cpus": 2}),
        ("-N 2 --ntasks-per-node=3 -c 4", {"tasks": 6, "cpus_per_task": 4},
         {"tasks": 6, "minimum_cpus": 24, "tres_per_task": "cpu=4"}),
        ("--signal=B:USR1@60", None, {"kill_warning_signal": "USR1",
         "kill_warning_delay": number(60), "kill_warning_flags": ["BATCH_JOB"]}),
        ("--signal=TERM@30", {"signal": "TERM@30"}, {"kill_warning_flags": []}),
        ("--time=UNLIMITED", {"time_limit": "UNLIMITED"},
         {"time_limit": {"set": True, "infinite": True, "number": 0}}),
    ],
)  # fmt: skip
def test_each_version_is_told_in_its_own_words(
    line: str, old: dict[str, Any] | None, new: dict[str, Any]
) -> None:
    job = described(line)
    assert {field: job[field] for field in new} == new
    if old is None:
        with pytest.raises(JobRejected):
            described(line, version=OLD)
        return
    job = described(line, version=OLD)
    assert {field: job[field] for field in old} == old


def test_devices_of_two_options_add_up() -> None:
    job = described("--gres=shard:1 --gpus-per-node=2", "--gpus-per-task=1 -c 2")
    assert job["tres_per_node"] == "gres/shard:1,gres/gpu:2"
    assert job["tres_per_task"] == "gres/gpu=1,cpu=2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("5:1", 6), ("1:0:0", 60), ("1:0:1", 61), ("2-0", 2880), ("0-1:30", 90),
     ("1-1:1:1", 1502), ("0", 0), ("infinite", None)],
)  # fmt: skip
def test_times_are_whole_minutes_rounded_up(text: str, expected: int | None) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("1500K", 2), ("1m", 1), ("2GB", 2048), ("1T", 1048576)]
)
def test_memory_is_megabytes(text: str, expected: int) -> None:
    assert megabytes(text) == expected


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("version", [NEW, OLD])
def test_hostile_values_are_values_or_refused(name: str, version: str) -> None:
    """Whatever an option is given: the description stays one of plain JSON, or is refused."""
    for value in ('"},{', "-1", "--wrap=id", "9" * 30, "é\x1b", ",,,", ":", "a=b", "\\\\0"):
        try:
            job = described(f"--{name}='{value}'", version=version)
        except JobRejected:
            continue
        assert json.loads(json.dumps(job)) == job
        assert (job["name"], job["standard_output"]) == ("hpcb-1", "/d/scheduler.out")
