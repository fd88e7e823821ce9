"""docs/settings.md: all keys of the configuration, from their own descriptions.

python -m scripts.settings            writes it
python -m scripts.settings --check    says whether it is up to date
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpcbridge.config.adapters import OWN
from hpcbridge.config.keys import Key, all_keys

PAGE = Path(__file__).resolve().parent.parent / "docs/settings.md"
HEAD = """\
# Settings

All keys of the configuration file, made from their descriptions by
`python -m scripts.settings`. The same in a terminal, with what is set now and where:

```
hpcbridge config explain session_url
hpcbridge config explain clusters.main.tunnel /etc/hpcbridge.toml
hpcbridge config show /etc/hpcbridge.toml
```

`NAME` is a name that you choose, `[]` a list of tables (`[[clusters.NAME.hosts]]`). A variable of
the environment stands above the file: `server.port` is `HPCBRIDGE_SERVER__PORT`, and lists and
tables are JSON there. A variable `HPCBRIDGE_...` that is no setting is an error. Relative paths
count from the file's directory. Times are in seconds.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    keys = all_keys(adapters_of_others=False)
    for top, group in itertools.groupby(keys, key=lambda key: key.path[0]):
        parts.append("\n".join(_section(top, list(group))))
    return "\n".join(parts)


def _section(top: str, keys: list[Key]) -> Iterator[str]:
    head, inside = keys[0], keys[1:]
    if not inside:
        yield f"## `{top}`\n"
        yield from _table([head])
        return
    named = inside[0].path[:2]
    yield f"## `[{'.'.join(named) if named[-1] == 'NAME' else top}]`\n"
    yield f"{head.description}\n"
    yield from _table(inside)


def _table(keys: Iterable[Key]) -> Iterator[str]:
    yield "| key | what | type | default |"
    yield "| --- | --- | --- | --- |"
    for key in keys:
        kinds = "" if set(key.kinds) in (set(), set(OWN)) else f" ({', '.join(key.kinds)})"
        allowed = f" {_code(key.allowed)}" if key.allowed else ""
        default = key.default and _code(key.default) if key.default != "not set" else ""
        needed = "" if key.default or key.keys else "needed"
        cells = (f"`{_short(key)}`{kinds}", _text(key.description), key.type + allowed)
        yield f"| {' | '.join(cells)} | {default or needed} |"
    yield ""


def _short(key: Key) -> str:
    """Without what the heading says."""
    top = 2 if key.path[1:2] == ("NAME",) else 1
    return ".".join(key.path[top:]) or key.name


def _text(text: str) -> str:
    """Nothing in it is Markdown, or the end of a cell."""
    for each in "\\|<*_[]":
        text = text.replace(each, f"\\{each}")
    return text


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def main(words: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.settings", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--page", type=Path, default=PAGE, help="docs/settings.md by default")
    given = parser.parse_args(words)
    text = page()
    if not given.check:
        given.page.write_text(text)
    elif not given.page.is_file() or given.page.read_text() != text:
        print(
            f"{given.page} is not what the settings' descriptions give: "
            "run 'python -m scripts.settings' and commit it",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
