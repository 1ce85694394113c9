"""What a report says of an evaluation: model, command, origin."""

import json
import shlex
from pathlib import Path

from kitsam.evaluation.results import write_metrics
from kitsam.report.evaluation import command_text, read_evaluation
from kitsam.system.command_line import read_command_line

SPLIT = {"train": ["case_00007", "case_00008"], "val": ["case_00000"]}
ENCODER = {"name": "lite_medsam", "weights_sha256": "0123456789abcdef", "input_size": 256}


def options_of(text: str, name: str, config: type):
    words = shlex.split(text)
    assert words[:2] == ["kitsam", name]
    return read_command_line(f"kitsam {name}", config, words[2:])


def test_the_command_of_an_evaluation_can_be_given_again(tmp_path):
    from kitsam.evaluation.config import EvaluateConfig

    settings = {
        "command": "evaluate", "shards": "/my shards", "data": "/data", "runs": {"roi": ["/r0", "/r1"], "tumor": "/t"},
        "flips": True, "fold": 2, "against": "/other",
    }  # fmt: skip
    config = options_of(command_text(settings, tmp_path), "evaluate", EvaluateConfig)
    assert (config.shards, config.data, config.out) == ("/my shards", Path("/data"), tmp_path)
    assert (config.roi, config.tumor, config.flips, config.fold) == ([Path("/r0"), Path("/r1")], Path("/t"), True, 2)
    assert config.against == Path("/other") and not config.zero_shot


def test_the_command_of_a_score_can_be_given_again(tmp_path):
    from kitsam.evaluation.config import ScoreConfig

    settings = {"command": "score", "predictions": "/p", "data": "/d", "only_present": True}
    config = options_of(command_text(settings, tmp_path), "score", ScoreConfig)
    assert (config.predictions, config.data, config.only_present) == (Path("/p"), Path("/d"), True)


def test_of_settings_without_a_command_none_is_made_up(tmp_path):
    assert command_text({}, tmp_path) == "not known"


def model_of(folder, scores, settings) -> str:
    write_metrics(folder, scores, settings, {})
    return ". ".join(read_evaluation(folder).model)


def test_the_model_is_told_by_its_decoders_and_its_encoder(tmp_path, evaluation):
    settings = {"command": "evaluate", "runs": {"roi": "/r", "tumor": ["/a", "/b"]}, "split": SPLIT, "encoder": ENCODER}
    text = model_of(tmp_path, evaluation.scores, {**settings, "input": {"channels": "gray"}})
    assert text.startswith("Trained decoders: ROI, 2 tumor; trained on 2 cases. Encoder lite_medsam, input 256")
    assert "channels gray, weights 0123456789ab (SHA-256)" in text
    text = model_of(
        tmp_path, evaluation.scores, {**settings, "zero_shot": True, "encoder": {**ENCODER, "name": "tiny"}}
    )
    assert "without training, asked with boxes of the truth" in text and "random weights, never trained" in text


def test_label_maps_tell_their_model_where_predict_left_its_records(tmp_path, evaluation):
    settings = {"command": "score", "predictions": str(tmp_path / "maps"), "data": "/d"}
    assert "whose model is not known" in model_of(tmp_path, evaluation.scores, settings)
    (tmp_path / "maps").mkdir()
    record = {"model": "kidney.safetensors", "model_sha256": "ab" * 32, "kitsam": "0.1"}
    (tmp_path / "maps" / "case_00000.json").write_text(json.dumps(record))
    (tmp_path / "maps" / "case_00001.json").write_text("{")
    text = model_of(tmp_path, evaluation.scores, settings)
    assert text == "kidney.safetensors (SHA-256 abababababab), by kitsam 0.1"


def test_what_an_older_kitsam_scored_is_looked_at_now(evaluation):
    assert "origins" not in evaluation.settings
    assert read_evaluation(evaluation.folder).origins == {"scan": 4}
