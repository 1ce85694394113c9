import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kitsam.sam.checkpoints import read_checkpoint
from kitsam.system.errors import KitsamError

STATE = {"encoder.weight": torch.arange(6.0).reshape(2, 3), "encoder.bias": torch.ones(2)}


def _same(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "content",
    [STATE, {"model": STATE, "epoch": 3}, {"model": {f"module.{name}": value for name, value in STATE.items()}}],
    ids=["plain", "training", "distributed"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_saved_state_is_read_by_its_plain_names(tmp_path, content, zipped):
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert _same(read_checkpoint(tmp_path / "x.pth"))


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
def test_safetensors_are_read_whatever_the_ending(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert _same(read_checkpoint(tmp_path / name))


class _Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False, None], ids=["zip", "old format", "bare pickle"])
def test_a_checkpoint_with_code_is_refused_and_its_code_not_run(tmp_path, zipped):
    path, mark = tmp_path / "x.pth", tmp_path / "ran"
    content = {"weight": torch.ones(1), "more": _Code(mark)}
    if zipped is None:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(KitsamError, match=r"x\.pth: [^\n]*code[^\n]*$"):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["zip", "old format", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_line_naming_it(tmp_path, kind, share):
    path = tmp_path / "x.pth"
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(KitsamError, match=r"x\.pth: [^\n]*$"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {0: torch.ones(2)}, [torch.ones(2)]])
def test_a_file_without_weights_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(KitsamError, match="no weights"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_missing_checkpoint_is_an_error_naming_it(tmp_path):
    with pytest.raises(KitsamError, match=r"absent\.pth: cannot be read"):
        read_checkpoint(tmp_path / "absent.pth")
