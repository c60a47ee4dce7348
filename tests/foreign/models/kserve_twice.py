"""Twice x; it refuses -1. For KServe: its arguments are the ports of HTTP and gRPC."""

import sys

from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput

TENSOR = {"datatype": "FP32", "shape": [-1, 4]}


class Twice(Model):
    def __init__(self):
        super().__init__("twice")
        self.ready = True

    async def get_input_types(self):
        return [{"name": "x", **TENSOR}]

    async def get_output_types(self):
        return [{"name": "y", **TENSOR}]

    async def predict(self, payload, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy()
        if x.ravel()[:1].tolist() == [-1.0]:
            raise InvalidInput("it was told to refuse")
        y = InferOutput("y", list(x.shape), "FP32")
        y.set_data_from_numpy(x * 2, binary_data=not payload.from_grpc)
        return InferResponse(payload.id or "1", "twice", [y])


ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1).start([Twice()])
