"""Run in build/tritonclient, in a process of its own: NVIDIA's client asks a server, and prints a line for each case.

    python client_cases.py HTTP GRPC PART...     "ok NAME", or "failed NAME: WHY"; exit code 1 if one failed

The server has the models of tests/integration/kserve_models, and `large` of tests/foreign.
"""

import asyncio
import os
import queue
import sys
import threading
import traceback

import ml_dtypes
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

HTTP, GRPC, *PARTS = sys.argv[1:]
MODULES = {"http": (over_http, HTTP), "grpc": (over_grpc, GRPC)}
A = np.arange(16, dtype=np.int32)[None]
B = np.ones((1, 16), np.int32)
CASES = []


def case(part):
    def add(function):
        CASES.append((part, function.__name__, function))
        return function

    return add


def client_of(front, concurrency=64):
    module, where = MODULES[front]
    options = {"concurrency": concurrency, "network_timeout": 120, "connection_timeout": 120} if front == "http" else {}
    return module.InferenceServerClient(where, **options)


def inputs_of(module, x=A, y=B, datatype="INT32"):
    inputs = [module.InferInput(name, list(value.shape), datatype) for name, value in (("INPUT0", x), ("INPUT1", y))]
    for each, value in zip(inputs, (x, y)):
        each.set_data_from_numpy(value)
    return inputs


def input_of(module, value, datatype):
    each = module.InferInput("INPUT0", list(value.shape), datatype)
    each.set_data_from_numpy(value)
    return [each]


def check(result, x=A, y=B):
    assert (result.as_numpy("OUTPUT0") == x + y).all(), result.as_numpy("OUTPUT0")
    assert (result.as_numpy("OUTPUT1") == x - y).all(), result.as_numpy("OUTPUT1")


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return str(error.status()), error.message()
    raise AssertionError("it was not refused")


def over_each_front(function, part=""):
    """A case of either front."""
    for front in MODULES:

        def asked(front=front):
            with client_of(front) as client:
                function(front, MODULES[front][0], client)

        asked.__name__ = f"{function.__name__} over {front}"
        case(part or front)(asked)
    return function


# -- both fronts --------------------------------------------------------------------------------------


