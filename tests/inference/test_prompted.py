"""What is found in boxes drawn by hand, by a decoder that sees what is bright."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kitsam.ct.scan import scan_in_memory
from kitsam.ct.volume import Volume
from kitsam.inference import predict as prediction
from kitsam.inference.config import PredictConfig, names_checkpoint
from kitsam.inference.prompted import MOST_KEPT, CanonicalPrompt, LazyEmbeddings, RecentEmbeddings, label_in_boxes
from kitsam.inference.scans import BoxPrompt, Scan, read_boxes
from kitsam.system.errors import OptionError

GRID = 32
SLICES = 12


class Bright(nn.Module):
    """Logits of what the first channel of the embedding holds, in place of SAM's decoder."""

    sight = None  # whole slices

    def forward(self, embeddings: Tensor, slice_of_box: Tensor, boxes: Tensor, *asked) -> Tensor:
        return 10 * embeddings[slice_of_box, 0].repeat_interleave(4, 1).repeat_interleave(4, 2)


def slanted(first: int, last: int) -> Tensor:
    """(S, 256, G, G): a square that moves by a cell from slice to slice, with a probability that falls."""
    embeddings = -torch.ones(SLICES, 256, GRID, GRID)
    for z in range(first, last + 1):
        embeddings[z, 0, 4:14, z : z + 10] = 1 - z / 100
    return embeddings


def ask(embeddings: Tensor, *prompts: CanonicalPrompt) -> np.ndarray:
    return label_in_boxes(Bright(), lambda slices: embeddings[slices], prompts, (SLICES, GRID, GRID), 2)


def box(slices: range, corners: tuple[int, ...], label: int = 1, propagate: bool = False) -> CanonicalPrompt:
    return CanonicalPrompt(slices, np.array(corners, np.float32), label, propagate)


def test_a_box_is_asked_on_its_slices_alone():
    label = ask(slanted(0, SLICES - 1), box(range(3, 6), (0, 0, GRID, GRID), 2))
    assert np.flatnonzero(label.any((1, 2))).tolist() == [3, 4, 5]
    assert set(np.unique(label)) == {0, 2} and (label[4] == 2).sum() == 100


def test_a_box_that_is_followed_goes_on_both_ways_until_nothing_is_found():
    label = ask(slanted(2, 9), box(range(5, 6), (4, 3, 16, 15), propagate=True))
    assert np.flatnonzero(label.any((1, 2))).tolist() == list(range(2, 10))
    # The box follows the square: at the first slice it stands where the first box never was.
    assert label[2, 5, 3] and label[9, 5, 18]


def test_what_two_boxes_find_gets_the_label_of_the_more_probable_answer():
    embeddings = slanted(3, 3)
    embeddings[3, 0, 4:8, 3:5] = 0.2

    class Sure(Bright):
        def forward(self, embeddings: Tensor, slice_of_box: Tensor, boxes: Tensor, *asked) -> Tensor:
            logits = super().forward(embeddings, slice_of_box, boxes)
            return logits * (boxes[:, 2] < GRID / 2).float()[:, None, None].mul(2).add(1)

    prompts = [box(range(3, 4), (0, 0, 5, GRID), 3), box(range(3, 4), (0, 0, GRID, GRID), 2)]
    for order in (prompts, prompts[::-1]):
        label = label_in_boxes(Sure(), lambda slices: embeddings[slices], order, (SLICES, GRID, GRID), 2)
        assert set(np.unique(label[3, 4:8, 3:5])) == {3} and set(np.unique(label[3, 4:8, 5:7])) == {2}


