"""The gateway's doors: what is closed, who may come in, how much it takes, and that a slow caller costs only itself."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import yaml

import pipeline
from pipeline.errors import KserveError, Unavailable
from pipeline.kserve import http_request
from pipeline.kserve.http_body import HEADER
from pipeline.kserve.messages import INFERENCE, methods
from pipeline.kserve.values import InferRequest
from pipeline.serving.endpoints import ENDPOINTS, Endpoint
from pipeline.testing import running
from tests.conftest import Finished
from tests.integration.conftest import Folder
from tests.integration.gateways import MODELS, Gateway, Http, Rpc, array_of, serving, tensor

TOKEN = "a-token"
IN_PATHS = {"{model}": "sample", "{version}": "1", "{region}": "r", "{asset}": "main.js"}


def echo_request(data: bytes = b"abc", **fields: Any) -> InferRequest:
    return InferRequest("sample", "", (tensor("data", np.frombuffer(data, np.uint8)),), binary_output=True, **fields)


def path_of(endpoint: Endpoint) -> str:
    path = endpoint.paths[0]
    for name, value in IN_PATHS.items():
        path = path.replace(name, value)
    return path


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """As it is by default, but with a token and a small limit."""
    folder = Folder(tmp_path_factory.mktemp("closed"))
    (folder.path / "token").write_text(f"{TOKEN}\n")
    serve = {"token_file": "token", "max_body": 70_000, "hosts": ["models.test"]}
    with serving(folder.config({}, serve=serve), errors=folder.path / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def rpc(closed: Gateway) -> Iterator[Rpc]:
    with closing(Rpc(closed)) as rpc:
        yield rpc


@pytest.fixture
def known(closed: Gateway) -> Http:
    """A caller that has the token."""
    return Http(closed, {"authorization": f"Bearer {TOKEN}"})


HTTP = [row for row in ENDPOINTS if row.http and row.port == "http"]


@pytest.mark.parametrize("endpoint", HTTP, ids=lambda row: row.name)
def test_over_http_the_table_says_what_needs_the_token(closed: Gateway, known: Http, endpoint: Endpoint) -> None:
    for method in endpoint.http:
        assert (Http(closed).request(method, path_of(endpoint)).status_code == 401) == endpoint.token
        assert Http(closed, {"authorization": "Bearer other"}).request(method, path_of(endpoint)).status_code in (
            (401,) if endpoint.token else (200,)
        )
        # 403: what is closed stays so.
        assert (known.status_of(method, path_of(endpoint)) == 403) == bool(endpoint.opened_by)


@pytest.mark.parametrize(
    "endpoint", [row for row in ENDPOINTS if row.grpc and row.name not in ("stream", "watch")], ids=lambda row: row.name
)
def test_over_grpc_the_table_says_what_needs_the_token(rpc: Rpc, endpoint: Endpoint) -> None:
    def code_with(*metadata: tuple[str, str]) -> str:
        rpc.metadata = metadata
        try:
            rpc.raw(endpoint.grpc, b"")
        except KserveError as error:
            return error.code
        finally:
            rpc.metadata = ()
        return "OK"

    assert (code_with() == "UNAUTHENTICATED") == endpoint.token
    assert (code_with(("authorization", f"Bearer {TOKEN}")) == "PERMISSION_DENIED") == bool(endpoint.opened_by)


def test_a_stream_needs_the_token_too(rpc: Rpc) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(rpc.stream([echo_request()]))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert len(list(rpc.stream([echo_request()], [("authorization", f"Bearer {TOKEN}")]))) == 1


def test_metrics_need_the_token(closed: Gateway) -> None:
    with httpx.Client() as client:
        assert client.get(closed.metrics).status_code == 401
        assert client.get(closed.metrics, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        # Nothing else is on that port, and metrics are not on the other one.
        assert client.get(closed.metrics.replace("/metrics", "/v2/health/live")).status_code == 404
        assert client.get(closed.url + "/metrics").status_code == 404


def test_a_page_from_elsewhere_cannot_call(known: Http) -> None:
    assert known.request("GET", "/v2", headers={"host": "evil.test"}).status_code == 403
    assert known.request("POST", "/v2/repository/index", headers={"origin": "http://evil.test"}).status_code == 403
    assert known.request("GET", "/v2/health/live", headers={"host": "evil.test"}).status_code == 403
    assert known.request("GET", "/v2", headers={"host": "models.test:80"}).status_code == 200


def test_a_request_above_the_limit_is_refused_over_both_fronts(known: Http, rpc: Rpc) -> None:
    for refused in (
        known.request("POST", "/v2/models/sample/infer", content=bytes(70_001)),
        # Without a length, as chunks.
        known.request("POST", "/v2/models/sample/infer", content=iter([bytes(40_000)] * 2)),
    ):
        assert refused.status_code == 413
        assert "70000" in refused.json()["error"]
    rpc.metadata = (("authorization", f"Bearer {TOKEN}"),)
    try:
        with pytest.raises(KserveError) as error:
            rpc.raw("ModelInfer", bytes(70_001))
        assert error.value.code == "RESOURCE_EXHAUSTED"
    finally:
        rpc.metadata = ()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"inputs": 3}', b"[" * 60_000])
def test_what_is_no_request_is_refused_with_a_reason(known: Http, body: bytes) -> None:
    response = known.request("POST", "/v2/models/sample/infer", content=body)
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "9" * 5000])
def test_a_wrong_length_of_the_json_is_refused(known: Http, length: str) -> None:
    response = known.request("POST", "/v2/models/sample/infer", content=b"{}", headers={HEADER: length})
    assert response.status_code == 400


@pytest.mark.parametrize("frame", [b"\xff", b"\x0a\xff", b"\x0b", bytes(100)])
def test_what_is_no_message_is_refused(rpc: Rpc, frame: bytes) -> None:
    rpc.metadata = (("authorization", f"Bearer {TOKEN}"),)
    try:
        for method in ("ModelInfer", "ModelStatistics", "RepositoryIndex"):
            with pytest.raises(KserveError) as refused:
                rpc.raw(method, frame)
            assert refused.value.code == "INVALID_ARGUMENT"
    finally:
        rpc.metadata = ()


def test_the_caller_gets_its_traceparent_back(known: Http) -> None:
    body = http_request.encode(echo_request(id="abc"))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = known.request(
        "POST", "/v2/models/sample/infer", content=b"".join(body.parts),
        headers={HEADER: str(body.json_length), "traceparent": trace},
    )  # fmt: skip
    assert response.headers["traceparent"] == trace


def test_headers_have_a_limit(closed: Gateway) -> None:
    # The connection may be closed before all of it was sent.
    with suppress(httpx.TransportError):
        assert Http(closed).request("GET", "/v2/health/live", headers={"x": "y" * 1_000_000}).status_code == 400


def test_a_caller_that_sends_no_more_holds_up_no_other(closed: Gateway, known: Http) -> None:
    host, port = closed.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            f"POST /v2/models/sample/infer HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
        assert bytes(known.infer(echo_request()).outputs[0].data or b"") == b"abc"


def test_callers_that_read_nothing_hold_no_slot() -> None:
    value = np.arange(4 << 20, dtype=np.float32)
    request = InferRequest("identity_fp32", "", (tensor("INPUT0", value),), binary_output=True)
    body = http_request.encode(request)
    content = b"".join(body.parts)
    with serving(MODELS / "identity_fp32.yaml") as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        # More than there are slots.
        slow = [socket.create_connection((host, int(port))) for _ in range(6)]
        try:
            for sender in slow:
                sender.sendall(
                    f"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: {host}\r\n{HEADER}: {body.json_length}\r\n"
                    f"Content-Length: {len(content)}\r\n\r\n".encode() + content
                )
                # Its answer begins; the rest of its 16 MiB waits in the gateway.
                assert sender.recv(15) == b"HTTP/1.1 200 OK"
            response = Http(gateway).infer(request)
            assert (array_of(response, "OUTPUT0", np.float32) == value).all()
        finally:
            for sender in slow:
                sender.close()


def test_a_gateway_of_a_pipeline_that_runs_already_neither_loads_nor_unloads_it(folder: Folder) -> None:
    config = folder.config({}, serve={"batched": True, "max_batch_size": 3, "control": True})
    with running(config), serving("sample") as gateway:
        http = Http(gateway)
        # What the pipeline says of its batches reaches a gateway that has not read its config.
        assert http.get("/v2/models/sample/config")["max_batch_size"] == 3
        for call in ("load", "unload"):
            with pytest.raises(KserveError) as refused:
                http.post(f"/v2/repository/models/sample/{call}", {})
            assert refused.value.code == "PERMISSION_DENIED"
        rows = InferRequest("sample", "", (tensor("data", np.arange(6, dtype=np.uint8).reshape(3, 2)),))
        (output,) = http.infer(rows).outputs
        assert (output.shape, bytes(output.data or b"")) == ((3, 2), bytes(range(6)))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """server.pem and server.key, which are a root of their own; the same for `client` and `other`."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client", "other"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
             "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", f"{name}.key", "-out", f"{name}.pem"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    return folder


