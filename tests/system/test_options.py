import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitsam.cli import COMMANDS, _named
from kitsam.ct.config import InputConfig
from kitsam.decoding.config import PromptConfig
from kitsam.sam.config import EncoderConfig
from kitsam.system.errors import OptionError
from kitsam.system.options import Options, amount, as_plain, count, fixed_options, may_change, number, share
from kitsam.training.config import LossConfig, OptimizerConfig, TrainConfig


@dataclass
class Part(Options, section="part"):
    rate: float = number(0.5, above=0)
    ends: tuple[float, float] = share((0.0, 1.0))


@dataclass
class Whole(Options):
    path: Path = may_change()
    pieces: int | None = count(None)
    weights: dict[str, float] = field(default_factory=dict, metadata={"least": 0})
    size: float = amount(1.0, may_change=True)
    part: Part = field(default_factory=Part)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Whole(Path(), pieces=0), "--pieces: must be at least 1, not 0"),
        (lambda: Whole(Path(), weights={"tumor": -1.0}), "--weights: must be at least 0, not -1.0"),
        (lambda: Whole(Path(), size=float("nan")), "--size: must be at least 0, not nan"),
        (lambda: Whole(Path(), size=float("inf")), "--size: must be at least 0, not inf"),
        (lambda: Part(rate=0.0), "--part.rate: must be above 0, not 0.0"),
        (lambda: Part(ends=(0.2, 1.1)), "--part.ends: must be from 0 to 1, not 1.1"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_the_options_whole_name(make, message):
    with pytest.raises(OptionError, match=f"^{message}$"):
        make()


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_ends_of_a_range_belong_to_it(low, high):
    assert Part(ends=(low, high)).ends == (low, high)
    assert Whole(Path(), pieces=None, size=0.0).pieces is None


def test_a_run_may_change_what_its_field_says():
    assert fixed_options(Whole(Path())) == ["pieces", "weights", "part"]
    run = TrainConfig("roi", "shards", Path("run"))
    free = {"shards", "out", "device", "log_every", "keep_checkpoints", "checkpoint_every", "cache", "workers"}
    free |= {"accumulate", "compile", "wandb", "mlflow", "dry_run", "step_timeout", "steps"}
    assert {*as_plain(run)} - {*fixed_options(run)} == free


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: InputConfig(window=(240.0, -160.0)), "--input.window: must rise"),
        (lambda: InputConfig(windows=((0.0, 1.0), (5.0, 5.0), (0.0, 1.0))), "--input.windows: must rise"),
        (lambda: PromptConfig(roi_box=(0.5, 0.0, 0.5, 1.0)), "--prompt.roi_box"),
        (lambda: EncoderConfig("lite_medsam", input_size=130), "--encoder.input_size: must be a multiple of 4"),
        (lambda: EncoderConfig("tiny", input_size=100), "--encoder.input_size: must be a multiple of 16"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), "--optimizer.betas: must be below 1"),
        (lambda: LossConfig(dice=0.0, cross_entropy=0.0), "--loss.dice"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(make, named):
    with pytest.raises(OptionError, match=named):
        make()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_every_command_have_ranges(name):
    """So that no number of a command is taken that cannot be."""
    free = {"seed"}  # of the random encoder: any whole number
    for path, one in numeric_fields(_named(COMMANDS[name].config)):
        limits = {*one.metadata} & {"least", "above", "most"}
        assert limits or one.name in free or path in ("input.window", "input.windows"), path


def numeric_fields(kind: type, path: str = ""):
    for one in fields(kind):
        if is_dataclass(one.type):
            yield from numeric_fields(one.type, f"{path}{one.name}.")
        elif re.search(r"\b(int|float)\b", str(one.type)) and not re.search("Literal|dict", str(one.type)):
            yield f"{path}{one.name}", one
