"""The command `pipeline`: the console script's, and that of `python -m pipeline`."""

from __future__ import annotations

import gc

from pipeline.cli.interrupts import end_quietly


def main() -> None:
    """Run the process's command line."""
    # What follows imports for some tenths of a second, a tenth of which would be a search for garbage among modules.
    gc.disable()
    end_quietly()
    from pipeline.cli.main import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
