"""slurmrestd as it is: all versions of its interface, over TCP and its socket.

`make test` runs this against the installed Slurm, `make test-slurm24` against that of Debian 13,
and `make test-slurm26` against that of Debian 14.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hpcbridge.config.slurmrest import SlurmRestCluster
from hpcbridge.errors import ClusterError, ClusterUnreachable, JobRejected, OutcomeUnknown
from hpcbridge.schedulers.base import EndReason, Forecast, JobInfo, JobRequest, JobState
from hpcbridge.schedulers.slurmrest.client import Client
from hpcbridge.schedulers.slurmrest.scheduler import SlurmRestScheduler
from hpcbridge.schedulers.slurmrest.tokens import tokens_for
from hpcbridge.transports.base import Completed
from hpcbridge.transports.local import LocalTransport
from testbed import config
from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until
from tests.wslinkclient import WslinkClient, colours

HOME = "/home/alice"


class OnHead(LocalTransport):
    """Commands on the cluster's head, as the login host would run them."""

    def __init__(self, site: Testbed) -> None:
        super().__init__()
        self._site = site

    async def run(self, argv: Any, *, stdin: bytes = b"", timeout: float) -> Completed:
        return await super().run(
            self._site.exec_args("head", "alice", argv), stdin=stdin, timeout=timeout
        )

    async def home(self) -> str:
        return HOME


def spoken(site: Testbed) -> list[str]:
    """Three versions that this Slurm offers, the newest one last."""
    installed = config.slurm_version(site.layout)
    if installed < (23, 11):
        return ["v0.0.36", "v0.0.37", "v0.0.38"]
    if installed < (25, 11):
        return ["v0.0.40", "v0.0.41", "v0.0.42"]
    return ["v0.0.43", "v0.0.44", "v0.0.45"]  # and v0.0.42, which 24.11 has as well


def token_file(site: Testbed, folder: Path) -> Path:
    file = folder / "token"
    file.touch(0o600)
    file.write_text(site.call("scontrol", "token", "username=alice", "lifespan=3600"))
    return file


Adapter = Callable[..., SlurmRestScheduler]


@pytest_asyncio.fixture
async def adapter(site: Testbed, tmp_path: Path) -> AsyncIterator[Adapter]:
    """Makes adapters for alice; with the token of a file, unless told otherwise."""
    made: list[SlurmRestScheduler] = []

    def make(**changes: Any) -> SlurmRestScheduler:
        given = {"scheduler": "slurmrest", "url": site.rest_url, "user": "alice"} | changes
        if not {"token_file", "token_command", "jwt_key_file"} & set(changes):
            given["token_file"] = token_file(site, tmp_path)
        settings = SlurmRestCluster(**given)
        transport = OnHead(site)
        client = Client(settings, tokens_for(settings, transport))
        made.append(SlurmRestScheduler(settings, client, transport))
        return made[-1]

    yield make
    for each in made:
        await each.close()


def requested(site: Testbed, head: str = "", **changes: Any) -> JobRequest:
    """A job with these directives, and a directory of its own."""
    name = f"hpcb-{secrets.token_hex(6)}"
    site.run("head", "alice", ["mkdir", "-p", "-m", "700", f"{HOME}/rest/{name}"])
    directory = f"{HOME}/rest/{name}"
    script = f"#!/bin/bash\n{head}\nenv >{directory}/environment\nsleep 300\n"
    given = {"name": name, "directory": directory, "script": f"{directory}/job.sh", "text": script}
    return JobRequest(**(given | changes))


async def seen(scheduler: SlurmRestScheduler, job_id: str, state: JobState) -> JobInfo:
    found: list[JobInfo] = []

    async def look() -> bool:
        job = (await scheduler.list_jobs()).jobs.get(job_id)
        found[:] = [job] if job else []
        return job is not None and job.state == state

    await until(look, f"job {job_id} {state}")
    return found[0]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("way", ["tcp", "socket"])
