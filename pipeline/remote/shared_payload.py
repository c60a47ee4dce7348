"""SharedPayload: a request whose large tensors lie in a region of shared memory; and its answer, read from there.

    region   | input | input | room for an output | ...      each at a multiple of 64 bytes

Small tensors, and those whose size is not known before, travel in the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.client.copies import SHARED, Copies
from pipeline.errors import KserveError
from pipeline.kserve import grpc_request
from pipeline.kserve.datatypes import DATATYPES, expected_nbytes
from pipeline.kserve.values import InferRequest, InferResponse, InferTensor, Region, RequestedOutput
from pipeline.remote.link import Payload
from pipeline.remote.regions import SMALLEST, Arena, Leased, aligned

__all__ = ["SharedPayload", "shared"]


class SharedPayload(Payload):
    """See the module.

    Args:
        request: whose large inputs name their place in the region.
        leased: the region, in which they lie.
        room: outputs of the region, by name.
        copies: counts what is copied out of it.
    """

    def __init__(self, request: InferRequest, leased: Leased, room: Mapping[str, Region], copies: Copies) -> None:
        super().__init__(request, b"".join(grpc_request.encode(request)))
        self._leased = leased
        self._room = room
        self._copies = copies

    def inline(self) -> bytes:
        """The frame without the region, for a server that does not know it, since it was started again."""
        request = grpc_request.decode(self.frame)
        inputs = [
            tensor if tensor.region is None
            else replace(tensor, data=self._leased.read(tensor.region.offset, tensor.region.nbytes), region=None)
            for tensor in request.inputs
        ]  # fmt: skip
        return b"".join(grpc_request.encode(replace(request, inputs=tuple(inputs), outputs=())))

    def read(self, response: InferResponse) -> InferResponse:
        """The response with its bytes, which are copied out of the region.

        Raises:
            KserveError: it is of another place than was asked for.
        """
        return replace(response, outputs=tuple([self._read(output) for output in response.outputs]))

    def _read(self, output: InferTensor) -> InferTensor:
        room = self._room.get(output.name)
        nbytes = expected_nbytes(DATATYPES[output.datatype], output.shape)
        # Triton sends no bytes of such an output, and does not say either where it is.
        silent = room is not None and output.data is not None and not output.data.nbytes and nbytes != 0
        if output.region is None and not silent:
            return output
        elsewhere = output.region is not None and room is not None and output.region[:2] != room[:2]
        if room is None or nbytes is None or nbytes > room.nbytes or elsewhere:
            raise KserveError(f"output {output.name!r} lies in another place than it was asked for", "INTERNAL")
        self._copies.add(SHARED, nbytes)
        return replace(output, data=self._leased.read(room.offset, nbytes), region=None)

    def release(self) -> None:
        self._leased.give_back()

    def abandon(self) -> None:
        self._leased.retire()


def shared(arena: Arena, request: InferRequest, room: Mapping[str, int], copies: Copies) -> SharedPayload | None:
    """The request over a region; None: it is too small for that, or there is no region to be had.

    Args:
        room: bytes of each output whose size is known; 0 of the others.
    """
    large = [tensor for tensor in request.inputs if tensor.data is not None and tensor.data.nbytes >= SMALLEST]
    wanted = [name for name, nbytes in room.items() if nbytes >= SMALLEST]
    if not large and not wanted:
        return None
    sizes = [tensor.data.nbytes for tensor in large if tensor.data is not None] + [room[name] for name in wanted]
    offsets, total = aligned(sizes)
    leased = arena.acquire(total)
    if leased is None:
        return None
    places = [Region(leased.name, offset, nbytes) for offset, nbytes in zip(offsets, sizes)]
    # An input and an output may have one name.
    inputs_at = dict(zip([tensor.name for tensor in large], places))
    outputs_at = dict(zip(wanted, places[len(large) :]))
    try:
        inputs = tuple([_placed(tensor, inputs_at.get(tensor.name), leased) for tensor in request.inputs])
        for place in outputs_at.values():
            # What an earlier request has left there is never taken for this one's answer, whatever the server does.
            leased.write(place.offset, memoryview(bytes(place.nbytes)))
        outputs = [RequestedOutput(name, region=outputs_at.get(name)) for name in room] if outputs_at else []
        return SharedPayload(replace(request, inputs=inputs, outputs=tuple(outputs)), leased, outputs_at, copies)
    except BaseException:
        leased.give_back()
        raise


def _placed(tensor: InferTensor, place: Region | None, leased: Leased) -> InferTensor:
    """The tensor, written to its place in the region if it has one."""
    if place is None:
        return tensor
    assert tensor.data is not None
    leased.write(place.offset, tensor.data)
    return replace(tensor, data=None, region=place)
