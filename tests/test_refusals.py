"""Wrong command lines: refused in one plain line, before anything that takes time is imported."""

import subprocess
import sys
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from kitsam.cli import COMMANDS, _named, main
from kitsam.system.command_line import read_command_line
from kitsam.system.errors import OptionError
from kitsam.system.options import POSITIONAL, Options, as_plain

EMBED = ["embed", "--data", "{data}", "--out", "{new}", "--encoder.name", "tiny"]
TRAIN = ["train", "--target", "tumor", "--out", "{new}", "--shards"]


@pytest.fixture
def places(tmp_path, data, shards, runs) -> dict[str, Path]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    names = {name: tmp_path / name for name in ("empty", "file", "new", "nowhere")}
    return {**names, "data": data, "shards": shards, "roi": runs["roi"], "scan": data / "case_00000" / "imaging.nii.gz"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["embed", "--data", "{nowhere}", "--out", "{new}"], "--data: no such folder: {nowhere}"),
        (["embed", "--data", "{file}", "--out", "{new}"], "--data: not a folder: {file}"),
        (["embed", "--data", "{empty}", "--out", "{new}"], "--data: no case in {empty}"),
        ([*EMBED, "--splits", "{nowhere}"], "--splits: no such file: {nowhere}"),
        ([*EMBED, "--encoder.checkpoint", "{empty}"], "--encoder.checkpoint: not a file: {empty}"),
        (["embed", "--data", "{data}", "--out", "{file}", "--encoder.name", "tiny"], "--out: not a folder: {file}"),
        ([*TRAIN, "{nowhere}"], "--shards: no such folder: {nowhere}"),
        ([*TRAIN, "{empty}"], "--shards: no finished shard set in {empty}"),
        ([*TRAIN, "{shards}", "--start_from", "{empty}"], "--start_from: no run in {empty}: no config.yaml"),
        ([*TRAIN, "{shards}", "--cache.folder", "{file}"], "--cache.folder: not a folder: {file}"),
        (
            ["evaluate", "--shards", "{shards}", "--data", "{data}", "--out", "{new}", "--roi", "{empty}"],
            "--roi: no run in {empty}",
        ),
        (
            ["evaluate", "--shards", "{shards}", "--data", "{nowhere}", "--out", "{new}", "--roi", "{roi}"],
            "--data: no such folder: {nowhere}",
        ),
        (["bundle", "--roi", "{empty}", "--out", "{new}"], "--roi: no run in {empty}"),
        (["bundle", "--roi", "{roi}", "--out", "{empty}"], "--out: a folder, not a file: {empty}"),
        (["bundle", "--roi", "{roi}", "--tumor", "{nowhere}", "--out", "{new}"], "--tumor: no such folder"),
        (["bundle", "--roi", "{roi}", "{empty}", "--out", "{new}"], "--roi: no run in {empty}"),
        (["bundle", "--roi", "{roi}", "{roi}", "--out", "{new}"], "--roi: {roi} is named twice"),
        (["predict", "{nowhere}", "--model", "{file}", "--out", "{new}"], "{nowhere}"),
        (["predict", "{scan}", "--model", "{nowhere}", "--out", "{new}"], "--model: no such file: {nowhere}"),
        (["score", "{nowhere}", "--data", "{data}", "--out", "{new}"], "PREDICTIONS: no such folder: {nowhere}"),
        (["score", "{empty}", "--data", "{data}", "--out", "{new}", "--against", "{nowhere}"], "--against: no such"),
        (["report", "{empty}"], "FOLDERS: no metrics.json in {empty}: run `kitsam evaluate`"),
        (["fingerprint", "{nowhere}"], "DATA: no such folder: {nowhere}"),
        (["phantom", "{file}"], "OUT: not a folder: {file}"),
        (["shards", "info", "{nowhere}"], "SHARDS: no such folder: {nowhere}"),
        (["shards", "verify", "{empty}"], "SHARDS: no finished shard set in {empty}"),
        (["bench", "shards", "--shards", "{empty}"], "--shards: no finished shard set in {empty}"),
        (["bench", "evaluator", "--work", "{nowhere}"], "--work: no such folder: {nowhere}"),
        (["demo", "--out", "{file}/demo"], "--out: not a folder: {file}"),
    ],
)
def test_a_wrong_path_is_refused_before_torch_is_imported(places, words, message):
    code = (
        "import sys; from kitsam.cli import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'accelerate'} & {*sys.modules}; sys.exit(code)"
    )
    arguments = [word.format(**places) for word in words]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == "" and ended.stderr.count("\n") == 1, ended.stderr
    assert message.format(**places) in ended.stderr
    assert not places["new"].exists()


