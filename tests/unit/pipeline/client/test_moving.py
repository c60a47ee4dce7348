"""A client whose run is replaced by a new version: it sends nothing new there, and moves when it has all its answers."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.client.access import Access
from pipeline.errors import InvalidRequest, Unavailable
from pipeline.scheduler.door import Decided
from pipeline.wire.address import Address
from pipeline.wire.links import Inbox, listen
from pipeline.wire.messages import Again, Answers, Drain, Drained, Gone, Hello, Loan, Submit
from pipeline.wire.run_dir import lock_path
from pipeline.wire.run_folder import RunFolder
from pipeline.wire.shards import ShardLinks
from shm.owner import Alive, probe
from tests.unit.pipeline.client.direct import Direct
from tests.unit.pipeline.client.loopback import Client, ClientInbox, Pipeline, arrived_without_client, owner_lock
from tests.unit.pipeline.client.talk import EPOCH, ME, SMALL, Talk, ok, slot, submission
from tests.unit.pipeline.client.test_interruptions import ask, interrupted, read
from tests.unit.pipeline.client.test_queue import expected, until
from tests.unit.pipeline.scheduler.evaluation import expected_answer
from tests.unit.pipeline.scheduler.graphs import make_plan

SECOND = 1_000_000_000


# -- the session ------------------------------------------------------------------------------------


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.attach()
    talk.join()
    return talk


def replaced(talk: Talk, *, grants: tuple[int, ...] = ()) -> None:
    """The scheduler says that another run has taken over."""
    talk.number += 1
    talk.session.receive(Answers(talk.number, (), tuple(slot(each) for each in grants), 0, "demo-2"), talk.now)


def test_an_idle_client_gives_back_its_slots_at_once_and_may_move(talk: Talk) -> None:
    # Otherwise one that comes with the last answer stays for the next request.
    pending = talk.submit(slot(0))
    talk.said()
    talk.number += 1
    talk.session.receive(Answers(talk.number, (ok(1),), (slot(1),), 0, "demo-2"), talk.now)
    assert pending.done()
    (submit,) = talk.said()
    assert isinstance(submit, Submit)
    assert slot(1) in submit.releases
    assert talk.session.may_move


def test_a_request_under_way_keeps_a_client_where_it_is(talk: Talk) -> None:
    talk.submit(slot(0))
    replaced(talk)
    assert talk.session.holds_back
    assert not talk.session.may_move
    talk.answered(ok(1))
    assert talk.session.may_move


def test_a_message_that_was_lost_says_it_when_it_comes_again(talk: Talk) -> None:
    talk.number += 1
    replaced(talk)
    assert talk.session.successor == ""
    assert talk.said() == [Again(ME, 0)]
    talk.number = 0
    talk.answered()
    replaced(talk)
    assert talk.session.successor == "demo-2"


def test_requests_under_way_and_callers_that_wait_keep_a_client_where_it_is(talk: Talk) -> None:
    pending = talk.submit(slot(0))
    ask = talk.ask()
    replaced(talk)
    assert talk.session.holds_back
    assert not talk.session.may_move
    last = talk.session.give_up(SMALL, talk.now, ask)
    talk.answered(ok(1))
    assert pending.done()
    assert not talk.session.may_move
    talk.answered(settled=last.number)
    assert talk.session.may_move


def test_a_slot_that_is_being_filled_is_sent_to_the_old_run(talk: Talk) -> None:
    draft = talk.draft(slot(0))
    replaced(talk)
    assert not talk.session.holds_back
    assert not talk.session.may_move
    talk.said()
    talk.session.submit(talk.pending(), draft, 0, 0, "")
    talk.session.flush()
    assert submission(1, slot(0)) in [s for m in talk.said() if isinstance(m, Submit) for s in m.submissions]
    assert talk.session.holds_back


def test_a_client_that_has_moved_knows_nothing_of_the_old_run_and_its_tags_go_on(talk: Talk) -> None:
    talk.submit(slot(0))
    talk.answered(ok(1))
    replaced(talk)
    talk.said()
    talk.session.move()
    assert talk.session.moving
    assert isinstance(talk.session.lost, Unavailable)
    talk.session.detached()
    assert talk.said() == []
    talk.session.attached(talk.leases)
    assert not talk.session.moving
    talk.leases.renew()
    talk.session.wake(talk.now)
    assert talk.said() == [Hello(ME, "a client")]
    talk.join()
    assert talk.session.successor == ""
    talk.submit(slot(0))
    assert [s.tag for m in talk.said() if isinstance(m, Submit) for s in m.submissions] == [2]


def test_where_to_go_is_known_after_the_end_of_the_old_run_and_the_old_one_does_not_know_the_client(talk: Talk) -> None:
    talk.submit(slot(0))
    replaced(talk)
    talk.session.receive(Gone(EPOCH + 1), talk.now)
    assert talk.session.successor == "demo-2"
    talk.session.move()
    assert not talk.session.moving


# -- the queue --------------------------------------------------------------------------------------


def take_over(direct: Direct) -> None:
    """Another run takes over: the scheduler hears of it, and says so to its client."""
    assert direct.workers is not None
    direct.workers.handle(Drain(direct.now + 3600 * SECOND, "demo-2"))
    direct.decide()


def move(direct: Direct) -> None:
    """The client goes to the new run."""
    assert direct.workers is not None
    assert direct.session.may_move
    direct.session.move()
    direct.session.detached()
    direct.leases.renew()
    direct.ended.append(direct.workers)
    direct.coming.clear()


def test_requests_under_way_are_answered_there_and_those_that_wait_by_the_new_run(direct: Direct) -> None:
    requests = [direct.infer(number) for number in range(30)]
    for _ in range(3):
        direct.queue.go_on(direct.now)
        direct.send()
        direct.decide()
        direct.receive()
    take_over(direct)
    over = []
    for _ in range(20):
        over += direct.step()
    waiting = [request for request in requests if request.pending is None]
    assert over == requests[: 30 - len(waiting)]
    assert 10 < len(waiting) < 30
    for request in over:
        assert direct.outputs(request) == expected(direct, request.owner)
    move(direct)
    direct.start()
    direct.connect()
    for _ in range(100):
        for request in direct.step():
            assert direct.outputs(request) == expected(direct, request.owner)
            over.append(request)
    assert over == requests


def test_nothing_new_is_written_into_a_slot_of_a_run_that_was_replaced(direct: Direct) -> None:
    until(direct, [direct.infer(1)])
    take_over(direct)
    direct.receive()
    request = direct.infer(2)
    for _ in range(5):
        direct.step()
    assert request.pending is None
    assert not any(isinstance(message, Loan) and message.wait for message in direct.session.to_send())
    assert direct.session.may_move


def test_a_slot_in_hand_is_not_filled_any_more_while_answers_are_still_to_come() -> None:
    direct = Direct(make_plan("chain", slots=16, credits=4))
    direct.start()
    direct.connect()
    requests = [direct.infer(number) for number in range(4)]
    for _ in range(4):
        direct.queue.go_on(direct.now)
        direct.send()
        direct.decide()
        direct.receive()
    assert not any(request.waits for request in requests)
    assert direct.session.slots.unused(requests[0].segment)
    take_over(direct)
    direct.receive()
    assert direct.infer(9).waits
    direct.close()


def test_the_old_run_ends_once_its_client_has_all_its_answers(direct: Direct) -> None:
    requests = [direct.infer(number) for number in range(20)]
    for _ in range(3):
        direct.queue.go_on(direct.now)
        direct.send()
        direct.decide()
        direct.receive()
    take_over(direct)
    told: list[object] = []
    # Of the test's own: the scheduler may be compiled, and then takes no other method.
    take = direct._take

    def noting(decided: Decided) -> None:
        told.extend(message for message in decided if isinstance(message, Drained))
        take(decided)

    direct._take = noting  # type: ignore[method-assign]
    for _ in range(20):
        direct.step()
    assert len(told) == 1
    assert all(request.done for request in requests if request.pending is not None)


def test_a_request_that_waits_and_does_not_fit_the_new_version_fails_alone(direct: Direct) -> None:
    until(direct, [direct.infer(0)])
    take_over(direct)
    direct.receive()
    bad, good = direct.infer(1), direct.infer(2)
    direct.step()
    move(direct)
    plan = make_plan("chain", slots=8, credits=4)
    name = plan.inputs[0].name
    wide = {**bad.inputs, name: bad.inputs[name][:8]}
    bad.inputs = wide
    direct.start(replace(plan))
    direct.connect()
    until(direct, [bad, good])
    assert isinstance(bad.error(), InvalidRequest)
    assert direct.outputs(good) == expected(direct, 2)


# -- the way into a run -----------------------------------------------------------------------------


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunFolder]]:
    """Of the root, and of a version that it has started."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 101)
        root = RunFolder("demo")
        patch.setattr(os, "getpid", lambda: 102)
        later = RunFolder("demo", root.path)
    yield [root, later]
    later.remove()
    root.remove()


