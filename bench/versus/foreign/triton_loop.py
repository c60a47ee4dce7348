"""A plain loop before Triton: decode, ask with tritonclient, take the best labels. Run in build/tritonclient.

    python triton_loop.py HOST:PORT SITE_PACKAGES PICTURE...

For each line on stdin it goes once through the pictures, and prints a line of JSON: the seconds, and the labels of
each picture. The stages are those of the pipeline beside it; Pillow, which they need, is taken from SITE_PACKAGES.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[3])


def main(where: str, site: str, *pictures: str) -> None:
    # Behind what this environment has itself.
    sys.path += [_ROOT, site]
    import numpy as np
    from tritonclient.grpc import InferenceServerClient, InferInput

    from bench.direct import call
    from bench.versus.photographs import DECODE, MODEL, TOP
    from stages.classify import TopK
    from stages.image import DecodeResize

    decode: Any = DecodeResize(**DECODE)
    top: Any = TopK(**TOP)
    client = InferenceServerClient(where)
    files = {path: np.fromfile(path, np.uint8) for path in set(pictures)}
    for _ in sys.stdin:
        begin, found = time.perf_counter(), []
        for path in pictures:
            image = call(decode, image=files[path])["image"][None]
            given = InferInput("image", image.shape, "FP32")
            given.set_data_from_numpy(image)
            scores = client.infer(MODEL, [given]).as_numpy("scores")[0]
            found.append(json.loads(call(top, scores=scores)["labels"].tobytes()))
        print(json.dumps({"seconds": time.perf_counter() - begin, "labels": found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
