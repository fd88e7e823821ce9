"""Run test files at once, each on what looks like a machine of its own (Linux, root).

``python -m tests.isolated [--at-once 4] MARKERS`` starts pytest for each file that has tests with
these markers, in network, process and mount namespaces of its own and with an empty ``/tmp``
(unshare(1)). So every file can have a test cluster, and none sees the processes of another. The
clusters lie where other accounts get in, which they may not do where the checkout is.

Daemons have time limits of their own (sshd, slurmctld), which a machine with too much to do
exceeds. A file that failed beside others is run again by itself, where no more than ``FEW`` did;
what failed first is printed and named at the end all the same.
"""

import argparse
import collections
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.layout import PLACES

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
LONG = (
    "tests/postgres/test_replicas.py",
    "tests/browser/test_waiting.py",
    "tests/test_whole_histories.py",
)
"""Files that take more than a minute though they have few tests."""
LIMIT = 1200
"""Seconds that one file may take."""
FEW = 4
"""So many files that failed are run again by themselves."""

# The first process adopts orphans, as init does. `ip netns` keeps its files below /run/netns.
# A checkout below /tmp is in the empty one too.
PREPARE = """
set -e
mount --make-rprivate /
new=$1 checkout=$2
shift 2
mkdir "$new"
mount -t tmpfs -o mode=1777 tmpfs "$new"
if [[ $checkout == /tmp/* ]]; then
  mkdir -p "$new/${checkout#/tmp/}"
  mount --rbind "$checkout" "$new/${checkout#/tmp/}"
fi
mount --move "$new" /tmp
cd "$checkout"
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up
exec "$@"
"""

# What becomes of a file: tests passed, tests failed, tests skipped.
Counts = collections.Counter[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("markers", help="which tests, as for pytest -m")
    parser.add_argument("--at-once", type=int, default=4, help="files at the same time (4)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("These tests make namespaces and a cluster in them: run them as root.")
        return 2
    files, began, results = _files(arguments.markers), time.monotonic(), dict[str, Counts]()
    printing = threading.Lock()

    def run(file: str) -> None:
        text, counts, seconds = _run(file, arguments.markers, Path(place))
        with printing:
            if counts["failed"]:
                print(text)
            told = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
            print(f"{file}: {told} in {seconds:.0f} s", flush=True)
            results[file] = counts

    with (
        tempfile.TemporaryDirectory(prefix="hpcb-tests-", dir=PLACES) as place,
        ThreadPoolExecutor(arguments.at_once) as pool,
    ):
        Path(place).chmod(0o755)
        list(pool.map(run, files))
        failed = [file for file in files if results[file]["failed"]]
        if 0 < len(failed) <= FEW:
            print(f"Again, by themselves: {', '.join(failed)}", flush=True)
            for file in failed:
                run(file)
            if unsteady := [file for file in failed if not results[file]["failed"]]:
                print(f"Passed only by themselves: {', '.join(unsteady)}")
    total = Counts()
    for counts in results.values():
        total.update(counts)
    print(f"All of them took {time.monotonic() - began:.0f} s.")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return int(total["failed"] > 0 or not total["passed"])


def _files(markers: str) -> list[str]:
    """The files with such tests: the long ones first, and then those with most tests."""
    done = subprocess.run(
        [*PYTEST, "--collect-only", "-m", markers], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    ids = [line for line in done.stdout.splitlines() if "::" in line]
    counts = collections.Counter(each.partition("::")[0] for each in ids)
    return sorted(counts, key=lambda file: (file not in LONG, -counts[file]))


def _run(file: str, markers: str, place: Path) -> tuple[str, Counts, float]:
    """What pytest printed, its counts, and the seconds it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="", dir=place) as folder:  # short, for sockets
        Path(folder).chmod(0o755)
        report = Path(folder) / "report.xml"
        test = [*PYTEST, file, "-m", markers, f"--junitxml={report}"]
        first = [sys.executable, "-m", "tests.isolated", "--first", *test]
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command += ["bash", "-c", PREPARE, "bash", f"{folder}/tmp", str(ROOT), *first]
        environment = {**os.environ, "HPCBRIDGE_TESTBED": f"{folder}/t"}
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watchdog = threading.Timer(LIMIT, process.kill)
            watchdog.start()
            text = process.communicate()[0]
            watchdog.cancel()
        counts = _counts(report)
        if process.returncode != 0 and not counts["failed"]:
            counts["failed"] = 1  # skipped where that is not allowed, or it was cut off
        return text, counts, time.monotonic() - began


def _counts(report: Path) -> Counts:
    counts = Counts()
    with contextlib.suppress(OSError, ET.ParseError):
        for suite in ET.parse(report).iter("testsuite"):
            count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors")}
            counts["failed"] += count["failures"] + count["errors"]
            counts["skipped"] += int(suite.get("skipped", 0))
            counts["passed"] += count["tests"] - counts["failed"] - counts["skipped"]
    return counts


def first(command: list[str]) -> int:
    """Run the command as the first process of its namespace does: orphans are waited for."""
    child = os.posix_spawn(command[0], command, os.environ)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--first"]:
        sys.exit(first(sys.argv[2:]))
    sys.exit(main())