def test_a_slice_is_encoded_once():
    asked = []
    embeddings = LazyEmbeddings(lambda slices: asked.extend(slices) or torch.tensor(slices)[:, None])
    assert embeddings([3, 1]).flatten().tolist() == [3, 1] and embeddings([1, 2]).flatten().tolist() == [1, 2]
    assert asked == [3, 1, 2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": 2}, "six whole numbers"),
        ({"box": [1, 2, 3], "label": 2}, "six whole numbers"),
        ({"box": [0] * 6, "label": 4}, "label 4 is none of 1 .kidney., 2 .tumor., 3 .cyst."),
        ({"box": [0] * 6, "label": True}, "label True is none of"),
        ({"box": [0] * 6, "propagate": 1}, "propagate must be true or false"),
        ({"box": [0] * 6, "propagete": True}, "propagete is none of box, label, propagate"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, message):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"scan": [entry]}))
    with pytest.raises(OptionError, match=message):
        read_boxes(path, [Scan("scan", tmp_path / "scan.nii.gz")])


def test_a_scan_that_is_asked_again_is_not_encoded_again_and_another_one_is():
    asked = []
    recent, encode = RecentEmbeddings(), lambda slices: asked.extend(slices) or torch.tensor(slices)[:, None]
    scans = [scan_in_memory((np.zeros((4, 4, MOST_KEPT + 9), np.int16), None, np.eye(4)), name) for name in "ab"]

    def embeddings(scan: Volume, slices: range) -> list[int]:
        """Which of the slices had to be encoded."""
        asked.clear()
        assert LazyEmbeddings(encode, recent.of(scan))(list(slices)).flatten().tolist() == list(slices)
        return list(asked)

    assert embeddings(scans[0], range(3, 6)) == [3, 4, 5]
    assert embeddings(scans[0], range(4, 8)) == [6, 7]
    assert embeddings(scans[1], range(4, 6)) == [4, 5]
    # No more is kept than a kidney's, and of a scan that is gone nothing.
    assert len(embeddings(scans[0], range(MOST_KEPT + 9))) == MOST_KEPT + 9
    assert embeddings(scans[0], range(7, 10)) == [7, 8]
    assert len(recent.of(scans[0])) == MOST_KEPT and not recent.of(scans[1])


def test_both_ways_to_write_a_box_are_read(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"scan": [[1, 2, 3, 4, 5, 6], {"box": [1, 2, 3, 4, 5, 6], "propagate": True}]}))
    boxes = read_boxes(path, [Scan("scan", tmp_path / "scan.nii.gz")])
    assert boxes == {"scan": [[1, 2, 3, 4, 5, 6], BoxPrompt([1, 2, 3, 4, 5, 6], 1, True)]}


def test_the_name_of_a_checkpoint_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("lite_medsam")
    assert names_checkpoint(path) and not names_checkpoint(Path("tiny"))
    path.touch()
    assert not names_checkpoint(path)


def test_a_checkpoint_needs_boxes_and_its_file(data, tmp_path, monkeypatch):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "cache"))
    scan, boxes = data / "case_00000" / "imaging.nii.gz", tmp_path / "boxes.json"

    def predict() -> int:
        given = boxes if boxes.exists() else None
        return prediction.run(PredictConfig([scan], Path("lite_medsam"), tmp_path / "out", given, device="cpu"))

    with pytest.raises(OptionError, match="--boxes: lite_medsam finds what a box surrounds.*case_00000"):
        predict()
    boxes.write_text(json.dumps({"case_00000": [[3, 20, 8, 6, 50, 30]]}))
    with pytest.raises(OptionError, match='lite_medsam is not in the cache: run "kitsam weights lite_medsam"'):
        predict()


def test_a_bundle_takes_no_labels(data, tmp_path):
    boxes, model = tmp_path / "boxes.json", tmp_path / "model.safetensors"
    model.touch()
    boxes.write_text(json.dumps({"case_00000": [{"box": [3, 20, 8, 6, 50, 30], "label": 2}]}))
    scan = data / "case_00000" / "imaging.nii.gz"
    with pytest.raises(OptionError, match="label and propagate are for a checkpoint's own decoder"):
        prediction.run(PredictConfig([scan], model, tmp_path / "out", boxes, device="cpu"))