def place(access: Access) -> Path:
    """Where it attaches."""
    access.attach()
    assert access.connection is not None
    return access.connection.run_dir


@pytest.mark.parametrize("by_path", [False, True])
def test_a_client_goes_where_the_folder_that_it_was_told_of_leads(folders: list[RunFolder], by_path: bool) -> None:
    root, later = folders
    root.mark_ready(True)
    access = Access(root.path if by_path else "demo", lambda folder, address: listen(folder, address))
    assert place(access) == root.path
    assert (access.is_over, access.is_replaced) == (False, False)
    number = access.connection.number  # type: ignore[union-attr]
    root.replace(later.path.name)
    assert (access.is_over, access.is_replaced, access.is_final) == (True, True, False)
    access.move(root.path.name, known=False)
    assert not isinstance(probe(lock_path(root.path, Address.client(number))), Alive)
    assert place(access) == later.path
    assert not access.is_over
    access.detach(known=False)


def test_a_client_of_a_later_version_s_folder_finds_the_next_one_although_that_is_gone(folders: list[RunFolder]) -> None:
    root, later = folders
    access = Access(later.path, lambda folder, address: listen(folder, address))
    assert place(access) == later.path
    access.detach(known=False)
    # It was replaced, and the root's own run serves again, so to say.
    shutil.rmtree(later.path)
    assert place(access) == root.path
    access.detach(known=False)


