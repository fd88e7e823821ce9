"""python3 -m testbed.gridengine: bring Grid Engine up, say how to use it, wait for Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from testbed import gridengine
from testbed.layout import TestbedError


def main() -> int:
    """Exit status: 0 after Ctrl-C; 2 when it is not possible here."""
    with tempfile.TemporaryDirectory(prefix="hpcb-ge-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)  # job users must get in
        try:
            with gridengine.running(Path(name)) as ge:
                print(f"Grid Engine is up:\n    ssh -F {ge.ssh_config} {ge.host} qstat")
                print("Ctrl-C ends it.")
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
        except TestbedError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
