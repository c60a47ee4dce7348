"""Which plan is taken, and what is said where none fits; no GPU and no TensorRT is needed to know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stages import engines
from stages.engines import engine_class
from stages.engines.onnxruntime import OnnxRuntime
from stages.engines.plans import (
    EnginePlan,
    Profile,
    choose_size,
    file_sha256,
    fitting_plans,
    gpu_slug,
    plans_dir,
    plans_of,
    write_plan,
)
from stages.engines.signature import TensorAxes
from stages.engines.tensorrt.engine import TensorRt
from stages.errors import ModelError
from stages.infer import Infer
from stages.spec import TensorSpec
from stages.stage import StageContext

#: A field of text, as in a file of protobuf: the name of who made it.
A_MODEL, ANOTHER_MODEL = b"\x12\x07a model", b"\x12\x0danother model"
HERE = {"gpu": "h100", "version": "trt-8.5.3.1"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLAB_MODELS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(A_MODEL)
    return path


def plan(model: Path, batch: int = 1, precision: str = "fp16", **changes: str) -> EnginePlan:
    made = EnginePlan(
        model.stem, file_sha256(model), HERE["gpu"], HERE["version"], precision, batch,
        (TensorAxes("x", "uint8", (batch, 4, 3)),), (TensorAxes("y", "float32", (batch, 2)),),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def written(*plans: EnginePlan) -> list[EnginePlan]:
    for each in plans:
        write_plan(each, b"compiled")
    return plans_of(plans[0].model)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (99, 16)])
def test_a_batch_takes_the_smallest_plan_that_holds_it(rows: int, size: int) -> None:
    assert choose_size([1, 4, 16], rows) == size


def test_plans_are_read_back_by_rising_batch(model: Path) -> None:
    eight, one = plan(model, 8), plan(model, 1)
    assert written(eight, one) == [replace(one, nbytes=8), replace(eight, nbytes=8)]
    digest = hashlib.sha256(A_MODEL).hexdigest()
    assert eight.path == plans_dir() / f"net.{digest[:12]}.h100.trt-8.5.3.1.fp16.b8.plan"
    assert eight.path.read_bytes() == b"compiled"


def test_plans_of_a_model_whose_name_begins_alike_are_not_its_own(model: Path) -> None:
    written(replace(plan(model), model="net.v2"))
    assert plans_of("net") == []
    assert len(plans_of("net.v2")) == 1


def test_what_is_no_plan_is_passed_over(model: Path) -> None:
    written(plan(model))
    (plans_dir() / "net.x.plan.json").write_text("{")
    (plans_dir() / "net.y.plan.json").write_text("[1]")
    assert len(plans_of("net")) == 1


def test_a_plan_is_up_to_date_until_its_model_changes_or_its_file_is_cut(model: Path) -> None:
    wanted = plan(model)
    assert not wanted.is_there
    written(wanted)
    assert wanted.is_there
    wanted.path.write_bytes(b"comp")
    assert not wanted.is_there
    written(wanted)
    model.write_bytes(ANOTHER_MODEL)
    assert not plan(model).is_there


def test_a_plan_for_other_shapes_or_samples_is_out_of_date(model: Path) -> None:
    made = plan(model, shapes="x=H,3 H=1:2:4", calibration="one", precision="int8")
    write_plan(made, b"content")
    assert made.is_there
    assert not replace(made, shapes="x=H,3 H=1:2:8").is_there
    assert not replace(made, calibration="two").is_there


def test_what_a_plan_takes_is_read_back(model: Path) -> None:
    made = replace(
        plan(model, batch=8),
        inputs=(TensorAxes("x", "uint8", (8, "H", 3)),),
        profiles=(Profile("x", (8, 1, 3), (8, 2, 3), (8, 4, 3)),),
    )
    write_plan(made, b"content")
    assert plans_of(model.stem) == [replace(made, nbytes=7)]
    assert TensorRt(model, {"H": 4}).specs.inputs == (TensorSpec("x", "uint8", ("H", 3), {"H": 4}),)
    with pytest.raises(ModelError, match="its plans take 1 to 4 for 'H' of x, and up to 5 may come"):
        TensorRt(model, {"H": 5})


def test_a_plan_of_before_there_were_ranges_is_still_one(model: Path) -> None:
    write_plan(plan(model), b"content")
    path = Path(f"{plan(model).path}.json")
    document = json.loads(path.read_text())
    for name in ("shapes", "profiles", "calibration"):
        del document[name]
    path.write_text(json.dumps(document))
    assert plan(model).is_there


def test_int8_is_taken_where_it_is_asked_for_and_never_by_auto(model: Path) -> None:
    int8 = replace(plan(model, precision="int8"), nbytes=1)
    assert fitting_plans(model, [int8], **HERE, precision="int8") == [int8]
    with pytest.raises(ModelError, match="its plans are of precision int8, wanted auto"):
        fitting_plans(model, [int8], **HERE, precision="auto")


def test_auto_prefers_the_faster_precision(model: Path) -> None:
    plans = written(plan(model, 1, "fp32"), plan(model, 8, "fp32"), plan(model, 1, "fp16"))
    assert [p.precision for p in fitting_plans(model, plans, precision="auto", **HERE)] == ["fp16"]
    assert [p.batch for p in fitting_plans(model, plans, precision="fp32", **HERE)] == [1, 8]


def test_a_plan_for_any_gpu_fits_here(model: Path) -> None:
    plans = written(plan(model, gpu="any"))
    assert fitting_plans(model, plans, precision="auto", **HERE) == plans


@pytest.mark.parametrize(
    ("changes", "precision", "said"),
    [
        ({"gpu": "v100"}, "auto", r"its plans are for trt-8.5.3.1 on v100; here is trt-8.5.3.1 on h100"),
        ({"version": "trt-10.1"}, "auto", r"its plans are for trt-10.1 on h100; here is trt-8.5.3.1 on h100"),
        ({"precision": "fp32"}, "fp16", r"its plans are of precision fp32, wanted fp16.* --precision fp16"),
        ({"model_sha256": "0" * 64}, "auto", r"were built from another version of this file or of the weights"),
    ],
    ids=["gpu", "version", "precision", "model"],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_command_that_builds_one(
    model: Path, changes: dict[str, str], precision: str, said: str
) -> None:
    plans = written(plan(model, **changes))
    with pytest.raises(ModelError, match=said) as refused:
        fitting_plans(model, plans, precision=precision, **HERE)
    assert f"pipeline build {model}" in str(refused.value)


def test_a_model_without_plans_is_refused_with_the_command_that_builds_them(model: Path) -> None:
    with pytest.raises(ModelError, match=rf"no TensorRT plan of it in .*pipeline build {model} --batch"):
        TensorRt(model, {})


def test_specs_are_those_of_the_plan_without_the_batch(model: Path) -> None:
    written(plan(model, 8))
    specs = TensorRt(model, {}).specs
    assert (str(specs.inputs[0].dtype), specs.inputs[0].shape, specs.batch) == ("uint8", (4, 3), None)
    assert specs.outputs[0].shape == (2,)


def test_auto_without_a_plan_is_onnxruntime(model: Path) -> None:
    assert engine_class("auto", model) is OnnxRuntime


def test_a_stage_over_tensorrt_asks_for_a_gpu_and_says_how_many_batches_it_takes(model: Path) -> None:
    written(plan(model))
    stage = Infer(model.name, engine="tensorrt", contexts=4, base_dir=model.parent)
    assert (stage.device, stage.concurrency) == ("cuda", 5)


def test_it_does_not_run_on_the_cpu(model: Path) -> None:
    written(plan(model))
    with pytest.raises(ModelError, match="runs on a GPU, and this replica was placed on cpu"):
        TensorRt(model, {}).load(1, "cpu")


@pytest.mark.parametrize(
    ("name", "slug"),
    [("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3"), ("Tesla V100-SXM2-16GB", "tesla-v100-sxm2-16gb")],
)
def test_the_name_of_a_gpu_becomes_a_part_of_a_file_name(name: str, slug: str) -> None:
    assert gpu_slug(name) == slug


def external(path: Path, location: str) -> None:
    """A model whose weights lie in the file `location` beside it."""
    entry = b"\x0a\x08location\x12" + bytes([len(location)]) + location.encode()
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    path.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)


def test_weights_beside_the_file_that_were_trained_again_make_its_plans_stale(tmp_path: Path) -> None:
    model, weights = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    external(model, weights.name)
    weights.write_bytes(b"first")
    old = plan(model)
    plans = written(old)
    assert fitting_plans(model, plans, precision="auto", **HERE) == plans
    weights.write_bytes(b"again")
    assert not plan(model).is_there
    with pytest.raises(ModelError, match="built from another version of this file or of the weights beside it"):
        fitting_plans(model, plans_of("model"), precision="auto", **HERE)
    with pytest.raises(ModelError, match="built from another version of this file or of the weights beside it"):
        TensorRt(model, {})
    weights.write_bytes(b"first")
    assert plan(model).is_there


def test_weights_of_another_name_are_another_model(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    for name in ("a.data", "b.data"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "c.data").write_bytes(b"a.data")
    digests = set()
    for name in ("a.data", "b.data", "c.data"):
        external(model, name)
        digests.add(file_sha256(model))
    assert len(digests) == 3


def test_a_model_in_links_as_a_hub_lays_them_out_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    external(tmp_path / "blobs" / "0f", "model.onnx.data")
    (tmp_path / "blobs" / "1f").write_bytes(b"weights")
    for name, blob in (("model.onnx", "0f"), ("model.onnx.data", "1f")):
        (tmp_path / "snapshot" / name).symlink_to(f"../blobs/{blob}")
    plain = tmp_path / "model.onnx"
    external(plain, "model.onnx.data")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    assert file_sha256(tmp_path / "snapshot" / "model.onnx") == file_sha256(plain)


def test_a_model_of_one_file_has_that_files_digest(model: Path) -> None:
    assert file_sha256(model) == hashlib.sha256(A_MODEL).hexdigest()


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    external(tmp_path / "model.onnx", "gone.data")
    with pytest.raises(ModelError, match=r"model\.onnx: its weights lie in .*gone\.data, and that cannot be read: No such"):
        file_sha256(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"gone\.onnx: the model's file cannot be read: No such"):
        file_sha256(tmp_path / "gone.onnx")


def test_two_models_of_one_name_keep_a_plan_each(tmp_path: Path) -> None:
    models = []
    for folder, content in (("det", A_MODEL), ("rec", ANOTHER_MODEL)):
        (tmp_path / folder).mkdir()
        models.append(tmp_path / folder / "model.onnx")
        models[-1].write_bytes(content)
        write_plan(plan(models[-1]), folder.encode())
    for model in models:
        (found,) = fitting_plans(model, plans_of("model"), precision="auto", **HERE)
        assert found.path.read_bytes() == model.parent.name.encode()
        assert plan(model).is_there


def test_a_plan_of_before_the_model_was_in_its_name_is_told_as_stale(model: Path) -> None:
    made = plan(model)
    write_plan(made, b"compiled")
    for suffix in (".plan", ".plan.json"):
        new = made.path.with_suffix(suffix) if suffix == ".plan" else Path(f"{made.path}.json")
        new.rename(plans_dir() / f"net.h100.trt-8.5.3.1.fp16.b1{suffix}")
    assert not made.is_there
    with pytest.raises(ModelError, match=r"before the model was part of a plan's name: run here: pipeline build"):
        fitting_plans(model, plans_of("net"), precision="auto", **HERE)


def test_a_name_with_signs_of_a_pattern_is_a_name(tmp_path: Path) -> None:
    for stem in ("net[1]", "net*", "net?"):
        model = tmp_path / f"{stem}.onnx"
        model.write_bytes(A_MODEL)
        assert written(plan(model)) == [replace(plan(model), nbytes=8)]


def test_a_plan_in_which_an_output_has_no_row_for_each_request_is_refused(model: Path) -> None:
    detections = (TensorAxes("y", "float32", (300, 6)),)
    written(replace(plan(model, 8), outputs=detections))
    with pytest.raises(ModelError, match=r"takes batches of 8, and its output y\[300, 6\] has no row for each request"):
        TensorRt(model, {})


def test_in_batches_of_one_all_of_an_output_is_the_answer(model: Path) -> None:
    written(replace(plan(model, 1), outputs=(TensorAxes("y", "float32", (300, 6)),)))
    stage = Infer(model.name, engine="tensorrt", base_dir=model.parent)
    assert str(stage.outputs[0]) == "y float32[300, 6]"
    assert stage.max_batch == 1


def test_what_is_left_out_is_no_output(model: Path) -> None:
    both = (TensorAxes("y", "float32", (8, 2)), TensorAxes("loss", "float32", ()))
    written(replace(plan(model, 8), outputs=both))
    assert [spec.name for spec in TensorRt(model, {}, leave_out=["loss"]).specs.outputs] == ["y"]


def test_a_plan_that_was_half_exchanged_is_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(plan(model, shapes="x=4,3"))
    replaced = []

    def once(source: str, target: Path) -> None:
        if replaced:
            raise KeyboardInterrupt
        replaced.append(target)
        Path(source).rename(target)

    monkeypatch.setattr("os.replace", once)
    with pytest.raises(KeyboardInterrupt):
        write_plan(plan(model, shapes="x=8,3"), b"compiled")
    assert replaced == [plan(model).path]
    assert plans_of("net") == []


def test_a_gpu_that_is_left_idle_for_a_stale_plan_is_told(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(engines, "load_library", lambda: None)
    monkeypatch.setattr(engines, "spell_version", lambda library: HERE["version"])
    model = tiny_models / "double.onnx"
    assert engines.choose_engine(model) == ("onnxruntime", "")
    written(plan(model, model_sha256="0" * 64))
    stage = Infer("double.onnx", base_dir=tiny_models)
    (note,) = stage.notes
    assert note.startswith("double.onnx: on the CPU, though there is a GPU: ")
    assert "built from another version of this file" in note
    stage.setup(StageContext())
    assert note in capsys.readouterr().err
    written(plan(model))
    assert engines.choose_engine(model) == ("tensorrt", "")