def test_a_client_that_does_not_follow_stays_with_its_run(folders: list[RunFolder]) -> None:
    root, later = folders
    root.replace(later.path.name)
    access = Access(root.path, lambda folder, address: listen(folder, address), follows=False)
    assert place(access) == root.path
    assert not access.is_over
    access.detach(known=False)


def test_a_run_whose_folder_is_removed_while_a_client_takes_its_place_there_is_told_as_one_that_has_ended(
    folders: list[RunFolder],
) -> None:
    run = folders[1]

    def bind(folder: Path, address: Address) -> Inbox:
        # It was dead when it was found; others do this.
        shutil.rmtree(folder)
        return listen(folder, address)

    access = Access(run.path, bind)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unavailable, match="a run removes its folder when it ends"):
        access.attach()
    assert access.connection is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("by_path", [False, True])
def test_a_client_that_found_a_front_without_its_door_goes_through_that_once_it_is_there(
    folders: list[RunFolder], by_path: bool
) -> None:
    front, shard = folders
    front.mark_ready(True)
    access = Access(front.path if by_path else "demo", lambda folder, address: listen(folder, address))
    assert place(access) == front.path
    assert (access.is_over, access.is_coming) == (False, False)
    ShardLinks(front.path).lead(0, shard.path.name)
    assert (access.is_over, access.is_coming, access.is_final) == (True, True, False)
    access.detach(known=False)
    assert place(access) == shard.path
    # If this shard ends before it lets the client in, there will be another one.
    assert (access.is_over, access.is_coming) == (False, True)
    # Unless the front is dead too: its folder and its door stay for a moment.
    os.close(front._lock._fd)
    front._lock._fd = -1
    assert not access.is_coming
    access.detach(known=False)


# -- interruptions ----------------------------------------------------------------------------------


