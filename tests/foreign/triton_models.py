"""The models of tests/integration/kserve_models as Triton has them, and two that are slow."""

from __future__ import annotations

from pathlib import Path

from bench.versus.repository import Model, Tensor

_SOURCES = Path(__file__).parent / "models"
_KINDS = {"bf16": "BF16", "bool": "BOOL", "fp16": "FP16", "fp32": "FP32", "int64": "INT64", "uint8": "UINT8"}

#: A request may say how long it waits, but not longer than the default, nor if there is none.
_QUEUES = {
    "slow": "max_queue_size: 1",
    "late": "timeout_action: REJECT default_timeout_microseconds: 60000000 allow_timeout_override: true",
}

MODELS = (
    *[
        Model(f"identity_{kind}", (Tensor("INPUT0", name),), (Tensor("OUTPUT0", name),), _SOURCES / "identity.py")
        for kind, name in _KINDS.items()
    ],
    Model("identity_string", (Tensor("INPUT0", "STRING"),), (Tensor("OUTPUT0", "STRING"),), _SOURCES / "text.py"),
    Model(
        "simple",
        (Tensor("INPUT0", "INT32", (16,)), Tensor("INPUT1", "INT32", (16,))),
        (Tensor("OUTPUT0", "INT32", (16,)), Tensor("OUTPUT1", "INT32", (16,))),
        _SOURCES / "sums.py",
        max_batch_size=8,
        more="dynamic_batching { max_queue_delay_microseconds: 500 }",
    ),
    Model(
        "repeat_int32",
        (Tensor("IN", "INT32"), Tensor("DELAY", "UINT32"), Tensor("WAIT", "UINT32", (1,))),
        (Tensor("OUT", "INT32", (1,)), Tensor("IDX", "UINT32", (1,))),
        _SOURCES / "repeat.py",
        more="model_transaction_policy { decoupled: true }",
    ),
    *[
        Model(
            name,
            (Tensor("INPUT0", "UINT8"),),
            (Tensor("OUTPUT0", "UINT8"),),
            _SOURCES / "slow.py",
            max_batch_size=1,
            more=f"dynamic_batching {{ default_queue_policy {{ {queue} }} }}",
        )
        for name, queue in _QUEUES.items()
    ],
)
