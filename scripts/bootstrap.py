"""Sets up what a make target needs: system libraries, the virtual environment, packages.

    python3 scripts/bootstrap.py demo|test|python

"python" is no more than the virtual environment, for tests that need nothing else of this machine.
Safe to repeat; does only what is missing. Written so that an old Python can still say that it is
too old. As root on Debian it installs missing system packages by apt; otherwise it says which.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
NEEDS = ("pyproject.toml", "constraints.txt")

# What to set up for -> the extras of pyproject.toml that it needs.
EXTRAS = {"demo": ["demo"], "test": ["demo", "test"], "python": ["test"]}

# What VTK's wheel loads to draw without a display: library -> Debian package.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libEGL_mesa.so.0": "libegl-mesa0",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libgomp.so.1": "libgomp1",
}
NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError")
DRIVERS = ("libgl1-mesa-dri",)


def main(purpose):
    """Set up for ``purpose``, one of ``EXTRAS``."""
    if sys.version_info < (3, 11):
        fail(
            "hpcbridge needs Python 3.11 or newer; %s is %d.%d. Name another one: "
            "make PYTHON=python3.12 ..." % ((sys.executable,) + sys.version_info[:2])
        )
    if purpose != "python":
        libraries()
    environment(EXTRAS[purpose])
    if purpose == "test":
        run("the programs that the tests drive", [sys.executable, "-m", "testbed", "install"])


def libraries():
    """The shared libraries for drawing without a display."""
    missing = [package for name, package in LIBRARIES.items() if not loads(name)]
    if not has_driver():
        missing += DRIVERS
    if missing:
        apt(sorted(set(missing)))


def loads(name):
    """Whether the dynamic linker finds a library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_driver():
    """Whether Mesa's software renderer or another driver is there."""
    places = ("/usr/lib/%s-linux-gnu" % os.uname().machine, "/usr/lib64", "/usr/lib")
    return any(
        os.path.isdir(os.path.join(place, "dri")) and os.listdir(os.path.join(place, "dri"))
        for place in places
    )


def apt(packages):
    """Install Debian packages, or say which."""
    command = "apt-get install --no-install-recommends " + " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        fail(
            "drawing without a display needs system libraries that are missing here. "
            "On Debian or Ubuntu, install them with:\n\n    sudo %s\n" % command
        )
    say("Installing %s ..." % ", ".join(packages))
    settings = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    quiet = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    for arguments in (["update"], ["install", "-y", "--no-install-recommends"] + packages):
        done = subprocess.run(
            ["apt-get"] + quiet + arguments, env=settings, stdout=subprocess.DEVNULL
        )
        if done.returncode:
            fail("'%s' failed; is there a network?" % command)


def environment(extras):
    """The virtual environment with hpcbridge (editable) and its extras, at the locked versions."""
    mark = os.path.join(VENV, ".set-up-for-%s" % "-".join(extras))
    print_of = fingerprint()
    everything = os.path.join(VENV, ".set-up-for-demo-test")
    for done in (mark, everything):
        if os.path.exists(PYTHON) and os.path.exists(done):
            with open(done) as file:
                if file.read() == print_of:
                    return
    if not os.path.exists(PYTHON):
        say("Creating the virtual environment .venv ...")
        try:
            import venv

            venv.create(VENV, with_pip=True)
        except (ImportError, subprocess.CalledProcessError):
            shutil.rmtree(VENV, ignore_errors=True)
            fail("Python's venv module is missing. On Debian: apt-get install python3-venv")
    run(
        "Python packages (%s; some 250 MB the first time)" % ", ".join(extras),
        [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "2"]
        + ["-c", "constraints.txt", "-e", ".[%s]" % ",".join(extras)],
    )
    with open(mark, "w") as file:
        file.write(print_of)


def fingerprint():
    """What the environment depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for name in NEEDS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def run(what, command):
    """Run a step of the set-up, or end with a sentence."""
    say("Setting up %s ..." % what)
    done = subprocess.run(
        command, cwd=ROOT, stdout=sys.stderr, stderr=subprocess.PIPE, universal_newlines=True
    )
    if done.returncode and any(sign in done.stderr for sign in NO_NETWORK):
        fail(
            "setting up %s needs the package index, which cannot be reached from here. Connect "
            "this machine to the network (or point pip at a mirror), then run the same again."
            % what
        )
    if done.returncode:
        sys.stderr.write(done.stderr[-3000:])
        fail("setting up %s failed; is there a network? The messages are above." % what)


def say(text):
    """Progress, on standard error so that standard output stays the program's."""
    sys.stderr.write(text + "\n")


def fail(text):
    """End with a sentence."""
    sys.stderr.write("hpcbridge: %s\n" % text)
    raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:
        fail("usage: python3 scripts/bootstrap.py %s" % "|".join(EXTRAS))
    main(sys.argv[1])
