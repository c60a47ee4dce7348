"""The gateway process: answers callers over HTTP and gRPC (`pipeline.serving.gateway`); see `pipeline.keeping`."""

from __future__ import annotations

import setproctitle

from pipeline.logs.telling import set_least
from pipeline.processes.child import SHARED_SIGNALS, boot_line, hold_lifeline, take_no_notice
from pipeline.serving.boot import GatewayBoot
from pipeline.serving.gateway import serve
from pipeline.streams import prepare_streams

__all__ = ["main"]


def main() -> None:
    """Entry point of the process."""
    boot = GatewayBoot.read(boot_line())
    prepare_streams("utf-8")
    set_least(boot.log_level)
    hold_lifeline(boot.parent)
    # Only the keeper decides what they mean.
    take_no_notice(SHARED_SIGNALS)
    setproctitle.setproctitle(f"pipeline gateway/{boot.number}")
    serve(boot)


if __name__ == "__main__":
    main()
