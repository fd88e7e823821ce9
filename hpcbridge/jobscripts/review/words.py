"""Lists of words, and which of them was probably meant."""

import difflib
from collections.abc import Iterable


def listed(text: str) -> tuple[str, ...]:
    """The words of a text, which reads better than a long list of quoted ones."""
    return tuple(text.split())


def meant(word: str, known: Iterable[str], cutoff: float = 0.75) -> str:
    """`` Did you mean X?``, or "" where no known word is like ``word``."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {close[0]}?" if close else ""