def test_with_tls_both_fronts_speak_it_and_clients_need_a_certificate_of_the_root(
    folder: Folder, certificates: Path
) -> None:
    tls = {name: str(certificates / file) for name, file in
           (("certificate", "server.pem"), ("key", "server.key"), ("client_ca", "client.pem"))}  # fmt: skip
    with serving(folder.config({}, serve={"tls": tls}), errors=folder.path / "log") as gateway:
        assert gateway.url.startswith("https://")

        def get(name: str | None) -> int:
            context = ssl.create_default_context(cafile=str(certificates / "server.pem"))
            if name is not None:
                context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
            with httpx.Client(verify=context) as client:
                return client.get(f"{gateway.url}/v2/health/ready").status_code

        assert get("client") == 200
        for stranger in (None, "other"):
            with pytest.raises(httpx.HTTPError):
                get(stranger)

        def call(name: str | None) -> bool:
            files = (None, None) if name is None else (certificates / f"{name}.key", certificates / f"{name}.pem")
            pair = [None if file is None else file.read_bytes() for file in files]
            credentials = grpc.ssl_channel_credentials((certificates / "server.pem").read_bytes(), *pair)
            with grpc.secure_channel(gateway.grpc, credentials) as channel:
                row = methods(INFERENCE)["ServerReady"]
                answer = channel.unary_unary(row.path)(b"", timeout=200)
                return bool(row.response.FromString(answer).ready)

        assert call("client")
        for stranger in (None, "other"):
            with pytest.raises(grpc.RpcError):
                call(stranger)

        def ask(url: str, root: str, name: str | None) -> bytes:
            mine = {} if name is None else {"certificate": f"{name}.pem", "key": f"{name}.key"}
            files: Any = {argument: certificates / file for argument, file in {"ca": f"{root}.pem", **mine}.items()}
            with pipeline.RemoteInferenceManager(url, **files, timeout_s=1) as manager:
                runner = manager.infer_runner("sample")
                return bytes(runner.infer(data=np.arange(6, dtype=np.uint8)).get(timeout=200)["data"])

        for url in (gateway.url, f"grpcs://{gateway.grpc}"):
            assert ask(url, "server", "client") == bytes(range(6))
            for root, stranger in (("server", None), ("server", "other"), ("other", "client")):
                with pytest.raises(Unavailable, match="no server of KServe v2 answers"):
                    ask(url, root, stranger)


