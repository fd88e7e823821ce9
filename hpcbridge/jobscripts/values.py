"""The values a job template sees, and the filters and quoting that turn them into script text."""

import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from hpcbridge.errors import BadParameter, TemplateError

Primitive = str | int | float | bool | None
Property = Primitive | Sequence[Primitive]

_JOB_NAME = re.compile(r"hpcb-([0-9a-f]+-)?[0-9a-f]+(-[0-9]+)?")
_DIRECTIVE_VALUE = re.compile(r"[A-Za-z0-9_.,:=@%+/()\[\]-]+")
# A user's value is one item: without what separates items (gpu:1,license:x or 1:ngpus=8+4:mem=1gb),
# and without a dash in front, which would begin an option.
_USERS_DIRECTIVE_VALUE = re.compile(r"[A-Za-z0-9_.@%/][A-Za-z0-9_.@%/-]*")
_REFUSED_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, U+2028, U+2029


@dataclass(frozen=True)
class ScriptContext:
    """Everything a job template may use. It has no place for a secret: that is a file (launch.py).

    ``job_name`` is ``hpcb-``, the installation's mark and a digest, in hex digits; ``directory``
    the absolute path of the session directory on the cluster; ``walltime`` seconds or None;
    ``bind`` the address the application listens on, ``127.0.0.1`` or ``0.0.0.0``; ``properties``
    the admin's constants for this application; ``parameters`` the user's typed values; ``options``
    what the configuration adds (partition, qos, ...); ``python`` an interpreter for the launch
    stub; ``scheduler`` the kind of batch system, by which ``options.sh`` chooses its directives;
    ``command`` the application's, as :mod:`hpcbridge.config.commandwords` has it.
    """

    job_name: str
    directory: str
    walltime: int | None
    bind: str
    application: str
    properties: Mapping[str, Property] = field(default_factory=dict)
    parameters: Mapping[str, Primitive] = field(default_factory=dict)
    options: Mapping[str, Primitive] = field(default_factory=dict)
    python: str = "python3"
    scheduler: str = ""
    command: Sequence[str] = ()

    def namespaces(self) -> dict[str, "Namespace"]:
        """The template's names: ``job``, ``app``, ``param``, ``cluster`` and ``bridge``.

        Raises BadParameter for a user's value that no template could hold, and TemplateError for
        any other such value.
        """
        if not _JOB_NAME.fullmatch(self.job_name) or not self.directory.startswith("/"):
            raise TemplateError(
                f"A job needs a name like hpcb-1a2b-3c4d and an absolute directory, not "
                f"{self.job_name!r} and {self.directory!r}."
            )
        if self.bind not in ("127.0.0.1", "0.0.0.0"):  # noqa: S104 - compared, not bound
            raise TemplateError(f"bind is {self.bind!r}; it must be 127.0.0.1 or 0.0.0.0.")
        if "name" in self.properties:
            raise TemplateError("A property cannot be called name: app.name is the application's.")
        job = {
            "name": self.job_name,
            "directory": self.directory,
            "walltime": self.walltime,
            "bind": self.bind,
            "scheduler": self.scheduler,
        }
        return {
            "job": Namespace("job", job),
            "app": Namespace("app", {"name": self.application, **self.properties}),
            "param": Namespace("param", self.parameters),
            "cluster": Namespace("cluster", self.options),
            "bridge": Namespace("bridge", {"python": self.python}),
        }


class Value(str):
    """A string of the context that remembers what it is called, for messages."""

    _key: str = "a value"

    def __iter__(self) -> Iterator[str]:
        """A ``for`` over a text would go through its letters: nobody means that."""
        raise TemplateError(f'{self._key} is a text; "for" needs a list, such as ["{self!s:.40}"]')


class Values(tuple[Primitive, ...]):
    """A list of the context that remembers what it is called."""

    _key: str = "a list"


class Verbatim(str):
    """Text that a filter of ours has made safe; everything else is quoted on output."""

    __slots__ = ()


class Namespace:
    """One group of values. ``param.x`` is ``param["x"]``, and nothing else is there."""

    def __init__(self, title: str, values: Mapping[str, Property]) -> None:
        self._title = title
        self._values = {key: _accept(f"{title}.{key}", value) for key, value in values.items()}

    def __getitem__(self, key: str) -> Property:
        return self._values[key]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def missing(self, key: str) -> str:
        """A sentence that says ``key`` is not here, and what is."""
        kind = "declared parameters" if self._title == "param" else "available"
        names = ", ".join(self._values) or "none"
        return f"{self._title}.{key} is not defined; {kind}: {names}"


