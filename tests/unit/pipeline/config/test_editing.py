"""Fields are set in the text of a config, and the rest of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.document import parse_value
from pipeline.config.editing import edited
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[4]

TEXT = """\
# The head.
inputs: [{name: x, dtype: int8, shape: [1]}]
stages:
  # Before the first.
  - name: first  # its comment
    use: m:C
    batch: {max_size: 4, max_delay_ms: 2}  # of four

  - {name: second, use: "m:C"}

  - name: third
    use: m:C
    batch:
      max_size: 4   # of four

# The end.
drain_s: 5
"""


def test_a_value_is_replaced_where_it_stands() -> None:
    found, kept = edited(TEXT, ["first.batch.max_size=16", "third.batch.max_size=8"], "x")
    assert kept
    assert found == TEXT.replace("{max_size: 4,", "{max_size: 16,").replace("max_size: 4   #", "max_size: 8   #")


def test_a_field_that_is_not_there_comes_behind_the_last_one_of_its_stage() -> None:
    found, kept = edited(
        TEXT, ["first.replicas=2", "second.colocate=true", "second.batch.max_size=4", "third.batch.max_delay_ms=2.5"], "x"
    )
    assert kept
    assert found == (
        TEXT.replace("# of four\n\n", "# of four\n    replicas: 2\n\n", 1)
        .replace('use: "m:C"}', 'use: "m:C", colocate: true, batch: {max_size: 4}}')
        .replace("max_size: 4   # of four\n", "max_size: 4   # of four\n      max_delay_ms: 2.5\n")
    )


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_line_may_lack_its_end(end: str) -> None:
    text = "stages:\n- name: a\n  use: m:C" + end
    assert edited(text, ["a.replicas=2"], "x") == ("stages:\n- name: a\n  use: m:C\n  replicas: 2" + end, True)


def test_a_block_of_text_at_the_end_of_a_stage_stays_whole() -> None:
    text = "stages:\n- name: a\n  with:\n    note: |\n      one\n      two\n- name: b\n"
    found, kept = edited(text, ["a.replicas=2"], "x")
    assert kept
    assert found == text.replace("      two\n", "      two\n  replicas: 2\n")


def test_stages_that_share_a_mapping_are_written_anew_and_it_says_that_comments_are_gone() -> None:
    text = (
        "x-batch: &batch {max_size: 4}  # for all\n"
        "stages:\n- {name: a, use: 'm:C', batch: *batch}\n- {name: b, use: 'm:C', batch: *batch}\n"
    )
    found, kept = edited(text, ["a.batch.max_size=8"], "x")
    assert not kept
    document = parse_value(found, "x")[0]
    assert [stage["batch"]["max_size"] for stage in document["stages"]] == [8, 4]
    assert "#" not in found


def test_a_field_behind_an_alias_keeps_the_comments() -> None:
    text = "x-batch: &batch {max_size: 4}  # for all\nstages:\n- name: a\n  use: m:C\n  batch: *batch  # shared\n"
    found, kept = edited(text, ["a.replicas=2"], "x")
    assert kept
    assert found == text + "  replicas: 2\n"


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither a stage nor a field"):
        edited(TEXT, ["fourth.replicas=2"], "x")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_keeps_its_comments(path: Path) -> None:
    text = path.read_text()
    names = [stage["name"] for stage in parse_value(text, "x")[0]["stages"]]
    wanted = [f"{name}.{field}" for name in names for field in ("replicas=3", "batch.max_size=8", "batch.max_delay_ms=1")]
    found, kept = edited(text, wanted, "x")
    assert kept
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert [line.strip() for line in found.splitlines() if line.strip().startswith("#")] == comments
