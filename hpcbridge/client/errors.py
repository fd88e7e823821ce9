"""What the client raises.

::

    ClientError                 the client cannot do it; the root of what follows
    ├── ServiceUnreachable      no answer came
    ├── NotHpcbridge            the answer is not one of hpcbridge's: another server, a login page
    ├── Refused                 the service said no; ``status`` and its own sentence
    │   ├── NotLoggedIn         401: no token, or one that is not valid (any more)
    │   ├── Forbidden           403: this user or token may not
    │   ├── NotFound            404: no such session, or it is another user's
    │   └── ServiceBusy         429, 503: later may work
    └── LaunchFailed            the session ended before it was ready; ``session`` tells why
"""

from hpcbridge.client.replies import Session
from hpcbridge.errors import BridgeError


class ClientError(BridgeError):
    """Root of the tree. ``str(error)`` is fit for a user's eyes and holds no secret."""


class ServiceUnreachable(ClientError):
    """No answer came: a wrong address, a service that is stopped, a network that is down."""


class NotHpcbridge(ClientError):
    """What answered is something else, or a web server in front wants a login of its own."""


class Refused(ClientError):
    """The service said no, in its own words; ``status`` is that of HTTP.

    ``request_id`` is what the service's log calls the request, to ask an administrator about it.
    """

    def __init__(self, message: str, status: int, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class NotLoggedIn(Refused):
    """Who asks is not known, or not proved."""


class Forbidden(Refused):
    """This user may not, or the token is for something else."""


class NotFound(Refused):
    """There is no such session, or it is another user's."""


class ServiceBusy(Refused):
    """No capacity, or too many wrong logins; ``retry_after`` is in seconds, where it is known."""

    retry_after: float | None = None


class LaunchFailed(ClientError):
    """The session ended before it was ready."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.error or session.message)
        self.session = session
