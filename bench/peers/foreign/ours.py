"""This pipeline, as `bench.run` measures it; with the word `colocate`, its three stages in one process."""

from __future__ import annotations

import sys

from bench.peers.foreign.talk import serve
from bench.relay import PipelineRelay

if __name__ == "__main__":
    serve(PipelineRelay(colocate="colocate" in sys.argv))
