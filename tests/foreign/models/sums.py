"""A Python model of Triton: the sum and the difference of its inputs. Run by Triton, in its environment."""

import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x, y = (pb.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "INPUT1"))
            answers.append(pb.InferenceResponse([pb.Tensor("OUTPUT0", x + y), pb.Tensor("OUTPUT1", x - y)]))
        return answers
