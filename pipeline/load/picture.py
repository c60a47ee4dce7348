"""Picture: a siege as an SVG, its rates and its latencies over time, and its percentiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.drawing.chart import Axis, Line, Panel, axis_of, log_axis_of, to_chart
from pipeline.load.histogram import Histogram
from pipeline.load.report import Report
from pipeline.load.timeline import Row, Timeline

__all__ = ["picture_of"]

_GREY, _BLUE, _GREEN, _RED = "#6b7683", "#1d5fa8", "#2f7d3b", "#b3261e"
#: From this ratio of the largest to the median on, the axis of latencies is logarithmic.
_WIDE = 50.0
#: A logarithmic axis begins below this percentile: the few that are less would take most of it.
_LEAST = 1.0


def picture_of(report: Report) -> str:
    """The picture, ending in a newline."""
    timeline = report.tally.timeline
    timeline.settle()
    title, *_, counts, rate = report.head()
    return to_chart(
        title,
        [counts, f"{rate}; inputs: {report.inputs}"],
        [_percentiles(report), _rates(report, timeline), _worst(report, timeline)],
    )


def _percentiles(report: Report) -> Panel:
    tally = report.tally
    nines = max(1.0, math.log10(max(tally.latencies.count, 10)))
    ticks = [(0.0, "0"), (math.log10(2), "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99")]
    across = Axis("percentile of the answered requests", 0.0, nines, [each for each in ticks if each[0] <= nines])
    lines = [Line("from when due", _curve(tally.latencies, nines), _BLUE)]
    if report.open_loop:
        lines.append(Line("from sending", _curve(tally.from_sending, nines), _GREEN, dashed=True))
    low = min(tally.latencies.percentile(_LEAST), tally.from_sending.percentile(_LEAST)) * 1e3
    return Panel("latency by percentile", across, _durations([line.points for line in lines], low), lines)


def _curve(durations: Histogram, nines: float) -> list[tuple[float, float]]:
    points, below = [], 0
    for _, end, count in durations.buckets():
        below += count
        left = 1 - below / durations.count
        at = nines if left <= 0 else min(nines, -math.log10(left))
        points.append((at, min(end, durations.longest_s) * 1e3))
    return points


def _durations(lines: Sequence[Sequence[tuple[float, float]]], low: float = 0.0) -> Axis:
    """The axis of latencies in ms, logarithmic if those above `low` differ much."""
    values = [value for points in lines for _, value in points if value > 0 and value >= low]
    if not values:
        return axis_of("ms", 1.0)
    least, most = min(values), max(values)
    return log_axis_of("ms", least, most) if most > _WIDE * least else axis_of("ms", most)


def _rates(report: Report, timeline: Timeline) -> Panel:
    def rate(count: Callable[[Row], int]) -> list[tuple[float, float]]:
        return _steps(report, lambda row, seconds: count(row) / seconds)

    lines = [
        Line("answered", rate(lambda row: row.answered), _BLUE, stepped=True),
        Line("sent", rate(lambda row: row.sent), _GREEN, dashed=True, stepped=True),
    ]
    if report.open_loop:
        lines.insert(0, Line("wanted", rate(lambda row: row.wanted), _GREY, stepped=True))
    if report.tally.failed:
        lines.append(Line("failed", rate(lambda row: row.failed), _RED, stepped=True))
    most = max((value for line in lines for _, value in line.points), default=1.0)
    return Panel(f"rates, each {timeline.step_s:g} s", _time(report), axis_of("requests/s", most), lines)


def _worst(report: Report, timeline: Timeline) -> Panel:
    points = [(x, y) for x, y in _steps(report, lambda row, seconds: row.p99_s * 1e3) if y > 0]
    line = Line("p99 from when due", points, _BLUE, stepped=True)
    return Panel(f"p99 of the answers of each {timeline.step_s:g} s", _time(report), _durations([points]), [line])


def _time(report: Report) -> Axis:
    return axis_of("s from the beginning", max(report.seconds, 0.001), exact=True)


def _steps(report: Report, value: Callable[[Row, float], float]) -> list[tuple[float, float]]:
    """The value of each row at its beginning, by the row and its seconds, and that of the last one at its end too."""
    timeline, points = report.tally.timeline, []
    for number, row in enumerate(timeline.rows):
        begin = number * timeline.step_s
        # The last row may be a short one, and less than a hundredth of it says nothing.
        if (seconds := min(timeline.step_s, report.seconds - begin)) > timeline.step_s / 100:
            points.append((begin, value(row, seconds)))
    return [*points, (report.seconds, points[-1][1])] if points else []