def test_weights_that_are_not_there_are_a_refusal(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path))
    assert main(["embed", "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert 'vit_b is not in the cache: run "kitsam weights vit_b"' in capsys.readouterr().err


def test_a_shard_set_at_an_address_is_not_looked_for_on_the_disk(tmp_path):
    for name in ("https://nowhere.invalid/set", "pipe:ssh host cat /data/shards"):
        words = ["--target", "roi", "--shards", name, "--out", str(tmp_path / "out")]
        read_command_line("kitsam train", _named(COMMANDS["train"].config), words).check_places()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--target", "liver"], "--target: must be one of roi, tumor, cyst, not liver"),
        (["train", "--target", "roi", "--step", "3"], "--step: no such option: did you mean --steps?"),
        (["train", "--steps", "x"], "--steps: must be a whole number, not x"),
        (["train", "--steps"], "--steps: needs a value"),
        (["train", "--target", "roi"], "--shards, --out: are required"),
        (["train", "--optimizer.betas", "[1,2,3]"], "--optimizer.betas: must be 2 numbers, not [1, 2, 3]"),
        (["train", "--quotas", "{kidney: x}"], "--quotas: must be natural or a table of numbers, not {'kidney': 'x'}"),
        (["embed", "--encoder.name", "vit_x"], "--encoder.name: must be one of vit_b, vit_l, vit_h"),
        (["embed", "--views", "{cuont: 1}"], "--views.cuont: no such option: did you mean --views.count?"),
        (["embed", "--views", "5"], "--views: must be a table of options"),
        (["embed", "--input.windows", "[[1,2]]"], "--input.windows: must be 3 lists of 2 numbers, not [[1, 2]]"),
        (["embed", "--config", "/nowhere.yaml"], "--config: no such file: /nowhere.yaml"),
        (["embed", "set"], "set: not expected here, every option has a name"),
        (["bench", "processes", "--processes", "[a]"], "--processes: must be a list of whole numbers, not a"),
        (["weights"], "NAME: is required"),
        (["weights", "vit_x"], "NAME: must be one of vit_b, vit_l, vit_h, medsam, lite_medsam, mobile_sam, not vit_x"),
        (["predict", "a.nii", "--out", "x"], "--model: is required"),
        (["trian"], "unknown command trian: did you mean train?"),
    ],
)
def test_a_wrong_word_is_told_with_the_option_and_what_it_takes(words, message, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert f"error: {message}" in err and err.count("\n") == 1 and out == ""


def test_hyphens_and_underscores_are_alike():
    words = ["--data=d", "--out=o", "--batch-size", "3", "--group-cases=5", "--dry_run"]
    config = read_command_line("kitsam embed", _named(COMMANDS["embed"].config), words)
    assert (config.batch_size, config.group_cases, config.dry_run) == (3, 5, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("views: 5", "--views: must be a table of options, not 5"),
        ("views: {count: null}", "--views.count: must be given, not null"),
        ("vievs: {count: 2}", "--vievs.count: no such option: did you mean --views.count?"),
        ("- a", "--config: cannot be read as YAML"),
        ("a: [", "--config: cannot be read as YAML"),
        ("val_fraction: 1", "--val_fraction: must be above 0 and below 1"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message, capsys):
    path = tmp_path / "embed.yaml"
    path.write_text(f"data: .\nout: x\n{text}\n")
    assert main(["embed", "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quotas": {"tumor": -1.0}}, "--quotas: must be at least 0, not -1"),
        ({"quotas": {"tumor": float("nan")}}, "--quotas: must be at least 0, not nan"),
        ({"quotas": {"tumor": 0.0, "kidney": 0.0}}, "--quotas: no stratum has a share above 0"),
        ({"quotas": {}}, "--quotas: no stratum has a share above 0"),
        ({"quotas": {"background": 1.0}}, "--quotas: unknown stratum background"),
        ({"step_timeout": 1e12}, "--step_timeout: must be above 0 and at most 1e"),
    ],
)
def test_shares_and_times_that_make_no_sense_are_refused(changes, message):
    config = _named(COMMANDS["train"].config)
    with pytest.raises(OptionError, match=message):
        config("tumor", "shards", Path("out"), **changes)


def test_other_numbers_that_make_no_sense_are_refused():
    from kitsam.bench.config import BenchProcessesConfig
    from kitsam.ct.config import InputConfig
    from kitsam.sam.config import EncoderConfig

    with pytest.raises(OptionError, match="--processes: must be one number at least"):
        BenchProcessesConfig(processes=())
    with pytest.raises(OptionError, match="--input.window: must rise"):
        InputConfig(window=(float("-inf"), 240.0))
    with pytest.raises(OptionError, match="--encoder.seed: must be"):
        EncoderConfig("tiny", seed=2**70)


# YAML

YES_AND_NO = ("yes", "no", "on", "off", "true", "false")


def variants(kind: type[Options], path: tuple[str, ...] = ()):
    """Key and value for each value of each option that takes one of several words, or true or false."""
    for one in fields(kind):
        if is_dataclass(one.type):
            yield from variants(one.type, (*path, one.name))
        elif typing.get_origin(one.type) is typing.Literal:
            yield from (((*path, one.name), word, word) for word in typing.get_args(one.type))
        elif one.type is bool:
            yield from (((*path, one.name), word, word in ("yes", "on", "true")) for word in YES_AND_NO)


