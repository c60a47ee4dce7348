"""Twice x; it refuses -1. For MLServer."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse


class Twice(MLModel):
    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        if x.ravel()[:1].tolist() == [-1.0]:
            raise MLServerError("it was told to refuse", 400)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", x * 2)])