class Both:
    """The old run and the new one, which work while the client waits."""

    def __init__(self, old: Pipeline, new: Pipeline) -> None:
        self.old, self.new = old, new

    def step(self) -> None:
        self.old.step()
        self.new.step()


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[Both, Path]]]:
    """Begins an old and a new run; those of before are dead then."""
    with ExitStack() as stack:
        made: list[Both] = []

        def end() -> None:
            monkeypatch.setattr(ClientInbox, "running", None)
            for each in made:
                each.old.die()
                each.new.die()
            made.clear()

        def begin() -> tuple[Both, Path]:
            end()
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ["TRTLAB_RUN_DIR"])))
            for name in ("demo-1", "demo-2"):
                (home / name).mkdir(mode=0o700)  # of a run without a group
                (home / name / "clients").mkdir()
                stack.enter_context(owner_lock(home / name))
            plan = make_plan("early outputs", slots=8, credits=4)
            made.append(Both(Pipeline(home / "demo-1", plan), Pipeline(home / "demo-2", plan)))
            monkeypatch.setattr(ClientInbox, "running", made[0])
            return made[0], home

        yield begin
        end()


# There are 340 points, for each of which two pipelines start: a tenth of them, and all of them in `make test-foreign`.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", [25, pytest.param(1, marks=pytest.mark.foreign)])
def test_wherever_a_move_is_interrupted_the_next_request_is_answered_by_the_new_run(
    both: Callable[[], tuple[Both, Path]], step: int
) -> None:
    point = 1 - step
    cut = True
    while cut:
        point += step
        runs, home = both()
        with Client.connect(home / "demo-1") as client:
            earlier, inputs = ask(client, 7)
            result = earlier.get(10)
            held = {name: array.copy() for name, array in result.items()}
            runs.old.handle(Drain(time.monotonic_ns() + 3600 * SECOND, "demo-2"))
            runs.old.step()
            # Not where it makes its place in the new run's folder: as at any `connect`, a descriptor that was just
            # opened then is lost.
            cut, asked = interrupted(point, lambda number=point, client=client: ask(client, number), ("attach",))  # type: ignore[misc]
            if cut:
                with suppress(Unavailable):
                    asked = ask(client, point)
                if asked is None:
                    client.reconnect(10)
                    asked = ask(client, point)
            future, inputs = asked
            assert read(future) == expected_answer(runs.new.plan, inputs), f"point {point}"
            # If the word was lost with what was being received, it has come again by now.
            future, inputs = ask(client, 9)
            assert read(future) == expected_answer(runs.new.plan, inputs), f"point {point}"
            assert runs.new.scheduler.counts["answered"] >= 1, f"point {point}"
            assert {name: array.tobytes() for name, array in result.items()} == {
                name: array.tobytes() for name, array in held.items()
            }
            del earlier, future, asked
            result.release()
            del result, held
        del client
        gc.collect()
        for each in (runs.old, runs.new):
            arrived_without_client(each, lambda each=each: not any(each.in_use))  # type: ignore[misc]
    assert point > 30


def test_a_run_that_was_stopped_is_told_from_one_that_was_killed_or_replaced(folders: list[RunFolder]) -> None:
    stopped, killed = folders
    for folder in folders:
        folder.mark_ready(True)
    access = Access(stopped.path, lambda folder, address: listen(folder, address), follows=False)
    assert not access.is_stopped
    assert place(access) == stopped.path
    assert not access.is_stopped
    stopped.mark_stopping(True)
    assert access.is_stopped
    stopped.replace(killed.path.name)
    assert not access.is_stopped
    (stopped.path / "successor").unlink()
    # Its folder goes at its end.
    shutil.rmtree(stopped.path)
    os.close(stopped._lock._fd)
    stopped._lock._fd = -1
    assert access.is_stopped
    access.detach(known=False)

    access = Access(killed.path, lambda folder, address: listen(folder, address))
    assert place(access) == killed.path
    os.close(killed._lock._fd)
    killed._lock._fd = -1
    assert (access.is_over, access.is_stopped) == (True, False)
    access.detach(known=False)