@over_each_front
def the_server_and_its_models(front, module, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("nope") is False
    options = {"as_json": True} if front == "grpc" else {}
    server = client.get_server_metadata(**options)
    assert "statistics" in server["extensions"]
    assert "binary_tensor_data" in server["extensions"]
    metadata = client.get_model_metadata("simple", **options)
    assert [list(map(int, entry["shape"])) for entry in metadata["inputs"]] == [[-1, 16]] * 2
    config = client.get_model_config("simple", **options)
    assert (config["config"] if front == "grpc" else config)["max_batch_size"] == 8
    index = client.get_model_repository_index(**options)
    names = {entry["name"] for entry in (index["models"] if front == "grpc" else index)}
    assert {"simple", "identity_fp32", "repeat_int32"} <= names


@over_each_front
def infer(front, module, client):
    check(client.infer("simple", inputs_of(module)))
    only = client.infer("simple", inputs_of(module), outputs=[module.InferRequestedOutput("OUTPUT1")])
    assert only.as_numpy("OUTPUT0") is None
    assert (only.as_numpy("OUTPUT1") == A - B).all()
    x, y = np.tile(A, (4, 1)) + np.arange(4, dtype=np.int32)[:, None], np.tile(B, (4, 1))
    check(client.infer("simple", inputs_of(module, x, y)), x, y)


@over_each_front
def parameters(front, module, client):
    result = client.infer(
        "simple", inputs_of(module), request_id="abc", priority=1, timeout=30_000_000, parameters={"x": 3, "y": "s"}
    )
    check(result)
    response = result.get_response()
    assert (response.id if front == "grpc" else response["id"]) == "abc"


@over_each_front
def compression(front, module, client):
    for coding in ("gzip", "deflate"):
        if front == "http":
            options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
        else:
            options = {"compression_algorithm": coding}
        check(client.infer("simple", inputs_of(module), **options))


@over_each_front
def every_datatype(front, module, client):
    for kind, value, datatype in (
        ("fp32", np.linspace(0, 1, 5, dtype=np.float32), "FP32"),
        ("fp16", np.linspace(0, 1, 5, dtype=np.float16), "FP16"),
        ("bf16", np.array([1, 2.5, -3, 0.125], ml_dtypes.bfloat16), "BF16"),
        ("uint8", np.arange(5, dtype=np.uint8), "UINT8"),
        ("bool", np.array([True, False, True]), "BOOL"),
        ("int64", np.arange(5, dtype=np.int64) << 40, "INT64"),
        ("string", np.array([b"", b"a\x00b", "ä€".encode(), b"x" * 5000], np.object_), "BYTES"),
        ("fp32", np.zeros(0, np.float32), "FP32"),
    ):
        answer = client.infer(f"identity_{kind}", input_of(module, value, datatype)).as_numpy("OUTPUT0")
        assert (answer.dtype, answer.shape) == (value.dtype, value.shape), (kind, answer)
        assert (answer == value).all(), (kind, answer)


@over_each_front
def sixty_four_at_once(front, module, client):
    if front == "http":
        calls = [client.async_infer("simple", inputs_of(module, A + number), request_id=str(number)) for number in range(64)]
        results = [call.get_result() for call in calls]
    else:
        answers = queue.Queue()
        for number in range(64):
            client.async_infer(
                "simple", inputs_of(module, A + number), request_id=str(number),
                callback=lambda result, error: answers.put((result, error)),
            )
        found = [answers.get(timeout=200) for _ in range(64)]
        assert all(error is None for _, error in found), found
        results = sorted((result for result, _ in found), key=lambda result: int(result.get_response().id))
    for number, result in enumerate(results):
        check(result, A + number)


@over_each_front
def errors_have_their_status_and_say_what_is_wrong(front, module, client):
    not_found, invalid = ("404", "400") if front == "http" else ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT")
    for call, status, text in (
        (lambda: client.infer("nope", inputs_of(module)), not_found, "unknown model: 'nope'"),
        (lambda: client.infer("simple", inputs_of(module), model_version="7"), not_found, "version 7"),
        (lambda: client.infer("simple", inputs_of(module)[:1]), invalid, "missing required input(s) ['INPUT1']"),
        (lambda: client.infer("simple", inputs_of(module, A[:, :8], B[:, :8])), invalid, "unexpected shape"),
        (
            lambda: client.infer("simple", inputs_of(module, A.astype(np.float32), B.astype(np.float32), "FP32")),
            invalid,
            "data-type is 'FP32'",
        ),
        (
            lambda: client.infer("simple", inputs_of(module), outputs=[module.InferRequestedOutput("ZZ")]),
            invalid,
            "unexpected inference output 'ZZ'",
        ),
    ):
        found = refusal(call)
        assert found[0] == status, found
        assert text in found[1], found


@over_each_front
def statistics(front, module, client):
    def count():
        found = client.get_inference_statistics("simple", **({"as_json": True} if front == "grpc" else {}))
        return int(found["model_stats"][0]["inference_count"])

    before = count()
    client.infer("simple", inputs_of(module))
    assert count() == before + 1


@over_each_front
def settings(front, module, client):
    options = {"as_json": True} if front == "grpc" else {}
    assert client.get_trace_settings(**options)
    assert client.get_log_settings(**options)
    assert client.update_log_settings({"log_verbose_level": 0}, **options)


@over_each_front
def a_model_is_unloaded_and_loaded(front, module, client):
    client.unload_model("identity_int64")
    assert not client.is_model_ready("identity_int64")
    assert "no available versions" in refusal(
        lambda: client.infer("identity_int64", input_of(module, np.arange(5), "INT64"))
    )[1]
    client.load_model("identity_int64")
    assert (client.infer("identity_int64", input_of(module, np.arange(5), "INT64")).as_numpy("OUTPUT0") == np.arange(5)).all()


# -- shared memory ------------------------------------------------------------------------------------


class Regions:
    """Two, of the system, registered at a server: `in` has A and B."""

    def __init__(self, client, front):
        self.client, self.names = client, (f"in_{front}", f"out_{front}")
        self.handles = [shm.create_shared_memory_region(name, f"/conf_{name}", 2 * A.nbytes) for name in self.names]
        shm.set_shared_memory_region(self.handles[0], [A, B])
        for name in self.names:
            client.register_system_shared_memory(name, f"/conf_{name}", 2 * A.nbytes)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for name, handle in zip(self.names, self.handles):
            self.client.unregister_system_shared_memory(name)
            shm.destroy_shared_memory_region(handle)

    def request(self, module):
        inputs = [module.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
        outputs = [module.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
        for number in range(2):
            inputs[number].set_shared_memory(self.names[0], A.nbytes, number * A.nbytes)
            outputs[number].set_shared_memory(self.names[1], A.nbytes, number * A.nbytes)
        return {"inputs": inputs, "outputs": outputs}

    def answer(self):
        return shm.get_contents_as_numpy(self.handles[1], np.int32, [2, 16])


@over_each_front
def inputs_and_outputs_in_shared_memory(front, module, client):
    with Regions(client, front) as regions:
        result = client.infer("simple", **regions.request(module))
        assert (regions.answer() == np.concatenate((A + B, A - B))).all()
        assert result.get_output("OUTPUT0") is not None
        options = {"as_json": True} if front == "grpc" else {}
        assert regions.names[0] in str(client.get_system_shared_memory_status(**options))
        taken, text = refusal(lambda: client.register_system_shared_memory(regions.names[0], "/conf_x", 4))
        assert taken in ("400", "StatusCode.ALREADY_EXISTS")
        assert "already in manager" in text
        request = regions.request(module)
        request["inputs"][0].set_shared_memory("gone", A.nbytes)
        assert "Unable to find" in refusal(lambda: client.infer("simple", **request))[1]
        request["inputs"][0].set_shared_memory(regions.names[0], A.nbytes, 2 * A.nbytes - 4)
        assert "Invalid offset + byte size" in refusal(lambda: client.infer("simple", **request))[1]


@over_each_front
def a_region_is_unregistered_under_load(front, module, client):
    """Each request is answered rightly, or told that its region is not there; none hangs."""
    ended, wrong = [], []
    # At first every thread is answered; then the region goes.
    together = threading.Barrier(9)

    with Regions(client, front) as regions:

        def ask():
            with client_of(front) as own:
                request = regions.request(module)
                own.infer("simple", **request)
                together.wait(200)
                while True:
                    try:
                        own.infer("simple", **request)
                    except InferenceServerException as error:
                        (ended if "Unable to find" in error.message() else wrong).append(error.message())
                        return

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        together.wait(200)
        client.unregister_system_shared_memory(regions.names[0])
        for thread in threads:
            thread.join(200)
        assert (len(ended), wrong) == (8, [])
        assert (regions.answer() == np.concatenate((A + B, A - B))).all()
        client.register_system_shared_memory(regions.names[0], f"/conf_{regions.names[0]}", 2 * A.nbytes)
        client.infer("simple", **regions.request(module))


# -- what only gRPC has -------------------------------------------------------------------------------


def repeat_inputs(numbers, delay_ms=1):
    inputs = []
    for name, value, datatype in (
        ("IN", np.array(numbers, np.int32), "INT32"),
        ("DELAY", np.full(len(numbers), delay_ms, np.uint32), "UINT32"),
        ("WAIT", np.zeros(1, np.uint32), "UINT32"),
    ):
        each = over_grpc.InferInput(name, list(value.shape), datatype)
        each.set_data_from_numpy(value)
        inputs.append(each)
    return inputs


@case("grpc")
def a_stream_of_a_decoupled_model():
    answers = queue.Queue()
    with client_of("grpc") as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        client.async_stream_infer("repeat_int32", repeat_inputs([4, 2, 0]), request_id="7", enable_empty_final_response=True)
        got = []
        for _ in range(4):
            result, error = answers.get(timeout=200)
            assert error is None, error
            response = result.get_response()
            value = result.as_numpy("OUT")
            got.append((response.id, None if value is None else int(value[0]), response.parameters["triton_final_response"].bool_param))
        assert got == [("7", 4, False), ("7", 2, False), ("7", 0, False), ("7", None, True)], got
        # An error does not end it.
        client.async_stream_infer("nope", repeat_inputs([1]))
        _, error = answers.get(timeout=200)
        assert "unknown model" in str(error)
        client.async_stream_infer("repeat_int32", repeat_inputs([5]))
        result, error = answers.get(timeout=200)
        assert error is None
        assert int(result.as_numpy("OUT")[0]) == 5
        client.stop_stream()


@case("grpc")
def a_stream_that_is_cancelled():
    answers = queue.Queue()
    with client_of("grpc") as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        client.async_stream_infer("repeat_int32", repeat_inputs([1, 2, 3, 4], 500))
        assert answers.get(timeout=200)[1] is None
        client.stop_stream(cancel_requests=True)
        _, error = answers.get(timeout=200)
        assert "ancelled" in str(error), error
        # The client, its channel and the model are as they were.
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        client.async_stream_infer("repeat_int32", repeat_inputs([7]))
        result, error = answers.get(timeout=200)
        assert error is None
        assert int(result.as_numpy("OUT")[0]) == 7
        client.stop_stream()


@case("grpc")
def a_call_that_is_cancelled():
    answers = queue.Queue()
    with client_of("grpc") as client:
        call = client.async_infer(
            "simple", inputs_of(over_grpc), callback=lambda result, error: answers.put((result, error))
        )
        call.cancel()
        result, error = answers.get(timeout=200)
        assert result is not None or "ancelled" in str(error), error
        check(client.infer("simple", inputs_of(over_grpc)))


@case("grpc")
def a_call_with_a_deadline_of_its_own():
    with client_of("grpc") as client:
        status, _ = refusal(lambda: client.infer("simple", inputs_of(over_grpc), client_timeout=0.00001))
        assert status == "StatusCode.DEADLINE_EXCEEDED"


# -- asyncio ------------------------------------------------------------------------------------------


@case("aio")
def infer_over_http_of_asyncio():
    async def ask():
        async with over_http_aio.InferenceServerClient(HTTP) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("simple")
            results = await asyncio.gather(*[client.infer("simple", inputs_of(over_http, A + n)) for n in range(16)])
            for number, result in enumerate(results):
                check(result, A + number)
            (found,) = await asyncio.gather(client.infer("nope", inputs_of(over_http)), return_exceptions=True)
            assert isinstance(found, InferenceServerException), found
            assert found.status() == "404"

    asyncio.run(ask())


@case("aio")
def infer_and_stream_over_grpc_of_asyncio():
    async def requests():
        for numbers in ([1, 2], [3]):
            yield {"model_name": "repeat_int32", "inputs": repeat_inputs(numbers), "request_id": str(numbers[0])}

    async def ask():
        async with over_grpc_aio.InferenceServerClient(GRPC) as client:
            assert await client.is_server_ready()
            results = await asyncio.gather(*[client.infer("simple", inputs_of(over_grpc, A + n)) for n in range(16)])
            for number, result in enumerate(results):
                check(result, A + number)
            found = []
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                found.append((result.get_response().id, int(result.as_numpy("OUT")[0])))
            assert sorted(found) == [("1", 1), ("1", 2), ("3", 3)], found

    asyncio.run(ask())


# -- large --------------------------------------------------------------------------------------------


def a_tensor_of_256_mib(front, module, client):
    value = np.arange(64 << 20, dtype=np.float32)
    answer = client.infer("large", input_of(module, value, "FP32")).as_numpy("OUTPUT0")
    assert answer.shape == value.shape
    assert (answer == value).all()


over_each_front(a_tensor_of_256_mib, "large")


def main():
    failed = 0
    for part, name, function in CASES:
        if part not in PARTS:
            continue
        try:
            function()
            print("ok", name, flush=True)
        except BaseException:
            failed += 1
            print(f"failed {name}: {traceback.format_exc()}", flush=True)
    # Threads of gRPC that a fault has left do not keep the process.
    sys.stdout.flush()
    os._exit(bool(failed))


main()