def test_a_port_that_is_taken_ends_the_start_and_leaves_nothing(
    folder: Folder, cli: Callable[..., Finished]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--http-port", "--grpc-port", "--metrics-port"):
            others = [name for name in ("--http-port", "--grpc-port", "--metrics-port") if name != option]
            done = cli("serve", folder.config({}), option, port, others[0], 0, others[1], 0)
            assert done.code == 3
            assert f"127.0.0.1:{port} cannot be had" in done.err


def test_a_pipeline_that_does_not_run_is_told(cli: Callable[..., Finished]) -> None:
    done = cli("serve", "not-there", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
    assert done.code == 1
    assert "not-there" in done.err


def test_what_serve_is_told_wrong_is_refused_before_anything_starts(
    folder: Folder, cli: Callable[..., Finished]
) -> None:
    first, second = folder.config({}, name="one", serve={"control": True}), folder.config({}, name="two", serve={"control": False})
    done = cli("serve", first, second)
    assert (done.code, "serve.control" in done.err) == (2, True)
    done = cli("serve", folder.config({}, serve={"token_file": "nowhere"}))
    assert (done.code, "expected a file with a token" in done.err) == (2, True)
    done = cli("serve", "some-name", "--set", "drain_s=1")
    assert (done.code, "--set" in done.err) == (2, True)
    copy = folder.path / "copy.yaml"
    copy.write_text(yaml.safe_dump({"name": "one", **yaml.safe_load(first.read_text())}))
    done = cli("serve", first, copy)
    assert (done.code, "named twice" in done.err) == (2, True)


def test_a_batch_axis_that_cannot_be_is_refused_by_check(folder: Folder, cli: Callable[..., Finished]) -> None:
    done = cli("check", folder.config({}, serve={"max_batch_size": 4}))
    assert (done.code, "serve.max_batch_size" in done.err + done.out) == (2, True)
    config = yaml.safe_load((MODELS / "repeat_int32.yaml").read_text())
    config["serve"] = {"batched": True}
    shutil.copy(MODELS / "model_stages.py", folder.path)
    path = folder.path / "repeat.yaml"
    path.write_text(yaml.safe_dump(config))
    done = cli("check", path)
    assert (done.code, "come in parts" in done.err + done.out) == (2, True)
