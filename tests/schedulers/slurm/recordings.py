"""What Slurm's commands really printed: one file a call, its command and exit status on top."""

from pathlib import Path

from hpcbridge.transports.base import Completed

DIRECTORY = Path(__file__).parents[2] / "fixtures" / "slurm"


def recorded(name: str, version: str = "22.05") -> Completed:
    """The recording `name` as the transport would have handed it over."""
    text = (DIRECTORY / version / f"{name}.txt").read_bytes()
    head, _, rest = text.partition(b"# --- stdout\n")
    command, status = head.decode().splitlines()[:2]
    out, _, err = rest.partition(b"\n# --- stderr")
    err = b"\n".join(line for line in err.splitlines() if not line.startswith(b"# seconds"))
    argv = tuple(command.removeprefix("# command: ").split())
    return Completed(argv, int(status.removeprefix("# exit: ")), out, err.lstrip(b"\n"))


def names(pattern: str, version: str = "22.05") -> list[str]:
    """The recordings whose names match."""
    return sorted(path.stem for path in (DIRECTORY / version).glob(f"{pattern}.txt"))
