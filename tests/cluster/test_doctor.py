"""The doctor on a real site: Slurm behind SSH."""

from pathlib import Path
from typing import Any

import asyncssh
import tomli_w

from hpcbridge import doctor
from hpcbridge.config import file as configfile
from hpcbridge.config.installation import job_name, mark
from testbed.handle import Testbed
from tests.serviceprocess import Start
from tests.waiting import until


async def examined(config: dict[str, Any], folder: Path) -> dict[str, doctor.Finding]:
    path = folder / "doctor.toml"
    path.write_text(tomli_w.dumps(config))
    return {each.what: each async for each in doctor.examine(path, audit=True)}


def red(findings: dict[str, doctor.Finding]) -> list[str]:
    return [each.what for each in findings.values() if not each.good]


async def test_a_site_with_a_session_is_green(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    configuration["frontend"] = {"map_file": str(tmp_path / "sessions.map")}
    async with start(configuration).client() as client:
        session = (await client.post("/paraview", json={"application": "flow"})).json()
        findings = await examined(configuration, tmp_path)
    assert red(findings) == []
    known = site.known_hosts.read_text().splitlines()
    line = next(each for each in known if site.head in each.split()[0])
    key = asyncssh.import_public_key(line.partition(" ")[2])
    assert f"ssh-ed25519 {key.get_fingerprint()}" in findings["lab: SSH"].said
    assert findings["lab: home"].said == "It is /home/alice."
    assert findings["lab: commands"].said.startswith("slurm")
    assert "living jobs of this account: 1." in findings["lab: scheduler"].said
    assert "So it is" in findings["no ready session without a route"].said
    assert session["secret"] not in str(findings)
    root = site.home() / ".hpcbridge"
    assert [path.name for path in root.iterdir() if path.name.startswith("doctor")] == []


async def test_another_host_key_is_red_with_the_key_and_the_cure(
    configuration: dict[str, Any], other_host_key: Path, tmp_path: Path
) -> None:
    configuration["clusters"]["lab"]["ssh"]["known_hosts"] = str(other_host_key)
    findings = await examined(configuration, tmp_path)
    assert red(findings) == ["lab: SSH"]
    assert "update the known_hosts file" in findings["lab: SSH"].said
    assert "The key that it shows is ssh-ed25519 SHA256:" in findings["lab: SSH"].said
    assert "lab: scheduler" not in findings


async def test_a_job_of_a_lost_database_is_found_and_then_ended(
    start: Start, configuration: dict[str, Any], site: Testbed, tmp_path: Path
) -> None:
    configuration["clusters"]["lab"]["grace"] = 1
    path = tmp_path / "hpcbridge.toml"
    path.write_text(tomli_w.dumps(configuration))
    name = job_name("a" * 40, mark(configfile.load(path)))
    directory = site.home() / ".hpcbridge" / name
    site.run(site.head, "alice", ["mkdir", "-p", "-m", "700", f".hpcbridge/{name}"])
    for each in (name, job_name("a" * 40, "ffffffff")):
        submit = ["sbatch", "--partition=viz", f"--job-name={each}", "--output=/dev/null"]
        done = site.run(site.head, "alice", [*submit, "--wrap=sleep 600"])
        assert done.returncode == 0, done.stderr
    service = start(configuration)

    def jobs() -> list[str]:
        listed = site.run(site.head, "alice", ["squeue", "--me", "--noheader", "--format=%j"])
        return listed.stdout.split()

    await until(lambda: name not in jobs() and not directory.exists(), "the job's end")
    assert jobs() == [job_name("a" * 40, "ffffffff")]
    assert f"({name})" in service.log
