from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.errors import BadInput, ModelError
from stages.ocr.text import DecodeText, alphabet_of, greedy
from stages.testing import run

CLASSES = ["", "a", "b", "c", " "]


def path(*steps: str, sure: float = 0.9) -> np.ndarray:
    """Probabilities whose best class at each position is the step's; "-" is the blank."""
    found = np.full((len(steps), len(CLASSES)), 0.01, np.float32)
    for position, step in enumerate(steps):
        found[position, CLASSES.index("" if step == "-" else step)] = sure
    return found


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ("a--b", "ab"),
        ("aaabbb", "ab"),
        ("aa-a-aa", "aaa"),
        ("-a-", "a"),
        ("a b", "a b"),
        ("a  --  b", "a b"),
        (" -ab- ", "ab"),
        ("----", ""),
        (" - ", ""),
    ],
)
def test_repeats_and_blanks_are_left_out(steps: str, text: str) -> None:
    assert greedy(path(*steps), CLASSES)[0] == text


def test_probabilities_that_are_not_finite_fail_their_line_alone(pulled: Callable[[str], Path]) -> None:
    pulled("ppocr-v4-rec")
    stage = DecodeText(max_length=8)
    rows = np.zeros((2, 3, 6625), np.float32)
    rows[0, 1, 7] = np.nan
    done = run(stage, probabilities=rows)
    with pytest.raises(BadInput, match="the recogniser's probabilities are not finite"):
        done.result(0, "text")
    assert done.result(1, "text") == {"text": "", "score": 0.0}


def test_the_score_is_the_mean_over_the_characters() -> None:
    found = path("a", "-", " ", "b")
    found[0, 1], found[1, 0], found[2, 4], found[3, 2] = 0.8, 0.5, 0.3, 0.6
    text, score = greedy(found, CLASSES)
    assert text == "a b"
    assert score == pytest.approx(0.7)
    assert greedy(path("-", " "), CLASSES) == ("", 0.0)


def test_a_space_counts_where_the_blank_is_likelier() -> None:
    found = path("a", "-", "b")
    found[1, -1] = 0.2
    assert greedy(found, CLASSES, space=0.2)[0] == "a b"
    assert greedy(found, CLASSES, space=0.21)[0] == "ab"
    # But never in place of a character.
    found[2, -1] = 0.8
    assert greedy(found, CLASSES, space=0.2)[0] == "a b"


def test_the_alphabet_comes_out_of_the_models_file(pulled: Callable[[str], Path]) -> None:
    alphabet = alphabet_of(pulled("ppocr-v4-rec"))
    assert len(alphabet) == 6623
    assert len(set(alphabet)) == 6623
    assert all(len(character) == 1 for character in alphabet)
    assert set("ABCXYZabcxyz0123456789.,:;-+$%中文") <= set(alphabet)


def test_probabilities_become_text(pulled: Callable[[str], Path]) -> None:
    alphabet = alphabet_of(pulled("ppocr-v4-rec"))
    stage = DecodeText(max_length=8)
    found = np.zeros((2, 8, 6625), np.float32)
    found[:, :, 0] = 0.5
    for row, text in enumerate(("7中", "E U")):
        for position, character in enumerate(text):
            best = 6624 if character == " " else 1 + alphabet.index(character)
            found[row, 2 * position, best] = 0.75
    batch = run(stage, probabilities=list(found))
    assert batch.result(0, "text") == {"text": "7中", "score": 0.75}
    assert batch.result(1, "text") == {"text": "E U", "score": 0.75}


def test_the_longest_text_has_room(pulled: Callable[[str], Path]) -> None:
    alphabet = alphabet_of(pulled("ppocr-v4-rec"))
    longest = max(range(len(alphabet)), key=lambda index: len(alphabet[index].encode()))
    found = np.zeros((64, 6625), np.float32)
    found[::2, 1 + longest] = 1 / 3
    found[1::2, 0] = 1
    assert run(DecodeText(max_length=64), probabilities=[found]).result(0, "text")["text"] == alphabet[longest] * 32


def test_a_model_without_an_alphabet_is_refused(tiny_models: Path) -> None:
    with pytest.raises(ModelError, match=r"double\.onnx: expected an alphabet under the metadata key 'character'"):
        DecodeText("double.onnx", base_dir=tiny_models)
