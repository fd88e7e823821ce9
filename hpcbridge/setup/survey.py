"""What a cluster says of itself to an account: asked by one script, here or over SSH."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpcbridge.errors import UnexpectedReply
from hpcbridge.plain import readable
from hpcbridge.transports.base import Transport

SECONDS = 60.0
"""How long the script may take: ``module avail`` reads whole trees of files."""

# Each answer stands below a line of its own. sinfo(1), sacctmgr(1), qstat(1B), qconf(1).
SCRIPT = r"""
section() { printf '\n==hpcbridge %s==\n' "$1"; }
section programs
for name in sbatch squeue sinfo sacct qsub qstat pbsnodes qconf pvpython Xvfb apptainer python3; do
  place=$(command -v "$name") && echo "$name $place"
done
section version
if command -v sbatch; then sbatch --version; elif command -v qstat; then qstat --version; fi 2>&1
section partitions
sinfo --noheader --format='%P|%a|%l|%D|%c|%m|%G' 2>/dev/null
section accounts
sacctmgr --noheader --parsable2 show assoc user="$(id -un)" format=account,partition,qos 2>/dev/null
section queues
if command -v qconf; then qconf -sql; elif command -v qstat; then qstat -Q; fi 2>/dev/null
section slots
if command -v qconf; then qconf -spl; fi 2>/dev/null
section python
python3 --version 2>&1
section home
echo "$HOME"
df -PT "$HOME" 2>/dev/null | tail -n 1
section modules
bash -lc 'module -t avail' 2>&1 </dev/null | grep -iE '^(paraview|vtk|mesa)[^ ]*$' | head -n 20
section end
"""

_VERSION = re.compile(r"slurm[-\w]* \d|pbs_version|Version: |SGE |GE ", re.IGNORECASE)
_SECTION = re.compile(r"^==hpcbridge (\w+)==$", re.MULTILINE)


@dataclass(frozen=True)
class Partition:
    """A partition of Slurm, or a queue of another batch system.

    ``gpus`` is its ``gres`` as Slurm writes it, "" for none; numbers are "" where they are not
    told.
    """

    name: str
    default: bool = False
    up: bool = True
    limit: str = ""
    nodes: str = ""
    cpus: str = ""
    memory: str = ""
    gpus: str = ""

    def __str__(self) -> str:
        facts = [
            f"{self.nodes} node{'' if self.nodes == '1' else 's'}" if self.nodes else "",
            f"{self.cpus} CPUs" if self.cpus else "",
            f"{self.memory} MB" if self.memory else "",
            self.gpus,
            f"up to {self.limit}" if self.limit else "",
            "" if self.up else "down",
        ]
        told = ", ".join(filter(None, facts))
        return f"{self.name} ({told})" if told else self.name


@dataclass(frozen=True)
class Survey:
    """What was found. ``scheduler`` is a kind that the configuration knows."""

    scheduler: str = "local"
    version: str = ""
    partitions: list[Partition] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    qos: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    """Grid Engine's parallel environments."""
    programs: dict[str, str] = field(default_factory=dict)
    """Paths by name, of those that were looked for."""
    modules: list[str] = field(default_factory=list)
    python: str = ""
    home: str = ""
    filesystem: str = ""
    """The type of the file system that the home directory is on, such as nfs4."""

    @property
    def partition(self) -> Partition | None:
        """The one that jobs get into if nothing is said, or else the first that is up."""
        up = [each for each in self.partitions if each.up]
        return next((each for each in up if each.default), up[0] if up else None)

    @property
    def with_gpus(self) -> list[Partition]:
        """Partitions that say that their nodes have GPUs."""
        return [each for each in self.partitions if "gpu" in each.gpus]


async def survey(transport: Transport) -> Survey:
    """Ask the cluster: takes seconds, up to :data:`SECONDS`.

    Raises :class:`~hpcbridge.errors.ClusterUnreachable` where it cannot be asked, and
    :class:`~hpcbridge.errors.UnexpectedReply` where the answer has no end.
    """
    done = await transport.run(["sh", "-s"], stdin=SCRIPT.encode(), timeout=SECONDS)
    return read(done.out)


def read(text: str) -> Survey:
    """The answer of :data:`SCRIPT`; nothing in it acts on the terminal where it is shown."""
    parts = _SECTION.split(readable(text))[1:]
    told = dict(zip(parts[::2], (each.strip() for each in parts[1::2]), strict=False))
    if "end" not in told:
        raise UnexpectedReply(f"The cluster's answer has no end: {text[-200:].strip()!r}.")
    programs = dict(line.split(" ", 1) for line in _lines(told["programs"]) if " " in line)
    version = next(filter(_VERSION.match, _lines(told["version"])), "")
    scheduler = _scheduler(programs, version)
    home, *disk = _lines(told["home"]) or [""]
    accounts = [line.split("|") for line in _lines(told["accounts"]) if line.count("|") == 2]
    return Survey(
        scheduler=scheduler,
        version=version,
        partitions=list(_partitions(scheduler, told)),
        accounts=_several(row[0] for row in accounts),
        qos=_several(name for row in accounts for name in row[2].split(",")),
        environments=[each for each in _lines(told["slots"]) if not each.startswith("/")],
        programs=programs,
        modules=[each.rstrip("/:") for each in _lines(told["modules"])],
        python=told["python"].removeprefix("Python "),
        home=home,
        filesystem=disk[0].split()[1] if disk and len(disk[0].split()) > 1 else "",
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _several(names: "Iterator[str]") -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _scheduler(programs: dict[str, str], version: str) -> str:
    if "sbatch" in programs:
        return "slurm"
    if "qconf" in programs:
        return "gridengine"
    if "qsub" in programs:
        return "pbs" if "pbs_version" in version else "torque"
    return "local"


def _partitions(scheduler: str, told: dict[str, str]) -> Iterator[Partition]:
    if scheduler == "slurm":
        seen = set()
        for line in _lines(told["partitions"]):
            name, up, limit, nodes, cpus, memory, gres = (*line.split("|"), *[""] * 7)[:7]
            if name.rstrip("*") in seen:  # nodes of several kinds have a line each
                continue
            seen.add(name.rstrip("*"))
            gpus = "" if gres == "(null)" else gres
            limit = "" if limit == "infinite" else limit
            yield Partition(
                name.rstrip("*"), name.endswith("*"), up == "up", limit, nodes, cpus, memory, gpus
            )
    elif scheduler == "gridengine":
        for name in _lines(told["queues"]):
            if not name.startswith("/"):
                yield Partition(name)
    else:  # Queue Max Tot Ena Str Que Run Hld Wat Trn Ext Type; the type is Exec or Route
        for line in _lines(told["queues"]):
            words = line.split()
            if len(words) >= 12 and words[1].isdigit():
                yield Partition(words[0], up=words[3:5] == ["yes", "yes"])
