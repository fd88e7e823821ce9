"""Amounts as sbatch(1) takes them, and as slurmrestd does."""

import math
import re
from typing import Any

Fields = dict[str, Any]


def boxed(number: int | None) -> Fields:
    """A number as v0.0.40 and later write it; None is "no limit"."""
    return {"set": True, "infinite": number is None, "number": number or 0}


def megabytes(text: str) -> int:
    """``--mem``'s value in megabytes, which are its unit where none is given."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)B?", text, re.IGNORECASE)
    if not match:
        raise ValueError("allowed is a number with K, M, G or T after it")
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[match[2].upper()]
    return math.ceil(int(match[1]) * factor)


def minutes(text: str) -> int | None:
    """``--time``'s value in whole minutes, rounded up; None for no limit."""
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = re.fullmatch(r"(?:(\d{1,5})-)?(\d{1,7})(?::(\d{1,5}))?(?::(\d{1,5}))?", text)
    if not match:
        raise ValueError("allowed are MIN, MIN:SEC, HOURS:MIN:SEC, DAYS-HOURS[:MIN[:SEC]]")
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None:
        seconds = (days * 24 + first) * 3600 + second * 60 + third
    elif match[4] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    return math.ceil(seconds / 60)