class Watched(Namespace):
    """A namespace that notes in ``seen`` which names it is asked for, there or not."""

    def __init__(self, title: str, values: Mapping[str, Property]) -> None:
        super().__init__(title, values)
        self.seen: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self.seen.add(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.seen |= self._values.keys()
        return super().__iter__()


def _accept(key: str, value: object) -> Property:
    if not key.startswith("app.") or not isinstance(value, list | tuple):
        return _accept_one(key, value)
    named = Values(_accept_one(f"{key}[{index}]", each) for index, each in enumerate(value))
    named._key = key
    return named


def _accept_one(key: str, value: object) -> Primitive:
    if value is None or type(value) in (bool, int, float):
        return value  # type: ignore[return-value]
    if not isinstance(value, str):
        _refuse(
            key, f"is a {type(value).__name__}; only text, numbers, booleans and none can be used"
        )
    for char in (*key, *value):
        if unicodedata.category(char) in _REFUSED_CATEGORIES:
            _refuse(key, f"holds the control character U+{ord(char):04X}")
    named = Value(value)
    named._key = key
    return named


def _refuse(key: str, reason: str) -> NoReturn:
    shown = key if key.isprintable() else ascii(key)
    if key.startswith("param."):
        raise BadParameter(f"The parameter {shown.removeprefix('param.')} {reason}.")
    raise TemplateError(f"{shown} {reason}.")


def plain(value: object) -> str:
    """A value as text: booleans as ``true`` and ``false``, None as nothing.

    Raises TemplateError for what is not a primitive, jinja2's UndefinedError for what is not there.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Values):
        raise TemplateError(
            f"{value._key} is a list; write its values one by one: "
            f"{{% for each in {value._key} %}}, {{{{ each }}}}, {{% endfor %}}"
        )
    text = str(value)  # an undefined value raises here, with a better message than ours
    if not isinstance(value, str | int | float):
        raise TemplateError(
            "A group such as param cannot be written as a whole; name one value of it."
        )
    return text


def sh(value: object) -> Verbatim:
    """Quoted for bash, as one word. This is also what happens to a value without any filter."""
    return Verbatim(shlex.quote(plain(value)))


def directive(value: object) -> Verbatim:
    """A value for a ``#SBATCH``, ``#PBS`` or ``#$`` line, unchanged.

    There is no quoting there, so a value with anything but ``A-Za-z0-9_.,:=@%+/()[]-`` is refused:
    BadParameter if it is the user's, TemplateError if it is the admin's. The user's own values may
    hold no ``,:=+()[]`` either, and no ``-`` in front.
    """
    text = plain(value)
    key = getattr(value, "_key", "A value")
    pattern, allowed = _DIRECTIVE_VALUE, "letters, digits and _.,:=@%+/()[]-"
    if key.startswith("param."):
        pattern, allowed = _USERS_DIRECTIVE_VALUE, "letters, digits, _.@%/ and, not in front, -"
    if not pattern.fullmatch(text):
        _refuse(key, f"is {text!r:.100}, but a scheduler directive can only hold {allowed}")
    return Verbatim(text)


def placement(value: object, *allowed: str) -> object:
    """A value unchanged, if it is one of ``allowed``; else an error that says what there is."""
    if value not in allowed:
        key = getattr(value, "_key", "A value")
        _refuse(key, f"is {plain(value)!r:.100}; it can be {', '.join(allowed)}")
    return value


def positive(value: object) -> object:
    """A whole number of 1 or more, unchanged; else an error that says so."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        key = getattr(value, "_key", "A value")
        _refuse(key, f"is {plain(value)!r:.100}; it must be a whole number, 1 or more")
    return value


def hms(seconds: object, days: bool = True) -> Verbatim:
    """Seconds as ``HH:MM:SS``, from a day on as ``D-HH:MM:SS`` (sbatch(1), ``--time``).

    PBS and Grid Engine know no days: there, ``hms(days=false)`` lets the hours grow beyond 23.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds <= 0:
        raise TemplateError(
            f"The filter hms needs a number of seconds above 0, not {plain(seconds)!r}."
        )
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    day, hour = divmod(hour, 24) if days else (0, hour)
    clock = f"{hour:02}:{minute:02}:{second:02}"
    return Verbatim(f"{day}-{clock}" if day else clock)
