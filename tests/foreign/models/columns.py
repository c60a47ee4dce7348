"""The column of a picture with the most ink stands in for a digit; it refuses -1. For Triton."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        refusal = pb_utils.TritonError("it was told to refuse", pb_utils.TritonError.INVALID_ARG)
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "Input3").as_numpy()
            if x.ravel()[:1].tolist() == [-1.0]:
                answers.append(pb_utils.InferenceResponse(error=refusal))
                continue
            scores = x.reshape(len(x), 28, 28).sum(1)[:, 9:19].astype(np.float32)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Plus214_Output_0", scores)]))
        return answers
