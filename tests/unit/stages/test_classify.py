from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.classify import TopK
from stages.errors import BadInput, BadOption, ModelError
from stages.testing import run

PETS = ["cat", "dog", "vole", "naïve 犬"]


def test_the_best_labels_come_with_their_scores_highest_first() -> None:
    done = run(TopK(PETS, k=2), scores=np.float32([[0.1, 0.2, 0.6, 0.1], [0.5, 0.1, 0.1, 0.3]]))
    assert done.result(0, "labels") == ["vole", "dog"]
    assert done.result(0, "scores").tolist() == pytest.approx([0.6, 0.2])
    assert done.result(1, "labels") == ["cat", "naïve 犬"]


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    assert run(TopK(PETS, k=3), scores=np.float32([[0, 1, 0, 1]])).result(0, "labels") == ["dog", "naïve 犬", "cat"]


def test_softmax_makes_probabilities_even_of_large_logits() -> None:
    scores = run(TopK(PETS, k=4, softmax=True), scores=np.float32([[1000, 999, -1000, 0]])).result(0, "scores")
    assert scores.sum() == pytest.approx(1)
    assert scores[0] / scores[1] == pytest.approx(np.e, rel=1e-5)


def test_k_is_at_most_the_number_of_classes() -> None:
    stage = TopK(PETS, k=50)
    assert stage.outputs[1].shape == (4,)
    assert len(run(stage, scores=np.zeros((1, 4), np.float32)).result(0, "labels")) == 4


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_longest_possible_answer_fits_exactly(k: int) -> None:
    stage = TopK(PETS, k=k)
    longest = sorted(PETS, key=lambda label: len(label.encode()), reverse=True)[:k]
    written = json.dumps(longest, ensure_ascii=False, separators=(",", ":")).encode()
    assert stage.outputs[0].max == {"bytes": len(written)}
    scores = np.float32([[label in longest for label in PETS]])
    assert sorted(run(stage, scores=scores).result(0, "labels")) == sorted(longest)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_fail_their_row_alone(bad: float) -> None:
    done = run(TopK(PETS), scores=np.float32([[0, 1, 2, 3], [0, bad, 2, 3]]))
    assert done.result(0, "labels")[0] == "naïve 犬"
    with pytest.raises(BadInput, match=r"scores are not finite: .* for 'dog'"):
        done.result(1, "labels")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pets.txt", "cat\n dog \nvole\r\n"),
        ("pets.txt", "\ufeffcat\n\tdog\nvole"),
        ("pets.json", '["cat", "dog", "vole"]'),
        ("pets.json", '{"0": "cat", "2": "vole", "1": "dog"}'),
    ],
)
def test_labels_are_read_from_a_file_beside_the_config(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_bytes(text.encode())
    done = run(TopK(file, k=3, base_dir=tmp_path), scores=np.float32([[3, 2, 1]]))
    assert done.result(0, "labels") == ["cat", "dog", "vole"]


@pytest.mark.parametrize("text", ['{"0": "cat", "2": "vole"}', "[1, ", "7"])
def test_a_labels_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "pets.json").write_text(text)
    with pytest.raises(ModelError, match=r"pets\.json: expected labels"):
        TopK("pets.json", base_dir=tmp_path)


def test_a_labels_file_that_is_missing_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"no file {tmp_path}/pets\.txt"):
        TopK("pets.txt", base_dir=tmp_path)


@pytest.mark.parametrize("labels", [[], [1, 2], ["a", None]])
def test_labels_must_be_strings_and_some(labels: list[object]) -> None:
    with pytest.raises(BadOption, match="expected a list of strings"):
        TopK(labels)  # type: ignore[arg-type]


def test_k_must_be_at_least_one() -> None:
    with pytest.raises(BadOption, match="k 0: expected at least 1"):
        TopK(PETS, k=0)
