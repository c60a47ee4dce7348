"""A whole config: its defaults, and every complaint with file, line, column, path and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.loader import LoadedConfig, load_config
from pipeline.config.schema import SegmentsConfig
from stages.spec import TensorSpec

Load = Callable[..., LoadedConfig]
Complaints = Callable[..., list[str]]

MINIMAL = """\
inputs:
  - {name: image, dtype: uint8, shape: [bytes], max: {bytes: 16MiB}}
stages:
  - name: decode
    use: stages.image:DecodeResize
"""


def stage(*lines: str) -> str:
    """MINIMAL with more lines in its stage, from line 6 on."""
    return MINIMAL + "".join(f"    {line}\n" for line in lines)


def test_what_is_left_out_has_its_default(load: Load) -> None:
    loaded = load(MINIMAL)
    config, decode = loaded.config, loaded.config.stages[0]
    assert (config.name, config.outputs, config.ingress.slots, config.segments, config.drain_s) == ("demo", None, "auto", "posix", 10)
    assert config.run.inputs == ()
    assert (decode.replicas, decode.cpus, decode.threads, decode.credits) == ("auto",) * 4
    assert (decode.options, decode.inputs, decode.after, decode.env) == ({}, None, (), {})
    assert (decode.batch.max_size, decode.batch.max_delay_ms) == (1, 0.0)
    assert loaded.inputs == (TensorSpec("image", "uint8", ("bytes",), {"bytes": 16 << 20}),)


def test_segments_may_be_files_of_a_folder(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARED", "/run/trtlab")
    segments = load(MINIMAL + "segments: {dir: '${SHARED}//shm/', group: 2000}\n").config.segments
    assert segments == SegmentsConfig(dir="/run/trtlab/shm", group=2000)
    assert load(MINIMAL + "segments: {dir: /shm}\n").config.segments == SegmentsConfig(dir="/shm", group=None)


def test_what_is_given_is_taken(load: Load) -> None:
    text = """\
name: photos-2
inputs: [{name: x, dtype: float32, shape: [3, H, W], max: {H: 10, W: 2KB}}]
stages:
  - name: a
    use: ./mine.py:Stage
    with: {size: 224, deep: {list: [1, 2.5, no, null]}}
    inputs: {image: ingress.x}
    after: []
    replicas: 2
    batch: {max_size: 4, max_delay_ms: 1}
    cpus: "0-3,8"
    threads: 2
    credits: 8
    env: {KEY: value}
