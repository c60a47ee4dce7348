"""Print what `pipeline run configs/ocr.yaml --output FILE` has read: `python photos/text/print_lines.py FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        print(f"\n{record['input']}")
        for found in record["outputs"].get("lines", []):
            (x, y), *_ = found["box"]
            print(f"  {x:5},{y:<5} {found['score']:.2f}  {found['text']}")


if __name__ == "__main__":
    main()
