"""Run by the interpreter of build/kubernetes: lists of objects of custom kinds as JSON on stdin, and what is wrong with each list.

The models take fields that they do not know, so that is looked at here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from cloudcoil.models.istio.networking import v1 as networking
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as monitoring
from pydantic import BaseModel, ValidationError

MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("networking.istio.io/v1", "Gateway"): networking.Gateway,
    ("networking.istio.io/v1", "VirtualService"): networking.VirtualService,
    ("networking.istio.io/v1", "DestinationRule"): networking.DestinationRule,
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): monitoring.ServiceMonitor,
}


def faults_of(document: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one object."""
    kind = (document.get("apiVersion", ""), document.get("kind", ""))
    model = MODELS.get(kind)
    if model is None:
        yield f"no model of {' '.join(kind)}"
        return
    try:
        found = model.model_validate(document)
    except ValidationError as error:
        for each in error.errors():
            yield f"{kind[1]}.{'.'.join(map(str, each['loc']))}: {each['msg']}"
        return
    yield from _unknown(document, found, kind[1])


def _unknown(value: Any, model: Any, path: str) -> Iterator[str]:
    if isinstance(model, BaseModel) and isinstance(value, dict):
        names = {field.alias or name: name for name, field in type(model).model_fields.items()}
        for key, inner in value.items():
            if key not in names:
                yield f"{path}.{key}: there is no such field"
            else:
                yield from _unknown(inner, getattr(model, names[key]), f"{path}.{key}")
    elif isinstance(model, list) and isinstance(value, list):
        for number, (inner, item) in enumerate(zip(value, model, strict=True)):
            yield from _unknown(inner, item, f"{path}.{number}")


if __name__ == "__main__":
    lists = json.load(sys.stdin)
    print(json.dumps({name: [fault for each in found for fault in faults_of(each)] for name, found in lists.items()}))
