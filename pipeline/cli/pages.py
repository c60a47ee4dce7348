"""Where the pages of segments really are: what `pipeline check --pages` and `pipeline status --pages` show.

`check` makes the segments of a plan as a run would, touches their pages from the same CPUs, looks, and removes them.
`status` attaches those of a living run, whose pages it maps and does not touch.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.cli.tables import make_table
from pipeline.config.quantities import format_bytes
from pipeline.graph.locality import near_node
from pipeline.graph.plan import Plan
from pipeline.supervisor.segments import make_segments, unlink_segments
from pipeline.wire.run_dir import segment_dirs
from pipeline.wire.run_folder import RunFolder
from shm import leftovers, segments
from shm.errors import SegmentError
from shm.placement import huge_bytes, map_pages, residency
from shm.segment import Segment

__all__ = ["PoolPages", "pages_of_plan", "pages_of_run", "pages_table"]


@dataclass(frozen=True, slots=True)
class PoolPages:
    """Where the pages of one segment are."""

    pool: str
    nbytes: int
    nodes: dict[int, int]
    """Bytes on each NUMA node."""
    huge: int
    """Bytes that are mapped as huge pages."""
    wanted: int | None
    """The node that its readers are on; None: anywhere, or not known."""
    reason: str | None = None
    """Why nothing is known of its pages."""

    @property
    def elsewhere(self) -> int:
        """Bytes that are not where they are wanted."""
        if self.wanted is None:
            return 0
        return sum(nbytes for node, nbytes in self.nodes.items() if node != self.wanted)


def pages_of_plan(plan: Plan) -> list[PoolPages]:
    """Make the segments of a plan for a moment, all at once as a run has them.

    Raises:
        StartError: they cannot be made, or the kernel has no pages for them.
    """
    found = []
    with _folder(plan.name) as folder:
        made: list[Segment] = []
        try:
            for pool, segment in zip(plan.pools, make_segments(plan, folder, made, recorder=False)):
                found.append(_look(pool.name, segment, near_node(plan, pool.name)))
        finally:
            unlink_segments(made)
    return found


def pages_of_run(run: str) -> list[PoolPages]:
    """The pages of a living run's segments, by the name of its folder."""
    found = []
    for leftover in leftovers.scan(segment_dirs()):
        if leftover.run != run:
            continue
        try:
            segment = segments.attach(leftover.address)
        except SegmentError as error:  # replaced, or removed, since it was listed
            found.append(PoolPages(leftover.pool, leftover.size, {}, 0, None, str(error)))
            continue
        map_pages(segment)
        found.append(_look(leftover.pool, segment, None))
        segment.close()
    return found


def pages_table(found: list[PoolPages], console: Console) -> Table:
    """One row a segment."""
    columns = ("pool", "segment", "NUMA nodes", "wanted", "huge pages", "")
    table = make_table("pages", *columns, right=("segment", "huge pages"), console=console)
    for pool in found:
        nodes = ", ".join(f"{node}: {format_bytes(nbytes)}" for node, nbytes in sorted(pool.nodes.items()))
        remark = pool.reason or (f"{format_bytes(pool.elsewhere)} on another node" if pool.elsewhere else "")
        wanted = "any" if pool.wanted is None else str(pool.wanted)
        table.add_row(pool.pool, format_bytes(pool.nbytes), nodes or "-", wanted, format_bytes(pool.huge), remark)
    return table


def _look(pool: str, segment: Segment, wanted: int | None) -> PoolPages:
    pages = residency(segment)
    nodes = {node: count * mmap.PAGESIZE for node, count in pages.items()}
    return PoolPages(pool, len(segment.buffer), nodes, huge_bytes(segment), wanted, pages.reason)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A run's folder with a lock, so that what a killed check leaves is known to be dead."""
    folder = RunFolder(name)
    try:
        yield folder.path
    finally:
        folder.remove()
