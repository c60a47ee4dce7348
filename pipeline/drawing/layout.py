"""Layout: where the boxes, the labels and the bends of a diagram go, from top to bottom. Pure.

In the steps of Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
Structures" (1981):

    rank     a box is one deeper than the deepest that an arrow comes from; between two rows of boxes is a row
             of labels, and an arrow that crosses a row gets a place to pass in it
    order    in each row by the mean of the neighbours above, then below, a few times; the order with the
             fewest crossings is kept, and neighbours change places if that saves one
    place    each towards its neighbours, as far as the next one in the row lets it

    row 0        [ ingress ]
    row 1     label        |          what passes a row is a place as well
    row 2   [ stage ]      |
    row 3        |       label
    row 4        [ answer ]

The boxes of one process, with the arrows between them, are one *block*: it is ordered and placed as a whole, in
all the rows that it reaches, so that nothing else lies inside its frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.drawing.diagram import Arrow, Diagram

__all__ = ["Frame", "Layout", "Route", "Size", "make_layout"]

Size = tuple[float, float]
"""Width and height."""

GAP = 28.0
"""Between neighbours of a row."""
ROW_GAP = 24.0
"""Between rows: there arrows bend, within a row they go straight down."""
FRAME = 14.0
"""From a box to the frame of its group, on each side."""
STUB = 6.0
"""How far an arrow leaves and meets a box straight."""
_SWEEPS = 12
_SETTLE = 600
_PUSHES = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle by its left upper corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """An arrow's way."""

    arrow: Arrow
    points: tuple[tuple[float, float], ...]
    """From the lower edge of its source to the upper edge of its target; straight down between the 1st and 2nd,
    the 3rd and 4th, and so on, with a bend between the others."""
    label: Frame


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything in its place."""

    width: float
    height: float
    boxes: Mapping[str, Frame]
    groups: Mapping[str, Frame]
    routes: tuple[Route, ...]


@dataclass(slots=True)
class _Item:
    """What takes room in a row: a box, a label, or the way of an arrow through it."""

    row: int
    size: Size
    block: int
    offset: float = 0.0
    """Of its middle from its block's."""


class _Graph:
    """Items in rows, joined by the arrows' pieces; blocks of items that move together."""

    def __init__(self, diagram: Diagram, boxes: Mapping[str, Size], labels: Sequence[Size]) -> None:
        ranks = _ranks(diagram)
        blocks = {group: number for number, group in enumerate(diagram.groups)}
        self.group_blocks = dict(blocks)
        self.items: list[_Item] = []
        self.next_block = len(blocks)
        self.box_item: dict[str, int] = {}
        self.ways: list[list[int]] = []
        """For each arrow its items, source and target included."""
        self.label_item: list[int] = []
        groups = {box.key: box.group for box in diagram.boxes}
        for box in diagram.boxes:
            block = None if box.group is None else blocks[box.group]
            self.box_item[box.key] = self._add(2 * ranks[box.key], boxes[box.key], block)
        for arrow, label in zip(diagram.arrows, labels):
            first, last = 2 * ranks[arrow.source], 2 * ranks[arrow.target]
            group = groups[arrow.source]
            inside = group is not None and group == groups[arrow.target]
            block = blocks[group] if inside and group is not None else None
            way = [self.box_item[arrow.source]]
            for row in range(first + 1, last):
                way.append(self._add(row, label if row == first + 1 else (4.0, 0.0), block))
            self.label_item.append(way[1])
            self.ways.append([*way, self.box_item[arrow.target]])
        self.links = [link for way in self.ways for link in pairwise(way)]
        self.rows = 1 + max(item.row for item in self.items)
        self.members: list[list[int]] = [[] for _ in range(self.next_block)]
        for number, item in enumerate(self.items):
            self.members[item.block].append(number)
        self.spans = [
            (min(self.items[m].row for m in members), max(self.items[m].row for m in members))
            for members in self.members
        ]

    def _add(self, row: int, size: Size, block: int | None) -> int:
        if block is None:
            block = self.next_block
            self.next_block += 1
        self.items.append(_Item(row, size, block))
        return len(self.items) - 1

    def rows_of_blocks(self) -> list[list[int]]:
        """The blocks that each row holds, or that reach across it."""
        return [
            [block for block, (first, last) in enumerate(self.spans) if first <= row <= last]
            for row in range(self.rows)
        ]


