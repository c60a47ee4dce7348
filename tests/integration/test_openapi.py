"""The OpenAPI document against a gateway: schemathesis sends what it allows and what it does not, to every call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Folder
from tests.integration.gateways import MODELS, Gateway, Http, serving

# schemathesis sends thousands of requests.
pytestmark = [pytest.mark.foreign, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / "build/schemathesis"
TOKEN = "a-token"

#: Answers that are meant, as Triton gives them (docs/kserve.md); any other 5xx is a fault.
CONFIG = """\
[[operations]]
include-operation-id = ["cuda_register"]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "501"]

[[operations]]
include-tag = ["Inference"]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "501", "504"]

[[operations]]
include-operation-id = ["load"]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "500"]
"""

#: With a length of 0 any body is a tensor's bytes, so no JSON can be wrong; JSON Schema cannot say that. It is sent
#: without the header then.
HOOKS = """\
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    for name in [name for name in case.headers if name.lower() == "inference-header-content-length"]:
        if str(case.headers[name]).strip() == "0":
            del case.headers[name]
"""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """As it is by default, but with a token."""
    folder = Folder(tmp_path_factory.mktemp("closed"))
    (folder.path / "token").write_text(TOKEN)
    config = folder.config({}, serve={"token_file": "token"})
    models = [MODELS / f"{name}.yaml" for name in ("identity_fp32", "identity_string", "identity_bf16")]
    with serving(config, *models, errors=folder.path / "log") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Control and shared memory are open."""
    folder = Folder(tmp_path_factory.mktemp("open"))
    with serving(folder.config({}, serve={"control": True, "shared_memory": ["/none"]}), errors=folder.path / "log") as gateway:
        yield gateway


def let_schemathesis_find(gateway: Gateway, folder: Path, *arguments: str) -> None:
    """Fail with what it finds."""
    if not (SCHEMATHESIS / "schemathesis").is_dir():
        pytest.skip("no schemathesis: run `make build/schemathesis/.there`")
    (folder / "schemathesis.toml").write_text(CONFIG)
    (folder / "raw_hooks.py").write_text(HOOKS)
    # Negative data: what the document does not allow must be refused. Not the reverse: that the elements of a tensor
    # are as many as its shape says is no matter of JSON Schema. The one header that is required is the token's, which
    # every request of this run has; `ignored_auth` leaves it out.
    command = [
        sys.executable, str(SCHEMATHESIS / "bin/schemathesis"), "run", f"{gateway.url}/openapi.json",
        "--checks", "all", "--exclude-checks", "positive_data_acceptance,missing_required_header",
        "--phases", "examples,coverage,fuzzing",
        "--max-examples", "8", "--continue-on-failure", "--generation-deterministic", "--no-color", "--warnings", "off",
        # Pictures come without end.
        "--request-timeout", "60", "--exclude-path-regex", "/cameras/stream$", *arguments,
    ]  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": f"{SCHEMATHESIS}{os.pathsep}{folder}", "PYTHONWARNINGS": "ignore",
        "SCHEMATHESIS_HOOKS": "raw_hooks",
    }  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800, check=False)
    if done.returncode:
        # Without its progress.
        said = done.stdout[max(0, done.stdout.find("FAILURES")) :]
        pytest.fail(f"{said}\n{done.stderr}", pytrace=False)


def test_every_call_of_a_closed_gateway_is_as_the_document_says(closed: Gateway, tmp_path: Path) -> None:
    let_schemathesis_find(closed, tmp_path, "-H", f"Authorization: Bearer {TOKEN}")
    # It is as well as before.
    assert Http(closed).request("GET", "/v2/health/ready").status_code == 200


def test_what_can_be_opened_is_as_the_document_says(open_: Gateway, tmp_path: Path) -> None:
    tags = ("--include-tag", "Repository", "--include-tag", "System shared memory")
    let_schemathesis_find(open_, tmp_path, *tags)
    assert Http(open_).request("GET", "/v2/health/live").status_code == 200
