"""The command line of the soak; see `bench.chaos`."""

from __future__ import annotations

import argparse
import os
import sys

from bench.chaos.requests import Rates
from bench.chaos.soak import Soak, soak
from bench.signals import end_on_sigterm
from pipeline.wire.links import LINKS

__all__ = ["main"]

_PRIVATE = "CHAOS_PRIVATE_SHM"
_SHM_BYTES = 4 * 1024 * 1024


def main() -> None:
    """Run one soak; exit code 1 if something happened that must not."""
    default = Soak()
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=default.requests)
    parser.add_argument("--kills", type=int, default=default.kills)
    parser.add_argument("--seconds", type=float, default=default.seconds, help="over which both are spread")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--deadly", type=float, default=default.rates.deadly, help="share of deadly requests, of 1")
    parser.add_argument("--gateway-kills", type=int, default=20, help="of the gateway; 0: no load comes through one")
    parser.add_argument("--link", choices=LINKS, default=default.link, help="what carries the pipeline's messages")
    parser.add_argument("--private-shm", action="store_true", help="in a /dev/shm of its own, which is filled too")
    parser.add_argument("--quiet", action="store_true", help="only the figures")
    given = parser.parse_args()
    if given.private_shm and not os.environ.get(_PRIVATE):
        # A mount namespace of its own; needs the right to make one, as root has.
        mounted = f"mount -t tmpfs -o size={_SHM_BYTES} tmpfs /dev/shm && exec \"$@\""
        again = [sys.executable, "-m", "bench.chaos", *sys.argv[1:]]
        os.execvpe("unshare", ["unshare", "--mount", "sh", "-c", mounted, "sh", *again], {**os.environ, _PRIVATE: "1"})

    def say(line: str) -> None:
        if not given.quiet:
            print(line, file=sys.stderr, flush=True)

    end_on_sigterm()
    wanted = Soak(
        given.requests, given.kills, given.seconds, given.seed, Rates(deadly=given.deadly), given.private_shm,
        given.gateway_kills, given.link,
    )
    tally = soak(wanted, say)
    print(tally.table())
    faults = tally.faults()
    print("FAILED: " + "; ".join(faults) if faults else "nothing was lost")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