def make_layout(diagram: Diagram, boxes: Mapping[str, Size], labels: Sequence[Size]) -> Layout:
    """Place a diagram.

    Args:
        boxes: the size of each box, by its key.
        labels: the size of each arrow's label, in the order of the arrows.
    """
    graph = _Graph(diagram, boxes, labels)
    rows, widths = _ordered(graph)
    centres = _settled(graph, rows, widths)
    x = [centres[item.block] + item.offset for item in graph.items]
    heights = [max((i.size[1] for i in graph.items if i.row == row), default=0.0) for row in range(graph.rows)]
    middles, y = [], 0.0
    for row, height in enumerate(heights):
        if any(first == row and block < len(graph.group_blocks) for block, (first, _) in enumerate(graph.spans)):
            y += FRAME + 12  # the frame's own line and title
        middles.append(y + height / 2)
        y += height + ROW_GAP
        if any(last == row and block < len(graph.group_blocks) for block, (_, last) in enumerate(graph.spans)):
            y += FRAME
    frames = {
        number: Frame(x[number] - item.size[0] / 2, middles[item.row] - item.size[1] / 2, *item.size)
        for number, item in enumerate(graph.items)
    }
    groups = {
        group: _around([frames[m] for m in graph.members[block]], widths[block], centres[block])
        for group, block in graph.group_blocks.items()
    }
    edges = [(middle - height / 2, middle + height / 2) for middle, height in zip(middles, heights)]
    routes = _routes(graph, diagram, x, edges, frames)
    every = [*frames.values(), *groups.values()]
    left, right = min(f.x for f in every), max(f.x + f.width for f in every)
    return _moved(
        Layout(
            right - left,
            y - ROW_GAP,
            {key: frames[number] for key, number in graph.box_item.items()},
            groups,
            tuple(routes),
        ),
        -left,
    )


def _ranks(diagram: Diagram) -> dict[str, int]:
    """The longest way to each box; ends that nothing leads to are at the top, other boxes below them."""
    ranks = {box.key: 1 if box.is_stage else 0 for box in diagram.boxes}
    for box in diagram.boxes:  # each after those that its arrows come from
        for arrow in diagram.arrows:
            if arrow.target == box.key:
                ranks[box.key] = max(ranks[box.key], ranks[arrow.source] + 1)
    # The answer is the end of everything, also of what it takes nothing from.
    *others, answer = diagram.boxes
    ranks[answer.key] = 1 + max(ranks[box.key] for box in others)
    return ranks


def _ordered(graph: _Graph) -> tuple[list[list[int]], list[float]]:
    """The blocks of each row from left to right, and each block's width; items get their place in their block."""
    rows = graph.rows_of_blocks()
    inner = [float(number) for number in range(len(graph.items))]
    places = _places(graph, rows, inner)
    best, best_inner, fewest = [list(row) for row in rows], list(inner), _crossings(graph, places)
    for sweep in range(_SWEEPS):
        _sweep(graph, rows, inner, places, upwards=sweep % 2 == 1)
        crossings = _crossings(graph, places)
        if crossings < fewest:
            best, best_inner, fewest = [list(row) for row in rows], list(inner), crossings
    _swap(graph, best, best_inner)
    return best, _widths(graph, best_inner)


