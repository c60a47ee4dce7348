"""The protocol as a table of cases, each a question that any server of KServe v2 with the models of kserve_models answers.

    Case(name, question)     question(asker) -> Answer(status, text, value)

`status` is that of HTTP, such as "400", or the code of gRPC, such as "NOT_FOUND"; `text` is the error's; `value` is what
was answered, as far as it has to be the same of every server.
"""

from __future__ import annotations

import gzip
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import ml_dtypes
import numpy as np

from pipeline.kserve import http_request
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.parameters import EMPTY_FINAL
from pipeline.kserve.values import InferRequest, Region, RequestedOutput
from tests.foreign.asker import Answer, Asker
from tests.integration.gateways import A, B, simple, tensor

REGION = "/dev/shm/conf_versus"


class Case(NamedTuple):
    name: str
    question: Callable[[Asker], Answer]


def both(name: str, make: Callable[[], InferRequest]) -> list[Case]:
    """A request, over each front."""
    return [
        Case(f"{name}, HTTP", lambda asker: asker.infer_http(make())),
        Case(f"{name}, gRPC", lambda asker: asker.infer_grpc(make())),
    ]


def posted(name: str, path: str, document: Any = None, value: Callable[[Any], Any] = lambda document: None) -> Case:
    return Case(name, lambda asker: asker.post(path, document, value))


def got(name: str, path: str, value: Callable[[Any], Any] = lambda document: None) -> Case:
    return Case(name, lambda asker: asker.get(path, value))


def called(name: str, method: str, value: Callable[[Any], Any] = lambda message: None, /, **fields: Any) -> Case:
    return Case(name, lambda asker: asker.call(method, value, **fields))


# -- the server and its models ------------------------------------------------------------------------


def of_metadata(document: Any) -> Any:
    return {key: document[key] for key in ("name", "versions", "inputs", "outputs")}


def of_statistics(document: Any) -> Any:
    (entry,) = document["model_stats"]
    return sorted(entry), sorted(entry["inference_stats"])


SERVER = [
    got("live", "/v2/health/live"),
    got("ready", "/v2/health/ready"),
    got("a model is ready", "/v2/models/simple/ready"),
    got("an unknown model is not ready", "/v2/models/nope/ready"),
    called("ServerLive", "ServerLive", lambda message: message.live),
    called("ServerReady", "ServerReady", lambda message: message.ready),
    called("ModelReady", "ModelReady", lambda message: message.ready, name="simple"),
    called("ModelReady of an unknown model", "ModelReady", lambda message: message.ready, name="nope"),
    got("metadata", "/v2/models/simple", of_metadata),
    got("metadata of a version", "/v2/models/simple/versions/1", of_metadata),
    got("metadata of an unknown model", "/v2/models/nope"),
    called("ModelMetadata of an unknown model", "ModelMetadata", name="nope"),
    got("metadata of a decoupled model", "/v2/models/repeat_int32", of_metadata),
    got("platform", "/v2/models/simple", lambda document: document["platform"]),
    got(
        "config",
        "/v2/models/simple/config",
        lambda document: (document["max_batch_size"], [entry["dims"] for entry in document["input"]]),
    ),
    called("ModelConfig", "ModelConfig", lambda message: message.config.max_batch_size, name="simple"),
    got("statistics", "/v2/models/simple/stats", of_statistics),
    got("statistics of an unknown model", "/v2/models/nope/stats"),
    called("ModelStatistics of an unknown model", "ModelStatistics", name="nope"),
    Case("another method", lambda asker: asker.get("/v2/models/simple/infer")),
    Case("an unknown path", lambda asker: asker.get("/v2/nothing/here")),
    called("Check", "Check", lambda message: message.status),
    called("Check of an unknown service", "Check", lambda message: message.status, service="nope"),
]

# -- inference ----------------------------------------------------------------------------------------

VALUES = {
    "fp32": np.linspace(0, 1, 5, dtype=np.float32),
    "fp16": np.linspace(0, 1, 5, dtype=np.float16),
    "bf16": np.array([1, 2.5, -3, 0.125], ml_dtypes.bfloat16),
    "uint8": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "int64": np.arange(5, dtype=np.int64) << 40,
    "string": np.array([b"", b"a\0b", "ä€".encode(), b"x" * 5000], object),
}


def identity(kind: str, value: Any) -> InferRequest:
    return InferRequest(f"identity_{kind}", "", (tensor("INPUT0", value),), binary_output=True)


