"""A request, from its call to its answer."""

from __future__ import annotations

import numpy as np

from pipeline.client.request import Request
from pipeline.errors import Unavailable
from tests.unit.pipeline.client.talk import INTERFACE, Talk, ok, slot


def test_a_request_waits_is_under_way_and_is_over() -> None:
    talk = Talk()
    talk.attach()
    talk.join()
    request = Request({"data": np.zeros(4, np.uint8)}, INTERFACE.specs)
    assert (request.waits, request.done, request.request, request.error()) == (True, False, "", None)
    assert repr(request) == "<Request: waits for a slot>"
    request.pending = talk.submit(slot(0))
    assert (request.waits, request.done) == (False, False)
    assert request.request == request.pending.request
    talk.answered()
    talk.answered(ok(1))
    assert (request.waits, request.done, request.error()) == (False, True, None)


def test_a_request_that_has_failed_lets_go_of_its_inputs_and_gives_another_error_each_time() -> None:
    request = Request({"data": np.zeros(4, np.uint8)}, INTERFACE.specs)
    request.fail(Unavailable("gone"))
    assert (request.waits, request.done, dict(request.inputs)) == (False, True, {})
    first, second = request.error(), request.error()
    assert first is not second
    assert str(first) == str(second) == "gone"
    assert repr(request) == "<Request: failed, Unavailable: gone>"
