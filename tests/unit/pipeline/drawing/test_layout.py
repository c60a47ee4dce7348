"""Nothing of a drawn graph lies on anything else, whatever the graph; and the picture is well-formed."""

from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawing.diagram import ANSWER, MANY, ONE, WHEN, Arrow, Box, Diagram
from pipeline.drawing.layout import Frame, Layout, make_layout
from pipeline.drawing.svg import to_svg
from pipeline.graph.plan import INGRESS

BOX, LABEL = (100.0, 40.0), (80.0, 15.0)


@st.composite
def diagrams(draw: st.DrawFn) -> Diagram:
    """Up to eight stages, each after one or two that come before it; up to two groups of them."""
    count = draw(st.integers(1, 8))
    names = [INGRESS, *(f"s{number}" for number in range(count))]
    groups = [draw(st.sampled_from([None, None, "s0", "s1"])) for _ in range(count)]
    boxes = [Box(name, (name,), group) for name, group in zip(names, [None, *groups])]
    arrows = []
    for number in range(1, count + 1):
        for source in draw(st.lists(st.sampled_from(names[:number]), max_size=2, unique=True)):
            arrows.append(Arrow(source, names[number], draw(st.sampled_from([ONE, MANY, WHEN])), ("t",)))
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        arrows.append(Arrow(name, ANSWER, ONE, ("t",)))
    return Diagram((*boxes, Box(ANSWER, ("answer",))), tuple(arrows))


def place(diagram: Diagram) -> Layout:
    return make_layout(diagram, {box.key: BOX for box in diagram.boxes}, [LABEL] * len(diagram.arrows))


def overlap(a: Frame, b: Frame) -> bool:
    # A hair: places are found by steps.
    return (
        a.x + a.width > b.x + 0.01 and b.x + b.width > a.x + 0.01
        and a.y + a.height > b.y + 0.01 and b.y + b.height > a.y + 0.01
    )  # fmt: skip


@settings(deadline=None, max_examples=15)
@given(diagrams())
def test_nothing_lies_on_anything_else(diagram: Diagram) -> None:
    layout = place(diagram)
    labels = [route.label for route in layout.routes]
    for a, b in combinations([*layout.boxes.values(), *labels], 2):
        assert not overlap(a, b)
    for a, b in combinations(layout.groups.values(), 2):
        assert not overlap(a, b)


@settings(deadline=None, max_examples=15)
@given(diagrams())
def test_a_frame_holds_its_own_boxes_and_no_others(diagram: Diagram) -> None:
    layout = place(diagram)
    for group, frame in layout.groups.items():
        for box in diagram.boxes:
            inside = layout.boxes[box.key]
            if box.group == group:
                assert frame.x < inside.x < inside.x + inside.width < frame.x + frame.width
                assert frame.y < inside.y < inside.y + inside.height < frame.y + frame.height
            else:
                assert not overlap(frame, inside)


@settings(deadline=None, max_examples=15)
@given(diagrams())
def test_every_arrow_goes_down_from_its_source_to_its_target_through_its_label(diagram: Diagram) -> None:
    layout = place(diagram)
    for route in layout.routes:
        source, target = layout.boxes[route.arrow.source], layout.boxes[route.arrow.target]
        (x0, y0), (x1, y1) = route.points[0], route.points[-1]
        assert source.x < x0 < source.x + source.width
        assert y0 == source.y + source.height
        assert target.x < x1 < target.x + target.width
        assert y1 == target.y
        heights = [y for _, y in route.points]
        assert heights == sorted(heights)
        middle = route.label.x + route.label.width / 2
        assert any(abs(x - middle) < 0.01 for x, _ in route.points)


@settings(deadline=None, max_examples=15)
@given(diagrams())
def test_everything_is_in_the_picture(diagram: Diagram) -> None:
    layout = place(diagram)
    for frame in [*layout.boxes.values(), *layout.groups.values(), *(route.label for route in layout.routes)]:
        assert -0.01 <= frame.x <= frame.x + frame.width <= layout.width + 0.01
        assert -0.01 <= frame.y <= frame.y + frame.height <= layout.height + 0.01


def test_a_chain_is_straight() -> None:
    boxes = [Box(name, (name,)) for name in (INGRESS, "a", "b", ANSWER)]
    arrows = [Arrow(a.key, b.key, ONE, ("t",)) for a, b in pairwise(boxes)]
    layout = place(Diagram(tuple(boxes), tuple(arrows)))
    assert len({round(frame.x, 3) for frame in layout.boxes.values()}) == 1
    assert [layout.boxes[box.key].y for box in boxes] == sorted(layout.boxes[box.key].y for box in boxes)


def test_branches_that_need_not_cross_do_not() -> None:
    # Listed so that each pair of arrows would cross if the order were kept.
    boxes = [Box(name, (name,)) for name in (INGRESS, "a", "b", "for-b", "for-a", ANSWER)]
    pairs = [(INGRESS, "a"), (INGRESS, "b"), ("b", "for-b"), ("a", "for-a"), ("for-a", ANSWER), ("for-b", ANSWER)]
    layout = place(Diagram(tuple(boxes), tuple(Arrow(*pair, ONE, ("t",)) for pair in pairs)))
    left_first = layout.boxes["a"].x < layout.boxes["b"].x
    assert (layout.boxes["for-a"].x < layout.boxes["for-b"].x) == left_first


@settings(deadline=None, max_examples=10)
@given(diagrams())
def test_the_picture_is_xml_with_every_box_and_arrow(diagram: Diagram) -> None:
    root = ElementTree.fromstring(to_svg(diagram))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for box in diagram.boxes:
        assert box.lines[0] in texts
    assert texts.count("one process") == len(diagram.groups)
    ends = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("marker-end")]
    assert len(ends) == len(diagram.arrows)


def test_a_box_is_as_wide_as_its_text_and_signs_of_xml_are_escaped() -> None:
    long = './a folder/"glue" & <more>.py:' + "x" * 60
    boxes = (Box(INGRESS, (INGRESS,)), Box("a", ("a", long)), Box(ANSWER, ("answer",)))
    root = ElementTree.fromstring(to_svg(Diagram(boxes, ())))
    assert long in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert float(root.attrib["width"]) > len(long) * 11 * 0.6