def required(kind: type[Options]) -> dict[str, str]:
    """A value for each option that must be given."""
    words = {"target": "roi", "name": "vit_b"}
    return {one.name: words.get(one.name, "x") for one in fields(kind) if one.default is one.default_factory is MISSING}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_takes_each_word_that_the_help_names(name, tmp_path):
    kind = _named(COMMANDS[name].config)
    for (*sections, option), word, value in variants(kind):
        if (option, word) == ("name", "tiny") or option == "wandb":
            continue  # of these other options depend, or a package
        text = f"{sections[0]}: {{{option}: {word}}}" if sections else f"{option}: {word}"
        given = {key: text for key, text in required(kind).items() if key != option}
        position = [word if one.name == option else given.pop(one.name) for one in positional_fields(kind)]
        path = tmp_path / "options.yaml"
        lines = [f"{key}: {text}" for key, text in given.items()]
        path.write_text("\n".join(lines if option in {one.name for one in positional_fields(kind)} else [text, *lines]))
        config = read_command_line(f"kitsam {name}", kind, [*position, "--config", str(path)])
        assert getattr(getattr(config, sections[0]) if sections else config, option) == value, (option, word)


def positional_fields(kind: type[Options]) -> list[Field]:
    """Those that a command line must give itself."""
    return [one for one in fields(kind) if one.metadata.get(POSITIONAL)]


@pytest.mark.parametrize("name", COMMANDS)
def test_all_options_of_a_command_can_be_written_to_a_file_and_read_again(name, tmp_path):
    kind = _named(COMMANDS[name].config)
    several = ("ct", "folders")
    given = {key: [Path(word)] if key in several else word for key, word in required(kind).items()}
    given = {key: Path(word) if kind.__annotations__[key] is Path else word for key, word in given.items()}
    config = kind(**given)
    plain = as_plain(config)
    positions = [one.name for one in positional_fields(kind)]
    words = ["x" if key in several else str(given[key]) for key in positions]
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in plain.items() if key not in positions}))
    assert as_plain(read_command_line(f"kitsam {name}", kind, [*words, "--config", str(path)])) == plain


def test_numbers_and_words_of_a_file_are_taken_as_people_write_them(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(
        "target: roi\nshards: off\nout: 2026-11-03\nseed: 010\noptimizer: {peak_rate: 5e-5, weight_decay: 1E-1}\n"
        "loss:\n  # balance: 1\nfold: null\nstart_from: ~\ncompile: no\nquotas: {kidney: 1, tumor: 2e0}\n"
    )
    config = read_command_line("kitsam train", _named(COMMANDS["train"].config), ["--config", str(path)])
    assert (config.shards, str(config.out), config.seed, config.compile) == ("off", "2026-11-03", 10, "no")
    assert (config.optimizer.peak_rate, config.optimizer.weight_decay) == (5e-5, 0.1)
    assert (config.fold, config.start_from, config.quotas) == (None, None, {"kidney": 1.0, "tumor": 2.0})
    assert config.loss == type(config.loss)()


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["--roi", "a b"], "", "a b"),
        (["--roi", "a, b", "c"], "", ["a, b", "c"]),
        (["--roi", "[a,c]"], "", ["a", "c"]),
        (["--roi=a", "--tumor", "d", "e"], "tumor: f\n", "a"),
        ([], "roi: [a, c]\n", ["a", "c"]),
        ([], "roi: a\n", "a"),
        (["--roi", "c"], "roi: [a, b]\n", "c"),
    ],
)
def test_one_run_or_several_can_be_named(words, text, expected, tmp_path):
    path = tmp_path / "bundle.yaml"
    path.write_text(text)
    words = ["--config", str(path), *words, "--out", "y"]
    config = read_command_line("kitsam bundle", _named(COMMANDS["bundle"].config), words)
    assert config.roi == (Path(expected) if isinstance(expected, str) else [Path(one) for one in expected])
    if "--tumor" in words:
        assert config.tumor == [Path("d"), Path("e")]


@pytest.mark.parametrize("text", ["", "# fold: 1\n"])
def test_a_file_without_an_option_changes_nothing(text, tmp_path):
    path = tmp_path / "bundle.yaml"
    path.write_text(text)
    words = ["--roi", "x", "--out", "y"]
    kind = _named(COMMANDS["bundle"].config)
    assert read_command_line("kitsam bundle", kind, [*words, "--config", str(path)]) == kind(Path("x"), Path("y"))


def test_the_ends_of_a_range_can_be_used():
    words = ["--roi", "x", "--out", "y", "--cascade.roi_threshold", "0", "--cascade.lesion_threshold", "1"]
    config = read_command_line("kitsam bundle", _named(COMMANDS["bundle"].config), words)
    assert (config.cascade.roi_threshold, config.cascade.lesion_threshold) == (0.0, 1.0)
