"""Twice x, and the names as they are; it refuses -1. For Triton."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in ("x", "names")]
            if tensors[0].as_numpy().ravel()[:1].tolist() == [-1.0]:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("it was told to refuse")))
                continue
            outputs = [pb_utils.Tensor("y", tensors[0].as_numpy() * 2), pb_utils.Tensor("echo", tensors[1].as_numpy())]
            answers.append(pb_utils.InferenceResponse(outputs))
        return answers
