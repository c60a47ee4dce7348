"""The protocol, case by case, as Triton's clients use it: every entry, over HTTP and over gRPC.

The models are those of kserve_models. What is asked follows the cases that a real Triton 2.51 passes; docs/kserve.md
names where the answers differ.
"""

from __future__ import annotations

import gzip
import queue
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pipeline.errors import KserveError
from pipeline.kserve import http_request
from pipeline.kserve.grpc_response import decode_stream
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.parameters import EMPTY_FINAL
from pipeline.kserve.values import InferRequest, RequestedOutput
from pipeline.serving.inference import FINAL
from tests.integration.gateways import MODELS, A, B, Gateway, Http, Rpc, array_of, refused, serving, simple, tensor


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(*sorted(MODELS.glob("*.yaml")), errors=tmp_path_factory.mktemp("gateway") / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Http:
    return Http(gateway)


@pytest.fixture(scope="module")
def rpc(gateway: Gateway) -> Iterator[Rpc]:
    rpc = Rpc(gateway)
    yield rpc
    rpc.close()


@pytest.fixture(params=["http", "grpc"])
def infer(request: pytest.FixtureRequest, http: Http, rpc: Rpc) -> Callable[..., Any]:
    """Over each front."""
    return http.infer if request.param == "http" else rpc.infer


# -- the server and its models --------------------------------------------------------------------


def test_the_server_lives_and_is_ready(http: Http, rpc: Rpc) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/simple/ready", "/v2/models/simple/versions/1/ready"):
        http.get(path)
    assert rpc.call("ServerLive").live
    assert rpc.call("ServerReady").ready
    assert rpc.call("ModelReady", name="simple").ready


def test_the_server_names_its_extensions(http: Http, rpc: Rpc) -> None:
    document = http.get("/v2")
    assert document["name"] == "trtlab"
    assert {"statistics", "binary_tensor_data", "system_shared_memory"} <= set(document["extensions"])
    assert list(rpc.call("ServerMetadata").extensions) == document["extensions"]


def test_an_unknown_model_is_not_ready(http: Http, rpc: Rpc) -> None:
    assert http.request("GET", "/v2/models/nope/ready").status_code == 400
    assert not rpc.call("ModelReady", name="nope").ready


def test_metadata_has_the_batch_axis_and_the_config_does_not(http: Http, rpc: Rpc) -> None:
    for document in (http.get("/v2/models/simple"), http.get("/v2/models/simple/versions/1")):
        assert document["inputs"][1] == {"name": "INPUT1", "datatype": "INT32", "shape": [-1, 16]}
        assert document["versions"] == ["1"]
    config = http.get("/v2/models/simple/config")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [16])
    assert list(rpc.call("ModelMetadata", name="simple").outputs[0].shape) == [-1, 16]
    assert rpc.call("ModelConfig", name="simple").config.max_batch_size == 8
    assert rpc.call("ModelConfig", name="repeat_int32").config.model_transaction_policy.decoupled


def test_metadata_of_an_unknown_model_is_not_found(http: Http, rpc: Rpc) -> None:
    assert refused(http.get, "/v2/models/nope").code == "NOT_FOUND"
    assert refused(lambda: rpc.call("ModelMetadata", name="nope")).code == "NOT_FOUND"


def test_another_method_is_refused_with_a_body_that_says_so(http: Http) -> None:
    response = http.request("GET", "/v2/models/simple/infer")
    assert response.status_code == 405
    assert "Method Not Allowed" in response.json()["error"]


def test_health_is_told_to_probes(rpc: Rpc) -> None:
    assert rpc.call("Check").status == 1
    assert rpc.call("Check", service="inference.GRPCInferenceService").status == 1
    assert rpc.call("Check", service="simple").status == 1
    assert refused(lambda: rpc.call("Check", service="nope")).code == "NOT_FOUND"


# -- inference ------------------------------------------------------------------------------------