def as_json(outputs: Any = None, **more: Any) -> dict[str, Any]:
    document = {
        "inputs": [
            {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": A.tolist()},
            {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": B.ravel().tolist()},
        ],
        **more,
    }
    return document if outputs is None else {**document, "outputs": outputs}


def of_fp(datatype: str, data: list[Any], shape: list[int]) -> dict[str, Any]:
    return {"inputs": [{"name": "INPUT0", "datatype": datatype, "shape": shape, "data": data}]}


def binary_beside_named_outputs(asker: Asker) -> Answer:
    document = as_json([{"name": "OUTPUT0"}], parameters={"binary_data_output": True})
    response = asker.http.request("POST", "/v2/models/simple/infer", json=document)
    return Answer(str(response.status_code), "", HEADER.lower() in response.headers)


def compressed(coding: str, bomb: bool = False) -> Callable[[Asker], Answer]:
    def question(asker: Asker) -> Answer:
        body = http_request.encode(simple())
        content = gzip.compress(bytes(200 << 20) if bomb else b"".join(body.parts))
        headers = {"content-encoding": coding} if bomb else {HEADER: str(body.json_length), "content-encoding": coding}
        return asker.send("/v2/models/simple/infer", content, headers)

    return question


def cut(asker: Asker) -> Answer:
    """Too few bytes for the inputs."""
    body = http_request.encode(simple())
    content = b"".join(body.parts)[:-4]
    return asker.send("/v2/models/simple/infer", content, {HEADER: str(body.json_length)})


def header_beyond(asker: Asker) -> Answer:
    return asker.send("/v2/models/simple/infer", b"{}", {HEADER: "100"})


def mixed(asker: Asker) -> Answer:
    """Contents beside raw bytes."""
    from pipeline.kserve.messages import INFERENCE, methods

    request = methods(INFERENCE)["ModelInfer"].request(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        entry = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        entry.contents.int_contents.extend(range(16))
    request.raw_input_contents.append(A.tobytes())
    return asker.raw_grpc(request.SerializeToString())


INFERENCE = [
    *both("inference", simple),
    *both("one of the outputs", lambda: simple(outputs=(RequestedOutput("OUTPUT1"),))),
    *itertools.chain.from_iterable(
        both(f"values of {kind}", lambda kind=kind, value=value: identity(kind, value)) for kind, value in VALUES.items()
    ),
    *both("an empty tensor", lambda: identity("fp32", np.zeros(0, np.float32))),
    *both("rows", lambda: simple(np.tile(A, (4, 1)), np.tile(B, (4, 1)))),
    *both("an id and unknown parameters", lambda: simple(id="abc", parameters={"x": 3, "y": "s", "z": True, "f": 1.5})),
    *both("priority and timeout", lambda: simple(parameters={"priority": 1, "timeout": 30_000_000})),
    *both("a sequence's id", lambda: simple(parameters={"sequence_id": 7, "sequence_start": True})),
    *both("classes", lambda: simple(outputs=(RequestedOutput("OUTPUT0", classes=2),))),
    posted("JSON in, JSON out", "/v2/models/simple/infer", as_json([{"name": "OUTPUT0"}]), lambda found: found["outputs"]),
    Case("binary_data_output beside named outputs", binary_beside_named_outputs),
    Case("gzip", compressed("gzip")),
    Case("an unknown coding", compressed("br")),
    Case("a bomb", compressed("gzip", bomb=True)),
    Case("a raw body", lambda asker: asker.send("/v2/models/identity_uint8/infer", b"abc", {HEADER: "0"})),
    Case("a raw body for two inputs", lambda asker: asker.send("/v2/models/simple/infer", b"abc", {HEADER: "0"})),
    Case("too few bytes", cut),
    Case("a header beyond the body", header_beyond),
    Case("no JSON", lambda asker: asker.send("/v2/models/simple/infer", b"{nothing")),
    posted("JSON that does not match its shape", "/v2/models/identity_fp32/infer", of_fp("FP32", [1.0], [2])),
    posted("FP16 as JSON", "/v2/models/identity_fp16/infer", of_fp("FP16", [0.5], [1])),
    posted("NaN as a string", "/v2/models/identity_fp32/infer", of_fp("FP32", ["NaN"], [1])),
    *both("a reserved parameter", lambda: simple(parameters={"triton_x": 1})),
    *both("an unknown model", lambda: InferRequest("nope", "", simple().inputs)),
    *both("an unknown version", lambda: simple(version="7")),
    *both("a missing input", lambda: simple(inputs=simple().inputs[:1])),
    *both("another shape", lambda: simple(A[:, :8], B[:, :8])),
    *both("another datatype", lambda: simple(A.astype(np.float32), B.astype(np.float32))),
    *both("an unknown output", lambda: simple(outputs=(RequestedOutput("ZZ"),))),
    *both("too many rows", lambda: simple(np.tile(A, (9, 1)), np.tile(B, (9, 1)))),
    *both("a decoupled model alone", lambda: repeat([4])),
    Case("contents beside raw bytes", mixed),
    Case("a frame that is none", lambda asker: asker.raw_grpc(b"\xff\xff\xff")),
    Case("a call that is none", lambda asker: unknown_method(asker)),
]


def unknown_method(asker: Asker) -> Answer:
    try:
        asker.rpc.channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=200)
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details() or "")
    return Answer("OK")


# -- streams ------------------------------------------------------------------------------------------


def repeat(numbers: list[int], **fields: Any) -> InferRequest:
    inputs = (
        tensor("IN", np.array(numbers, np.int32)),
        tensor("DELAY", np.ones(len(numbers), np.uint32)),
        tensor("WAIT", np.zeros(1, np.uint32)),
    )
    return InferRequest("repeat_int32", "", inputs, **fields)


STREAMS = [
    Case("parts", lambda asker: asker.stream(repeat([4, 2, 0], id="7"))),
    Case("parts and an empty last one", lambda asker: asker.stream(repeat([4, 2], id="7", parameters={EMPTY_FINAL: True}))),
    Case("unary requests over a stream", lambda asker: asker.stream(simple(id="1"), simple(A + 1, id="2"))),
    Case(
        "an error within a stream",
        lambda asker: asker.stream(simple(id="1"), InferRequest("nope", "", simple().inputs, id="2"), simple(id="3")),
    ),
]

# -- shared memory ------------------------------------------------------------------------------------


def with_region(question: Callable[[Asker], Answer]) -> Callable[[Asker], Answer]:
    """With A and B in a region, which is registered as `in`."""

    def asked(asker: Asker) -> Answer:
        path = Path(REGION)
        path.write_bytes(A.tobytes() + B.tobytes() + bytes(2 * A.nbytes))
        try:
            asker.call("SystemSharedMemoryUnregister", name="")
            asker.call("SystemSharedMemoryRegister", name="in", key="/conf_versus", offset=0, byte_size=4 * A.nbytes)
            return question(asker)
        finally:
            asker.call("SystemSharedMemoryUnregister", name="")
            path.unlink()

    return asked


def in_region(name: str = "in", at: int = 0) -> InferRequest:
    places = (Region(name, at, A.nbytes), Region("in", A.nbytes, A.nbytes))
    inputs = tuple(type(each)(each.name, each.datatype, each.shape, region=place) for each, place in zip(simple().inputs, places))
    return simple(inputs=inputs, outputs=(RequestedOutput("OUTPUT0", region=Region("in", 2 * A.nbytes, A.nbytes)),))


def written(infer: Callable[[Asker, InferRequest], Answer]) -> Callable[[Asker], Answer]:
    def question(asker: Asker) -> Answer:
        answer = infer(asker, in_region())
        return Answer(answer.status, answer.text, Path(REGION).read_bytes()[2 * A.nbytes : 3 * A.nbytes])

    return with_region(question)


def registered(name: str, key: str, nbytes: int) -> list[Case]:
    path = f"/v2/systemsharedmemory/region/{name}/register"
    document = {"key": key, "offset": 0, "byte_size": nbytes}
    fields = {"name": name, "key": key, "offset": 0, "byte_size": nbytes}
    label = f"registering {name}"
    return [
        Case(f"{label}, HTTP", with_region(lambda asker: asker.post(path, document))),
        Case(f"{label}, gRPC", with_region(lambda asker: asker.call("SystemSharedMemoryRegister", **fields))),
    ]


REGIONS = [
    Case("tensors in a region, HTTP", written(lambda asker, request: asker.infer_http(request))),
    Case("tensors in a region, gRPC", written(lambda asker, request: asker.infer_grpc(request))),
    *registered("in", "/conf_versus", 4),
    *registered("larger", "/conf_versus", 1 << 30),
    *registered("nothing", "/conf_none", 10),
    Case("beyond the region, HTTP", with_region(lambda asker: asker.infer_http(in_region(at=4 * A.nbytes - 4)))),
    Case("beyond the region, gRPC", with_region(lambda asker: asker.infer_grpc(in_region(at=4 * A.nbytes - 4)))),
    Case("an unknown region, HTTP", with_region(lambda asker: asker.infer_http(in_region("gone")))),
    Case("an unknown region, gRPC", with_region(lambda asker: asker.infer_grpc(in_region("gone")))),
    Case(
        "status of all regions",
        with_region(lambda asker: asker.get("/v2/systemsharedmemory/status", lambda found: [each["name"] for each in found])),
    ),
    got("status of an unknown region", "/v2/systemsharedmemory/region/gone/status"),
    posted("unregistering an unknown region", "/v2/systemsharedmemory/region/gone/unregister"),
    got("status of regions of CUDA", "/v2/cudasharedmemory/status", lambda found: found),
    posted("unregistering regions of CUDA", "/v2/cudasharedmemory/unregister"),
    called("registering a region of CUDA", "CudaSharedMemoryRegister", name="x", raw_handle=b"x" * 64, byte_size=4),
]

# -- the repository, settings -------------------------------------------------------------------------


def of_index(found: Any) -> Any:
    return {entry["name"]: (entry["version"], entry["state"]) for entry in found}


REPOSITORY = [
    posted("the index", "/v2/repository/index", {"ready": True}, of_index),
    posted("unloading", "/v2/repository/models/identity_bool/unload", {}),
    *both("an unloaded model", lambda: identity("bool", VALUES["bool"])),
    posted("loading", "/v2/repository/models/identity_bool/load", {}),
    *both("a model that is loaded again", lambda: identity("bool", VALUES["bool"])),
    posted("loading an unknown model", "/v2/repository/models/nope/load", {}),
    called("RepositoryModelLoad of an unknown model", "RepositoryModelLoad", model_name="nope"),
    posted("unloading an unknown model", "/v2/repository/models/nope/unload", {}),
    posted(
        "loading with a config",
        "/v2/repository/models/identity_bool/load",
        {"parameters": {"config": '{"backend": "python", "max_batch_size": 0}'}},
    ),
    got("trace settings", "/v2/trace/setting", lambda found: {key: found[key] for key in ("trace_level", "trace_rate")}),
    posted("setting a trace level", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]}),
    posted("ending the trace", "/v2/trace/setting", {"trace_level": ["OFF"]}),
    got("log settings", "/v2/logging", lambda found: found),
    posted("setting a log level", "/v2/logging", {"log_verbose_level": 0}, lambda found: found),
    posted("a log level that is none", "/v2/logging", {"log_verbose_level": "x"}),
    posted("generate", "/v2/models/simple/generate", {"x": 1}),
]

