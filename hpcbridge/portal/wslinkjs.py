"""wslink's JavaScript for the browser, taken from a Python wheel that ships it.

The wheel `trame-client` carries a web client whose source map holds the sources it was built from:
wslink's modules, word for word as in the npm package `wslink`, and the parts of `@msgpack/msgpack`
that they use. So a machine without Node has them, and this repository keeps no third-party code.

The sources import one another as bundlers expect ('../SmartConnect', '@msgpack/msgpack'). Browsers
want files, so those names are completed as a bundler completes them. Nothing else is changed.
"""

import json
import posixpath
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata

DISTRIBUTION = "trame-client"
"""Pinned in the extra `page`: another version may be built from another wslink."""
ENTRY = "wslink/src/SmartConnect/index.js"
"""The module that a page imports: its default export has `newInstance({config})`."""

_WANTED = re.compile(r"node_modules/((?:wslink|@msgpack/msgpack)/.+\.m?js)$")
_IMPORT = re.compile(r"""(\bfrom\s*)(['"])([^'"\n]+)\2""")
_PACKAGES = {
    # The package's own entry point is not in the map, because the bundler looked through it.
    "@msgpack/msgpack": (
        "@msgpack/msgpack/index.js",
        "export { Encoder } from './dist.es5+esm/Encoder.mjs';\n"
        "export { Decoder } from './dist.es5+esm/Decoder.mjs';\n",
    ),
}


class ClientMissingError(Exception):
    """No installed wheel ships wslink's JavaScript in the form known here."""


@cache
def modules() -> Mapping[str, str]:
    """wslink's modules and what they import: path below one folder -> JavaScript text.

    Reads files: call it before the event loop runs, or in a thread. Raises `ClientMissingError`.
    """
    found = _sources()
    for path, text in _PACKAGES.values():
        found[path] = text
    if ENTRY not in found:
        raise ClientMissingError(f"the installed {DISTRIBUTION} does not ship wslink's sources")
    return {path: _complete(path, text, found) for path, text in found.items()}


def _sources() -> dict[str, str]:
    """The wanted files in the source maps of the wheel, by their path below node_modules."""
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise ClientMissingError(f"the Python package {DISTRIBUTION} is not installed") from None
    found: dict[str, str] = {}
    for file in files:
        if not file.name.endswith(".js.map"):
            continue
        source_map = json.loads(file.read_text(encoding="utf-8"))
        for source, text in zip(source_map["sources"], source_map["sourcesContent"], strict=True):
            if match := _WANTED.search(source):
                found[match[1]] = text
    return found


def _complete(importer: str, text: str, known: Mapping[str, str]) -> str:
    """The module's text with each imported name replaced by the relative path of its file."""
    folder = posixpath.dirname(importer)

    def complete(match: re.Match[str]) -> str:
        before, quote, name = match.groups()
        path = _PACKAGES[name][0] if name in _PACKAGES else posixpath.join(folder, name)
        path = posixpath.normpath(path)
        for candidate in (path, f"{path}.js", f"{path}/index.js"):
            if candidate in known:
                relative = posixpath.relpath(candidate, folder)
                relative = relative if relative.startswith(".") else f"./{relative}"
                return f"{before}{quote}{relative}{quote}"
        raise ClientMissingError(f"{importer} imports {name}, which {DISTRIBUTION} does not ship")

    return _IMPORT.sub(complete, text)
