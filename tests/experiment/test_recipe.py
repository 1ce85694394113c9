"""What an experiment file may say, and how it is refused."""

from pathlib import Path

import pytest
from recipes import GOOD

from kitsam.experiment.recipe import read_recipe
from kitsam.system.errors import OptionError

EXAMPLES = Path(__file__).parents[2] / "examples"


def read(folder: Path, text: str):
    path = folder / "experiment.yaml"
    path.write_text(text)
    return read_recipe(path, Path("data"), Path("out"))


def test_a_variant_changes_what_it_names_and_no_more(tmp_path):
    recipe = read(tmp_path, GOOD)
    first, second = recipe.variants.values()
    assert (recipe.folds, recipe.seeds, recipe.base, recipe.figure) == (2, (0, 3), "first", "Dice")
    assert [*first] == ["embed", "roi", "tumor", "evaluate"] and [*second] == ["embed", "roi", "evaluate"]
    assert first["roi"].options.optimizer.peak_rate == 1e-3 and second["roi"].options.optimizer.peak_rate == 2e-3
    assert second["roi"].options.optimizer.warmup_steps == 1 and second["roi"].options.steps == 4
    assert first["tumor"].start_from == "roi" and first["embed"].options == second["embed"].options


def test_the_examples_can_be_run_and_share_their_runs():
    recipes = {path.stem: read_recipe(path, Path("data"), Path("out")) for path in EXAMPLES.glob("*.yaml")}
    assert {*recipes} == {"experiment", "experiment_drawn", "levers"}
    assert recipes["levers"].variants["ours"] == recipes["experiment"].variants["ours"]


def test_a_file_of_options_is_read_beside_the_experiment_and_what_it_says_of_folders_does_not_count(tmp_path):
    (tmp_path / "roi.yaml").write_text("target: roi\nshards: elsewhere\nsteps: 7\nbatch_size: 3\n")
    text = "roi: {config: roi.yaml, steps: 9}\nvariants: {one: {}}\n"
    options = read(tmp_path, text).variants["one"]["roi"].options
    assert (options.steps, options.batch_size) == (9, 3) and options.shards != "elsewhere"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variants: {}", "variants: there is none"),
        ("folds: 1\nvariants: {a: {}}", "folds: must be a whole number from 2"),
        ("seeds: [0, 0]\nvariants: {a: {}}", "seeds: one is there twice"),
        ("base: b\nroi: {}\nvariants: {a: {}}", "base: no variant is called b (known: a)"),
        ("figure: dice\nvariants: {a: {}}", "figure: must be one of Dice"),
        ("fold: 3\nvariants: {a: {}}", "fold: no such key"),
        ("roi: {}\nvariants: {a: {lesion: {}}}", "variant a: lesion: no such stage"),
        ("roi: {seed: 1}\nvariants: {a: {}}", "roi: seed: not an option here"),
        ("roi: {stepps: 1}\nvariants: {a: {}}", "variant a: roi: --stepps: no such option: did you mean --steps?"),
        ("roi: {steps: 0}\nvariants: {a: {}}", "variant a: roi: --steps: must be at least 1"),
        ("tumor: {start_from: cyst}\nroi: {}\nvariants: {a: {}}", "cyst is trained later"),
        ("tumor: {start_from: roi}\nvariants: {a: {evaluate: {zero_shot: true}}}", "the variant trains no roi"),
        ("variants: {a: {}}", "roi must be trained"),
        ("roi: {config: no.yaml}\nvariants: {a: {}}", "no.yaml: cannot be read"),
        ("roi: [1]\nvariants: {a: {}}", "roi: must be a table"),
        ("roi: {\n", "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_names_the_place(tmp_path, text, words):
    with pytest.raises(OptionError) as refusal:
        read(tmp_path, text)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
