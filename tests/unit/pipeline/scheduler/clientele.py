"""The clients of a simulation: they fill slots, ask, and check that an answer's bytes stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from pipeline.graph.plan import Plan
from pipeline.scheduler.door import ClientGone
from pipeline.scheduler.scheduler import Scheduler
from pipeline.wire.messages import (
    OK,
    Again,
    Answer,
    Answers,
    Bye,
    Cancel,
    Hello,
    Loan,
    Message,
    SlotRef,
    Submission,
    Submit,
)
from shm.handle import TensorHandle
from shm.view import SegmentTable
from tests.unit.pipeline.scheduler.actors import MS, SCHEDULER, Client, Expected
from tests.unit.pipeline.scheduler.evaluation import expected_answer, expected_children
from tests.unit.pipeline.scheduler.graphs import BAD, TENSOR_BYTES
from tests.unit.pipeline.scheduler.network import Network

__all__ = ["Clientele"]


class Clientele:
    """The part of a `Simulation` that its clients play."""

    plan: Plan
    choose: Callable[[int], int]
    now: int
    draining: bool
    answered: int
    table: SegmentTable
    scheduler: Scheduler
    network: Network
    clients: dict[int, Client]
    guilt: dict[tuple[int, int], Fraction]
    ingress_segments: list[int]
    #: The output of the pipeline that comes in parts, if there is one.
    parted: str | None
    #: Whether some requests are of streams.
    streaming: bool
    #: Whether a worker has died or retired.
    lost_workers: bool
    _stage_reads_x: bool

    def decide(self) -> None:
        """The scheduler decides, and its messages are sent."""
        raise NotImplementedError

    def join(self) -> bool:
        """A client connects and asks for slots."""
        if len(self._connected()) >= 3:
            return False
        client = Client(100 + len(self.clients))
        self.clients[client.number] = client
        self.network.send(client.peer, SCHEDULER, Hello(client.number, "client"))
        for segment in self.ingress_segments:
            self._ask(client, segment, wait=True)
        return True

    def ask(self) -> bool:
        """A client asks for a slot, or no longer wants to wait for one."""
        connected = self._connected()
        if not connected:
            return False
        client = connected[self.choose(len(connected))]
        segment = self.ingress_segments[self.choose(len(self.ingress_segments))]
        self._ask(client, segment, wait=bool(self.choose(3)))
        return True

    def _ask(self, client: Client, segment: int, *, wait: bool) -> None:
        client.asks += 1
        self.network.send(client.peer, SCHEDULER, Loan(client.number, segment, client.asks, wait))

    def lose(self) -> bool:
        """A client is interrupted: it misses what it was receiving, and asks for it again."""
        able = [client for client in self._connected() if client.waiting]
        if not able:
            return False
        client = able[self.choose(len(able))]
        self.network.lose((SCHEDULER, client.peer))
        self.network.send(client.peer, SCHEDULER, Again(client.number, client.seen))
        return True

    def _connected(self) -> list[Client]:
        return [client for client in self.clients.values() if client.alive and not client.leaving]

    def submit(self) -> bool:
        """A client fills the slots it was granted, and submits some."""
        able = [client for client in self._connected() if client.granted]
        if not able:
            return False
        client = able[self.choose(len(able))]
        submissions = []
        for _ in range(1 + self.choose(min(2, len(client.granted)))):
            submissions.append(self._fill(client, client.granted.pop(self.choose(len(client.granted)))))
        message = Submit(client.number, client.seen, tuple(submissions), ())
        self.network.send(client.peer, SCHEDULER, message)
        if not self.choose(8):
            # The client was interrupted while it sent, and cannot tell whether this has left.
            self.network.send(client.peer, SCHEDULER, message)
        return True

    def _fill(self, client: Client, slot: SlotRef) -> Submission:
        client.tags += 1
        bad = self.choose(12) == 11
        deadline = 0 if self.choose(4) else self.now + (self.choose(60) - 2) * MS
        several = self.plan.rows > 1 and slot.segment == self.ingress_segments[-1]
        rows = 2 + self.choose(self.plan.rows - 1) if several else 1
        guilty = self.choose(rows)
        handles = []
        inputs: list[dict[str, bytes]] = [{} for _ in range(rows)]
        for index, spec in enumerate(self.plan.inputs):
            for row, each in enumerate(inputs):
                number = (client.number << 24 | client.tags << 6 | row << 4 | index).to_bytes(7, "little")
                each[spec.name] = bytes([BAD if bad and row == guilty else 1]) + number + number + b"\0"
            shape = (rows, TENSOR_BYTES) if several else (TENSOR_BYTES,)
            handles.append(TensorHandle(*slot, 64 * index, "uint8", shape))
            data = b"".join([each[spec.name] for each in inputs])
            self.table.view(handles[-1], writable=True)[...] = np.frombuffer(data, np.uint8).reshape(shape)
        answers = [expected_answer(self.plan, each) for each in inputs]
        whole = {name: b"".join([answer[name] for answer in answers]) for name in answers[0]}
        client.waiting[client.tags] = Expected(whole, deadline, bad)
        priority, stream = self.choose(3), 0
        if self.streaming and not several and not self.choose(3):
            stream = sorted(client.streams)[self.choose(2)]
            client.streams[stream] += 1
        sequence = client.streams.get(stream, 0)
        expected = client.waiting[client.tags]
        expected.stream, expected.sequence = stream, sequence
        expected.children = expected_children(self.plan, inputs[0])
        started = self.now - 5 if client.tags % 3 == 0 else 0
        trace = f"00-{client.tags:032x}-{1:016x}-01" if client.tags % 5 == 0 else ""
        return Submission(
            client.tags, slot, tuple(handles), deadline, priority, "", stream, sequence, started, trace, rows
        )

    def cancel(self) -> bool:
        """A client no longer wants some of its requests, which may be answered by now."""
        able = [client for client in self._connected() if client.waiting]
        if not able:
            return False
        client = able[self.choose(len(able))]
        tags = sorted(client.waiting)[self.choose(len(client.waiting)) :][: 1 + self.choose(3)]
        for tag in tags:
            client.waiting[tag].cancelled = True
        self.network.send(client.peer, SCHEDULER, Cancel(client.number, tuple(tags)))
        return True

    def end_stream(self) -> bool:
        """A client begins another stream in place of one."""
        connected = self._connected()
        if not connected:
            return False
        client = connected[self.choose(len(connected))]
        self._replace_stream(client, sorted(client.streams)[self.choose(2)])
        return True

    def _replace_stream(self, client: Client, name: int) -> None:
        if client.streams.pop(name, None) is not None:
            client.streams[max(*client.streams, name) + 1] = 0
            self.network.send(client.peer, SCHEDULER, Submit(client.number, client.seen, (), (), (name,)))

    def _client_takes(self, client: Client, message: Message) -> None:
        if not client.alive or client.leaving:
            return
        assert isinstance(message, Answers)
        if message.number != client.seen + 1:
            if message.number > client.seen:
                self.network.send(client.peer, SCHEDULER, Again(client.number, client.seen))
            return
        client.seen = message.number
        client.sent_away = client.sent_away or bool(message.successor)
        client.granted += message.grants
        for answer in message.answers:
            self._answer(client, answer)
        for slot in message.grants:
            if len(client.granted) < 4 and self.choose(4):
                self._ask(client, slot.segment, wait=True)

    def _answer(self, client: Client, answer: Answer) -> None:
        assert answer.tag in client.waiting, f"{answer} was answered before, or never asked"
        each = self.plan.answer_each_child
        if not answer.last:
            if each:
                self._take_child(client, client.waiting[answer.tag], answer)
            else:
                self._take_part(client.waiting[answer.tag], answer)
            return
        expected = client.waiting.pop(answer.tag)
        came = len(expected.came if each else expected.parts)
        assert answer.part == came, f"{answer} came after {came} parts"
        if expected.parts:
            # The client has read them until now, as the slots of every other answer.
            client.held.append(expected.parts)
        if expected.stream and answer.code == OK:
            before = [e for e in client.waiting.values() if e.stream == expected.stream and e.sequence < expected.sequence]
            assert not before, f"{answer} overtook {before}"
        self.answered += 1
        if answer.code == OK:
            assert not expected.bad or not self._stage_reads_x, f"{answer} should have been refused"
            names = [name for name, _ in self.plan.outputs]
            given = {
                name: (handle, self.table.view(handle).tobytes())
                for name, handle in zip(names, answer.outputs)
                if isinstance(handle, TensorHandle)
            }
            found = {name: data for name, (_, data) in given.items()}
            if (parted := self.parted) is not None:
                found[parted] = b"".join([data for _, data in expected.parts])
            assert found == expected.outputs, f"wrong answer {answer}"
            assert len(expected.came) == len(expected.children), f"children are missing before {answer}"
            if given:
                client.held.append(list(given.values()))
            return
        assert answer.outputs == ()
        if answer.code == "StreamBroken" and expected.stream:
            self._replace_stream(client, expected.stream)
        allowed = {
            "Cancelled": expected.cancelled,
            "StreamBroken": self.lost_workers and (bool(expected.stream) or (answer.part > 0 and not each)),
            "BadInput": expected.bad,
            "DeadlineExceeded": 0 < expected.deadline <= self.now,
            "StageCrashed": self.guilt[client.number, answer.tag] >= 1,
            "Unavailable": self.draining,
        }
        assert allowed.get(answer.code), f"unexpected {answer}"

    def _take_part(self, expected: Expected, answer: Answer) -> None:
        assert self.parted is not None
        assert answer.part == len(expected.parts)
        ((name, handle),) = [
            (name, handle)
            for (name, _), handle in zip(self.plan.outputs, answer.outputs)
            if isinstance(handle, TensorHandle)
        ]
        assert name == self.parted
        data = self.table.view(handle).tobytes()
        at = TENSOR_BYTES * answer.part
        assert expected.outputs[name][at : at + TENSOR_BYTES] == data, f"wrong part {answer}"
        expected.parts.append((handle, data))

    def _take_child(self, client: Client, expected: Expected, answer: Answer) -> None:
        assert answer.part not in expected.came, f"{answer} has come before"
        expected.came.add(answer.part)
        given = {
            name: (handle, self.table.view(handle).tobytes())
            for (name, _), handle in zip(self.plan.outputs, answer.outputs)
            if isinstance(handle, TensorHandle)
        }
        found = {name: data for name, (_, data) in given.items()}
        assert found == expected.children[answer.part], f"wrong part {answer}"
        if given and self.choose(2):
            # It may let go of one child before the next comes.
            client.held.append(list(given.values()))
        else:
            expected.parts += given.values()

    def release(self) -> bool:
        """A client lets go of an answer, which must be as it was."""
        able = [client for client in self.clients.values() if client.alive and client.held]
        if not able:
            return False
        client = able[self.choose(len(able))]
        self._release(client, self.choose(len(client.held)))
        return True

    def _release(self, client: Client, index: int) -> None:
        found = client.held.pop(index)
        for handle, data in found:
            assert self.table.view(handle).tobytes() == data, f"{handle}: changed while client {client.number} read it"
        slots = _slots_of([found])
        self.network.send(client.peer, SCHEDULER, Submit(client.number, client.seen, (), slots))
        if client.leaving and not client.held:
            client.alive = False
            self.network.send(client.peer, SCHEDULER, Bye(client.number, ()))

    def give_back(self) -> bool:
        """A client returns a slot that it was granted and does not need."""
        able = [client for client in self._connected() if client.granted]
        if not able:
            return False
        client = able[self.choose(len(able))]
        slot = client.granted.pop()
        self.network.send(client.peer, SCHEDULER, Submit(client.number, client.seen, (), (slot,)))
        return True

    def leave(self) -> bool:
        """A client says goodbye."""
        connected = self._connected()
        if not connected:
            return False
        client = connected[self.choose(len(connected))]
        self._leave(client, keep=bool(self.choose(2)))
        return True

    def _leave(self, client: Client, *, keep: bool) -> None:
        """A client says goodbye, at once or as soon as it has read its answers, and written the slots in its hand."""
        client.leaving = True
        client.waiting.clear()
        if keep:
            client.held += [[self._half_written(client, slot)] for slot in client.granted]
        else:
            client.held.clear()
        client.granted.clear()
        client.alive = bool(client.held)
        self.network.send(client.peer, SCHEDULER, Bye(client.number, _slots_of(client.held)))

    def _half_written(self, client: Client, slot: SlotRef) -> tuple[TensorHandle, bytes]:
        """What a thread of a client that is closed writes into a slot meanwhile."""
        handle, data = TensorHandle(*slot, 0, "uint8", (TENSOR_BYTES,)), client.number.to_bytes(TENSOR_BYTES, "little")
        self.table.view(handle, writable=True)[...] = np.frombuffer(data, np.uint8)
        return handle, data

    def kill_client(self) -> bool:
        """A client dies, and some of what it sent last is lost. The scheduler will see it by the client's lock."""
        living = [client for client in self.clients.values() if client.alive]
        if not living:
            return False
        client = living[self.choose(len(living))]
        client.alive = False
        self.network.dies(client.peer, self.choose)
        return True

    def probe(self) -> bool:
        """The scheduler looks at the locks of its clients."""
        for number in list(self.scheduler.ingress.clients):
            if not self.clients[number].alive:
                self.scheduler.handle(ClientGone(number), self.now)
        self.decide()
        return True


def _slots_of(answers: Sequence[Sequence[tuple[TensorHandle, bytes]]]) -> tuple[SlotRef, ...]:
    """The slots to which answers refer, each once."""
    return tuple({SlotRef(*handle[:3]): None for answer in answers for handle, _ in answer})
