"""What bundles, decoders and training runs are, by their headers and logs: no weights are read."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kitsam.ct.labels import TARGETS
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.records import CONFIG, DECODER, METRICS, SHARD_SET, DecoderRecord, ShardSetRecord
from kitsam.decoding.training_log import read_log
from kitsam.inference.card import (
    RESEARCH_ONLY,
    Evaluation,
    Header,
    as_header,
    figures_of,
    learned_from_phantoms,
    line_of,
)
from kitsam.info.description import Description, Row, count_text, pairs_text
from kitsam.sam.checkpoints import MEDSAM
from kitsam.system.errors import KitsamError
from kitsam.system.files import read_yaml
from kitsam.system.records import as_record
from kitsam.system.seals import read_sealed
from kitsam.system.tensor_headers import read_header


def describe_tensors(path: Path) -> Description:
    """Of a bundle, or of a decoder that a run wrote. Raises `KitsamError` where the file is neither."""
    content = read_header(path)
    if content is not None and "target" in content:
        rows = _of_decoder(as_record(content, DecoderRecord, path))
        return Description("decoder", [("target", content["target"]), *rows], content)
    if content is None or "format" not in content:
        raise KitsamError(f"{path}: neither a bundle (`kitsam bundle`) nor a decoder (`kitsam train`) of kitsam")
    header = as_header(content, path)
    return Description("bundle", [*_of_bundle(header)], {**content, "line": line_of(header)})


def _of_bundle(header: Header) -> Iterator[Row]:
    card = header.card
    yield "written by", f"kitsam {header.kitsam}{f', {card.date}' if card else ''}"
    yield from _of_encoder(header.encoder, header.weights)
    yield "input", pairs_text(header.input)
    for target in TARGETS:
        if target in header.prompts:
            yield target, _decoders(header, target)
    data = count_text(len(header.training_scans), "case")
    if learned_from_phantoms(header):
        data += ", made by `kitsam phantom`"
    yield "training data", f"{card.data}, {data}" if card and card.data else f"{data}; the data set's name was not told"
    yield "data license", card.data_license if card and card.data_license else "was not told"
    for one in card.evaluations if card else ():
        yield "evaluation", _of_evaluation(one, header)
    if not card or not card.evaluations:
        yield "evaluation", "none: `kitsam bundle --metrics` takes what `kitsam evaluate` found"
    yield "cascade", pairs_text({name: value for name, value in vars(header.cascade).items() if name != "batch_size"})
    yield "use", card.use if card else RESEARCH_ONLY


def _decoders(header: Header, target: str) -> str:
    sets = header.sets(target)
    runs = f"{len(sets)} runs; " if len(sets) > 1 else ""
    return runs + ("; ".join(map(_of_shard_set, sets)) or "trained on cases that are not known")


def _of_shard_set(record: ShardSetRecord) -> str:
    fold = "" if record.fold is None else f", fold {record.fold}"
    known = f" of shard set {record.fingerprint[:12]}...{fold}" if record.fingerprint else ""
    return f"trained on {count_text(len(record.train), 'case')}{known}, {len(record.val)} held back for validation"


def _of_evaluation(one: Evaluation, header: Header) -> str:
    drawn = {0: "", one.cases: " drawn"}.get(one.phantoms, f" ({one.phantoms} of them drawn)")
    cases = f"{one.cases}{drawn} case{'s' * (one.cases != 1)} of {one.data}"
    where = "held back from training" if one.fingerprint in header.fingerprints else "of another shard set"
    fold = "" if one.fold is None else f", fold {one.fold}"
    by = " + ".join(f"{count} {target}" for target, count in one.decoders.items())
    figures = ", ".join(figures_of(one).values())
    return f"Dice {figures}; {cases}, {where}{fold}; by {by}{', with flips' * one.flips}, kitsam {one.kitsam}"


def _of_encoder(encoder: dict[str, Any], weights: dict[str, str]) -> Iterator[Row]:
    yield "encoder", f"{encoder['name']}, input {encoder['input_size']}, weights {encoder['weights_sha256'][:12]}..."
    if encoder.get("seed") is not None:
        yield "encoder's weights", "random"
    elif weights:
        yield "encoder's weights", f"{weights['license']}, {weights['source']}"
    else:
        yield "encoder's weights", "license not known"
    if encoder["name"] in MEDSAM:
        yield "encoder's data", "may hold KiTS cases: figures on KiTS are no test of generalization"


def _of_decoder(record: DecoderRecord) -> Iterator[Row]:
    yield "decoder", _of_shard_set(record.shard_set)
    yield from _of_encoder(record.shard_set.signature.encoder, {})
    yield "input", pairs_text(record.shard_set.signature.input)
    yield "boxes", _boxes(record.prompt)


def _boxes(prompt: PromptConfig) -> str:
    return pairs_text({name: value for name, value in vars(prompt).items() if name != "jitter"})


def describe_run(run: Path) -> Description:
    """Raises `KitsamError` naming a file of the run that is damaged."""
    config = read_yaml(run / CONFIG)
    record = read_sealed(run / SHARD_SET, ShardSetRecord)
    if not isinstance(config, dict) or not {"target", "steps", "prompt", "shards"} <= config.keys():
        raise KitsamError(f"{run / CONFIG}: not the settings of a training run")
    decoder = DecoderRecord(config["target"], as_record(config["prompt"], PromptConfig, run / CONFIG), record)
    log = read_log(run) if (run / METRICS).is_file() and (run / METRICS).stat().st_size else None
    done, best = (log.last_step, log.best) if log else (0, None)
    rows = [
        ("target", config["target"]),
        ("steps", f"{done:,} of {config['steps']:,}"),
        ("best validation Dice", f"{best[1]:.4f} at step {best[0]:,}" if best else "none yet"),
        (DECODER, "is there" if (run / DECODER).is_file() else "is not there yet"),
        ("shards", str(config["shards"])),
        *_of_decoder(decoder),
    ]
    content = {"config": config, "steps_done": done, "best": best, "shard_set": asdict(record)}
    return Description("run", rows, content)
