"""Managers: models that a program starts, and those that others have started, behind one interface."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import pipeline
from pipeline.client.program import program
from pipeline.errors import ClientMisuse, ConfigError, Overloaded, ReloadFailed, StartError, Unavailable
from pipeline.repository.models import Models
from pipeline.testing import running
from pipeline.wire.run_dir import runs
from tests.faults.load import until


@pytest.fixture
def two(folder: Any) -> tuple[Path, Path]:
    """Configs of two models."""
    return folder.config({}, name="first"), folder.config({}, {}, name="second")


@pytest.fixture
def manager(two: tuple[Path, Path]) -> Iterator[pipeline.InferenceManager]:
    with pipeline.InferenceManager(*two) as manager:
        yield manager


def asked(models: Models, name: str, data: bytes = b"some bytes") -> bool:
    return bytes(models.infer_runner(name).infer(data=data).get(timeout=200)["data"]) == data


def test_each_config_is_a_run_of_its_own_and_all_end_with_the_manager(
    manager: pipeline.InferenceManager, children_of: Callable[[int], dict[str, psutil.Process]]
) -> None:
    assert manager.get_models() == ["first", "second"]
    assert asked(manager, "first")
    assert asked(manager, "second")
    status = manager.status()
    assert [(model["state"], model["why"]) for model in status.values()] == [("ready", "")] * 2
    processes = [psutil.Process(model["pid"]) for model in status.values()]
    assert processes[0] != processes[1]
    processes += [child for model in status.values() for child in children_of(model["pid"]).values()]
    assert [client["name"] for client in status["first"]["pipeline"]["clients"]] == [program()]
    manager.stop()
    assert psutil.wait_procs(processes, 10)[1] == []
    assert runs() == []
    manager.stop()


@pytest.mark.foreign
def test_after_stop_every_call_says_so(manager: pipeline.InferenceManager, two: tuple[Path, Path]) -> None:
    runner = manager.infer_runner("first")
    manager.stop()
    for call in (
        manager.get_models, manager.status, lambda: manager.infer_runner("first"), lambda: manager.load(two[0]),
        lambda: manager.unload("first"), lambda: manager.reload("first"), manager.__enter__,
        lambda: runner.infer(data=b"x"),
    ):  # fmt: skip
        with pytest.raises(ClientMisuse, match="this manager was stopped"):
            call()
    assert "stopped" in repr(manager)


def test_models_come_and_go_while_others_serve(manager: pipeline.InferenceManager, folder: Any) -> None:
    stop = threading.Event()
    count = [0]

    def ask() -> None:
        runner = manager.infer_runner("first")
        while not stop.is_set():
            assert bytes(runner.infer(data=b"x").get(timeout=200)["data"]) == b"x"
            count[0] += 1

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ask)
        try:
            assert manager.load(folder.config({}, name="third")) == "third"
            assert manager.get_models() == ["first", "second", "third"]
            assert asked(manager, "third")
            other = manager.infer_runner("second")
            manager.unload("second")
            assert manager.get_models() == ["first", "third"]
            with pytest.raises(ClientMisuse, match="the model 'second' was unloaded"):
                other.infer(data=b"x")
            with pytest.raises(ClientMisuse, match=r"no model 'second' was loaded; there is first, third"):
                manager.infer_runner("second")
            assert manager.load(folder.path / "second.yaml", "fourth") == "fourth"
            assert asked(manager, "fourth")
        finally:
            stop.set()
        asking.result()
    assert count[0] > 10


def test_what_is_under_way_is_answered_when_a_model_is_unloaded_and_when_the_manager_stops(folder: Any) -> None:
    slow = {"use": "./sample_stages.py:Work", "with": {"seconds": 0.2}}
    with pipeline.InferenceManager(folder.config(slow, name="a"), folder.config(slow, name="b")) as manager:
        futures = {name: [manager.infer_runner(name).infer(data=b"%d" % i) for i in range(6)] for name in "ab"}
        manager.unload("a")
        assert [bytes(future.get(timeout=0)["data"]) for future in futures["a"]] == [b"%d" % i for i in range(6)]
        manager.stop()
        assert [bytes(future.get(timeout=0)["data"]) for future in futures["b"]] == [b"%d" % i for i in range(6)]


@pytest.mark.foreign
def test_a_stop_that_may_not_take_long_ends_at_once(folder: Any) -> None:
    manager = pipeline.InferenceManager(folder.config({"with": {"seconds": 3600}}, name="a"))
    future = manager.infer_runner("a").infer(data=b"x")
    until(lambda: manager.status()["a"]["pipeline"]["inside"] == 1)
    manager.stop(timeout_s=0.1)
    assert runs() == []
    with pytest.raises(pipeline.errors.PipelineError):
        future.get(timeout=200)


def test_a_block_that_is_left_by_an_exception_waits_for_no_answer(folder: Any) -> None:
    config = folder.config({"with": {"seconds": 3600}}, name="a", drain_s=60)

    def interrupted() -> None:
        with pipeline.InferenceManager(config) as manager:
            _future = manager.infer_runner("a").infer(data=b"x")
            until(lambda: manager.status()["a"]["pipeline"]["inside"] == 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert runs() == []


@pytest.mark.foreign
def test_a_name_has_one_model(manager: pipeline.InferenceManager, two: tuple[Path, Path], folder: Any) -> None:
    with pytest.raises(ClientMisuse, match=r"a model 'first' was loaded .*manager.reload\('first', CONFIG\)") as error:
        manager.load(two[0])
    assert "manager.load(CONFIG, NAME)" in str(error.value)
    with pytest.raises(ClientMisuse, match="a model 'first' was loaded"):
        pipeline.InferenceManager(two[0], two[1], two[0])
    assert len(runs()) == 2
    assert manager.load(two[0], "first-again") == "first-again"
    assert manager.get_models() == ["first", "second", "first-again"]


@pytest.mark.parametrize("at", [0, 1])
def test_if_one_cannot_start_nothing_is_left_and_its_last_lines_are_told(
    two: tuple[Path, Path], folder: Any, at: int
) -> None:
    broken = folder.config({"with": {"dies_in": "setup"}}, name="broken")
    configs = [*two]
    configs[at] = broken
    with pytest.raises(StartError, match=r"broken.yaml: it did not start \(exit code 3\)") as error:
        pipeline.InferenceManager(*configs)
    assert "RuntimeError: broken on purpose" in str(error.value)
    assert runs() == []


@pytest.mark.foreign
def test_a_config_that_is_wrong_is_told_before_anything_starts(two: tuple[Path, Path], folder: Any) -> None:
    wrong = folder.file("wrong.yaml", b"stages: 1\n")
    with pytest.raises(ConfigError, match=r"wrong.yaml:1:9: stages: expected a list"):
        pipeline.InferenceManager(two[0], wrong)
    with pipeline.InferenceManager(two[0]) as manager:
        with pytest.raises(ConfigError, match=r"wrong\.yaml"):
            manager.load(wrong)
        with pytest.raises(StartError, match="setup"):
            manager.load(folder.config({"with": {"dies_in": "setup"}}, name="broken"))
        assert manager.get_models() == ["first"]
        assert list(manager.status()) == ["first"]
        assert asked(manager, "first")


@pytest.mark.foreign
def test_assignments_are_for_all_configs_or_for_each(two: tuple[Path, Path]) -> None:
    def replicas(manager: pipeline.InferenceManager) -> list[int]:
        return [model["pipeline"]["stages"][0]["replicas"] for model in manager.status().values()]

    with pipeline.InferenceManager(*two, assignments=["s0.replicas=2"]) as manager:
        assert replicas(manager) == [2, 2]
    with pipeline.InferenceManager(*two, assignments={two[1]: ["s0.replicas=2"]}) as manager:
        assert replicas(manager) == [1, 2]
    with pytest.raises(ClientMisuse, match=r"assignments for 'first', which is none of the configs"):
        pipeline.InferenceManager(*two, assignments={"first": ["s0.replicas=2"]})
    with pytest.raises(ClientMisuse, match=r"a list, such as \['s0.replicas=2'\]"):
        pipeline.InferenceManager(*two, assignments="s0.replicas=2")


@pytest.mark.foreign
def test_any_thread_may_use_a_manager_and_a_model_has_one_client(manager: pipeline.InferenceManager) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda number: asked(manager, ("first", "second")[number % 2]), range(64)))
    assert [len(model["pipeline"]["clients"]) for model in manager.status().values()] == [1, 1]


def test_what_waits_is_bounded_by_the_managers_pending(folder: Any) -> None:
    config = folder.config({"with": {"seconds": 3600}}, name="a", drain_s=0)
    with pipeline.InferenceManager(config, pending=1) as manager, pipeline.connect("a", pending=1) as connected:
        for models in (manager, connected):
            runner, futures = models.infer_runner("a"), []
            with suppress(Overloaded):
                while len(futures) < 1000:
                    futures.append(runner.infer(data=b"x", block=False))
            assert 0 < len(futures) < 1000
        manager.stop(timeout_s=0)


def test_a_manager_that_is_stopped_while_a_model_starts_starts_it_no_more(two: tuple[Path, Path], folder: Any) -> None:
    manager = pipeline.InferenceManager(two[0])
    folder.file("slow.py", b"import time; time.sleep(3600)")
    config = folder.config({"use": "./slow.py:Slow"}, name="slow")
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(manager.load, config)
        until(lambda: "slow" in manager.status())
        assert manager.status()["slow"]["state"] == "starting"
        assert manager.get_models() == ["first"]
        with pytest.raises(ClientMisuse, match="the model 'slow' is being loaded by another call"):
            manager.unload("slow")
        with pytest.raises(Unavailable, match="the model 'slow' is starting"):
            manager.infer_runner("slow")
        manager.stop()
        with pytest.raises(ClientMisuse, match="was stopped"):
            loading.result()


@pytest.mark.foreign
def test_a_runner_keeps_its_model_and_the_last_one_ends_it(two: tuple[Path, Path], collector_is_off: None) -> None:
    runner = pipeline.InferenceManager(*two).infer_runner("first")
    until(lambda: len(runs()) == 1)
    assert bytes(runner.infer(data=b"x").get(timeout=200)["data"]) == b"x"
    del runner
    until(lambda: not runs())


def test_what_runs_print_goes_to_stderr_under_the_names_of_the_models(
    folder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.file(
        "talks.py",
        b"from sample_stages import Work\n"
        b"class Talks(Work):\n"
        b"    def setup(self, context):\n"
        b"        print('hello from setup')\n",
    )
    with pipeline.InferenceManager(folder.config({"use": "./talks.py:Talks"}, name="talker")):
        pass
    lines = capsys.readouterr().err.splitlines()[:3]
    assert lines[0].startswith("talker | info: starting talker: s0 x1; ")
    assert lines[1:] == ["talker | s0/0 | hello from setup", "talker | info: ready"]


def test_a_fork_has_no_part_in_a_manager_and_its_end_stops_nothing(manager: pipeline.InferenceManager) -> None:
    with pipeline.connect("first") as connected:
        runner = connected.infer_runner("first")
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                for call in (manager.get_models, connected.get_models, lambda: manager.infer_runner("first"),
                             manager.__enter__):  # fmt: skip
                    with pytest.raises(ClientMisuse, match=r"call pipeline.connect\(\) in the child"):
                        call()
                manager.stop()
                connected.stop()
                failed = 0
            finally:
                os._exit(failed)
        assert os.waitpid(child, 0)[1] == 0
        assert asked(manager, "second")
        assert bytes(runner.infer(data=b"x").get(timeout=200)["data"]) == b"x"


# -- new versions -----------------------------------------------------------------------------------


def versioned(folder: Any, version: str, name: str = "model") -> Path:
    """A config whose answers begin with the version."""
    folder.file(
        f"stage_{version}.py",
        b"import sample_stages\n"
        b"class Versioned(sample_stages.Work):\n"
        b"    def process(self, batch):\n"
        b"        super().process(batch)\n"
        b"        for row, data in enumerate(batch.rows('data')):\n"
        b"            batch.out(row, 'data', data.shape)[:1] = memoryview(b'%s')\n" % version.encode(),
    )
    return folder.config({"use": f"./stage_{version}.py:Versioned"}, name=name)


def version_of(runner: Any) -> str:
    return bytes(runner.infer(data=b"?x").get(timeout=200)["data"])[:1].decode()


@pytest.mark.foreign
def test_a_new_version_takes_over_and_no_request_of_a_runner_is_lost(folder: Any) -> None:
    with pipeline.InferenceManager(versioned(folder, "1")) as manager:
        runner = manager.infer_runner("model")
        stop = threading.Event()
        seen: list[str] = []

        def ask() -> None:
            while not stop.is_set():
                seen.append(version_of(runner))

        with ThreadPoolExecutor(2) as threads:
            asking = [threads.submit(ask) for _ in range(2)]
            try:
                until(lambda: "1" in seen)
                # From a config whose own name is another one.
                other = versioned(folder, "2", "next")
                other.write_text("name: other\n" + other.read_text())
                manager.reload("model", other)
                assert version_of(runner) == "2"
                assert version_of(manager.infer_runner("model")) == "2"
            finally:
                stop.set()
            for each in asking:
                each.result()
        assert set(seen) == {"1", "2"}
        assert manager.get_models() == ["model"]
        status = manager.status()["model"]
        assert status["state"] == "ready"
        assert status["config"].endswith("next.yaml")
        # As before, read anew, with one thing more that is set.
        manager.reload("model", assignments=["s0.replicas=2"])
        assert manager.status()["model"]["pipeline"]["stages"][0]["replicas"] == 2
        assert version_of(runner) == "2"
    assert runs() == []


@pytest.mark.foreign
def test_a_new_version_that_does_not_start_changes_nothing(folder: Any) -> None:
    config = versioned(folder, "1")
    with pipeline.InferenceManager(config) as manager:
        runner = manager.infer_runner("model")
        with pytest.raises(ReloadFailed, match="broken on purpose"):
            manager.reload("model", folder.config({"with": {"dies_in": "setup"}}, name="broken"))
        with pytest.raises(ConfigError, match=r"no-such\.yaml"):
            manager.reload("model", "no-such.yaml")
        assert version_of(runner) == "1"
        assert manager.status()["model"]["config"] == str(config)
        manager.reload("model")
        assert version_of(runner) == "1"


@pytest.mark.foreign
def test_a_model_is_reloaded_by_one_call_at_a_time(folder: Any) -> None:
    with pipeline.InferenceManager(versioned(folder, "1")) as manager:
        folder.file("slow.py", b"import sample_stages, time\nclass Slow(sample_stages.Work):\n    def setup(self, c): time.sleep(2)\n")
        with ThreadPoolExecutor(1) as threads:
            reloading = threads.submit(manager.reload, "model", folder.config({"use": "./slow.py:Slow"}, name="slow"))
            until(lambda: manager._models["model"].changing)
            with pytest.raises(ClientMisuse, match="the model 'model' is being loaded by another call"):
                manager.reload("model")
            with pytest.raises(ClientMisuse, match="the model 'model' is being loaded by another call"):
                manager.unload("model")
            reloading.result()


@pytest.mark.foreign
def test_what_others_have_started_can_be_reloaded_over_connect(folder: Any) -> None:
    with running(versioned(folder, "1")) as run:
        for place in ("model", run.run_dir):
            with pipeline.connect(place) as models:
                runner = models.infer_runner("model")
                before = version_of(runner)
                after = "2" if before == "1" else "3"
                models.reload("model", versioned(folder, after))
                assert version_of(runner) == after
                assert models.get_models() == ["model"]
                assert models.status()["model"]["state"] == "ready"
                with pytest.raises(Unavailable, match="no model 'other' runs here"):
                    models.reload("other")


# -- what others have started -----------------------------------------------------------------------


def test_connect_lists_what_runs_now_and_ends_nothing(two: tuple[Path, Path]) -> None:
    with pytest.raises(Unavailable, match=r"no pipeline is running .*; start one with: pipeline run CONFIG --serve"):
        pipeline.connect()
    with running(two[0]) as first:
        with pipeline.connect() as models, pipeline.connect("first") as named, pipeline.connect(first.run_dir) as by_path:
            assert (models.get_models(), named.get_models(), by_path.get_models()) == (["first"], ["first"], ["first"])
            with running(two[1]):
                assert models.get_models() == ["first", "second"]
                assert asked(models, "second")
                assert (named.get_models(), by_path.get_models()) == (["first"], ["first"])
                with pytest.raises(Unavailable, match=r"no model 'second' runs here; there is first"):
                    named.infer_runner("second")
                with pytest.raises(Unavailable, match=r"no pipeline 'frist' is running here .* \(did you mean first\?\)"):
                    pipeline.connect("frist")
            assert models.get_models() == ["first"]
            assert asked(named, "first")
            assert asked(by_path, "first")
            assert models.status()["first"]["state"] == "ready"
            assert models.status()["first"]["run"] == str(first.run_dir)
        assert first.status()["ready"]
        runner_of_none = models.get_models
        with pytest.raises(ClientMisuse, match="this manager was stopped"):
            runner_of_none()


def test_connect_waits_for_what_starts_and_no_longer_than_it_may(two: tuple[Path, Path]) -> None:
    with ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(pipeline.connect, "first", timeout_s=60)
        with running(two[0]), connecting.result() as models:
            assert asked(models, "first")
    with pytest.raises(Unavailable, match="no pipeline 'first' is running here"):
        pipeline.connect("first", timeout_s=0.1)


@pytest.mark.foreign
def test_a_connected_manager_starts_and_ends_nothing_and_says_why(two: tuple[Path, Path]) -> None:
    with running(two[0]), pipeline.connect("first") as models:
        with pytest.raises(ClientMisuse, match=r"load: this manager is connected .*pipeline run other.yaml --serve"):
            models.load("other.yaml")
        with pytest.raises(ClientMisuse, match=r"unload: this manager is connected .*SIGTERM"):
            models.unload("first")
        assert models.get_models() == ["first"]
