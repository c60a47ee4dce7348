"""A Python model of Triton: its input, which is text. Run by Triton, in its environment."""

import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb.InferenceResponse([pb.Tensor("OUTPUT0", pb.get_input_tensor_by_name(request, "INPUT0").as_numpy())])
            for request in requests
        ]
