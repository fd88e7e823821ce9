"""What the commands ``sessions``, ``show``, ``stop`` and ``applications`` do."""

from rich.text import Text

from hpcbridge.cli import printing
from hpcbridge.cli.outcome import told
from hpcbridge.cli.printing import ago, clock, line
from hpcbridge.cli.service import Where, opened, short_ids, whole_id
from hpcbridge.client import Client, Session, SessionPage, State
from hpcbridge.plain import readable

_PAGE = 1000
_FIELDS = ("cluster", "job_id", "host", "owner", "queue", "position", "waits_for")


def listing(
    state: str,
    *,
    application: str | None,
    cluster: str | None,
    owner: str | None,
    limit: int,
    as_json: bool,
    where: Where,
) -> None:
    """Print up to ``limit`` sessions."""
    filters = {"application": application, "cluster": cluster, "owner": owner}
    with told(), opened(where) as client:
        page = _pages(client, state, filters, limit)
    if as_json:
        printing.as_json(page)
        return
    ids = short_ids(page.sessions)
    several = page.operator or any(each.owner != page.user for each in page.sessions)
    heads = ["ID", "APPLICATION", "STATE", "CLUSTER", "SINCE", *(["OWNER"] if several else [])]
    rows: list[list[Text | str]] = [
        [
            ids[each.id],
            line(each.application),
            printing.state(each),
            line(each.cluster),
            ago(each.times.get(each.state)),
            *([line(each.owner or "")] if several else []),
            line((each.error or each.message).split("\n")[0]),
        ]
        for each in page.sessions
    ]
    printing.table([*heads, "MESSAGE"], rows, cut=len(heads))
    if page.next:
        printing.console(stderr=True).print(f"There are more than {limit}: --limit.")


def _pages(client: Client, state: str, filters: dict[str, str | None], limit: int) -> SessionPage:
    found: list[Session] = []
    before = None
    while True:
        wanted = min(limit - len(found), _PAGE)
        page = client.sessions(state, limit=wanted, before=before, **filters)
        found += page.sessions
        before = page.next
        if before is None or len(found) >= limit:
            return page.model_copy(update={"sessions": found})


def show(begun: str, *, as_json: bool, where: Where) -> None:
    """Print all that is known of a session; not its secret, unless as JSON."""
    with told(), opened(where) as client:
        session = client.session(whole_id(client, begun))
    if as_json:
        printing.as_json(session)
        return
    rows = [("id", session.id), ("application", session.application)]
    rows += [(key, str(value)) for key in _FIELDS if (value := getattr(session, key)) is not None]
    rows += [(f"--set {key}", str(value)) for key, value in session.parameters.items()]
    rows += [(state.value, clock(at)) for state, at in session.times.items()]
    if session.state != State.READY and session.estimated_start:
        rows.append(("starts about", clock(session.estimated_start)))
    if session.state == State.READY:
        rows.append(("address", session.page or session.session_url or ""))
    if session.ends:
        rows.append(("ends", f"{clock(session.ends.at)}: {session.ends.message}"))
    if session.exit_status is not None:
        rows.append(("exit status", str(session.exit_status)))
    out = printing.console()
    out.print(printing.state(session), line(session.message.split("\n")[0]))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        out.print(line(key).plain.ljust(width), line(value), soft_wrap=True)
    for each in readable(session.message).split("\n")[1:]:
        out.print(line(each), soft_wrap=True)


def stop(begun: str, *, as_json: bool, where: Where) -> None:
    """Stop a session."""
    with told(), opened(where) as client:
        session = client.stop(whole_id(client, begun, ("live",)))
    if as_json:
        printing.as_json(session)
    else:
        print(f"{session.id} is being stopped.")


def applications(*, as_json: bool, where: Where) -> None:
    """Print what there is."""
    with told(), opened(where) as client:
        found = client.applications()
    if as_json:
        printing.as_json(found)
        return
    rows = []
    for each in found:
        notices = [cluster.notice for cluster in each.clusters if cluster.notice]
        notices = [each.notice] if each.notice else notices
        note = "ready at once" if each.warm else "; ".join(notices) or each.description
        names = ", ".join(cluster.name for cluster in each.clusters)
        rows.append([line(each.name), line(each.title), line(names), line(note)])
    printing.table(["APPLICATION", "TITLE", "CLUSTERS", ""], rows, cut=3)