# -- too many, too late -------------------------------------------------------------------------------


def slow(model: str, axis: bool, **parameters: Any) -> InferRequest:
    value = np.arange(4, dtype=np.uint8)
    return InferRequest(model, "", (tensor("INPUT0", value[None] if axis else value),), parameters=parameters)


def crowd(
    infer: Callable[[Asker, InferRequest], Answer], count: int, model: str, **parameters: Any
) -> Callable[[Asker], Answer]:
    """So many at once, each of which takes a second: how those that were refused were refused."""

    def question(asker: Asker) -> Answer:
        # Models of Triton that have a queue have an axis of the batch.
        shape = asker.rpc.call("ModelMetadata", name=model).inputs[0].shape
        answers: list[Answer] = []
        request = slow(model, axis=len(shape) == 2, **parameters)
        threads = [threading.Thread(target=lambda: answers.append(infer(asker, request))) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (status,) = {answer.status for answer in answers} - {"200", "OK"}
        return next(answer for answer in answers if answer.status == status)

    return question


CROWDS = [
    Case("a full queue, HTTP", crowd(lambda asker, request: asker.infer_http(request), 8, "slow")),
    Case("a full queue, gRPC", crowd(lambda asker, request: asker.infer_grpc(request), 8, "slow")),
    Case("a timeout, HTTP", crowd(lambda asker, request: asker.infer_http(request), 2, "late", timeout=1000)),
    Case("a timeout, gRPC", crowd(lambda asker, request: asker.infer_grpc(request), 2, "late", timeout=1000)),
]

CASES = [*SERVER, *INFERENCE, *STREAMS, *REGIONS, *REPOSITORY, *CROWDS]
