"""The drawing of ``scripts/imports.py``: rooms on floors, as an SVG of text, boxes and lines.

The same rooms give the same bytes: whole pixels, and names in order where nothing else decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH = 1200  # pixels, as all below
LEFT = 92  # right of the floors' numbers
RIGHT = 24
TOP = 76
BOX = 46
GAP = 20  # least, between two boxes
LINE = 62  # from one row of a floor to its next
FLOOR = 96  # from a floor to the next
LETTER = 8.5  # of a name: a fixed-width font of 14 px, rounded up
BALANCED = 12  # passes over the floors; more change nothing that can be seen

STYLE = """
svg { font-family: system-ui, sans-serif; font-size: 13px; }
.paper { fill: #f5f7fa; }
.title { fill: #16202e; font-size: 17px; font-weight: 600; }
.note { fill: #56667a; }
.floor { fill: #e8edf3; }
.box { fill: #ffffff; stroke: #0b6a7b; }
.name { fill: #16202e; font-family: ui-monospace, monospace; font-size: 14px; font-weight: 600; }
.use { fill: none; stroke: #5b8f99; stroke-opacity: .62; stroke-width: 1.2; }
.head { fill: #5b8f99; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #11181f; }
  .title, .name { fill: #e6edf3; }
  .note { fill: #9fb0c0; }
  .floor { fill: #18222c; }
  .box { fill: #1f2c38; stroke: #4fb3c4; }
  .use { stroke: #6fa9b5; }
  .head { fill: #6fa9b5; }
}
"""


@dataclass(frozen=True)
class Box:
    """Where a room is drawn: its upper edge, its left one, its width."""

    x: int
    y: int
    width: int

    @property
    def middle(self) -> int:
        return self.x + self.width // 2


Uses = Mapping[str, Iterable[str]]


def draw(title: str, labels: Mapping[str, str], notes: Mapping[str, str], uses: Uses,
         floors: list[list[str]]) -> str:  # fmt: skip
    """The picture: a box for each room with its label and note, and lines to the next floor below.

    ``floors`` has the names of the rooms, the lowest floor first, and ``uses`` those that each
    room imports. Imports from deeper floors than the next are not drawn.
    """
    rows = [_rows(floor, labels) for floor in _balanced(floors, uses)]
    tops, bottom = _tops(rows)
    boxes = {}
    for floor, top in zip(rows, tops, strict=True):
        for number, row in enumerate(floor):
            boxes.update(_placed(row, labels, top + number * LINE))
    body = [
        f'<rect class="paper" width="{WIDTH}" height="{bottom}" rx="12"/>',
        f'<text class="title" x="24" y="34">{escape(title)}: what imports what</text>',
        '<text class="note" x="24" y="56">A room imports only rooms on lower floors. '
        "Lines are imports from the next floor down; those from deeper floors are not drawn."
        "</text>",
        *_bands(rows, tops),
        *_lines(floors, uses, boxes),
        *(_drawn(room, box, labels, notes, uses) for room, box in sorted(boxes.items())),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" '
        f'width="{WIDTH}" height="{bottom}" role="img" '
        f'aria-label="The rooms of {escape(title)} on {len(floors)} floors, by their imports">'
    )
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", marker, *body, "</svg>", ""])


def _balanced(floors: list[list[str]], uses: Uses) -> list[list[str]]:
    """The rooms of each floor in an order in which few lines cross."""
    order = [list(floor) for floor in floors]
    for turn in range(BALANCED):
        down = turn % 2
        numbers = range(len(order) - 2, -1, -1) if down else range(1, len(order))
        for number in numbers:
            beside = order[number + 1] if down else order[number - 1]
            place = {room: (at + 0.5) / len(beside) for at, room in enumerate(beside)}
            own = {room: (at + 0.5) / len(order[number]) for at, room in enumerate(order[number])}
            wish = {}
            for room in order[number]:
                near = [
                    place[other]
                    for other in beside
                    if (room in uses[other] if down else other in uses[room])
                ]
                wish[room] = sum(near) / len(near) if near else own[room]
            order[number].sort(key=lambda room: (wish[room], room))
    return order


def _rows(floor: list[str], labels: Mapping[str, str]) -> list[list[str]]:
    """A floor in as many rows as it needs, side by side in the order that it has."""
    for count in range(1, len(floor) + 1):
        rows = [floor[number::count] for number in range(count)]
        needs = (sum(_width(labels[room]) + GAP for room in row) for row in rows)
        if max(needs) <= WIDTH - LEFT - RIGHT:
            return rows
    return [[room] for room in floor]


def _width(label: str) -> int:
    return max(104, round(len(label) * LETTER) + 28)


def _tops(rows: list[list[list[str]]]) -> tuple[list[int], int]:
    """The upper edge of each floor, the lowest first, and the lower edge of the picture."""
    tops: list[int] = []
    y = TOP + 10
    for floor in reversed(rows):
        tops.insert(0, y)
        y += FLOOR + (len(floor) - 1) * LINE
    return tops, y - (FLOOR - BOX) + 34


def _placed(row: list[str], labels: Mapping[str, str], y: int) -> dict[str, Box]:
    widths = [_width(labels[room]) for room in row]
    space = (WIDTH - LEFT - RIGHT - sum(widths)) / (len(row) + 1)
    boxes, x = {}, LEFT + space
    for room, width in zip(row, widths, strict=True):
        boxes[room] = Box(round(x), y, width)
        x += width + space
    return boxes


def _bands(rows: list[list[list[str]]], tops: list[int]) -> Iterable[str]:
    for number, (floor, top) in enumerate(zip(rows, tops, strict=True), 1):
        height = BOX + (len(floor) - 1) * LINE
        yield (
            f'<rect class="floor" x="12" y="{top - 10}" width="{WIDTH - 24}" '
            f'height="{height + 20}" rx="8"/>'
        )
        yield f'<text class="note" x="24" y="{top + height // 2 + 5}">floor {number}</text>'


def _lines(floors: list[list[str]], uses: Uses, boxes: Mapping[str, Box]) -> Iterable[str]:
    """From each room to those that it imports on the next floor down."""
    for below, floor in pairwise(floors):
        pairs = [(room, other) for room in floor for other in below if other in uses[room]]
        for room, other in pairs:
            x, y = _port(boxes, room, [b for a, b in pairs if a == room], other)
            to, end = _port(boxes, other, [a for a, b in pairs if b == other], room)
            y, end = y + BOX, end - 1
            bend = (y + end) // 2
            yield (
                f'<path class="use" marker-end="url(#head)" '
                f'd="M{x} {y}C{x} {bend} {to} {bend} {to} {end}"/>'
            )


def _port(boxes: Mapping[str, Box], room: str, others: list[str], to: str) -> tuple[int, int]:
    """Where a line meets a box: spread over its edge, in the order of the other ends."""
    box = boxes[room]
    others = sorted(others, key=lambda other: (boxes[other].middle, other))
    share = (others.index(to) + 1) / (len(others) + 1)
    return round(box.x + box.width * share), box.y


def _drawn(room: str, box: Box, labels: Mapping[str, str], notes: Mapping[str, str],
           uses: Uses) -> str:  # fmt: skip
    imported = ", ".join(sorted(uses[room])) or "no other room"
    return (
        f"<g><title>{escape(labels[room])} imports {escape(imported)}</title>"
        f'<rect class="box" x="{box.x}" y="{box.y}" width="{box.width}" height="{BOX}" rx="7"/>'
        f'<text class="name" text-anchor="middle" x="{box.middle}" y="{box.y + 20}">'
        f"{escape(labels[room])}</text>"
        f'<text class="note" text-anchor="middle" x="{box.middle}" y="{box.y + 37}">'
        f"{escape(notes[room])}</text></g>"
    )
