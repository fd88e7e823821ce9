"""Everything hpcbridge raises on purpose.

::

    BridgeError                     500
    ├── ConfigError                 500  a setting or template is wrong: file, key, what is allowed
    │   └── TemplateError           500  a job template cannot be read or rendered
    ├── RequestError                400  the client's request is wrong
    │   ├── UnknownApplication      400
    │   ├── BadParameter            400
    │   ├── NotAuthenticated        401
    │   ├── UserRefused             403
    │   ├── ScopeMissing            403
    │   ├── OriginRefused           403
    │   ├── NotForThisCaller        403  the status, or the metrics
    │   ├── OperatorsOnly           403
    │   ├── AccountRefused          403  this user cannot have a session on the cluster
    │   ├── SessionNotFound         404
    │   ├── TooLarge                413
    │   ├── UploadNotFound          404
    │   ├── UploadExists            409  a file of this name is there, and was not to be replaced
    │   ├── KeyReused               422  an Idempotency-Key that is another request's
    │   │   └── KeyInFlight         409  and that one has not been answered yet
    │   └── TooManyFailures         429
    ├── AccountsUnknown             503  the host's account database does not answer
    ├── NoCapacity                  503  all slots are taken; trying again later may work
    ├── StillStarting               503  the session is on its way; the same request joins it
    ├── ClusterError                502  something on the way to the cluster
    │   ├── ClusterUnreachable      503  could not ask (network, host, controller)
    │   │   └── OutcomeUnknown      503  a command was sent and its answer was lost
    │   ├── JobRejected             502  the scheduler said no
    │   └── UnexpectedReply         502  the scheduler's answer could not be read
    ├── TunnelError                 502  the application could not be reached through the tunnel
    │   └── NotServing              502  it did not accept connections, or not answer, in time
    ├── RouteError                  500  the front end could not be told
    ├── StoreError                  503  the database could not be read or written
    ├── UploadFailed                500  the directory of uploads cannot be used
    │   └── NoRoom                  507  its disk is full, or the user's share of it
    └── SessionFailed               502  the session ended before it was ready
        └── NotReadyInTime          504

Every message is one or more sentences for a user or an admin: what was wrong, where, and what to
do. ``status`` is the HTTP status of the reply, whose body is ``{"error": message}``.
"""


class BridgeError(Exception):
    """Root of the tree. ``str(error)`` is fit for a user's eyes and holds no secret."""

    status = 500


class ConfigError(BridgeError):
    """A setting is wrong; the message names the file, the key and what is allowed."""


class TemplateError(ConfigError):
    """A job template cannot be found, read or rendered."""


class RequestError(BridgeError):
    """The client's request is wrong; repeating it unchanged will not help."""

    status = 400


class UnknownApplication(RequestError):
    """The posted ``application`` is not configured."""


class BadParameter(RequestError):
    """A posted parameter has the wrong type or a value that is not allowed."""


class NotAuthenticated(RequestError):
    """Who asks is not known, or not proved. ``why`` is for the audit log only."""

    status = 401

    def __init__(self, message: str = "", *, why: str = "") -> None:
        super().__init__(message or "Log in first: this login or token is not valid here.")
        self.why = why


class UserRefused(RequestError):
    """The front end or a token names somebody who may not be a user. ``why`` is for the audit."""

    status = 403

    def __init__(self, *, why: str) -> None:
        super().__init__("This user may not use the service. Ask its admins.")
        self.why = why


class ScopeMissing(RequestError):
    """The API token is valid, but not for this."""

    status = 403


class OriginRefused(RequestError):
    """The browser page that sent the request may not use this launcher."""

    status = 403


class NotForThisCaller(RequestError):
    """What is asked for is for operators, or for programs of this machine."""

    status = 403


class OperatorsOnly(RequestError):
    """Only operators may, with a login or token that may ``operate``."""

    status = 403


class AccountRefused(RequestError):
    """The cluster runs sessions as who asks for them, and this user has no account there."""

    status = 403


class SessionNotFound(RequestError):
    """No session with this id, or it has ended."""

    status = 404


class TooLarge(RequestError):
    """The request body is over the limit."""

    status = 413


class UploadNotFound(RequestError):
    """This user has no uploaded file of this name."""

    status = 404


class UploadExists(RequestError):
    """A file of this name is there, and nobody asked to replace it."""

    status = 409


class KeyReused(RequestError):
    """The Idempotency-Key was used for another request.

    https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    """

    status = 422


class KeyInFlight(KeyReused):
    """The same, while that request waits for its session."""

    status = 409


class TooManyFailures(RequestError):
    """Too many wrong credentials. ``retry_after`` is in seconds."""

    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many wrong logins. Try again in {retry_after} s.")
        self.retry_after = retry_after


class AccountsUnknown(BridgeError):
    """The host's account database does not answer, so it is not known who is a user."""

    status = 503


class NoCapacity(BridgeError):
    """All slots are taken, or no cluster takes sessions; the same request may work later.

    ``retry_after`` is in seconds.
    """

    status = 503
    retry_after = 30


class StillStarting(BridgeError):
    """The session is not ready yet and is kept; the same request again joins it.

    ``retry_after`` is in seconds. ``session_id`` and ``state`` tell where it stands.
    """

    status = 503
    retry_after = 5

    def __init__(self, message: str, *, session_id: str, state: str, reason: str) -> None:
        super().__init__(message)
        self.session_id = session_id
        self.state = state
        self.reason = reason


class ClusterError(BridgeError):
    """Something on the way to the cluster."""

    status = 502


class ClusterUnreachable(ClusterError):
    """The cluster could not be asked. Never a reason to end a session that is ready.

    ``lasting`` says that asking again will not help: a wrong host key, a refused login.
    """

    status = 503

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class OutcomeUnknown(ClusterUnreachable):
    """A command was sent and its answer was lost: it may or may not have taken effect."""


class JobRejected(ClusterError):
    """The scheduler refused the job and said why."""


class UnexpectedReply(ClusterError):
    """The scheduler answered something that could not be read. Treated as "could not ask"."""


class TunnelError(BridgeError):
    """The application could not be reached through the tunnel."""

    status = 502


class NotServing(TunnelError):
    """The application did not accept connections, or did not answer, for as long as it may."""


class RouteError(BridgeError):
    """The front end could not be told where the session lives."""


class StoreError(BridgeError):
    """The database could not be read or written; ``retry_after`` is in seconds."""

    status = 503
    retry_after = 5


class UploadFailed(BridgeError):
    """The directory of uploads cannot be read or written."""


class NoRoom(UploadFailed):
    """The disk of the uploads is full, or what a user may have there."""

    status = 507


class SessionsLeft(BridgeError):
    """The service has stopped, and could not end all of its sessions, as it should have."""


class SessionFailed(BridgeError):
    """The session ended before it was ready; the message ends with the last log lines."""

    status = 502


class NotReadyInTime(SessionFailed):
    """The session was given up because it was not ready within the application's wait."""

    status = 504


class LeadershipLost(Exception):  # no error: whoever meets it lets go
    """Another replica leads by now. Not in the tree, since no client is ever told."""
