"""A pod: the pipeline and its applications in containers of their own, which share two folders. Either side is killed, restarted, hostile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.faults.load import until
from tests.faults.pods import GROUP, OTHER, PIPELINE, STRANGER, Container, Pod, pod

#: It takes minutes beside the other tests: `make test-foreign`.
pytestmark = pytest.mark.foreign

MakePod = Callable[..., Pod]


@pytest.fixture
def make_pod() -> Iterator[MakePod]:
    with ExitStack() as stack:

        def make(rootless: bool = False, **options: int) -> Pod:
            if not rootless and os.geteuid() != 0:
                pytest.skip("containers of different users are made by root; `sudo make test` has these tests, too")
            try:
                return stack.enter_context(pod(rootless, **options))
            except RuntimeError as error:
                pytest.skip(str(error))

        yield make


#: What this user can make is in `make test`, by root the pods of several users; the other kind is in `make test-foreign`.
_KINDS = [
    pytest.param(kind, marks=[pytest.mark.foreign] if (kind == "rootless") is (os.geteuid() == 0) else [])
    for kind in ("users", "rootless")
]


@pytest.fixture(params=_KINDS)
def any_pod(request: pytest.FixtureRequest, make_pod: MakePod) -> Pod:
    """A pod of different users with a common group, and one of a single user without root's help."""
    return make_pod(rootless=request.param == "rootless")


def is_clean(made: Pod, runs: int = 1) -> bool:
    """Whether there is what belongs to so many living runs, and nothing else."""
    return (
        len(list(made.run.iterdir())) == runs
        and made.segments() == sorted(["first", "ingress-0", "recorder", "second"] * runs)
        and not made.of_clients()
    )


def test_an_application_is_answered_and_nothing_is_left(any_pod: Pod) -> None:
    pipeline = any_pod.pipeline()
    app = any_pod.app("once", "0.5")
    assert app.ended() == 0
    app.says("answer hello of 500 writable False")
    until(lambda: is_clean(any_pod))
    assert pipeline.stop() == 0
    assert is_clean(any_pod, runs=0)


def test_an_application_may_start_first(any_pod: Pod) -> None:
    app = any_pod.app("once", "60")
    until(lambda: app.lines)
    any_pod.pipeline()
    assert app.ended() == 0
    app.says("answer hello")


def test_an_application_that_is_killed_leaves_nothing_and_the_next_one_goes_on(any_pod: Pod) -> None:
    any_pod.pipeline()
    other = any_pod.app("load", user=OTHER)
    other.goes_on()
    for _ in range(2):
        app = any_pod.app("load")
        app.goes_on()
        assert len(any_pod.of_clients()) == 4
        app.kill()
        until(lambda: len(any_pod.of_clients()) == 2)
        other.goes_on()
    assert "lost" not in other.text
    other.kill()
    until(lambda: is_clean(any_pod))


def test_a_pipeline_that_is_killed_is_followed_by_the_next_one_which_removes_what_it_left(any_pod: Pod) -> None:
    pipeline, app = any_pod.pipeline(), any_pod.app("load")
    for life in (1, 2):
        app.goes_on()
        pipeline.kill()
        app.says("lost Unavailable", life)
        pipeline = any_pod.pipeline()
        pipeline.says("removed what pod-1 left, a run that is dead")
        app.says("back", life)
    app.goes_on()
    app.kill()
    until(lambda: is_clean(any_pod))


def test_both_are_killed_and_the_pipeline_comes_back(any_pod: Pod) -> None:
    pipeline, app = any_pod.pipeline(), any_pod.app("load")
    app.goes_on()
    app.kill()
    pipeline.kill()
    assert len(any_pod.segments()) == 4
    any_pod.pipeline()
    until(lambda: is_clean(any_pod))
    assert any_pod.app("once", "5").ended() == 0


def test_both_are_killed_and_the_application_comes_back_first(any_pod: Pod) -> None:
    pipeline, app = any_pod.pipeline(), any_pod.app("load")
    app.goes_on()
    pipeline.kill()
    app.kill()
    gone = any_pod.app("once", "0.2")
    assert gone.ended() == 0
    gone.says("Unavailable no pipeline 'pod' is running here")
    app = any_pod.app("load")
    any_pod.pipeline()
    app.goes_on()