async def test_a_job_is_submitted_seen_on_its_host_and_cancelled_twice(
    site: Testbed, adapter: Adapter, which: int, way: str
) -> None:
    url = site.rest_url if way == "tcp" else f"unix:{site.rest_socket}"
    scheduler = adapter(url=url, version=spoken(site)[which])
    request = requested(site, "#SBATCH --partition=viz\n#SBATCH --gres=gpu:1", walltime=600)
    job_id = await scheduler.submit(request)
    job = await seen(scheduler, job_id, JobState.RUNNING)
    assert (job.name, job.reason) == (request.name, None)
    assert job.host in site.nodes[2:]
    assert await scheduler.find(request.name) == job_id
    assert await scheduler.find(request.name + "x") is None

    await scheduler.cancel({job_id: request.name, "999999": "hpcb-0"})
    await scheduler.cancel({job_id: request.name})
    job = await seen(scheduler, job_id, JobState.ENDED)
    assert job.reason == EndReason.CANCELLED
    ended = await scheduler.describe_end(job_id)
    assert ended is not None
    assert (ended.name, ended.reason) == (request.name, EndReason.CANCELLED)
    assert await scheduler.describe_end("999999") is None


async def test_the_newest_version_is_found(site: Testbed, adapter: Adapter) -> None:
    scheduler = adapter()
    await scheduler.list_jobs()
    assert await scheduler._client.version() == spoken(site)[-1]


async def test_a_version_that_is_not_offered_is_told_with_those_that_are(
    site: Testbed, adapter: Adapter
) -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        await adapter(version="v0.0.99").list_jobs()
    assert caught.value.lasting
    assert all(version in str(caught.value) for version in spoken(site))


# -- the job is the one that sbatch would have made

NEWER = "#SBATCH --time-min=5"  # than v0.0.37
ALIKE = [
    "",
    "#SBATCH -N2\n#SBATCH --ntasks-per-node=2 -c 2",
    "#SBATCH --nodes=1-2\n#SBATCH -n 3",
    "#SBATCH -N 2",
    "#SBATCH --gres=gpu:h100:2 --partition=viz -t 5",
    "#SBATCH --gpus-per-node=1 --nodes=2",
    "#SBATCH --gpus=h100:1 --cpus-per-gpu=2 --mem-per-gpu=300M",
    "#SBATCH --gpus-per-task=1 --ntasks=2",
    "#SBATCH --mem=1G\n#SBATCH --time=01:00:00",
    "#SBATCH --mem-per-cpu=300 -c 2 --time=1-0:0:1 -t 90",
    "#SBATCH --mem=500000K",
    NEWER,
    "#SBATCH --exclusive",
    "#SBATCH --exclusive=user",
    "#SBATCH -w hpcb-n2 -x hpcb-n1,hpcb-n4",
    "#SBATCH --nodelist=hpcb-n[1,3] -N2",
    "#SBATCH --comment='a b' --nice=5 # a comment",
    "#SBATCH --partition=short -t 3 --threads-per-core=1",
    "#SBATCH --ntasks-per-socket=1 -n 2 --wckey=w --account=x",
    "#SBATCH --signal=USR1@90 --hold",
]
# What differs between any two jobs, or tells how far each has come.
PARTICULAR = re.compile(
    r"JobId|Priority|JobState|Reason|\w*ExitCode|RunTime|\w+Time|Scheduler|SecsPreSuspend|NodeList"
    r"|BatchHost|Command|AllocTRES|JOB_GRES|SchedNodeList|OOMKillStep|Std\w+|AllocNode:Sid|LastSchedEval"
)


def shown(site: Testbed, job_id: str) -> dict[str, str]:
    text = site.call("scontrol", "--oneliner", "show", "job", job_id)
    text = re.sub(r"SubmitLine=.*?(?= [A-Z]\w*=)", "", text)  # has sbatch's options, from 25.05 on
    fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
    fields = {k: v for k, v in fields.items() if not PARTICULAR.fullmatch(k)}
    fields["NumNodes"] = fields["NumNodes"].partition("-")[0]  # a range while the job waits
    return fields


