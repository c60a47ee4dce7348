"""Tensors of other libraries as inputs, over a loan's slot, and over results: without a copy, and with their lease."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np
import pytest

from pipeline.client.copies import RETRIES, WAITING
from pipeline.client.runner import InferRunner
from pipeline.client.shared import SharedClient
from pipeline.errors import InvalidRequest
from tests.integration.sharing import LARGE


def data() -> Any:
    return np.random.default_rng(0).integers(0, 255, LARGE, np.uint8)


def borrowed(client: SharedClient) -> int:
    return sum(each["borrowed"] for each in client.status()["clients"] if each["name"] == "me")


def until_returned(client: SharedClient) -> None:
    gc.collect()
    while borrowed(client):
        time.sleep(0.01)


#: Before, numpy exported no array that may not be written.
_EXPORTS = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


def test_numpy_imports_a_result_without_a_copy_and_read_only(runner: InferRunner, client: SharedClient) -> None:
    result = runner.infer(data=data()).get(200)
    array = result["data"]
    if not _EXPORTS:
        with pytest.raises(BufferError, match="readonly"):
            np.from_dlpack(array)
        return
    imported = np.from_dlpack(array)
    assert np.shares_memory(imported, array)
    assert not imported.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        imported.flags.writeable = True
    # It keeps the slot.
    del array, result
    gc.collect()
    time.sleep(0.1)
    assert borrowed(client) == 1
    assert (imported == data()).all()
    del imported
    until_returned(client)


def test_a_result_can_not_be_made_writable(runner: InferRunner) -> None:
    array = runner.infer(data=data()).get(200)["data"]
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_torch_imports_a_result_without_a_copy_and_keeps_its_slot(runner: InferRunner, client: SharedClient) -> None:
    torch = pytest.importorskip("torch")
    if not _EXPORTS:
        pytest.skip("this numpy exports no array that may not be written")
    result = runner.infer(data=data()).get(200)
    tensor = torch.from_dlpack(result["data"])
    assert tensor.data_ptr() == result["data"].__array_interface__["data"][0]
    del result
    gc.collect()
    for _ in range(30):
        runner.infer(data=np.zeros(LARGE, np.uint8)).get(200)
    assert (tensor.numpy() == data()).all()
    assert borrowed(client) == 1
    del tensor
    until_returned(client)


def test_tensors_of_torch_are_inputs(runner: InferRunner) -> None:
    torch = pytest.importorskip("torch")
    for tensor in (torch.from_numpy(data()), torch.from_numpy(data()).reshape(200, 200).T.reshape(-1).clone()[::2]):
        assert runner.infer(data=tensor).get(200)["data"].tobytes() == tensor.numpy().tobytes()
    rows = runner.infer(data=torch.from_numpy(data()).reshape(4, -1)).get(200)["data"]
    assert b"".join(row.tobytes() for row in rows) == data().tobytes()
    with pytest.raises(InvalidRequest, match=r"expected dtype uint8, found float32; if its values fit, write np.asarray"):
        runner.infer(data=torch.zeros(3))
    with pytest.raises(InvalidRequest, match=r"input 'data': no array: .*detach"):
        runner.infer(data=torch.zeros(3, requires_grad=True))
    with pytest.raises(InvalidRequest, match=r"input 'data': no array: "):
        runner.infer(data=torch.zeros(3, dtype=torch.bfloat16))


def test_a_loan_is_written_by_torch_without_a_copy(runner: InferRunner) -> None:
    torch = pytest.importorskip("torch")
    with runner.loan(data=(LARGE,)) as request:
        for make in (torch.from_dlpack, torch.from_numpy):
            tensor = make(request["data"])
            tensor[...] = 1
            assert request["data"].sum() == LARGE
        tensor.copy_(torch.from_numpy(data()))
        future = request.infer()
    assert (future.get(200)["data"] == data()).all()
    assert not {WAITING, RETRIES} & {*runner.copied}
