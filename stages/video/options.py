"""Options: what the YAML says of cameras, zones and masks, checked and as plain values. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.errors import BadOption
from stages.hints import did_you_mean
from stages.video.geometry import Polygon

__all__ = ["box_of", "fraction", "known_keys", "mapping_of", "number", "polygon_of", "polygons_of", "texts_of"]


def number(where: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """A finite number.

    Raises:
        BadOption: it is none, or out of bounds.
    """
    bounds = "" if above is None else f" above {above:g}"
    bounds += "" if at_least is None else f" of at least {at_least:g}"
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (above is not None and value <= above) or (at_least is not None and value < at_least):
        raise BadOption(f"{where}: expected a number{bounds}, found {value!r}")
    return float(value)


def fraction(where: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        BadOption: it is none.
    """
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not 0 <= value <= 1:
        raise BadOption(f"{where}: expected a number from 0 to 1, found {value!r}")
    return float(value)


def mapping_of(where: str, value: Any) -> Mapping[str, Any]:
    """A mapping by names; empty if it is None.

    Raises:
        BadOption: it is no mapping, or a name is no text.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise BadOption(f"{where}: expected a mapping by name, found {value!r}")
    return value


def known_keys(where: str, value: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse what is misspelled.

    Raises:
        BadOption: `value` has a name that is not among `known`.
    """
    for name in value:
        if name not in known:
            raise BadOption(f"{where}: no option {name!r}{did_you_mean(name, known)}")


def texts_of(where: str, value: Any) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        BadOption: it is none.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise BadOption(f"{where}: expected a list of texts, found {value!r}")
    return tuple(value)


def polygon_of(where: str, value: Any) -> Polygon:
    """A polygon: at least three corners [x, y] in fractions of the picture.

    Raises:
        BadOption: it is none.
    """
    corners = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(corners) < 3:
        raise BadOption(f"{where}: expected a polygon of at least three corners [x, y], found {value!r}")
    polygon = []
    for corner in corners:
        if not isinstance(corner, Sequence) or isinstance(corner, str) or len(corner) != 2:
            raise BadOption(f"{where}: expected corners [x, y] from 0 to 1, found {corner!r}")
        polygon.append((fraction(where, corner[0]), fraction(where, corner[1])))
    return tuple(polygon)


def polygons_of(where: str, value: Any) -> tuple[Polygon, ...]:
    """A list of polygons.

    Raises:
        BadOption: it is none.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadOption(f"{where}: expected a list of polygons, found {value!r}")
    return tuple(polygon_of(f"{where}[{index}]", one) for index, one in enumerate(value))


def box_of(where: str, value: Any) -> tuple[float, float, float, float]:
    """A box [y_min, x_min, y_max, x_max] with an area.

    Raises:
        BadOption: it is none.
    """
    corners = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(corners) != 4:
        raise BadOption(f"{where}: expected [y_min, x_min, y_max, x_max], found {value!r}")
    y_min, x_min, y_max, x_max = (fraction(where, one) for one in corners)
    if not (y_min < y_max and x_min < x_max):
        raise BadOption(f"{where}: expected y_min < y_max and x_min < x_max, found {value!r}")
    return y_min, x_min, y_max, x_max
