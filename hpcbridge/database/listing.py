"""Pages of the list of sessions, the newest first: one query a page, answered from one index.

A page begins behind a place in the order (keyset pagination), so that the last page costs what the
first one does. One condition chooses the index: the user, else the visitor, the application, the
cluster. SQLite, which knows nothing of how often a value is there, would take any index that the
others begin, and sort all that it finds there; so the others are hidden from its planner.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from sqlalchemy import ColumnElement, literal_column, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from hpcbridge.database.tables import SessionRow
from hpcbridge.states import LIVING

Which: TypeAlias = Literal["live", "ended", "all"]
"""Sessions that have not ended, those that have, or both."""
WHICH = get_args(Which)


class Place(NamedTuple):
    """A session's place in the order. The job's name tells sessions of one moment apart."""

    submitting_at: float
    job_name: str


FIRST = Place(math.inf, "")
"""Behind which all sessions are."""


@dataclass(frozen=True)
class Selection:
    """Which sessions are listed; None is any user, application, cluster or visitor."""

    which: Which = "live"
    user: str | None = None
    application: str | None = None
    cluster: str | None = None
    visitor: str | None = None


def place(row: SessionRow) -> Place:
    """Where a session stands in the order."""
    return Place(row.submitting_at or 0.0, row.job_name)


def page(selection: Selection, limit: int, before: Place = FIRST) -> SelectOfScalar[SessionRow]:
    """The query for at most ``limit`` sessions behind a place."""
    order = (col(SessionRow.submitting_at), col(SessionRow.job_name))
    where = [tuple_(*order) < tuple_(*before), *_conditions(selection)]
    return select(SessionRow).where(*where).order_by(*(each.desc() for each in order)).limit(limit)


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    leads = True
    if selection.user is not None:
        found.append(col(SessionRow.user) == selection.user)
        leads = False
    if selection.which == "live":  # few: their index is the better one, whatever else is asked
        # In the words of the index, without a parameter: planners know it by them.
        found.append(col(SessionRow.state) != literal_column("'ended'"))
        leads = False
    elif selection.which == "ended":
        found.append(col(SessionRow.state).not_in(LIVING))
    for column, wanted in (
        (col(SessionRow.visitor), selection.visitor),
        (col(SessionRow.application), selection.application),
        (col(SessionRow.cluster), selection.cluster),
    ):
        if wanted is not None:
            found.append((column if leads else _Unindexed(column)) == wanted)
            leads = False
    return found


class _Unindexed(ColumnElement[str]):
    """A column of which SQLite uses no index: https://sqlite.org/optoverview.html, section 2.

    PostgreSQL counts values and decides by that.
    """

    inherit_cache = True
    _traverse_internals = (("column", InternalTraversal.dp_clauseelement),)  # type: ignore[assignment]

    def __init__(self, column: Any) -> None:
        self.column = column
        self.type = column.type


@compiles(_Unindexed)
def _plain(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return str(compiler.process(element.column, **options))


@compiles(_Unindexed, "sqlite")
def _hidden(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.column, **options)}"