def test_two_pipelines_that_are_both_process_1_of_their_containers_share_the_folders(any_pod: Pod) -> None:
    first = any_pod.pipeline()
    app = any_pod.app("load")
    app.goes_on()
    second = any_pod.pipeline()
    assert len(list(any_pod.run.glob("pod-*"))) == 2
    assert first.stop() == 0
    app.says("back")
    app.goes_on()
    app.kill()
    until(lambda: is_clean(any_pod))
    assert second.stop() == 0


# -- who may do what ------------------------------------------------------------------------------


def test_the_group_writes_requests_reads_answers_reaches_the_scheduler_and_opens_nothing_else(make_pod: MakePod) -> None:
    made = make_pod()
    made.pipeline()
    look = made.app("look")
    assert look.ended() == 0
    assert dict(line.split() for line in look.lines[1:]) == {
        "ingress-0": "rw",
        "second": "r",
        "first": "-",
        "recorder": "-",
        "scheduler.sock": "rw",
        "supervisor.sock": "-",
        "w0.sock": "-",
        "owner.lock": "r",
        "scheduler.lock": "r",
        "segments": "-",
        "clients": "w",
    }
    for path in [*made.run.rglob("*"), *made.shm.iterdir()]:
        assert path.stat().st_mode & 0o007 == 0, path


@pytest.mark.parametrize("by", ["name", "path"])
def test_a_client_that_is_not_in_the_group_is_told_which_one_it_needs(make_pod: MakePod, by: str) -> None:
    made = make_pod()
    made.pipeline()
    stranger = made.app("once", "2", *[str(path) for path in made.run.iterdir() if by == "path"], user=STRANGER, groups=[])
    assert stranger.ended() == 0
    stranger.says(f"is open to user {PIPELINE} and to group {GROUP}, and this process is user {STRANGER} with the groups {STRANGER}")
    stranger.says(f"securityContext.fsGroup or supplementalGroups: [{GROUP}]")


def test_a_pipeline_that_is_not_in_its_group_is_told_so_and_leaves_nothing(make_pod: MakePod) -> None:
    made = make_pod()
    for volume in (made.shm, made.run):
        volume.chmod(0o777)
        os.chown(volume, PIPELINE, GROUP)
    arguments = ["-m", "pipeline", "run", "--serve", str(made.folder / "pod.yaml")]
    alone = made.container(arguments, PIPELINE, [])
    assert alone.ended() == 3
    alone.says(f"cannot be given to group {GROUP}: this process is user {PIPELINE} with the groups {PIPELINE}; add the group to it")
    assert is_clean(made, runs=0)


def lives_on(pipeline: Container, victim: Container) -> None:
    """The pipeline and a client of it are as if nothing had happened."""
    victim.goes_on()
    assert "lost" not in victim.text
    assert pipeline.process.poll() is None
    assert not any(word in pipeline.text for word in ("Traceback", "died", "killed by", "drain"))


def test_forged_handles_control_messages_garbage_and_a_flood_harm_no_other_client(make_pod: MakePod) -> None:
    made = make_pod()
    pipeline, victim = made.pipeline(), made.app("load")
    victim.goes_on()
    numbers = [name.removesuffix(".lock") for name in made.of_clients() if name.endswith(".lock")]
    attacker = made.app("attack", *numbers, user=OTHER)
    attacker.says("done OK")
    lives_on(pipeline, victim)
    assert attacker.text.count("forged") == attacker.text.count("InvalidRequest") == 6
    for name in ("supervisor.sock", "w0.sock"):
        assert f"{name} Permission denied" in attacker.text
    assert f"in the name of {numbers[0]}" in attacker.text
    # The first three of those that are refused; tests of `pipeline.wire.peers` have each of them.
    for message in ("Stop", "Drain", "WorkerGone"):
        assert f"a {message} from user {OTHER}: only processes of the run's own user may send it" in pipeline.text
    assert "they are counted and not shown" in pipeline.text
    attacker.kill()
    lives_on(pipeline, victim)