def _sweep(
    graph: _Graph, rows: Sequence[list[int]], inner: list[float], places: list[float], *, upwards: bool
) -> None:
    """Order every row by the mean place of its neighbours in the row before, from the top down or upwards."""
    near: list[list[int]] = [[] for _ in graph.items]
    for upper, lower in graph.links:
        if upwards:
            near[upper].append(lower)
        else:
            near[lower].append(upper)
    # Blocks of several rows are ordered first, for they lie the same way in all of them.
    keys = [_mean([places[n] for m in members for n in near[m] or [m]]) for members in graph.members]
    for row in reversed(range(graph.rows)) if upwards else range(graph.rows):
        for block in rows[row]:
            for m in graph.members[block]:
                if graph.items[m].row == row:
                    inner[m] = _mean([places[n] for n in near[m] or [m]])
                    if block not in graph.group_blocks.values():
                        keys[block] = inner[m]
        rows[row].sort(key=lambda block: keys[block])
        for place, m in enumerate(line := _line(graph, row, rows[row], inner)):
            places[m] = (place + 0.5) / len(line)


def _widths(graph: _Graph, inner: Sequence[float]) -> list[float]:
    """Each block's width; items get their place in their block."""
    widths = [0.0] * graph.next_block
    for block, members in enumerate(graph.members):
        for row in {graph.items[m].row for m in members}:
            here = sorted((m for m in members if graph.items[m].row == row), key=lambda m: inner[m])
            width = sum(graph.items[m].size[0] for m in here) + GAP * (len(here) - 1)
            left = -width / 2
            for m in here:
                graph.items[m].offset = left + graph.items[m].size[0] / 2
                left += graph.items[m].size[0] + GAP
            widths[block] = max(widths[block], width)
    for block in graph.group_blocks.values():
        widths[block] += 2 * FRAME
    return widths


def _swap(graph: _Graph, rows: list[list[int]], inner: Sequence[float]) -> None:
    """Exchange neighbours as long as that takes crossings away; a block that others lie beside stays."""
    fewest = _crossings(graph, _places(graph, rows, inner))
    improved = True
    while improved and fewest:
        improved = False
        for blocks in rows:
            for at in range(len(blocks) - 1):
                if any(block in graph.group_blocks.values() for block in blocks[at : at + 2]):
                    continue
                blocks[at : at + 2] = reversed(blocks[at : at + 2])
                crossings = _crossings(graph, _places(graph, rows, inner))
                if crossings < fewest:
                    fewest, improved = crossings, True
                else:
                    blocks[at : at + 2] = reversed(blocks[at : at + 2])


def _places(graph: _Graph, rows: Sequence[Sequence[int]], inner: Sequence[float]) -> list[float]:
    """Each item's place in its row, 0 to 1: comparable between rows of different lengths."""
    places = [0.0] * len(graph.items)
    for row, blocks in enumerate(rows):
        for place, m in enumerate(line := _line(graph, row, blocks, inner)):
            places[m] = (place + 0.5) / len(line)
    return places


