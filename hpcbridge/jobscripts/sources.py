"""Where job templates come from: the admin's directories first, then the package's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcbridge.errors import TemplateError

BUILTIN = Path(__file__).parent / "templates"
"""The templates that come with hpcbridge."""

LAUNCH_STUB = Path(__file__).parent / "launch.py"
"""The launch stub, to be staged as ``launch.py`` into every session directory."""


@dataclass(frozen=True)
class TemplateSource:
    """The text of one template and the file it was read from."""

    name: str
    text: str
    path: Path

    @property
    def builtin(self) -> bool:
        """Whether this is hpcbridge's own template rather than the admin's."""
        return self.path.parent == BUILTIN


class TemplateSet:
    """Looks templates up by name. A file in an earlier directory hides its namesakes in later ones.

    ``directories`` are the admin's; the package's own templates are always searched last. Files are
    read when asked for, so an edit counts from the next job on.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self.directories: tuple[Path, ...] = (*directories, BUILTIN)

    def names(self) -> list[str]:
        """The job templates, sorted: files that begin with ``#!``, so not ``prelude.sh``."""
        found = {
            path.name
            for directory in self.directories
            if directory.is_dir()
            for path in directory.iterdir()
            if not path.name.startswith(".") and path.is_file() and _is_script(path)
        }
        return sorted(found)

    def find(self, name: str) -> Path:
        """The file of template ``name``. Raises TemplateError if there is none to be used."""
        parts = Path(name).parts if name and "\0" not in name else ()
        if not parts or Path(name).is_absolute() or ".." in parts:
            raise TemplateError(
                f"Template name {name!r} is not allowed: give the name of a file inside a template "
                f"directory, without .. and without a leading slash."
            )
        for directory in self.directories:
            path = directory / name
            if path.is_file():
                if not path.resolve().is_relative_to(directory.resolve()):
                    raise TemplateError(
                        f"Template {name} in {directory} is a link to a file outside of "
                        f"that directory; put the file itself there."
                    )
                return path
        raise TemplateError(
            f"Template {name} was not found in {', '.join(map(str, self.directories))}; "
            f"there are: {', '.join(self.names())}."
        )

    def source(self, name: str) -> TemplateSource:
        """The text of template ``name`` and where it is from.

        Raises TemplateError if it is missing, unreadable, not UTF-8 or outside its directory.
        """
        path = self.find(name)
        try:
            return TemplateSource(name, path.read_bytes().decode("utf-8"), path)
        except OSError as error:
            reason = error.strerror or "unknown reason"
            raise TemplateError(f"Template {path} cannot be read: {reason}.") from error
        except UnicodeDecodeError as error:
            raise TemplateError(
                f"Template {path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
            ) from error


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True  # listed, so that using it tells why it cannot be read
