"""What a client opens to look at a session: where its page is."""

from urllib.parse import quote, urlencode

from fastapi import Request

from hpcbridge.auth.identity import Identity
from hpcbridge.auth.tickets import Tickets
from hpcbridge.config.settings import Settings
from hpcbridge.frontends.address import session_addresses
from hpcbridge.frontends.admission import TICKET
from hpcbridge.sessions.manager import Sessions
from hpcbridge.states import State
from hpcbridge.store import SessionRow
from hpcbridge.web.responses import View, request_host


class Pages:
    """The pages of a site's sessions."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._sessions = sessions
        self._server = settings.server
        self._users = settings.auth.on
        self._addresses = session_addresses(settings)
        self._tickets = Tickets(sessions.store)

    def view(self, row: SessionRow, request: Request, who: Identity) -> View:
        """How ``who`` looks at the session, where it is ready; each has a ticket of its own."""
        application = self._sessions.application(row)
        if application is None or application.viewer == "portal":
            return View()
        if row.state != State.READY:
            return View(application.viewer)
        scheme, host = request.scope["scheme"], request_host(request, self._server)
        if application.viewer == "content":
            return View("content", f"{scheme}://{host}{application.page}")
        assert self._addresses is not None  # settings insist
        address = self._addresses.url(row.id, scheme, host).removesuffix("/")
        page = quote(application.page_path, safe="/?&=%:@!$'()*+,;~-._")
        if self._users and who.user is not None and row.secret:
            arguments = urlencode({TICKET: self._tickets.ticket(row, who.user)})
            page = f"{page}{'&' if '?' in page else '?'}{arguments}"
        return View("page", f"{address}{page}")
