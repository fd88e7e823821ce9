"""The applications' software: ParaView's Visualizer server, and what the test cluster runs."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VISUALIZER = "pvw-visualizer@3.2.0"
WSLINK = "wslink==1.12.4"
"""What the Visualizer's page speaks: with wslink 2 in the job it waits for ever."""
PAGE = "node_modules/pvw-visualizer/dist"
"""Where the Visualizer's page is, below the folder of :func:`visualizer`."""
ASKED = """import sys
from importlib.util import find_spec
print(find_spec("paraview.web") is not None, "%d.%d" % sys.version_info[:2])"""


def visualizer(folder: Path) -> dict[str, str] | None:
    """ParaView's Visualizer made ready in ``folder``: the properties of its application.

    None, after a line that says why, where pvpython, Xvfb or npm are not installed.
    """
    pvpython = shutil.which("pvpython")
    if pvpython is None:
        return None
    for program, package in (("Xvfb", "xvfb"), ("npm", "npm")):
        if shutil.which(program) is None:
            print(f"ParaView is here, but not {program} (Debian package {package}): left out.")
            return None
    script = folder / "node_modules/pvw-visualizer/server/pvw-visualizer.py"
    site = folder / "wslink-1"
    folder.mkdir(parents=True, exist_ok=True)
    if not script.is_file():
        print("Setting up ParaView's Visualizer ...", flush=True)
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent",
              "--prefix", str(folder), VISUALIZER])  # fmt: skip
    if not site.is_dir():
        has_web, version = _run([pvpython, "-c", ASKED]).split()[-2:]
        if has_web != "True":
            print("This ParaView has no paraview.web, as since 6: its Visualizer is left out.")
            return None
        _install_wslink(version, site)
    surface = folder / "files/gyroid.vtp"
    if not surface.is_file():
        _run([sys.executable, "-m", "scripts.gyroid", str(surface)])
    return {
        "pvpython": pvpython,
        "script": str(script),
        "data": str(surface.parent),
        "pythonpath": str(site),
    }


def _install_wslink(version: str, site: Path) -> None:
    """wslink for ParaView's own Python, whose ``version`` may be another than ours."""
    new = site.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    install += ["--python-version", version, "--only-binary=:all:", "--target", str(new)]
    # Our constraints name the wslink of the portal's viewer, 2.x; what both need is the same.
    _run([*install, "aiohttp", "-c", str(ROOT / "constraints.txt")])
    _run([*install, "--no-deps", WSLINK])
    new.rename(site)


def install_on_cluster(root: Path) -> Path:
    """Put the demonstration's software into alice's home on the test cluster, as a site would.

    Returns the folder as seen from this machine. Its ``python`` runs on the nodes, whose users
    cannot see this checkout.
    """
    sys.path.insert(0, str(root))
    from testbed import cluster

    home = cluster.load().home("alice")
    folder = home / "software"
    site = Path(next(path for path in sys.path if path.endswith("site-packages")))
    if not (folder / "python").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        put(site, folder / "site")
        _hand_over(folder)
    apps = folder / "apps"
    shutil.rmtree(apps, ignore_errors=True)
    shutil.copytree(root / "hpcbridge/apps", apps)
    return folder


def put(source: Path, target: Path) -> None:
    """The tree in a place where other accounts get in, which they may not do where it is."""
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    """A hard link, since VTK alone has half a gigabyte; a copy where the file system is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def visualizer_on_cluster(root: Path) -> dict[str, str] | None:
    """ParaView's Visualizer in alice's home, below what :func:`install_on_cluster` made."""
    folder = root / ".demo/paraview"
    properties = visualizer(folder)
    if properties is None:
        return None
    copy = install_on_cluster(root) / "paraview"
    if not copy.is_dir():
        put(folder, copy)
    return {
        key: value.replace(str(folder), "/home/alice/software/paraview")
        for key, value in properties.items()
    }


def _hand_over(folder: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter = shutil.which(version, path="/usr/local/bin:/usr/bin")
    interpreter = interpreter or f"{sys.base_prefix}/bin/{version}"
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        "# The Python of the visualization applications.\n"
        f'PYTHONPATH="$HOME/software/site" exec {interpreter} "$@"\n'
    )
    python.chmod(0o755)
    alice = pwd.getpwnam("alice")
    os.chown(folder, alice.pw_uid, alice.pw_gid)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(
            f"hpcbridge: '{command[0]}' failed while setting up ParaView's Visualizer:\n"
            f"{done.stderr[-2000:]}"
        )
    return done.stdout


if __name__ == "__main__":  # what tests without a network need
    sys.exit(visualizer(Path(__file__).resolve().parents[1] / ".demo/paraview") is None)
