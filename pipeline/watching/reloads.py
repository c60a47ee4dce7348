"""Reloads, as `pipeline status`, `ps` and `top` show them: what is under way, and how the last one ended. Pure."""

from __future__ import annotations

from pipeline.logs.forms import time_of
from pipeline.watching.rates import age_text
from pipeline.wire.records import Milestone
from pipeline.wire.status import ReloadsStatus, ReloadStatus

__all__ = ["reload_lines", "reload_note"]


def reload_lines(reloads: ReloadsStatus | None, now: float) -> list[str]:
    """All that is known of them, in lines for people; none if there was no reload.

    Args:
        reloads: of the status.
        now: seconds since the epoch.
    """
    found = []
    if reloads is not None and (reload := reloads.under_way) is not None:
        far = f": {progress}" if (progress := _progress(reload)) else ""
        found.append(f"under way for {age_text(now - reload.began_s)}: {_what(reload)}{far}")
    if reloads is not None and (last := reloads.last) is not None and last.ended_s is not None:
        took = age_text(last.ended_s - last.began_s)
        when = f"{age_text(now - last.ended_s)} ago, at {time_of(last.ended_s)}, after {took}"
        found.append(f"the last one {_ended(last)} {when}: {_what(last)}")
        if last.reason:
            found += last.reason.splitlines()
    return found


def reload_note(reloads: ReloadsStatus | None, now: float) -> str:
    """What must not be missed, in a few words; empty: no reload is under way, and the last one succeeded."""
    if reloads is None:
        return ""
    if (reload := reloads.under_way) is not None:
        whose = f" of {reload.stage}" if reload.stage else ""
        count = f", {reload.replaced} of {reload.workers} workers are new" if reload.workers else ""
        return f"a reload{whose} is under way for {age_text(now - reload.began_s)}{count}"
    if (last := reloads.last) is not None and last.outcome != "succeeded" and last.ended_s is not None:
        whose = f" of {last.stage}" if last.stage else ""
        return f"the last reload{whose} {_ended(last)} {age_text(now - last.ended_s)} ago"
    return ""


def _ended(reload: ReloadStatus) -> str:
    return {"rolled_back": "was rolled back", "mixed": "left workers of both versions"}.get(
        reload.outcome, reload.outcome
    )


def _what(reload: ReloadStatus) -> str:
    """What was, or is, replaced by what."""
    if reload.stage:
        return f"stage {reload.stage}, as in {reload.config}"
    return f"{reload.before} by {reload.after or 'a new version'}, as in {reload.config}"


def _progress(reload: ReloadStatus) -> str:
    """How far one that is under way is."""
    counted = f"{reload.replaced} of {reload.workers} workers are new" if reload.workers else ""
    # The text of the first step repeats what is being done.
    text = "" if reload.step == Milestone.BEGUN else reload.text
    return "; ".join(part for part in (counted, text) if part)
