"""Table: what was measured as Markdown: a row a peer, and below it what each copies and includes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.measure import QUIET_CORES, Cell, Repeat, Spread, spread
from bench.peers.catalogue import Peer
from bench.table import DISTURBED

__all__ = ["render", "value_of"]


def value_of(cells: Sequence[Cell], name: str, window: int, field: str) -> Spread | None:
    """A field of `bench.measure.Repeat` over the rounds of one cell; None if it was not measured."""
    for cell in cells:
        if (cell.subject, cell.window) == (name, window):
            return spread(cell.repeats, lambda repeat: getattr(repeat, field))
    return None


def render(
    cells: Sequence[Cell],
    peers: Sequence[Peer],
    versions: Mapping[str, str],
    left_out: Mapping[str, str],
    machine: Mapping[str, str],
    about: str,
) -> str:
    """The page.

    Args:
        versions: of the peers' packages, by name of the peer.
        left_out: why a peer has no numbers, by name.
        about: a line: rounds, seconds, bytes.
    """
    windows = sorted({cell.window for cell in cells})
    head = ["", "p50 us, 1 in flight", *(f"requests/s, {window}" for window in windows if window > 1)]
    head += [f"CPU us, {window}" for window in windows] + ["foreign cores"]
    measured = [peer for peer in peers if any(cell.subject == peer.name for cell in cells)]
    rows = [_row(peer, cells, windows) for peer in measured]
    notes = [
        (peer.title, versions.get(peer.name, ""), peer.copies, peer.includes) for peer in measured
    ]
    lines = [about, ""]
    lines += [f"* {name}: {value}" for name, value in machine.items()]
    lines += [
        "", *_table(head, rows), "",
        "Medians over rounds. CPU us: of all processes of a peer, its caller included, for each request, with so",
        "many in flight. Foreign cores: busy with other work, from the quietest to the worst round.",
        f"{DISTURBED}: over {QUIET_CORES} of them in most rounds.",
        "", *_table(("", "version", "copies of a tensor, after the caller's", "what the numbers include"), notes),
    ]  # fmt: skip
    if left_out:
        lines += ["", "Left out:", "", *(f"* {name}: {_first(reason)}" for name, reason in left_out.items())]
    return "\n".join(lines) + "\n"


def _row(peer: Peer, cells: Sequence[Cell], windows: Sequence[int]) -> list[str]:
    repeats: list[Repeat] = [repeat for cell in cells if cell.subject == peer.name for repeat in cell.repeats]
    foreign = [repeat.foreign_cores for repeat in repeats]
    return [
        peer.title,
        _text(value_of(cells, peer.name, 1, "p50_us")),
        *(_text(value_of(cells, peer.name, window, "rate")) for window in windows if window > 1),
        *(_text(value_of(cells, peer.name, window, "cpu_us")) for window in windows),
        f"{min(foreign):.2f} to {max(foreign):.2f}",
    ]


def _text(found: Spread | None) -> str:
    return "-" if found is None else f"{found.median:,.0f}{DISTURBED if found.disturbed else ''}"


def _first(reason: str) -> str:
    return reason.strip().partition("\n")[0]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:" if _numeric(head) else "---"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _numeric(head: Sequence[str]) -> bool:
    return any("us" in name.split() for name in head)
