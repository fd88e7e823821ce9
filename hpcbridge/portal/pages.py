"""The portal's routes: the page itself, its style and scripts, and wslink's browser modules.

The page is plain HTML and JavaScript modules, with no build step, and loads nothing from anywhere
else; the Content-Security-Policy sent with it makes the browser hold it to that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hpcbridge.auth import visitors
from hpcbridge.config.applications import ApplicationSettings, ParameterSettings
from hpcbridge.config.clusters import ClusterSettings
from hpcbridge.portal import pictures, wslinkjs
from hpcbridge.portal.pictures import Picture

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class ApplicationCard:
    """What the page shows of one application, and the fields of its form."""

    name: str
    title: str
    description: str = ""
    parameters: Mapping[str, ParameterSettings] = field(default_factory=dict)
    #: Names and titles of the clusters that the client may choose from.
    clusters: Mapping[str, str] = field(default_factory=dict)
    #: Path of the site's page that launches it, where it is not this one that does.
    page: str | None = None
    picture: Picture | None = None

    @property
    def titles(self) -> dict[str, str]:
        """What people read for each parameter."""
        return {name: each.title or name for name, each in self.parameters.items()}


def cards(
    applications: Mapping[str, ApplicationSettings], clusters: Mapping[str, ClusterSettings]
) -> list[ApplicationCard]:
    """The cards of the configured applications, in the order of the configuration.

    Raises :class:`~hpcbridge.errors.ConfigError` for a picture that cannot be used.
    """
    return [
        ApplicationCard(
            name,
            app.title or name,
            app.description,
            app.parameters,
            {key: clusters[key].title or key for key in app.cluster if app.cluster_by_request},
            app.page,
            pictures.read(name, app.picture) if app.picture else None,
        )
        for name, app in applications.items()
    ]


def mount(
    app: FastAPI,
    *,
    endpoint: str,
    applications: Iterable[ApplicationCard],
    clusters: Mapping[str, str] | None = None,
    connect_to: Iterable[str] = (),
    frames: Iterable[str] = (),
    users: bool = False,
    uploads: bool = False,
) -> None:
    """Add `GET /` and everything below `/portal/` to `app`.

    `endpoint` is the path of the launcher API, without a slash at its end, and `clusters` are the
    names and titles of the clusters that sessions can be on. `connect_to` names
    further origins that sessions may live at (`wss://viz.example.org`), where `sessionURL` is not
    this one, and `frames` where pages of sessions come from (`*.sessions.example.org`), which are
    shown inside this one. With `users`, the page asks the API who its client is; without, each
    browser gets a cookie to find its sessions by. With `uploads`, it sends files. Reads files, so
    call it before serving. Without the wheel that ships wslink's JavaScript the page still launches
    sessions, and says what is missing to show them.
    """
    headers = _headers(connect_to, frames)
    client, missing = _client()
    shown_cards = list(applications)
    shared = {
        "endpoint": endpoint,
        "applications": shown_cards,
        "clusters": dict(clusters or {}),
        "users": users,
        "uploads": uploads,
        "missing": missing,
        "client": wslinkjs.ENTRY,
        "modules": client,
    }
    start = _rendered("index.html", "", here="start", **shared)
    announcements = _rendered("announcements.html", "../", here="announcements", **shared)
    sessions = _rendered("sessions.html", "../", here="sessions", **shared)

    def shown(request: Request, html: str) -> HTMLResponse:
        if users:
            return HTMLResponse(html, headers=headers)
        cookie = visitors.set_cookie(request.headers.raw, request.scope["scheme"])
        kept = {"Set-Cookie": cookie, "Cache-Control": "no-store"}
        return HTMLResponse(html, headers={**headers, **kept})

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def portal_page(request: Request) -> HTMLResponse:
        return shown(request, start)

    @app.get("/portal/sessions", response_class=HTMLResponse, include_in_schema=False)
    async def sessions_page(request: Request) -> HTMLResponse:
        return shown(request, sessions)

    if users:

        @app.get("/portal/announcements", response_class=HTMLResponse, include_in_schema=False)
        async def announcements_page(request: Request) -> HTMLResponse:
            return shown(request, announcements)

    shown_pictures = {card.name: card.picture for card in shown_cards if card.picture}

    @app.get("/portal/pictures/{name}", include_in_schema=False)
    async def picture(name: str) -> Response:
        found = shown_pictures.get(name)
        if found is None:
            raise HTTPException(404, "There is no such picture.")
        kept = {**headers, "Cache-Control": "max-age=3600"}
        return Response(found.content, media_type=found.media_type, headers=kept)

    @app.get("/portal/vendor/{path:path}", include_in_schema=False)
    async def portal_client(path: str) -> Response:
        if missing:
            raise HTTPException(404, missing)
        text = wslinkjs.modules().get(path)  # cached by _page()
        if text is None:
            raise HTTPException(404, f"wslink has no module {path}")
        return Response(text, media_type="text/javascript", headers=headers)

    app.mount("/portal", _Static(directory=_HERE / "static", headers=headers), name="portal")


def _client() -> tuple[list[str], str]:
    """wslink's modules, and why there are none, or ''."""
    try:
        return list(wslinkjs.modules()), ""
    except wslinkjs.ClientMissingError as error:
        return [], f"{error}; install hpcbridge with its extra 'page' on the server"


def _rendered(template: str, root: str, **values: object) -> str:
    """A page's HTML; `root` leads from its address to that of the first page."""
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(root=root, **values)


def _headers(connect_to: Iterable[str], frames: Iterable[str]) -> dict[str, str]:
    """What the browser is told to allow the page: its own origin, and nothing inline."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": " ".join(["'self'", *connect_to]),
        "frame-src": " ".join(["'self'", *frames]),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        # Asked again each time, answered 304: a page and scripts of two versions do not fit.
        "Cache-Control": "no-cache",
    }


class _Static(StaticFiles):
    """Static files with our headers."""

    def __init__(self, *, directory: Path, headers: Mapping[str, str]) -> None:
        super().__init__(directory=directory)
        self._headers = headers

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(self._headers)
        return response