outputs: {best: a.y}
ingress: {slots: 5}
segments: sysv
drain_s: 2
run: {inputs: ["../photos/*.jpg"]}
"""
    loaded = load(text)
    config, a = loaded.config, loaded.config.stages[0]
    assert (config.name, config.outputs, config.ingress.slots) == ("photos-2", {"best": "a.y"}, 5)
    assert (config.segments, config.drain_s, config.run.inputs) == ("sysv", 2.0, ("../photos/*.jpg",))
    assert a.options == {"size": 224, "deep": {"list": [1, 2.5, "no", None]}}
    assert (a.inputs, a.replicas, a.cpus, a.threads, a.credits) == ({"image": "ingress.x"}, 2, "0-3,8", 2, 8)
    assert (a.batch.max_size, a.batch.max_delay_ms, a.env) == (4, 1.0, {"KEY": "value"})
    assert loaded.inputs[0].max_shape == (3, 10, 2000)


def test_relative_paths_start_at_the_config(load: Load, tmp_path: Path) -> None:
    assert load(MINIMAL).base_dir == tmp_path.resolve()


def test_relative_paths_of_a_config_that_is_a_link_start_at_the_link(tmp_path: Path) -> None:
    # As Kubernetes mounts a ConfigMap: c.yaml -> ..data/c.yaml, ..data -> ..2024_01.
    mounted = tmp_path / "configs"
    (mounted / "..2024_01").mkdir(parents=True)
    (mounted / "..2024_01" / "c.yaml").write_text(MINIMAL)
    (mounted / "..data").symlink_to("..2024_01")
    (mounted / "c.yaml").symlink_to("..data/c.yaml")
    assert load_config(mounted / "c.yaml").base_dir == mounted.resolve()
    # A folder that is a link is what it leads to, as for every other program.
    (tmp_path / "elsewhere").symlink_to(mounted / "..2024_01")
    assert load_config(tmp_path / "elsewhere" / "c.yaml").base_dir == (mounted / "..2024_01").resolve()


def test_the_path_of_a_file_may_have_spaces(load: Load) -> None:
    use = "/home/john doe/my stage.py:MyStage"
    assert load(MINIMAL.replace("stages.image:DecodeResize", use)).config.stages[0].use == use


def test_top_level_keys_for_anchors_are_ignored_and_others_are_not(load: Load, complaints: Complaints) -> None:
    text = "x-common: &common {replicas: 3, nonsense: ~}\nx-more: [1, 2]\n" + MINIMAL
    assert load(text).config.stages[0].replicas == "auto"
    assert complaints("common: 3\n" + MINIMAL)
    merged = "x-common: &common {replicas: 3}\n" + MINIMAL + "    <<: *common\n"
    assert load(merged).config.stages[0].replicas == 3


def test_a_path_and_an_option_may_name_the_home_folder_and_variables(
    load: Load, complaints: Complaints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("MODELS", "/models")
    monkeypatch.delenv("NOT_SET", raising=False)
    loaded = load(
        stage("with: {model: '~/a.onnx', files: ['$MODELS/b', '${NOT_SET:-c}/d'], more: {price: $5}}", "env: {X: '${MODELS}'}")
        + "run: {inputs: ['~/photos/*.jpg']}\ncapsules: {folder: '${MODELS}/kept'}\ncanary: {input: ~/good.jpg}\n"
    )
    assert loaded.config.stages[0].options == {
        "model": "/home/me/a.onnx", "files": ["/models/b", "c/d"], "more": {"price": "$5"}
    }  # fmt: skip
    assert loaded.config.stages[0].env == {"X": "/models"}
    assert loaded.config.run.inputs == ("/home/me/photos/*.jpg",)
    assert loaded.config.capsules.folder == "/models/kept"
    assert loaded.config.canary is not None
    assert loaded.config.canary.input == "/home/me/good.jpg"
    said = (
        "the environment variable NOT_SET is not set; set it, give a default as in ${NOT_SET:-...}, "
        "or write $${NOT_SET} for that text itself"
    )
    assert complaints(stage("with:", "  model: ${NOT_SET}/a.onnx")) == [
        f"demo.yaml:7:14: stages[0].with.model: {said}"
    ]


@pytest.mark.parametrize(
    ("file", "name"), [("ResNet_50.prod.yaml", "resnet-50-prod"), ("__.yaml", "pipeline"), ("a" * 60 + ".yaml", "a" * 40)]
)
def test_a_pipeline_without_a_name_is_called_like_its_file(load: Load, file: str, name: str) -> None:
    assert load(MINIMAL, name=file).config.name == name


def test_one_cpu_needs_no_quotes(load: Load) -> None:
    assert load(stage("cpus: 3")).config.stages[0].cpus == "3"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["batch: {max_sise: 4}"], "demo.yaml:6:13: stages[0].batch.max_sise: unknown field (did you mean max_size?)"),
        (["batch: {zzz: 4}"], "demo.yaml:6:13: stages[0].batch.zzz: unknown field; there is gather, max_delay_ms, max_size"),
        (["replica: 2"], "demo.yaml:6:5: stages[0].replica: unknown field (did you mean replicas?)"),
        (["options: {}"], "demo.yaml:6:5: stages[0].options: unknown field; there is after, batch, colocate, cpus, credits, env, inputs, name, replicas, restart, threads, timeout_ms, use, when, with"),
        (["batch: 4"], "demo.yaml:6:12: stages[0].batch: expected a mapping, found 4"),
        (["batch:"], "demo.yaml:6:11: stages[0].batch: expected a mapping, found nothing"),
        (["batch: {max_size: '4'}"], "demo.yaml:6:23: stages[0].batch.max_size: expected a whole number, found '4'"),
        (["batch: {max_size: 0}"], "demo.yaml:6:23: stages[0].batch.max_size: expected at least 1, found 0"),
        (["batch: {max_size: 1.5}"], "demo.yaml:6:23: stages[0].batch.max_size: expected a whole number, found 1.5"),
        (["batch: {max_size: true}"], "demo.yaml:6:23: stages[0].batch.max_size: expected a whole number, found true"),
        (["batch: {max_size: 10000}"], "demo.yaml:6:23: stages[0].batch.max_size: expected at most 4096, found 10000"),
        (["batch:", "  max_delay_ms: fast"], "demo.yaml:7:21: stages[0].batch.max_delay_ms: expected a number, found 'fast'"),
        (["batch: {max_delay_ms: .inf}"], "demo.yaml:6:27: stages[0].batch.max_delay_ms: expected a finite number, found inf"),
        (["batch: {max_delay_ms: .nan}"], "demo.yaml:6:27: stages[0].batch.max_delay_ms: expected a finite number, found nan"),
        (["replicas: many"], "demo.yaml:6:15: stages[0].replicas: expected a whole number from 1 to 1024, or auto, found 'many'"),
        (["replicas: 0"], "demo.yaml:6:15: stages[0].replicas: expected a whole number from 1 to 1024, or auto, found 0"),
        (["threads: yes"], "demo.yaml:6:14: stages[0].threads: expected a whole number from 1 to 4096, or auto, found 'yes'"),
        (["cpus: [0, 1]"], 'demo.yaml:6:11: stages[0].cpus: expected auto, or a list of CPUs such as "0-3,8", found a list'),
        (["env: {OMP_NUM_THREADS: 1}"], "demo.yaml:6:28: stages[0].env.OMP_NUM_THREADS: expected text, found 1; put it in quotes"),
        (["after: decode"], "demo.yaml:6:12: stages[0].after: expected a list, found 'decode'"),
        (["after: [1]"], "demo.yaml:6:13: stages[0].after[0]: expected text, found 1; put it in quotes"),
        (["with: [224]"], "demo.yaml:6:11: stages[0].with: expected a mapping, found a list"),
        (["inputs: ingress.image"], "demo.yaml:6:13: stages[0].inputs: expected a list or a mapping, found 'ingress.image'"),
        (["inputs: [image]"], "demo.yaml:6:14: stages[0].inputs[0]: expected producer.tensor, such as ingress.image, found 'image'"),
        (["inputs: {image: ingress.}"], "demo.yaml:6:21: stages[0].inputs.image: expected producer.tensor, such as ingress.image, found 'ingress.'"),
    ],
)
def test_a_mistake_in_a_stage_is_found_at_its_place(complaints: Complaints, lines: list[str], complaint: str) -> None:
    assert complaints(stage(*lines)) == [complaint]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("name: My Net", "demo.yaml:6:7: name: expected 1 to 40 characters of a-z, 0-9, _ and -, found 'My Net'"),
        ("name: 5", "demo.yaml:6:7: name: expected text, found 5; put it in quotes"),
        ("segments: posx", "demo.yaml:6:11: segments: expected 'posix' or 'sysv', found 'posx' (did you mean posix?)"),
        ("segments: 1", "demo.yaml:6:11: segments: expected 'posix' or 'sysv', found 1"),
        (
            "segments: {dir: shm}",
            "demo.yaml:6:17: segments.dir: expected the absolute path of a folder, such as /run/trtlab/shm, found 'shm'",
        ),
        ("segments: {dir: /shm, grup: 1}", "demo.yaml:6:23: segments.grup: unknown field (did you mean group?)"),
        ("segments: {dir: /shm, group: staff}", "demo.yaml:6:30: segments.group: expected a whole number, found 'staff'"),
        ("drain_s: -1", "demo.yaml:6:10: drain_s: expected at least 0, found -1"),
        ("outputs: [decode]", "demo.yaml:6:11: outputs[0]: expected producer.tensor, such as ingress.image, found 'decode'"),
        ("output: []", "demo.yaml:6:1: output: unknown field (did you mean outputs?)"),
        ("ingress: {slots: none}", "demo.yaml:6:18: ingress.slots: expected a whole number from 1 to 65536, or auto, found 'none'"),
        ("run: {input: []}", "demo.yaml:6:7: run.input: unknown field (did you mean inputs?)"),
        ("drain_ms: 5", "demo.yaml:6:1: drain_ms: unknown field (did you mean drain_s?)"),
    ],
)
def test_a_mistake_at_the_top_is_found_at_its_place(complaints: Complaints, line: str, complaint: str) -> None:
    assert complaints(f"{MINIMAL}{line}\n") == [complaint]


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        ("{dtype: uint8, shape: [1]}", "demo.yaml:1:10: inputs[0].name: missing. The name by which stages and clients know it: `ingress.NAME`."),
        ("{name: x, dtype: uint8, shape: 4}", "demo.yaml:1:41: inputs[0].shape: expected a list, found 4"),
        ("{name: x, dtype: uint8, shape: [-1]}", "demo.yaml:1:42: inputs[0].shape[0]: expected a number of at least 0, or the name of a free dimension such as H, found -1"),
        ("{name: x, dtype: uint8, shape: [N], max: {N: lots}}", "demo.yaml:1:55: inputs[0].max.N: expected bytes, such as 4096, \"608KiB\" (powers of 1024) or \"10MB\" (powers of 1000), found 'lots'"),
        ("{name: x, dtype: uint8, shape: [N]}", "demo.yaml:1:10: inputs[0]: tensor 'x': free dimension 'N' has no maximum; slots are sized from it, so give one: max: {N: ...}"),
        ("{name: x, dtype: object, shape: [1]}", "demo.yaml:1:10: inputs[0]: tensor 'x': dtype 'object' cannot lie in shared memory; expected a numpy name of a plain number such as 'uint8', 'float32' or 'bfloat16', or 'bytes' or 'json'"),
        ("{name: '', dtype: uint8, shape: [1]}", "demo.yaml:1:17: inputs[0].name: expected at least one character, found none"),
    ],
)
def test_a_mistake_in_an_input_is_found_at_its_place(complaints: Complaints, tensor: str, complaint: str) -> None:
    assert complaints(f"inputs: [{tensor}]\nstages: [{{name: a, use: 'b:C'}}]\n") == [complaint]


def test_missing_fields_are_named_with_their_meaning(complaints: Complaints) -> None:
    assert complaints("stages:\n  - {name: a}\n") == [
        "demo.yaml:1:1: inputs: missing. The tensors of a request.",
        "demo.yaml:2:5: stages[0].use: missing. The class: module:Class, or ./file.py:Class relative to this file.",
    ]


def test_empty_lists_are_refused(complaints: Complaints) -> None:
    assert complaints("inputs: []\nstages: []\n") == [
        "demo.yaml:1:9: inputs: expected at least one item, found none",
        "demo.yaml:2:9: stages: expected at least one item, found none",
    ]


def test_names_are_given_once(complaints: Complaints) -> None:
    text = (
        "inputs: [{name: x, dtype: uint8, shape: [1]}, {name: x, dtype: uint8, shape: [1]}]\n"
        "stages: [{name: a, use: 'm:C'}, {name: b, use: 'm:C'}, {name: a, use: 'm:C'}]\n"
    )
    assert complaints(text) == [
        "demo.yaml:2:63: stages[2].name: 'a' is the name of stages[0] already",
        "demo.yaml:1:54: inputs[1].name: 'x' is the name of inputs[0] already",
    ]


@pytest.mark.parametrize("name", ["ingress", "outputs", "run"])
def test_a_stage_is_not_called_like_a_field(complaints: Complaints, name: str) -> None:
    text = MINIMAL.replace("name: decode", f"name: {name}")
    assert complaints(text) == [f"demo.yaml:4:11: stages[0].name: '{name}' is a field of the config; choose another name"]


@pytest.mark.parametrize("name", ["a.b", "A", "1a", "a b", "a/0", "-a", "a" * 41])
def test_a_stage_name_is_a_word(complaints: Complaints, name: str) -> None:
    (line,) = complaints(MINIMAL.replace("name: decode", f'name: "{name}"'))
    assert line.startswith("demo.yaml:4:11: stages[0].name: expected a letter, then up to 39 characters")


@pytest.mark.parametrize("use", ["stages.image", "stages.image:", ":X", "a:b:c", "stages image:X", "a:b.c"])
def test_a_class_is_named_with_its_module(complaints: Complaints, use: str) -> None:
    (line,) = complaints(MINIMAL.replace("use: stages.image:DecodeResize", f"use: '{use}'"))
    assert line == f"demo.yaml:5:10: stages[0].use: expected module:Class or ./file.py:Class, found '{use}'"


def test_every_mistake_is_told_at_once(complaints: Complaints) -> None:
    lines = complaints(stage("replicas: x", "batch: {max_size: x}") + "segments: x\nnope: 1\n")
    assert {line.split(": ")[1] for line in lines} == {"stages[0].replicas", "stages[0].batch.max_size", "segments", "nope"}


def test_a_mistake_behind_an_alias_is_shown_where_it_was_written(complaints: Complaints) -> None:
    text = stage("batch: &batch {max_size: none}") + "  - {name: b, use: 'm:C', batch: *batch}\n"
    assert complaints(text) == [
        "demo.yaml:6:30: stages[0].batch.max_size: expected a whole number, found 'none'",
        "demo.yaml:6:30: stages[1].batch.max_size: expected a whole number, found 'none'",
    ]


def test_the_first_stage_has_no_stage_to_share_a_process_with(complaints: Complaints) -> None:
    assert complaints(stage("colocate: true")) == [
        "demo.yaml:6:15: stages[0].colocate: expected a stage listed before it, in whose workers it runs"
    ]


@pytest.mark.parametrize("field", ["replicas: 2", "cpus: '0'", "threads: 1", "env: {A: b}", "restart: {max: 1}"])
def test_what_concerns_the_process_is_for_the_host_to_say(complaints: Complaints, field: str) -> None:
    others = f"  - {{name: b, use: m:C, colocate: true}}\n  - {{name: c, use: m:C, colocate: true, {field}}}\n"
    name = field.partition(":")[0]
    assert complaints(MINIMAL + others) == [
        f"demo.yaml:7:41: stages[2].{name}: c runs in the workers of decode: say it there, or leave out colocate"
    ]


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ('{"A=B": x}', "expected the name of a variable, without = and NUL, found 'A=B'"),
        ('{"": x}', "expected the name of a variable, without = and NUL, found ''"),
        ('{A: "x\\0y"}', r"expected text without NUL and halves of surrogate pairs, found 'x\x00y'"),
        ('{A: "\\ud800"}', r"expected text without NUL and halves of surrogate pairs, found '\ud800'"),
    ],
)
def test_variables_that_no_process_can_have_are_refused(complaints: Complaints, env: str, complaint: str) -> None:
    (line,) = complaints(stage(f"env: {env}"))
    assert line.startswith("demo.yaml:6:")
    assert line.endswith(complaint)


@pytest.mark.parametrize("text", ["a\\0b", "a\\ud800b"])
@pytest.mark.parametrize(
    ("section", "path"),
    [
        ("canary: {input: TEXT}", "canary.input"),
        ("run: {inputs: [a, TEXT]}", "run.inputs[1]"),
        ("run: {files: [TEXT]}", "run.files[0]"),
        ("capsules: {folder: TEXT}", "capsules.folder"),
        ("record: {dir: TEXT}", "record.dir"),
        ("metrics: {port: 0, host: TEXT}", "metrics.host"),
        ("serve: {host: TEXT}", "serve.host"),
        ("serve: {hosts: [TEXT]}", "serve.hosts[0]"),
        ("serve: {token_file: TEXT}", "serve.token_file"),
        ("serve: {tls: {certificate: TEXT, key: k}}", "serve.tls.certificate"),
        ("serve: {tls: {certificate: c, key: TEXT}}", "serve.tls.key"),
        ("serve: {tls: {certificate: c, key: k, client_ca: TEXT}}", "serve.tls.client_ca"),
        ("sources: [{name: door, url: f, password_file: TEXT}]", "sources[0].password_file"),
        ("mqtt: {host: h, user: TEXT}", "mqtt.user"),
        ("mqtt: {host: h, password_file: TEXT}", "mqtt.password_file"),
        ("mqtt: {host: h, tls: {ca: TEXT}}", "mqtt.tls.ca"),
        ("mqtt: {host: h, tls: {certificate: TEXT}}", "mqtt.tls.certificate"),
        ("mqtt: {host: h, tls: {key: TEXT}}", "mqtt.tls.key"),
        ("tracing: {headers_file: TEXT}", "tracing.headers_file"),
        ("tracing: {service: TEXT}", "tracing.service"),
        ("  - {name: second, use: TEXT}", "stages[1].use"),
    ],
)
def test_a_path_and_a_name_that_the_system_does_not_take_are_refused(
    complaints: Complaints, section: str, path: str, text: str
) -> None:
    (line,) = complaints(f"{MINIMAL}{section}\n".replace("TEXT", f'"{text}"'))
    found = text.replace("\\0", "\\x00")
    assert line.endswith(f": {path}: expected text without NUL and halves of surrogate pairs, found '{found}'")


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ('sources: [{name: door, url: "rtsp://me:secret@door\\0/live"}]', "sources[0].url"),
        ('mqtt: {host: "mqtt://me:secret@broker\\0"}', "mqtt.host"),
    ],
)
def test_what_may_hold_a_password_is_not_shown_when_the_system_does_not_take_it(
    complaints: Complaints, section: str, path: str
) -> None:
    (line,) = complaints(MINIMAL + section + "\n")
    assert line.endswith(f": {path}: expected text without NUL and halves of surrogate pairs, found something else")


@pytest.mark.parametrize("folder", ["/dev/shm/\\ud800", "/dev/shm/a\\0b"])
def test_a_folder_that_no_file_system_can_have_is_refused(complaints: Complaints, folder: str) -> None:
    (line,) = complaints(MINIMAL + f'segments: {{dir: "{folder}"}}\n')
    assert "segments.dir: expected the absolute path of a folder" in line