@pytest.fixture
def still(site: Testbed) -> Iterator[None]:
    """Jobs are taken and none is started, so that all look as they were submitted."""
    for partition in ("viz", "short"):
        site.call("scontrol", "update", f"partitionname={partition}", "state=down")
    yield
    site.cancel_all()
    for partition in ("viz", "short"):
        site.call("scontrol", "update", f"partitionname={partition}", "state=up")


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_the_job_is_the_one_that_sbatch_would_have_made(
    site: Testbed, adapter: Adapter, which: int
) -> None:
    version = spoken(site)[which]
    scheduler = adapter(version=version)
    for head in ALIKE if version > "v0.0.37" else set(ALIKE) - {NEWER}:
        request = requested(site, head)
        log = f"{request.directory}/scheduler.out"
        given = f"--job-name={request.name} --no-requeue --chdir={request.directory}"
        argv = ["sbatch", "--parsable", *given.split(), f"--output={log}", f"--error={log}"]
        done = site.run("head", "alice", argv, text=request.text)
        assert done.returncode == 0, done.stderr
        job_id = await scheduler.submit(request)
        assert shown(site, job_id) == shown(site, done.stdout.strip()), head


MPI = "#SBATCH -N2 --ntasks-per-node=2 -c 2 --mem-per-cpu=100"


async def test_srun_and_mpiexec_find_in_the_job_what_sbatch_leaves_them(
    site: Testbed, adapter: Adapter
) -> None:
    environments = []
    for way in ("sbatch", "slurmrest"):
        request = requested(site, MPI)
        if way == "sbatch":
            argv = ["sbatch", f"--job-name={request.name}", f"--chdir={request.directory}"]
            site.run("head", "alice", argv, text=request.text)
        else:
            await adapter().submit(request)
        file = site.home() / "rest" / request.name / "environment"

        async def written(file: Path = file) -> bool:
            return file.is_file() and "SLURM_JOB_ID" in file.read_text()

        await until(written, "the job's environment")
        lines = file.read_text().splitlines()
        environments.append(dict(line.split("=", 1) for line in lines if "=" in line))
        site.cancel_all()
    theirs, ours = environments
    assert {ours[name] for name in ("HOME", "USER", "LOGNAME")} == {HOME, "alice"}
    # Of one job or the other only, or told by sbatch of the host that it ran on.
    own = "JOB_ID JOBID JOB_SLUID JOB_NAME TASK_PID SUBMIT_DIR SUBMIT_HOST PRIO_PROCESS "
    own = own + "JOB_START_TIME JOB_END_TIME"
    for environment in environments:
        for name in own.split():
            environment.pop(f"SLURM_{name}", None)
    kinds = ("SLURM_", "HYDRA_", "I_MPI_", "OMPI_", "PRTE_")
    assert {k: v for k, v in ours.items() if k.startswith(kinds)} == {
        k: v for k, v in theirs.items() if k.startswith(kinds)
    }


async def test_what_slurm_refuses_is_told_in_its_words(site: Testbed, adapter: Adapter) -> None:
    scheduler = adapter()
    for head, words in {
        "#SBATCH --partition=nope": "(?i)invalid partition name",
        "#SBATCH --gres=gpu:9": "Requested node configuration",
        "#SBATCH --partition=short --time=60": "time limit",
    }.items():
        with pytest.raises(JobRejected, match=words):
            await scheduler.submit(requested(site, head))
    assert site.jobs() == []


async def test_a_job_of_somebody_else_is_neither_listed_nor_cancelled(
    site: Testbed, adapter: Adapter
) -> None:
    theirs = site.run("head", "bob", ["sbatch", "--parsable", "--wrap=sleep 60"]).stdout.strip()
    scheduler = adapter()
    assert theirs not in (await scheduler.list_jobs()).jobs
    assert await scheduler.find("wrap") is None
    if config.slurm_version(site.layout) < (24, 11):
        # The controller of 24.11.5 refuses this as well, and then never answers anybody again.
        with pytest.raises(ClusterError, match="permission denied"):
            await scheduler.cancel({theirs: "wrap"})
    assert theirs in site.jobs()


