import pytest
import torch
from safetensors.torch import save_file

from kitsam.system.errors import KitsamError
from kitsam.system.tensors import read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "half": torch.ones(3, dtype=torch.float16),
    "number": torch.tensor(3),
    "none": torch.empty(0, 4),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, {"x": 1})
    return path


def test_what_is_written_is_read_back(path):
    tensors, header = read_tensors(path)
    assert tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert header == {"x": 1}


def test_the_same_tensors_give_the_same_bytes(path):
    write_tensors(other := path.with_name("b.safetensors"), TENSORS, {"x": 1})
    assert other.read_bytes() == path.read_bytes()


def test_every_flipped_bit_is_told(path):
    whole = path.read_bytes()
    for position in range(8, len(whole)):
        for bit in (0, 5):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            try:
                tensors, header = read_tensors(path)
            except KitsamError as error:
                assert "a.safetensors: " in str(error)
                continue
            # The name of the seal, or of the entry, may be what was hit; then all else is as it was.
            assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
            assert header is None or header["x"] == 1


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", lambda data: data[:20]]
)
def test_a_file_that_was_cut_or_grew_is_refused_by_name(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(KitsamError, match="a.safetensors: "):
        read_tensors(path)


def test_a_file_of_another_program_has_no_digest_and_is_read(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(2)}, path)
    assert torch.equal(read_tensors(path).tensors["x"], torch.ones(2))