def _line(graph: _Graph, row: int, blocks: Sequence[int], inner: Sequence[float]) -> list[int]:
    """The items of one row from left to right."""
    return [
        m
        for block in blocks
        for m in sorted((m for m in graph.members[block] if graph.items[m].row == row), key=lambda m: inner[m])
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _crossings(graph: _Graph, places: Sequence[float]) -> int:
    found = 0
    for number, (a, b) in enumerate(graph.links):
        for c, d in graph.links[number + 1 :]:
            if graph.items[a].row == graph.items[c].row:
                found += (places[a] - places[c]) * (places[b] - places[d]) < 0
    return found


def _settled(graph: _Graph, rows: Sequence[Sequence[int]], widths: Sequence[float]) -> list[float]:
    """The middle of each block: pulled by its neighbours above and below, kept apart from those beside it."""
    before: list[dict[int, float]] = [{} for _ in widths]
    for blocks in rows:
        for left, right in pairwise(blocks):
            before[right][left] = (widths[left] + widths[right]) / 2 + GAP
    order = _from_left(before)
    centres = [0.0] * len(widths)
    for block in order:
        centres[block] = max((centres[left] + gap for left, gap in before[block].items()), default=0.0)
    pulls = _pulls(graph, len(widths))
    # Each is moved by itself, then those that have come too near push each other away: so a row of
    # neighbours that all want to go one way can go together, which none of them could alone.
    for turn in range(_SETTLE):
        share = 0.5 * (1 - turn / _SETTLE)
        for block in order:
            if total := sum(weight for _, _, weight in pulls[block]):
                wanted = sum(weight * (centres[other] + offset) for other, offset, weight in pulls[block]) / total
                centres[block] += share * (wanted - centres[block])
        for _ in range(_PUSHES):
            _push_apart(order, before, centres)
    for block in order:
        centres[block] = max([centres[block], *(centres[left] + gap for left, gap in before[block].items())])
    return centres


def _pulls(graph: _Graph, blocks: int) -> list[list[tuple[int, float, float]]]:
    """For each block what pulls it: another block, how far from the middle of that block it would lie, and the
    weight."""
    pulls: list[list[tuple[int, float, float]]] = [[] for _ in range(blocks)]
    for way in graph.ways:
        for number, (upper, lower) in enumerate(pairwise(way)):
            a, b = graph.items[upper], graph.items[lower]
            # It is better that a long arrow is straight than that it is near to its ends.
            weight = 1.0 if number in (0, len(way) - 2) else 16.0
            if a.block != b.block:
                pulls[a.block].append((b.block, b.offset - a.offset, weight))
                pulls[b.block].append((a.block, a.offset - b.offset, weight))
    return pulls


def _push_apart(order: Sequence[int], before: Sequence[Mapping[int, float]], centres: list[float]) -> None:
    """Move neighbours that are too near to each other, each by half of what is lacking."""
    for block in order:
        for left, gap in before[block].items():
            if (lacking := gap - (centres[block] - centres[left])) > 0:
                centres[left] -= lacking / 2
                centres[block] += lacking / 2


def _from_left(before: Sequence[Mapping[int, float]]) -> list[int]:
    """The blocks, each after those to its left in any row."""
    order: list[int] = []
    waiting = list(range(len(before)))
    while waiting:
        block = next(block for block in waiting if not any(left in waiting for left in before[block]))
        order.append(block)
        waiting.remove(block)
    return order


def _routes(
    graph: _Graph, diagram: Diagram, x: Sequence[float], edges: Sequence[Size], frames: Mapping[int, Frame]
) -> list[Route]:
    leaving: dict[int, list[tuple[float, int]]] = {}
    coming: dict[int, list[tuple[float, int]]] = {}
    for number, way in enumerate(graph.ways):
        leaving.setdefault(way[0], []).append((x[way[1]], number))
        coming.setdefault(way[-1], []).append((x[way[-2]], number))
    routes = []
    for number, (arrow, way) in enumerate(zip(diagram.arrows, graph.ways)):
        source, target = frames[way[0]], frames[way[-1]]
        begin, end = _port(source, leaving[way[0]], number), _port(target, coming[way[-1]], number)
        points = [(begin, source.y + source.height), (begin, edges[graph.items[way[0]].row][1] + STUB)]
        points += [(x[item], y) for item in way[1:-1] for y in edges[graph.items[item].row]]
        points += [(end, edges[graph.items[way[-1]].row][0] - STUB), (end, target.y)]
        routes.append(Route(arrow, tuple(points), frames[graph.label_item[number]]))
    return routes


def _port(box: Frame, arrows: list[tuple[float, int]], number: int) -> float:
    """Where along a box's edge an arrow begins or ends: side by side, in the order of where they go."""
    place = [other for _, other in sorted(arrows)].index(number)
    return box.x + box.width * (place + 1) / (len(arrows) + 1)


def _around(frames: Sequence[Frame], width: float, centre: float) -> Frame:
    top, bottom = min(f.y for f in frames), max(f.y + f.height for f in frames)
    return Frame(centre - width / 2, top - FRAME - 12, width, bottom - top + 2 * FRAME + 12)


def _moved(layout: Layout, by: float) -> Layout:
    def frame(f: Frame) -> Frame:
        return Frame(f.x + by, f.y, f.width, f.height)

    return Layout(
        layout.width,
        layout.height,
        {key: frame(f) for key, f in layout.boxes.items()},
        {key: frame(f) for key, f in layout.groups.items()},
        tuple(Route(r.arrow, tuple((x + by, y) for x, y in r.points), frame(r.label)) for r in layout.routes),
    )
