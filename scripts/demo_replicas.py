"""Runs two services on one database: the demonstration of replicas.

    .venv/bin/python scripts/demo_replicas.py [--port 8080]

A PostgreSQL of its own, the Slurm cluster of ``make cluster`` (which must be up), and two services
on PORT and PORT + 1, each with its page. Ctrl-C ends all that was started.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hpcbridge.store import STALE  # noqa: E402  # the path is only known now
from scripts import software  # noqa: E402
from scripts.demo import refuse_busy  # noqa: E402
from testbed.layout import TestbedError  # noqa: E402
from testbed.postgresql import PostgreSQL  # noqa: E402

CONFIG = ROOT / "examples/slurm-ssh/hpcbridge.toml"
READY = "hpcbridge ready on "
DATABASE = "hpcbridge"
AT_WORK = (
    f"SELECT count(*) FROM replicas WHERE seen_at > extract(epoch FROM clock_timestamp()) - {STALE}"
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_LIMIT = 60.0
"""Seconds that one service may take to end the sessions."""
TRY = """
Two services share a PostgreSQL and a Slurm cluster:

  first    {0}   (process {2})
  second   {1}   (process {3})

Launch at one and look at it through the other:
  curl -X POST -d '{{"application": "flow"}}' {0}paraview
  curl {1}paraview/ID
or open the sessionURL's session on the second's page. Then kill the one that leads
(the log says "this replica leads") and launch at the other:
  kill -9 {2}
Ctrl-C ends everything; soon after a kill it takes up to 15 s.
"""


def main() -> None:
    """Start everything, wait for Ctrl-C, end everything."""
    parser = argparse.ArgumentParser(description="Run two hpcbridge services on one database.")
    parser.add_argument("--port", type=int, default=8080, help="TCP port of the first page (8080)")
    port = parser.parse_args().port
    for each in (port, port + 1):
        refuse_busy(each)
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        software.install_on_cluster(ROOT)
        run(port)


def run(port: int) -> None:
    """Start everything and wait; whatever happens, leave nothing behind."""
    state = ROOT / ".demo/replicas"
    shutil.rmtree(state, ignore_errors=True)  # it belongs to the database of an earlier run
    database = PostgreSQL()
    services: list[subprocess.Popen[str]] = []
    try:
        url = database.create(DATABASE)
        for number in range(2):
            services.append(start(state / str(number), port + number, url))
        urls = [wait_ready(each) for each in services]
        print(TRY.format(*urls, *(each.pid for each in services)), flush=True)
        while any(each.poll() is None for each in services):
            time.sleep(0.5)
    finally:
        for number in SIGNALS:  # who cannot wait must not leave the half of it behind
            signal.signal(number, signal.SIG_IGN)
        try:
            end(services, database)
        finally:
            database.close()


def end(services: list[subprocess.Popen[str]], database: PostgreSQL) -> None:
    """One after the other: the last one ends the sessions, if it knows that it is the last."""
    living = [each for each in services if each.poll() is None]
    if services and not living:
        print("No service is left to end the sessions. make cluster-down ends their jobs.")
    with contextlib.suppress(TestbedError):
        while living and int(database.ask(DATABASE, AT_WORK)[0]) > len(living):
            time.sleep(0.5)  # one was killed, and is missed only after a while
    for each in living:
        each.terminate()
        try:
            each.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()


def start(state: Path, port: int, url: str) -> subprocess.Popen[str]:
    """A service with a state directory of its own; the database's password is not in argv."""
    command = [str(Path(sys.executable).parent / "hpcbridge"), "serve", str(CONFIG)]
    given = {"HPCBRIDGE_SERVER__STATE_DIR": str(state), "HPCBRIDGE_STORE__URL": url}
    return subprocess.Popen(
        [*command, "--port", str(port), "--end-sessions"],
        env=os.environ | given,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this program, which ends them in order
    )


def wait_ready(service: subprocess.Popen[str]) -> str:
    """The URL, once it accepts requests."""
    assert service.stdout is not None
    for line in service.stdout:
        if line.startswith(READY):
            return line.removeprefix(READY).strip()
    sys.exit("hpcbridge: a service did not start; its message is above.")


if __name__ == "__main__":
    main()