def test_what_the_group_makes_in_the_folder_of_clients_harms_no_other_client_and_goes_with_the_run(make_pod: MakePod) -> None:
    made = make_pod()
    pipeline, victim = made.pipeline(), made.app("load")
    victim.goes_on()
    attacker = made.app("litter", user=OTHER)
    attacker.says("done")
    lives_on(pipeline, victim)
    assert attacker.text.count("refused truncate ") >= 3
    allowed = [line for line in attacker.lines if line.startswith("allowed")]
    assert allowed == ["allowed another hello"]
    assert "answer OK" in attacker.text
    # What is dead there is swept, a part at a time.
    until(lambda: not any(name.startswith("1000000") for name in made.of_clients()))
    attacker.kill()
    lives_on(pipeline, victim)
    victim.kill()
    assert pipeline.stop() == 0
    assert "Traceback" not in pipeline.text
    assert made.segments() == []
    # A folder of the member's own, with something in it, can be removed by that member alone. No other run minds it.
    assert sorted(str(path.relative_to(made.run)) for path in made.run.rglob("*")) == [
        "pod-1", "pod-1/clients", "pod-1/clients/deep", "pod-1/clients/deep/file",
    ]  # fmt: skip
    next_one = made.pipeline()
    made.app("once", "60").says("answer hello")
    assert next_one.stop() == 0


def test_locks_of_readers_keep_no_scheduler_from_starting_and_no_dead_run_from_being_removed(make_pod: MakePod) -> None:
    made = make_pod()
    pipeline, app = made.pipeline(), made.app("load")
    app.goes_on()
    holder = made.app("hold", user=OTHER)
    holder.says("waits")
    pipeline.kill()
    holder.says("has a lock", 2)
    pipeline = made.pipeline()
    pipeline.says("removed what pod-1 left, a run that is dead")
    app.says("back")
    app.goes_on()
    app.kill()
    holder.kill()
    until(lambda: is_clean(made))


@pytest.mark.parametrize("left", [4096, 0])
def test_a_truncated_segment_of_requests_is_survived_by_a_restart(make_pod: MakePod, left: int) -> None:
    made = make_pod()
    pipeline, app = made.pipeline(), made.app("load")
    app.goes_on()
    assert made.app("truncate", str(left), user=OTHER).ended() == 0
    # The supervisor looks once a second; if the table is gone too, the scheduler dies before by writing into it.
    until(lambda: "a segment is damaged, so all are replaced" in pipeline.text or "the scheduler died" in pipeline.text)
    # The application's own process may have died by SIGBUS, as that of any client; then its container starts it again.
    app.kill()
    app = made.app("load")
    app.goes_on()
    app.kill()
    until(lambda: is_clean(made))
    assert pipeline.stop() == 0
    assert is_clean(made, runs=0)


def test_segments_that_the_group_puts_its_own_files_in_the_place_of_are_replaced(make_pod: MakePod) -> None:
    made = make_pod()
    pipeline, app = made.pipeline(), made.app("load")
    app.goes_on()
    assert made.app("replace", user=OTHER).ended() == 0
    pipeline.says("a segment is damaged, so all are replaced")
    pipeline.says("belongs to user")
    app.says("back")
    app.goes_on()


def test_an_application_of_another_version_is_told_which_side_to_upgrade(make_pod: MakePod) -> None:
    made = make_pod()
    made.pipeline()
    app = made.app("newer")
    assert app.ended() == 0
    app.says("upgrade the pipeline, so that both are of one version")


# -- room -----------------------------------------------------------------------------------------


def test_a_folder_without_room_is_refused_at_the_start_with_the_sum(make_pod: MakePod) -> None:
    made = make_pod(size_mib=1)
    made.config(ingress={"slots": 1000})
    pipeline = made.pipeline(ready=False)
    assert pipeline.ended() == 3
    pipeline.says(f"free in {made.shm}:")
    pipeline.says("give the volume more (emptyDir: sizeLimit:")
    assert made.segments() == []
    assert list(made.run.iterdir()) == []


def test_a_folder_that_the_application_fills_harms_nothing_that_runs_nor_the_next_start_of_the_application(
    make_pod: MakePod,
) -> None:
    made = make_pod(size_mib=1)
    pipeline, app = made.pipeline(), made.app("load")
    app.goes_on()
    filler = made.app("fill", user=OTHER)
    assert filler.ended() == 0
    filler.says("done No space left on device")
    lives_on(pipeline, app)
    app.kill()
    app = made.app("load")
    app.goes_on()
    # The next pipeline needs no more room than the dead one has left.
    pipeline.kill()
    made.pipeline()
    app.says("back")
    app.goes_on()

