"""Batches on their way to a GPU: which are copied when, and into what."""

from contextlib import contextmanager

import pytest
import torch
from training.test_step import questions

from kitsam.training import transfer
from kitsam.training.transfer import on_device

CPU = torch.device("cpu")


class Stream:
    """Of a GPU that does at once what it is told, and notes in which order."""

    def __init__(self, notes: list[str], name: str) -> None:
        self.notes, self.name = notes, name

    def wait_event(self, event: "Event") -> None:
        if event.recorded:
            self.notes.append(f"{self.name} waits for {event.recorded}")


class Event:
    recorded = ""

    def record(self, stream: Stream) -> None:
        self.recorded = f"{stream.name} after {len(stream.notes)}"


@pytest.fixture
def notes(monkeypatch) -> list[str]:
    """What the streams of a GPU do; it is the CPU in disguise."""
    notes: list[str] = []
    current = [Stream(notes, "steps")]

    @contextmanager
    def stream(of):
        current.append(of)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(notes, "copies"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    return notes


def sizes() -> list[int]:
    return [4, 6, 5, 6]  # slices, more and fewer


def test_each_batch_is_copied_before_the_one_before_it_is_done_with(notes):
    def read():
        for number, size in enumerate(sizes()):
            notes.append(f"read {number}")
            yield questions(size, number)

    for number, batch in enumerate(transfer._copied_ahead(read(), CPU)):
        notes.append(f"step {number}")
        expected = questions(sizes()[number], number)
        assert torch.equal(batch.stored, expected.stored) and torch.equal(batch.boxes, expected.boxes)
        assert torch.equal(batch.masks, expected.masks) and batch.boxes_of_slice == expected.boxes_of_slice
    order = [note for note in notes if not note.startswith("copies") and "waits" not in note]
    assert order == ["read 0", "read 1", "step 0", "read 2", "step 1", "read 3", "step 2", "step 3"]
    # A step waits for its own batch; a copy for the step that used its buffer, two batches before.
    assert sum(note.startswith("steps waits for copies") for note in notes) == 4
    assert sum(note.startswith("copies waits for steps") for note in notes) == 2


def test_two_buffers_take_all_batches(notes):
    read = (questions(4, number) for number in range(6))
    places = [batch.stored.data_ptr() for batch in transfer._copied_ahead(read, CPU)]
    assert len({*places}) == 2 and places[:2] * 3 == places


def test_breaking_off_closes_the_reader(notes):
    closed = []

    def read():
        try:
            while True:
                yield questions()
        finally:
            closed.append(True)

    stream = transfer._copied_ahead(read(), CPU)
    next(stream)
    stream.close()
    assert closed


def test_on_a_cpu_batches_are_handed_on_as_they_are():
    read = iter([questions()])
    assert on_device(read, CPU) is read


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gets_the_same_batches():
    gpu = torch.device("cuda")
    read = (questions(size, number).pinned() for number, size in enumerate(sizes()))
    for number, batch in enumerate(on_device(read, gpu)):
        torch.cuda._sleep(10**7)  # cycles: the next copy begins before this batch is looked at
        expected = questions(sizes()[number], number)
        assert torch.equal(batch.stored.cpu(), expected.stored) and torch.equal(batch.masks.cpu(), expected.masks)
