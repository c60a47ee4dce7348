"""More requests come than can be computed: the excess is refused at once, and priority and age decide the order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import Overloaded
from pipeline.testing import running
from tests.faults.load import until


def test_what_is_beyond_the_queue_is_refused_at_once_and_what_was_accepted_is_answered(folder: Any) -> None:
    config = folder.config({"with.seconds": 0.4, "credits": 1}, {}, queue={"max": 3}, ingress={"slots": 16})
    with running(config) as pipeline, pipeline.client() as client:
        first = client.submit(data=b"x")
        until(lambda: client.status()["stages"][0]["workers"][0]["ordered"] == 1)
        drafts = [client.draft(data=(1,), timeout_s=10) for _ in range(8)]
        for number, draft in enumerate(drafts):
            draft.inputs["data"][:] = ord(b"%d" % number)
        futures = [draft.submit(flush=False) for draft in drafts]
        client.flush()
        while sum(future.done() for future in futures) < 5:
            client.pump(0.05)
        # Nothing has been computed yet: a batch takes 400 ms.
        assert not any(future.done() for future in (first, *futures[:3]))
        for future in futures[3:]:
            assert isinstance(future.error(), Overloaded)
            assert "queue.max is 3" in str(future.error())
        for number, future in enumerate(futures[:3]):
            with future.get(200) as result:
                assert result["data"].tobytes() == b"%d" % number
        first.get(200).release()
        with client.submit(data=b"later").get(200) as result:
            assert result["data"].tobytes() == b"later"
        assert pipeline.stop() == 0


def test_a_high_priority_overtakes_and_the_lowest_is_not_starved(folder: Any, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    config = folder.config({"with.seconds": 0.1, "with.journal": str(journal), "credits": 1}, ingress={"slots": 64})
    with running(config) as pipeline, pipeline.client() as client:
        # Their slots are there already, so all go in one message while the first is computed.
        drafts = []
        for data in (b"low",) * 3 + (b"high",) * 3:
            drafts.append(client.draft(data=(len(data),)))
            drafts[-1].inputs["data"][...] = np.frombuffer(data, np.uint8)
        busy = client.submit(data=b"busy")
        until(journal.exists)
        # Priority 3 waits at most 300 ms longer than later requests with priority 0.
        low = [draft.submit(priority=3, flush=False) for draft in drafts[:3]]
        high = [draft.submit(priority=0, flush=False) for draft in drafts[3:]]
        client.flush()
        while not all(future.done() for future in low):
            # Send more of the highest, as long as necessary.
            high.append(client.submit(data=b"high", priority=0, timeout_s=30))
            for future in high[-2:-1]:
                future.get(200).release()
        for future in (busy, *low, *high):
            future.get(200).release()
        order = journal.read_bytes().split()
        assert order[:4] == [b"busy", b"high", b"high", b"high"]
        # The last of the low ones was computed before the last of the high ones: it did not wait for ever.
        assert max(i for i, data in enumerate(order) if data == b"low") < len(order) - 1
        assert pipeline.stop() == 0