async def test_a_name_that_is_not_utf8_does_not_spoil_the_listing(
    site: Testbed, adapter: Adapter
) -> None:
    script = "sbatch --wrap='sleep 60' --job-name=$(printf 'a\\377\"},{\\033\\001')"
    assert site.run("head", "bob", ["bash", "-c", script]).returncode == 0
    scheduler = adapter()
    job_id = await scheduler.submit(requested(site))
    assert set((await scheduler.list_jobs()).jobs) >= {job_id}


async def test_a_job_that_waits_knows_why_and_who_is_ahead(site: Testbed, adapter: Adapter) -> None:
    blocker = ["sbatch", "--parsable", "--exclusive", "--nodes=4", "--time=10", "--wrap=sleep 300"]
    site.run("head", "bob", blocker)
    scheduler = adapter()
    first = await scheduler.submit(requested(site, "#SBATCH --gpus=2", walltime=60))
    second = await scheduler.submit(requested(site, "#SBATCH --gpus=2", walltime=60))

    async def told() -> bool:
        found = await scheduler.outlook([second])
        return second in found and found[second].start is not None

    await until(told, "an estimated start")
    outlook = (await scheduler.outlook([first, second]))[second]
    assert (outlook.queue, outlook.ahead, outlook.kind) == ("viz", 1, "partition")
    assert "2 GPUs" in outlook.waits_for
    assert (await scheduler.list_jobs()).jobs[second].state == JobState.QUEUED


# -- forecasts

SMALL = "#SBATCH --partition=viz --gres=gpu:1 --mem=100"


async def told(scheduler: SlurmRestScheduler, request: JobRequest, expected: Forecast) -> None:
    """Wait until this is the forecast; nodes are marked some time after what happens to them."""

    async def same() -> bool:
        return await scheduler.forecast(request) == expected

    await until(same, str(expected))


@pytest.mark.parametrize("which", [0, 2])
async def test_a_job_is_promised_a_start_only_where_it_has_room_and_nobody_waits(
    site: Testbed, adapter: Adapter, which: int
) -> None:
    version = spoken(site)[which]
    scheduler, request = adapter(version=version), requested(site, SMALL, walltime=60)
    if version == "v0.0.36":
        assert await scheduler.forecast(request) == Forecast()
        return
    await told(scheduler, request, Forecast(0.0, 4))
    running = await scheduler.submit(requested(site, SMALL.replace("gpu:1", "gpu:2"), walltime=600))
    await seen(scheduler, running, JobState.RUNNING)
    await told(scheduler, request, Forecast(0.0, 2))

    every = ["sbatch", "--parsable", "--exclusive", "--nodes=4", "--time=1", "--wrap=sleep 1"]
    assert site.run("head", "bob", every).returncode == 0
    try:
        await told(scheduler, request, Forecast())
    finally:
        site.cancel_all()  # the nodes are planned for a job that waits, and so not settled


@pytest.mark.parametrize("which", [0, 2])
async def test_a_partition_that_is_drained_or_whose_nodes_are_is_closed(
    site: Testbed, adapter: Adapter, which: int
) -> None:
    version = spoken(site)[which]
    scheduler = adapter(version=version)
    viz, short = requested(site, SMALL), requested(site, "#SBATCH --partition=short", walltime=60)
    node, reason = f"nodename={site.nodes[0]}", "all nodes of its partition short are down or"
    closed = ["its partition viz is drained", f"{reason} drained"]
    site.call("scontrol", "update", "partitionname=viz", "state=drain")
    site.call("scontrol", "update", node, "state=drain", "reason=test")
    try:
        for request, why in zip((viz, short), closed, strict=True):
            await told(scheduler, request, Forecast(closed="" if version == "v0.0.36" else why))
    finally:
        site.call("scontrol", "update", "partitionname=viz", "state=up")
        site.call("scontrol", "update", node, "state=resume")


# -- tokens


async def test_a_token_comes_from_a_command_or_is_signed_with_the_sites_key(
    site: Testbed, adapter: Adapter, tmp_path: Path
) -> None:
    await adapter(token_command=["scontrol", "token", "lifespan=60"]).list_jobs()
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes((site.layout.state / "ctld/jwt_hs256.key").read_bytes())
    job_id = await adapter(jwt_key_file=key).submit(requested(site))
    assert job_id in site.jobs()


