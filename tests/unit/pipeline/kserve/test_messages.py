from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool

from pipeline.errors import KserveError
from pipeline.kserve.messages import HEALTH, INFERENCE, document, filled, message, methods, parsed


def test_the_service_has_every_call_and_says_which_stream() -> None:
    found = methods(INFERENCE)
    assert len(found) == 20
    assert found["ModelInfer"].path == "/inference.GRPCInferenceService/ModelInfer"
    assert [name for name, method in found.items() if method.client_streams] == ["ModelStreamInfer"]
    assert [name for name, method in found.items() if method.server_streams] == ["ModelStreamInfer"]
    assert found["ServerLive"].response is message("ServerLiveResponse")


def test_health_is_the_protocol_that_envoy_and_kubernetes_probe() -> None:
    found = methods(HEALTH)
    assert [(name, method.server_streams) for name, method in found.items()] == [("Check", False), ("Watch", True)]
    assert found["Check"].path == "/grpc.health.v1.Health/Check"
    response = message("grpc.health.v1.HealthCheckResponse")
    assert response(status=response.SERVING).SerializeToString() == b"\x08\x01"


def test_what_is_no_message_is_refused() -> None:
    assert parsed("ModelReadyRequest", b"\x0a\x01m").name == "m"
    for frame in (b"\x0a\xff", b"\x0a\x01\xff"):
        with pytest.raises(KserveError, match="expected a ModelReadyRequest"):
            parsed("ModelReadyRequest", frame)


def test_documents_are_messages_and_back() -> None:
    sent = filled("RepositoryIndexResponse", {"models": [{"name": "a", "state": "READY"}]})
    assert sent.models[0].state == "READY"
    assert document(sent) == {"models": [{"name": "a", "state": "READY"}]}


def test_the_names_are_not_in_the_default_pool_so_that_tritonclient_can_have_them() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


def test_reading_and_writing_inference_needs_no_protobuf() -> None:
    code = (
        "import sys; sys.modules['google.protobuf'] = None\n"
        "from pipeline.kserve import admission, documents, encodings, grpc_request, grpc_response, http_request, http_response"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
