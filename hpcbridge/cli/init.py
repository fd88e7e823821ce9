"""The command ``hpcbridge init``."""

import asyncio
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hpcbridge.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from hpcbridge.setup.draft import Wanted
    from hpcbridge.setup.survey import Survey

Folder = Annotated[
    Path, typer.Argument(help="Where hpcbridge.toml and the folder templates are written.")
]
Login = Annotated[
    str | None,
    typer.Option(
        "--ssh", metavar="[USER@]HOST", help="Login host of the cluster; '' for this machine."
    ),
]
Kind = Annotated[
    Literal["slurm", "pbs", "torque", "gridengine", "local"] | None,
    typer.Option(help="The batch system, where several are found or none is wanted."),
]
Name = Annotated[str | None, typer.Option(help="What the cluster is called in the configuration.")]
Partition = Annotated[
    str | None, typer.Option("--partition", "--queue", help="Partition or queue of the jobs.")
]
Account = Annotated[str | None, typer.Option(help="Account that pays for them.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the page.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what was found.")]


def init(
    folder: Folder = Path(),
    ssh: Login = None,
    scheduler: Kind = None,
    name: Name = None,
    partition: Partition = None,
    account: Account = None,
    port: Port = 8080,
    yes: Yes = False,
) -> None:
    """Write a first configuration, from what the cluster says of itself.

    Asks Slurm, PBS or Grid Engine, here or on a login host, for partitions or queues, accounts,
    GPUs, software and modules. Every guess is marked in the file. 'hpcbridge doctor' looks at it
    in the end; nothing is submitted.
    """
    from hpcbridge.config import file as configfile
    from hpcbridge.setup.draft import PAGE, command, draft

    file = folder / "hpcbridge.toml"
    page = folder / "templates" / PAGE.name
    for each in (file, page):
        if each.exists():
            raise ConfigError(f"{each} is there already, and is left as it is.")
    if ssh is None:
        question = "Login host of the cluster, as [USER@]HOST (empty: the commands are here)"
        ssh = "" if yes else typer.prompt(question, default="", show_default=False).strip()
    print(f"Asking {ssh or 'this machine'} ...")
    found = asyncio.run(_survey(ssh))
    if scheduler is not None and scheduler != found.scheduler:
        found = replace(found, scheduler=scheduler, version="", partitions=[], accounts=[])
    _tell(found)
    wanted = _choose(found, ssh, name, partition, account, port, yes=yes)
    text = draft(wanted, found)
    configfile.checked(file, tomllib.loads(text))
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x") as written:
            written.write(text)
        shutil.copyfile(PAGE, page)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}.") from error
    print(f"\nWritten: {file}, {page}.\n")
    from hpcbridge.cli.doctor import report

    well = asyncio.run(report(file))
    print(f"\nThe service, with a page at http://127.0.0.1:{port}/ :\n  {command(file)}")
    if not well:
        print("Red lines above say what to change first.")
        raise typer.Exit(1)


async def _survey(login: str) -> "Survey":
    from hpcbridge.config.clusters import SSHSettings
    from hpcbridge.setup.survey import survey
    from hpcbridge.transports.connection import SSHHost
    from hpcbridge.transports.local import LocalTransport
    from hpcbridge.transports.ssh import SSHTransport

    if not login:
        return await survey(LocalTransport())
    user, _, host = login.rpartition("@")
    if not host:
        raise ConfigError(f"--ssh: {login!r} names no host; write HOST or USER@HOST.")
    connection = SSHHost(SSHSettings(host=host, **({"user": user} if user else {})))
    try:
        return await survey(SSHTransport(connection))
    finally:
        await connection.close()


def _tell(found: "Survey") -> None:
    kinds = {
        "slurm": "Slurm",
        "pbs": "PBS",
        "torque": "Torque",
        "gridengine": "Grid Engine",
        "local": "no batch system: jobs run on this machine, by the embedded runner",
    }
    version = f" ({found.version})" if found.version else ""
    print(f"  batch system: {kinds[found.scheduler]}{version}")
    word = "partitions" if found.scheduler == "slurm" else "queues"
    if found.scheduler == "slurm" and not found.partitions:
        print("  sinfo told of no partition: see whether 'sinfo' works for this account.")
    for title, names in (
        (word, [str(each) for each in found.partitions]),
        ("accounts", found.accounts),
        ("programs", [f"{key} {path}" for key, path in found.programs.items() if key in _TOLD]),
        ("modules", found.modules),
    ):
        if names:
            print(f"  {title}: {', '.join(names)}")


_TOLD = ("pvpython", "Xvfb", "apptainer", "python3")


def _choose(
    found: "Survey",
    login: str,
    name: str | None,
    partition: str | None,
    account: str | None,
    port: int,
    *,
    yes: bool,
) -> "Wanted":
    from hpcbridge.setup.draft import Wanted

    if found.scheduler == "local" and login:
        raise BridgeError(
            f"On {login} there is no sbatch, qsub or qconf on the PATH of a login without a "
            "terminal. Set it in ~/.bashrc there; for machines without a batch system see "
            "docs/hosts.md."
        )
    names = [each.name for each in found.partitions]
    if partition and names and partition not in names:
        raise ConfigError(f"There is no '{partition}'. There are: {', '.join(names)}.")
    if account and found.accounts and account not in found.accounts:
        raise ConfigError(
            f"You have no account '{account}'. You have: {', '.join(found.accounts)}."
        )
    if partition is None:
        best = found.partition.name if found.partition else ""
        partition = best if yes or len(names) < 2 else _one_of("Partition or queue", names, best)
    if account is None:
        accounts = found.accounts
        account = accounts[0] if len(accounts) == 1 else ""
        if len(accounts) > 1 and not yes:
            account = _one_of("Account", accounts, accounts[0])
    host = login.rpartition("@")[2].partition(".")[0]
    name = name or (host if host else "workstation" if found.scheduler == "local" else "cluster")
    return Wanted(name, found.scheduler, login, partition, account, port)


def _one_of(question: str, names: list[str], best: str) -> str:
    while True:
        said: str = typer.prompt(f"{question} ({', '.join(names)})", default=best).strip()
        if said in names:
            return said
        print(f"There is no '{said}'.")