async def test_a_token_that_runs_out_is_read_again_and_the_job_is_submitted_once(
    site: Testbed, adapter: Adapter, tmp_path: Path
) -> None:
    file = token_file(site, tmp_path)
    scheduler = adapter(token_file=file)
    await scheduler.list_jobs()
    good = file.read_text()
    file.write_text("SLURM_JWT=abc.def.ghi")
    with pytest.raises(ClusterUnreachable, match="token"):
        await scheduler.list_jobs()
    file.write_text(good)
    await scheduler.submit(requested(site))
    assert len(site.jobs()) == 1


async def test_a_command_is_asked_again_when_its_token_is_refused(
    site: Testbed, adapter: Adapter, tmp_path: Path
) -> None:
    """As when the site changed its key: each answer of the command is another token."""
    prints = tmp_path / "prints"
    good = site.token()
    prints.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/again ] && echo {good} || echo abc.def.ghi\n"
        f"touch {tmp_path}/again\n"
    )
    prints.chmod(0o755)
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    scheduler = adapter(token_command=[str(prints)])
    await scheduler.submit(requested(site))
    assert len(site.jobs()) == 1


# -- outages


async def test_a_controller_that_is_down_is_told_and_ends_nothing(
    site: Testbed, adapter: Adapter
) -> None:
    scheduler = adapter(command_timeout=12)
    request = requested(site)
    job_id = await scheduler.submit(request)
    await seen(scheduler, job_id, JobState.RUNNING)
    with site.down("slurmctld"):
        for question in (
            lambda: scheduler.list_jobs(),
            lambda: scheduler.submit(requested(site)),
            lambda: scheduler.cancel({job_id: request.name}),
        ):
            with pytest.raises(ClusterUnreachable, match="controller"):
                await question()
    assert (await seen(scheduler, job_id, JobState.RUNNING)).job_id == job_id
    assert len(site.jobs()) == 1


async def test_an_answer_that_is_lost_leaves_the_job_to_be_found_by_its_name(
    site: Testbed, adapter: Adapter
) -> None:
    scheduler = adapter(command_timeout=1)
    await scheduler.list_jobs()
    request = requested(site)
    with site.frozen("slurmctld"), pytest.raises(OutcomeUnknown):
        await scheduler.submit(request)

    async def found() -> bool:
        return await scheduler.find(request.name) is not None

    await until(found, "the job by its name")
    assert len(site.jobs()) == 1


async def test_slurmrestd_that_is_down_took_nothing(site: Testbed, adapter: Adapter) -> None:
    scheduler = adapter()
    await scheduler.list_jobs()
    with site.down("slurmrestd"), pytest.raises(ClusterUnreachable) as caught:
        await scheduler.submit(requested(site))
    assert not isinstance(caught.value, OutcomeUnknown)
    site.rest_socket.chmod(0o666)
    await scheduler.list_jobs()
    assert site.jobs() == []


# -- a whole session


@pytest.mark.parametrize("way", ["tcp", "socket"])
async def test_a_session_is_launched_seen_and_ended(
    site: Testbed, start: Start, configuration: dict[str, Any], tmp_path: Path, way: str
) -> None:
    lab = configuration["clusters"]["lab"]
    lab["scheduler"] = "slurmrest"
    lab["url"] = site.rest_url if way == "tcp" else f"unix:{site.rest_socket}"
    lab["user"] = "alice"
    lab["token_file"] = str(token_file(site, tmp_path))
    async with start(configuration).client() as client:
        reply = await client.post("/paraview", json={"application": "flow"})
        assert reply.status_code == 200, reply.text
        session = reply.json()
        async with WslinkClient.connect(session["sessionURL"], session["secret"]) as flow:
            assert colours(await flow.picture()) > 100
        assert len(site.jobs()) == 1
        await client.delete(f"/paraview/{session['id']}")

        async def over() -> bool:
            return not site.jobs()

        await until(over, "the end of the job")
    token = token_file(site, tmp_path).read_text().strip().removeprefix("SLURM_JWT=")
    assert token not in (tmp_path / "service.log").read_text()
