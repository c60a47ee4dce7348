"""A Python model of Triton: each element of IN as a response of its own. Run by Triton, in its environment."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            # The request is gone when this returns: copies.
            inputs = [pb.get_input_tensor_by_name(request, name).as_numpy().copy() for name in ("IN", "DELAY")]
            threading.Thread(target=self.answer, args=(request.get_response_sender(), *inputs), daemon=True).start()

    def answer(self, sender, values, delays):
        for number, value in enumerate(values):
            time.sleep(int(delays[number]) / 1000 if number < len(delays) else 0)
            outputs = [pb.Tensor("OUT", np.array([value], np.int32)), pb.Tensor("IDX", np.array([number], np.uint32))]
            sender.send(pb.InferenceResponse(outputs))
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