def test_a_request_is_answered(infer: Callable[..., Any]) -> None:
    response = infer(simple())
    assert (array_of(response, "OUTPUT0", np.int32) == A + B).all()
    assert (array_of(response, "OUTPUT1", np.int32) == A - B).all()
    assert (response.model, response.version) == ("simple", "1")


def test_only_the_outputs_that_are_asked_for_come(infer: Callable[..., Any]) -> None:
    response = infer(simple(outputs=(RequestedOutput("OUTPUT1"),)))
    assert [output.name for output in response.outputs] == ["OUTPUT1"]


def test_json_in_and_json_out(http: Http) -> None:
    document = http.post(
        "/v2/models/simple/infer",
        {
            "inputs": [
                {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": A.tolist()},
                {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": B.ravel().tolist()},
            ],
            "outputs": [{"name": "OUTPUT0"}],
        },
    )
    assert document["outputs"] == [
        {"name": "OUTPUT0", "datatype": "INT32", "shape": [1, 16], "data": (A + B).ravel().tolist()}
    ]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_are_compressed_both_ways(http: Http, coding: str, compress: Callable[[bytes], bytes]) -> None:
    body = http_request.encode(simple())
    headers = {HEADER: str(body.json_length), "content-encoding": coding, "accept-encoding": coding}
    response = http.request(
        "POST", "/v2/models/simple/infer", content=compress(b"".join(body.parts)), headers=headers
    )
    assert response.headers["content-encoding"] == coding
    assert response.content.endswith((A - B).tobytes())


def test_a_compressed_bomb_is_refused(http: Http) -> None:
    response = http.request(
        "POST", "/v2/models/simple/infer", content=gzip.compress(bytes(200 << 20)), headers={"content-encoding": "gzip"}
    )
    assert response.status_code == 413


def test_grpc_compresses_too(rpc: Rpc) -> None:
    import grpc

    response = rpc.infer(simple(), compression=grpc.Compression.Gzip)
    assert (array_of(response, "OUTPUT0", np.int32) == A + B).all()


def test_a_raw_body_is_the_only_input(http: Http) -> None:
    response = http.request(
        "POST", "/v2/models/identity_uint8/infer", content=b"abc", headers={HEADER: "0"}
    )
    assert response.status_code == 200
    assert response.content.endswith(b"abc")


def test_a_raw_body_for_a_model_of_two_inputs_is_refused(http: Http) -> None:
    response = http.request("POST", "/v2/models/simple/infer", content=b"abc", headers={HEADER: "0"})
    assert response.status_code == 400
    assert "one input" in response.json()["error"]


def test_the_id_comes_back_and_unknown_parameters_are_taken(infer: Callable[..., Any]) -> None:
    response = infer(simple(id="abc", parameters={"x": 3, "y": "s", "z": True, "f": 1.5}))
    assert response.id == "abc"


def test_a_reserved_parameter_is_refused(infer: Callable[..., Any]) -> None:
    assert refused(infer, simple(parameters={"triton_x": 1})).code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("priority", [0, 1, 7, 2**32])
def test_priority_and_timeout_are_taken(infer: Callable[..., Any], priority: int) -> None:
    infer(simple(parameters={"priority": priority, "timeout": 30_000_000}))


def test_rows_of_a_batch_come_back_in_their_order(infer: Callable[..., Any]) -> None:
    x = A + np.arange(4, dtype=np.int32)[:, None] * 100
    response = infer(simple(x, np.tile(B, (4, 1))))
    assert (array_of(response, "OUTPUT0", np.int32) == x + 1).all()


def test_classes_are_told_as_text(infer: Callable[..., Any]) -> None:
    response = infer(simple(outputs=(RequestedOutput("OUTPUT0", classes=2),)))
    (output,) = response.outputs
    assert (output.datatype, output.shape) == ("BYTES", (1, 2))
    assert b"16:15" in bytes(output.data)


def test_sixty_four_requests_at_once_each_get_their_own_answer(rpc: Rpc) -> None:
    from pipeline.kserve import grpc_request, grpc_response

    call = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    futures = [
        call.future(b"".join(grpc_request.encode(simple(A + number, id=str(number)))), timeout=200) for number in range(64)
    ]
    for number, future in enumerate(futures):
        response = grpc_response.decode(future.result())
        assert response.id == str(number)
        assert (array_of(response, "OUTPUT0", np.int32) == A + B + number).all()


VALUES = {
    "fp32": np.linspace(0, 1, 5, dtype=np.float32),
    "fp16": np.linspace(0, 1, 5, dtype=np.float16),
    "bf16": np.array([1, 2.5, -3, 0.125], ml_dtypes.bfloat16),
    "uint8": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "int64": np.arange(5, dtype=np.int64) << 40,
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_datatype_keeps_its_values(infer: Callable[..., Any], kind: str) -> None:
    value = VALUES[kind]
    request = InferRequest(f"identity_{kind}", "", (tensor("INPUT0", value),), binary_output=True)
    assert (array_of(infer(request), "OUTPUT0", value.dtype) == value).all()


def test_elements_of_bytes_keep_their_nuls(infer: Callable[..., Any]) -> None:
    value = np.array([b"", b"a\0b", "ä€".encode(), b"x" * 5000], object)
    sent = tensor("INPUT0", value)
    (output,) = infer(InferRequest("identity_string", "", (sent,), binary_output=True)).outputs
    assert (bytes(output.data), output.shape) == (bytes(sent.data or b""), (4,))


def test_an_empty_tensor_is_answered(infer: Callable[..., Any]) -> None:
    request = InferRequest("identity_fp32", "", (tensor("INPUT0", np.zeros(0, np.float32)),), binary_output=True)
    assert array_of(infer(request), "OUTPUT0", np.float32).shape == (0,)


def test_a_tensor_of_64_mib_is_answered(infer: Callable[..., Any]) -> None:
    value = np.arange(16 << 20, dtype=np.float32)
    request = InferRequest("identity_fp32", "", (tensor("INPUT0", value),), binary_output=True)
    assert (array_of(infer(request), "OUTPUT0", np.float32) == value).all()


# -- refusals -------------------------------------------------------------------------------------


def wrong_dtype() -> InferRequest:
    return simple(A.astype(np.float32), B.astype(np.float32))


@pytest.mark.parametrize(
    ("request_of", "code", "message"),
    [
        (lambda: InferRequest("nope", "", simple().inputs), "NOT_FOUND", "unknown model: 'nope'"),
        (lambda: simple(version="7"), "NOT_FOUND", "version 7"),
        (lambda: simple(inputs=simple().inputs[:1]), "INVALID_ARGUMENT", r"missing required input\(s\) \['INPUT1'\]"),
        (lambda: simple(A[:, :8], B[:, :8]), "INVALID_ARGUMENT", "unexpected shape for input 'INPUT0'"),
        (wrong_dtype, "INVALID_ARGUMENT", "data-type is 'FP32'"),
        (lambda: simple(outputs=(RequestedOutput("ZZ"),)), "INVALID_ARGUMENT", "unexpected inference output 'ZZ'"),
        (lambda: simple(np.tile(A, (9, 1)), np.tile(B, (9, 1))), "INVALID_ARGUMENT", "batch-size must be <= 8"),
    ],
    ids=["model", "version", "missing input", "shape", "dtype", "output", "batch"],
)
def test_what_does_not_fit_is_refused(
    infer: Callable[..., Any], request_of: Callable[[], InferRequest], code: str, message: str
) -> None:
    error = refused(infer, request_of())
    assert error.code == code
    with pytest.raises(KserveError, match=message):
        raise error


def test_fp16_as_json_is_refused(http: Http) -> None:
    document = {"inputs": [{"name": "INPUT0", "datatype": "FP16", "shape": [1], "data": [0.5]}]}
    error = refused(http.post, "/v2/models/identity_fp16/infer", document)
    assert (error.code, "FP16" in str(error)) == ("INVALID_ARGUMENT", True)


def test_a_decoupled_model_is_asked_over_a_stream_only(infer: Callable[..., Any]) -> None:
    assert refused(infer, repeat([4])).code == "UNIMPLEMENTED"


# -- streams --------------------------------------------------------------------------------------


def repeat(values: list[int], delay_ms: int = 1, **fields: Any) -> InferRequest:
    inputs = (
        tensor("IN", np.array(values, np.int32)),
        tensor("DELAY", np.full(len(values), delay_ms, np.uint32)),
        tensor("WAIT", np.zeros(1, np.uint32)),
    )
    return InferRequest("repeat_int32", "", inputs, **fields)


def test_parts_come_one_by_one_and_an_empty_last_one_if_it_is_asked_for(rpc: Rpc) -> None:
    call = rpc.stream([repeat([4, 2, 0], id="7", parameters={EMPTY_FINAL: True})])
    got = [decode_stream(frame)[0] for frame in call]
    assert [[output.name for output in part.outputs] for part in got] == [["OUT", "IDX"]] * 3 + [[]]
    assert [int(array_of(part, "OUT", np.int32)[0]) for part in got[:3]] == [4, 2, 0]
    assert [part.parameters[FINAL] for part in got] == [False, False, False, True]
    assert {part.id for part in got} == {"7"}


def test_an_error_is_a_response_and_the_stream_goes_on(rpc: Rpc) -> None:
    requests = [simple(id="1"), InferRequest("nope", "", simple().inputs, id="2"), simple(A + 1, id="3")]
    got = [decode_stream(frame) for frame in rpc.stream(requests)]
    assert [part.id for part, _ in got] == ["1", "2", "3"]
    assert [bool(error) for _, error in got] == [False, True, False]
    assert "unknown model" in got[1][1]
    assert (array_of(got[2][0], "OUTPUT0", np.int32) == A + B + 1).all()
    assert all(part.parameters[FINAL] for part, _ in got)


def test_with_triton_grpc_error_an_error_ends_the_stream(rpc: Rpc) -> None:
    import grpc

    call = rpc.stream([InferRequest("nope", "", simple().inputs)], [("triton_grpc_error", "true")])
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_stream_that_is_cancelled_stops_its_work(http: Http, rpc: Rpc) -> None:
    asked: queue.Queue[InferRequest | None] = queue.Queue()
    asked.put(repeat([1] * 64, 2500))
    call = rpc.stream(iter(asked.get, None))
    assert decode_stream(next(iter(call)))[1] == ""
    call.cancel()
    asked.put(None)
    # The model's only worker would be busy with the first for longer than a test may take.
    (first, *_) = rpc.stream([repeat([5])])
    assert int(array_of(decode_stream(first)[0], "OUT", np.int32)[0]) == 5


# -- cancelling and time --------------------------------------------------------------------------


def test_a_cancelled_call_is_cancelled_and_the_next_one_is_answered(rpc: Rpc) -> None:
    import grpc

    from pipeline.kserve import grpc_request

    infer = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    # On a busy machine the answer may come before the next line is run.
    while not (future := infer.future(b"".join(grpc_request.encode(simple())))).cancel():
        future.result()
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    rpc.infer(simple())


def test_a_deadline_that_is_over_is_told(rpc: Rpc) -> None:
    with pytest.raises(KserveError) as error:
        rpc.infer(simple(), timeout=0.00001)
    assert error.value.code == "DEADLINE_EXCEEDED"


def test_metrics_are_those_of_every_pipeline(gateway: Gateway) -> None:
    import httpx

    with httpx.Client() as client:
        text = client.get(gateway.metrics).text
    assert 'trtlab_ready{pipeline="simple"} 1.0' in text
    assert text.count("# TYPE trtlab_ready gauge") == 1
