"""The link that the tests' pipelines have: TRTLAB_LINK, or that which a config has without it.

`make test-foreign` runs the tests of faults once more with TRTLAB_LINK=ring.
"""

from __future__ import annotations

import os

from pipeline.wire.links import LINKS

__all__ = ["LINK"]

LINK: dict[str, str] = {"link": os.environ["TRTLAB_LINK"]} if os.environ.get("TRTLAB_LINK") else {}
"""The field of a config."""

assert not LINK or LINK["link"] in LINKS, f"TRTLAB_LINK: expected one of {LINKS}, found {LINK['link']!r}"
