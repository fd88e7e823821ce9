"""``hpcbridge`` for nodes that are this machine, which tunnels of a cluster refuse on purpose.

Run as a program; the tunnels are those of the embedded batch runner.
"""

from typing import Any

from hpcbridge.cli import main as cli
from hpcbridge.clusters import cluster as clusters
from hpcbridge.tunnels import Tunnels


def local(*_: Any, **__: Any) -> Tunnels:
    return Tunnels(None, None, None)


if __name__ == "__main__":
    clusters.Tunnels = local  # type: ignore[misc, assignment]
    cli.main()
