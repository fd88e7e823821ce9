"""The example that `make demo` runs, as a service for tests."""

from pathlib import Path

from tests.serviceprocess import ServiceProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/one-machine/hpcbridge.toml"


def one_machine(folder: Path, *arguments: str, port: int = 0, **environment: str) -> ServiceProcess:
    """The example's own file, on a free port unless one is given, with its state in ``folder``."""
    return ServiceProcess(
        folder,
        EXAMPLE,
        *arguments,
        HPCBRIDGE_SERVER__STATE_DIR=str(folder / "state"),
        HPCBRIDGE_SERVER__PORT=str(port),
        **environment,
    )
