"""The schema that editors get says what the loader does."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from pipeline.config import schema
from pipeline.config.schema import PipelineConfig


def _models() -> Iterator[type[BaseModel]]:
    for name in schema.__all__:
        model = getattr(schema, name)
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield model


def test_every_field_of_every_model_is_described() -> None:
    models = list(_models())
    assert len(models) == 18
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith((".", '"8".', "`.")), f"{model.__name__}.{name}"


def test_the_json_schema_uses_the_names_of_the_yaml_and_forbids_others() -> None:
    document = PipelineConfig.model_json_schema(by_alias=True)
    stage = document["$defs"]["StageConfig"]
    assert "with" in stage["properties"]
    assert "options" not in stage["properties"]
    assert stage["additionalProperties"] is False
    assert stage["properties"]["replicas"]["anyOf"] == [{"const": "auto"}, {"minimum": 1, "type": "integer"}]
