"""Runs the demonstration: the service, its page and a real 3D application.

    .venv/bin/python scripts/demo.py [--port 8080] [--slurm]

With ParaView and npm on this machine, ParaView's own Visualizer is on the page as well. With
--slurm, jobs run on the Slurm cluster of ``make cluster``. State is kept in the folder .demo, and
Ctrl-C ends all that was started.
"""

import argparse
import json
import os
import shutil
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import software  # noqa: E402  # the path is only known now


def main() -> None:
    """Prepare the applications and become the service."""
    parser = argparse.ArgumentParser(description="Run the hpcbridge demonstration.")
    parser.add_argument("--port", type=int, default=8080, help="TCP port of the page (8080)")
    parser.add_argument("--slurm", action="store_true", help="run jobs on the test cluster")
    arguments = parser.parse_args()
    refuse_busy(arguments.port)
    state = ROOT / ".demo" / ("slurm" if arguments.slurm else "one-machine")
    os.environ.setdefault("HPCBRIDGE_SERVER__STATE_DIR", str(state))
    if arguments.slurm:
        software.install_on_cluster(ROOT)
        config = ROOT / "examples/slurm-ssh/hpcbridge.toml"
    else:
        config = ROOT / "examples/one-machine/hpcbridge.toml"
        if paraview := with_paraview():
            config = ROOT / "examples/paraview/hpcbridge.toml"
            os.environ |= paraview
    command = str(Path(sys.executable).parent / "hpcbridge")
    os.execv(
        command,
        [command, "serve", str(config), "--port", str(arguments.port), "--end-sessions"],
    )


def with_paraview() -> dict[str, str]:
    """Where ParaView's Visualizer is, for its example; empty where it cannot be set up."""
    folder = ROOT / ".demo/paraview"
    properties = software.visualizer(folder)
    if properties is None:
        return {}
    names = {
        f"HPCBRIDGE_APPLICATIONS__VISUALIZER__PROPERTIES__{key.upper()}": value
        for key, value in properties.items()
    }
    pages = {"/visualizer": str(folder / software.PAGE)}
    return names | {"HPCBRIDGE_SERVER__CONTENT": json.dumps(pages)}


def refuse_busy(port: int) -> None:
    """End before any work when another program has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            sys.exit(f"hpcbridge: port {port} cannot be used ({error}). Try: make demo PORT=8090")


if __name__ == "__main__":
    if not shutil.which("bash"):
        sys.exit("hpcbridge: job scripts need bash, which is not installed here.")
    main()
