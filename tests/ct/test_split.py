import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitsam.ct.split import Split, make_folds, make_split, read_split, write_split
from kitsam.system.errors import OptionError

NAMES = tuple(f"case_{index:05d}" for index in range(20))
names = st.lists(st.text("abc_019", min_size=1, max_size=6), min_size=2, max_size=40, unique=True)
fractions = st.floats(0.001, 0.999)
seeds = st.integers(0, 2**32)


@given(names, fractions, seeds)
def test_every_case_is_on_exactly_one_side_and_no_side_is_empty(names, fraction, seed):
    split = make_split(names, fraction, seed)

    assert sorted((*split.train, *split.val)) == sorted(names)
    assert split.train and split.val
    assert list(split.train) == sorted(split.train) and list(split.val) == sorted(split.val)
    assert abs(len(split.val) - fraction * len(names)) <= 1


@given(names, fractions, seeds, st.randoms())
def test_the_split_depends_on_the_names_and_the_seed_not_on_their_order(names, fraction, seed, random):
    shuffled = random.sample(names, len(names))

    assert make_split(names, fraction, seed) == make_split(shuffled, fraction, seed)


def test_another_seed_gives_another_split():
    assert len({make_split(NAMES, 0.2, seed).val for seed in range(10)}) > 5


@given(names, st.integers(2, 10), seeds, st.randoms())
def test_each_case_validates_in_one_fold_and_folds_are_alike_in_size(names, folds, seed, random):
    if len(names) < folds:
        with pytest.raises(OptionError, match="--folds"):
            make_folds(names, folds, seed)
        return

    sides = make_folds(names, folds, seed)

    assert sorted(name for side in sides for name in side) == sorted(names)
    sizes = [len(side) for side in sides]
    assert len(sides) == folds and min(sizes) > 0 and max(sizes) - min(sizes) <= 1
    assert make_folds(random.sample(names, len(names)), folds, seed) == sides


@pytest.mark.parametrize("names", [(), ("case_00000",)])
def test_fewer_than_two_cases_cannot_be_split(names):
    with pytest.raises(OptionError, match=f"--data: {len(names)} case"):
        make_split(names, 0.1, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 10, float("nan")])
def test_a_fraction_that_is_none_is_refused_with_the_name_of_the_option(fraction):
    with pytest.raises(OptionError, match="--val_fraction"):
        make_split(NAMES, fraction, 0)


def test_a_written_split_is_read_back(tmp_path):
    split = make_split(NAMES, 0.1, seed=3)

    write_split(tmp_path / "splits.json", split)

    assert read_split(tmp_path / "splits.json", NAMES) == split
    assert list(json.loads((tmp_path / "splits.json").read_text())) == ["seed", "train", "val"]


def test_the_first_fold_of_nnunet_is_read(tmp_path):
    folds = [{"train": ["b", "a"], "val": ["c"]}, {"train": ["c", "a"], "val": ["b"]}]
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(folds))

    assert read_split(path, ("a", "b", "c")) == Split(("a", "b"), ("c",), None)


def test_cases_that_the_file_does_not_name_are_on_neither_side(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text('{"train": ["a"], "val": ["b"]}')

    assert read_split(path, ("a", "b", "unused")) == Split(("a",), ("b",), None)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"train": ["a", "x"], "val": ["b"]}', "x is not in the data set"),
        ('{"train": ["a", "b"], "val": ["b"]}', "b is both in train and in val"),
        ('{"train": ["a", "a"], "val": ["b"]}', "a is named twice"),
        ('{"train": ["a"], "val": []}', "no case in val"),
        ('{"train": [], "val": ["a"]}', "no case in train"),
        ('{"train": ["a"]}', "expected"),
        ('{"train": "a", "val": ["b"]}', "expected"),
        ('{"train": [1], "val": [2]}', "expected"),
        ("[]", "expected"),
        ("3", "expected"),
        ('{"train": ["a"], ', "cannot be read as JSON"),
    ],
)
def test_a_split_that_cannot_be_used_is_refused_with_option_file_and_reason(tmp_path, content, complaint):
    path = tmp_path / "mine.json"
    path.write_text(content)

    with pytest.raises(OptionError, match=rf"--splits: .*mine\.json: .*{complaint}"):
        read_split(path, ("a", "b"))


def test_a_missing_file_is_refused_with_the_name_of_the_option(tmp_path):
    with pytest.raises(OptionError, match=r"--splits: .*mine\.json"):
        read_split(tmp_path / "mine.json", NAMES)
