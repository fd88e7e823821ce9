"""This machine's side: templates, the state directory, and what the front end must reach."""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from hpcbridge.auth.headers import FrontEnd
from hpcbridge.config.batchsystems import LocalCluster
from hpcbridge.config.settings import Settings
from hpcbridge.doctor.findings import Finding, bad, good
from hpcbridge.errors import BridgeError, ConfigError
from hpcbridge.frontends import printing
from hpcbridge.jobscripts.rules import Severity
from hpcbridge.jobscripts.samples import check_all
from hpcbridge.network.addresses import UNIX_PATH_LIMIT
from hpcbridge.network.descriptors import limits, room
from hpcbridge.schedulers.local.cgroup import place
from hpcbridge.transports.account import account_named
from hpcbridge.web import certificates


def templates(settings: Settings) -> Iterator[Finding]:
    """The template of each application."""
    try:
        for name, problems in check_all(settings):
            what = f"template of {name}"
            errors = [str(each) for each in problems if each.severity == Severity.ERROR]
            if errors:
                yield bad(what, f"{' '.join(errors)} 'hpcbridge template check' tells all.")
            else:
                yield good(what, f"{settings.applications[name].template} can be used.")
    except BridgeError as error:
        yield bad("templates", str(error))


def state_directory(settings: Settings) -> Finding:
    """Private, and ours."""
    what, path = "state directory", settings.server.state_dir
    if not path.exists():
        if unwritable := not_writable(path):
            return bad(what, f"{path} cannot be made: {unwritable}")
        return good(what, f"{path} is not there yet; the first start makes it.")
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        return bad(what, f"{path} is not a directory. Name another in server.state_dir.")
    if status.st_uid != os.geteuid():
        owner = _account(status.st_uid)
        return bad(
            what,
            f"{path} belongs to {owner}. Run this as {owner}, if that is the service's account; "
            "else chown it.",
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        return bad(what, f"{path} has the mode {mode:04o}; it holds secrets. chmod 700 {path}")
    if unwritable := not_writable(path):
        return bad(what, unwritable)
    return good(what, f"{path} is private and can be written.")


def front_end(settings: Settings) -> Iterator[Finding]:
    """The map and the sockets: written by us, reached by the front end's group."""
    frontend = settings.frontend
    gid = None
    if frontend.group is not None:
        gid = _gid(frontend.group)
        if gid is None:
            yield bad("group", f"There is no group {frontend.group}. Name the web server's group.")
            return
        if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
            yield bad(
                "group",
                f"This account is not in the group {frontend.group} and cannot give files to it. "
                f"usermod --append --groups {frontend.group} {_account(os.geteuid())}",
            )
    if frontend.map_file is not None:
        yield _reachable("map file", frontend.map_file.parent, gid, frontend.group)
    if frontend.local_end == "unix":
        if gid is not None and frontend.socket_dir is None:
            yield bad(
                "sockets", "frontend.group needs frontend.socket_dir: state_dir is closed to others"
            )
        elif len(os.fsencode(settings.socket_dir / f"{'x' * 40}.sock")) > UNIX_PATH_LIMIT:
            yield bad("sockets", f"{settings.socket_dir} is too long. Name a shorter socket_dir.")
        else:
            yield _reachable("sockets", settings.socket_dir, gid, frontend.group)


def web_server(settings: Settings) -> Iterator[Finding]:
    """Whether the web server that hands requests on to the service may connect to it."""
    what, kind, server = "web server", settings.frontend.kind, settings.server
    if kind in ("embedded", "apache"):
        return
    try:
        behind = printing.behind(settings)
    except ConfigError as error:
        yield bad(what, str(error))
        return
    if isinstance(behind.address, Path) and kind == "traefik":
        yield bad(what, "Traefik connects to no unix sockets. Use server.host and server.port.")
    elif isinstance(behind.address, Path) and settings.frontend.group is None:
        yield bad(
            what,
            f"Only this account may connect to {behind.address}. Name the group that {kind} runs "
            "as in frontend.group.",
        )
    else:
        where = server.unix_socket or f"{server.host}:{server.port}"
        yield good(
            what,
            f"{kind} hands requests on to {where}; 'hpcbridge frontend {kind}' prints its part.",
        )


def session_addresses(settings: Settings) -> Iterator[Finding]:
    """The sessions' own addresses, and what they mean for those who log in."""
    what, frontend = "session addresses", settings.frontend
    if frontend.session_address == "path":
        said = (
            "Sessions are at /session/ID/ of the portal's own host: each application, and whoever "
            "writes what runs in it, can act as the portal's users."
        )
        if settings.auth.on:
            said += " So it was chosen, by frontend.trust_applications."
        yield good(what, said)
    elif settings.session_domain is None:
        yield good(what, "There are none: frontend.session_domain is not set.")
    else:
        yield good(what, f"Sessions are at ID.{settings.session_domain}, origins of their own.")
        if settings.session_domain == "localhost" and not _is_loopback(settings.server.host):
            yield bad(
                what,
                f"Browsers of other machines do not find this one at ID.localhost, and "
                f"server.host is '{settings.server.host}'. Set frontend.session_domain.",
            )


def tls(settings: Settings) -> Iterator[Finding]:
    """The certificate of the service itself, where it has one."""
    what, server = "certificate", settings.server
    if server.tls_certificate is None:
        return
    try:
        loaded = certificates.load(server)
    except ConfigError as error:
        yield bad(what, str(error))
        return
    frontend, domain = settings.frontend, settings.session_domain
    wanted = [frontend.server_name]
    if frontend.session_address == "host" and domain is not None:
        wanted.append(f"*.{domain}")
    missing = [each for each in wanted if not loaded.covers(each)]
    if worry := loaded.worry(datetime.now(UTC)):
        yield bad(what, worry)
    elif missing:
        yield bad(
            what,
            f"{server.tls_certificate} is not for {' and '.join(missing)}, but for: "
            f"{', '.join(loaded.names) or 'no name'}. Get one for frontend.server_name and, with a "
            "wildcard, for all names below frontend.session_domain.",
        )
    else:
        yield good(what, f"For {', '.join(loaded.names)}, until {loaded.ends:%Y-%m-%d}.")


def descriptors(settings: Settings) -> Finding:
    """How many connections there is room for; the service takes all that the system allows."""
    what, hard = "descriptors", limits()[1]
    wanted, possible = settings.limits.connections, room(hard)
    if wanted is not None and wanted > possible:
        return bad(
            what,
            f"limits.connections is {wanted}, and {hard} descriptors are enough for {possible}. "
            "Raise the hard limit (ulimit -Hn, or LimitNOFILE in systemd.exec(5)).",
        )
    return good(what, f"{hard}: room for {wanted or possible} connections at once.")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def users(settings: Settings) -> Iterator[Finding]:
    """The front end's secret and the audit log, where there are users."""
    auth = settings.auth
    if "header" in auth.accept:
        try:
            FrontEnd(auth, settings.server.trusted_proxies)
        except ConfigError as error:
            yield bad("front end's secret", str(error))
        else:
            yield good("front end's secret", f"{auth.secret_file} is private and long enough.")
    if auth.audit_file is not None:
        unwritable = not_writable(auth.audit_file.parent)
        if auth.audit_file.is_symlink():
            unwritable = f"{auth.audit_file} is a link, and is not written through."
        if unwritable:
            yield bad("audit log", unwritable)
        else:
            yield good("audit log", f"{auth.audit_file} can be written.")


def local_jobs(settings: Settings) -> Iterator[Finding]:
    """As whom jobs of the embedded runner run, and whether their processes end with them."""
    for name, each in settings.clusters.items():
        if not isinstance(each, LocalCluster):
            continue
        what = f"{name}: account of jobs"
        if each.run_as is None:
            me, chosen = _account(os.geteuid()), " So it was chosen, by trust_jobs."
            said = f"Jobs run as {me}, the service's own account: they can read its secrets."
            yield good(what, said + (chosen if settings.auth.on else ""))
        else:
            yield _other_account(what, each.run_as, Path(str(each.session_root)), name)
        what = f"{name}: processes of jobs"
        if place() is not None:
            yield good(what, "Each job has a control group; all its processes end with it.")
        else:
            yield good(
                what,
                "No control groups can be made here (systemd: Delegate=yes). A process outlives "
                "its job that clears its environment, makes a session of its own and loses its "
                "parent.",
            )


def _other_account(what: str, name: str, root: Path, cluster: str) -> Finding:
    try:
        account = account_named(name, f"clusters.{cluster}.run_as")
        there = next(each for each in (root, *root.parents) if each.exists())
        barred = account.barred_from(there)
    except BridgeError as error:
        return bad(what, str(error))
    if barred is not None:
        return bad(what, f"{name} cannot enter {barred}, on the way to session_root. chmod o+x it.")
    return good(what, f"Jobs run as {name}, and reach nothing of the service's own.")


def _reachable(what: str, directory: Path, gid: int | None, group: str | None) -> Finding:
    if unwritable := not_writable(directory):
        return bad(what, unwritable)
    if what == "map file" and not directory.is_dir():
        return bad(what, f"The directory {directory} is not there. Make it.")
    if gid is not None:
        for each in (directory, *directory.parents):
            if each.exists() and not _enters(each.stat(), gid):
                if each == directory and what == "sockets":
                    continue  # the service opens it to the group
                return bad(
                    what, f"The group {group} cannot enter {each}. chmod o+x {each}, or move it."
                )
    return good(what, f"{directory} can be written{f' and {group} reaches it' if group else ''}.")


def _enters(status: os.stat_result, gid: int) -> bool:
    if status.st_gid == gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def not_writable(path: Path) -> str:
    """Why nothing can be made at ``path``, and the cure; "" where it can be."""
    place = next(each for each in (path, *path.parents) if each.exists())
    if not place.is_dir():
        return f"{place} is not a directory."
    if not os.access(place, os.W_OK | os.X_OK):
        me = _account(os.geteuid())
        return f"{me} cannot write to {place}. Give it to that account, or name another place."
    return ""


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
