"""When Slurm would start a job: what sbatch --test-only and sinfo print, of Slurm 22.05."""

import pytest

from hpcbridge.errors import ClusterUnreachable, JobRejected, UnexpectedReply
from hpcbridge.schedulers.base import Forecast, Forecaster, JobRequest
from hpcbridge.schedulers.slurm import SlurmScheduler
from hpcbridge.schedulers.slurm import forecast as slurmforecast
from hpcbridge.schedulers.slurm.forecast import Estimate
from hpcbridge.transports.base import Completed
from tests.schedulers.printed import printed

REQUEST = JobRequest(
    "hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", 3661, "#!/bin/bash\nsleep 1\n"
)
TOLD = "sbatch: Job 8 to start at 1795308426 using 4 processors on nodes hpcb-n3 in partition viz\n"
ESTIMATE = Estimate(1795308426.0, 4, "viz")


@pytest.mark.parametrize("told", [TOLD, TOLD.replace("using", "a using")])
def test_the_estimate_is_read_with_its_partition(told: str) -> None:
    """As 22.05 prints it, and 26.05."""
    assert slurmforecast.parse(printed(err=told)) == ESTIMATE


def test_warnings_around_the_estimate_do_no_harm() -> None:
    assert slurmforecast.parse(printed(err=f"sbatch: Welcome!\n{TOLD}sbatch: Bye\n")) == ESTIMATE


def test_a_drained_partition_is_closed() -> None:
    said = "allocation failure: Required partition not available (inactive or drain)\n"
    found = slurmforecast.parse(printed(err=said, status=1))
    assert found == Forecast(closed="its partition is inactive or drained")


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: invalid partition specified: nope\n"
        "allocation failure: Invalid partition name specified\n",
        "allocation failure: Node count specification invalid\n",
        "allocation failure: Requested node configuration is not available\n",
        "sbatch: fatal: --gpus-per-node and --gres=gpu are mutually exclusive.\n",
        "",
    ],
)
def test_a_job_that_slurm_would_refuse_is_told_so(said: str) -> None:
    with pytest.raises(JobRejected, match="Slurm would refuse the job: "):
        slurmforecast.parse(printed(err=said, status=1))


@pytest.mark.parametrize(
    "said",
    [
        "",
        "sbatch: Job 8 to start at 2026-11-22T00:47 using 1 processors on nodes n in partition viz",
        "sbatch: Job 8 to start at Unknown a using 1 processors on nodes n in partition viz",
        "sbatch: Job 8 to start at 1795308426 using 1 processors on nodes n",
        "sbatch: Job 8 to start at 1795308426 using 1 processors on nodes n in partition $(id)",
    ],
)
def test_anything_else_is_no_estimate(said: str) -> None:
    with pytest.raises(UnexpectedReply):
        slurmforecast.parse(printed(err=said))


def test_as_many_jobs_start_at_once_as_there_are_idle_cpus_for() -> None:
    free = printed("up 16/15/1/32\n")
    assert slurmforecast.forecast(ESTIMATE, free, 1795308400.0) == Forecast(26.0, 3)


def test_a_start_that_has_passed_is_now() -> None:
    assert slurmforecast.forecast(ESTIMATE, printed("up 0/8/0/8\n"), 1795308500.0).wait == 0


@pytest.mark.parametrize("state", ["down", "drain", "inact"])
def test_a_partition_that_is_not_up_is_closed_whatever_was_estimated(state: str) -> None:
    free = printed(f"{state} 0/8/0/8\n")
    found = slurmforecast.forecast(ESTIMATE, free, 1795308426.0)
    assert found == Forecast(closed=f"its partition viz is {state}")


@pytest.mark.parametrize(
    "free",
    [
        printed(),
        printed("up\n"),
        printed("up 1/2/3\n"),
        printed("up 0/8/0/8\nup 0/1/0/1\n"),
        printed(status=1),
    ],
)
def test_a_partition_that_cannot_be_read_is_no_forecast(free: Completed) -> None:
    with pytest.raises(UnexpectedReply):
        slurmforecast.forecast(ESTIMATE, free, 0.0)


class Commands:
    """A transport that answers by the command's name, and keeps what was sent."""

    follow_interval = 1.0

    def __init__(self, **answers: Completed) -> None:
        self.answers = answers
        self.asked: list[tuple[list[str], bytes]] = []

    async def run(self, argv: list[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append((argv, stdin))
        name = next(each for each in argv if each != "env" and "=" not in each)
        return self.answers[name]


async def test_nothing_is_staged_the_script_goes_to_standard_input() -> None:
    transport = Commands(sbatch=printed(err=TOLD), sinfo=printed("up 0/8/0/8\n"))
    scheduler = SlurmScheduler(transport, timeout=1)  # type: ignore[arg-type]
    assert isinstance(scheduler, Forecaster)
    assert (await scheduler.forecast(REQUEST)).room == 2
    (argv, script), (sinfo, _) = transport.asked
    assert argv[:2] == ["env", "SLURM_TIME_FORMAT=%s"]
    assert argv[2:] == ["sbatch", "--test-only", "--job-name=hpcb-1", "--time=61:01"]
    assert script == b"#!/bin/bash\nsleep 1\n"
    assert "--partition=viz" in sinfo


@pytest.mark.parametrize(
    "silent",
    [
        {"sbatch": printed(err="allocation failure: Unable to contact slurm controller", status=1)},
        {"sbatch": printed(err="env: 'sbatch': No such file or directory", status=127)},
        {
            "sbatch": printed(err=TOLD),
            "sinfo": printed(
                err="slurm_load_partitions: Unable to contact slurm controller", status=1
            ),
        },
    ],
)
async def test_a_controller_that_is_not_reached_is_no_refusal(silent: dict[str, Completed]) -> None:
    scheduler = SlurmScheduler(Commands(**silent), timeout=1)  # type: ignore[arg-type]
    with pytest.raises(ClusterUnreachable):
        await scheduler.forecast(REQUEST)
