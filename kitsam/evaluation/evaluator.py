"""Stage 3: validation shards -> cascade -> label maps -> the official metrics.

Each process labels its share of the cases from their stored embeddings, with boxes of the ROI decoder itself, and compares with
the truth at full resolution. A case's result is written as it comes, under the settings it was made with, so that a restart
computes only what is missing; the main process merges them in case order.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kitsam.bundle import cascade_of, load_runs
from kitsam.cascade import Cascade, label_volume
from kitsam.config import EvaluateConfig
from kitsam.console import progress, say, warn
from kitsam.errors import CaseError, OptionError
from kitsam.evaluation.metrics import CaseScores, score_case
from kitsam.evaluation.results import CSV_NAME, JSON_NAME, write_metrics
from kitsam.evaluation.summary import detection_table, results_table
from kitsam.files import read_json, sha256_of, write_json
from kitsam.kits.case import CaseFiles, find_cases, read_label, save_label
from kitsam.processes import deal, start
from kitsam.shards.manifest import ShardEntry, check_signature
from kitsam.shards.reader import ShardSet
from kitsam.shards.source import absolute

CASES, PREDICTIONS = "cases", "predictions"


def run(config: EvaluateConfig) -> int:
    files = find_cases(config.data)
    shards = ShardSet(config.shards, config.cache)
    runs = load_runs(config.roi, config.tumor, config.cyst)
    for trained in runs.values():
        check_signature(trained.signature, shards.manifest.signature, trained.path, config.shards)
    cases = {Path(entry.name).stem: entry for entry in shards.manifest.val}
    gone = [name for name in cases if name not in files]
    if gone:
        raise OptionError(f"--data: {config.data} lacks {', '.join(gone)} of the shard set's validation cases")
    processes = start(config.device)
    cascade = cascade_of(runs, config.cascade, processes.device)
    fingerprint = _fingerprint(config, {target: sha256_of(trained.path) for target, trained in runs.items()}, shards)
    missing = [name for name in cases if not _is_done(config.out, name, fingerprint)]
    processes.wait_for_everyone()
    mine = deal([cases[name].samples for name in missing], processes.num_processes)[processes.process_index]
    with progress("Evaluating", len(mine), "cases") as tick:
        for name in (missing[index] for index in mine):
            result = _evaluate_case(files[name], cases[name], shards, cascade, config.out)
            write_json(_result_path(config.out, name), {"fingerprint": fingerprint, **result})
            tick(1, name)
    processes.wait_for_everyone()
    failed = _finish(config, sorted(cases), runs) if processes.is_main_process else {}
    return 1 if failed or shards.manifest.skipped else 0


def _fingerprint(config: EvaluateConfig, decoders: dict[str, str], shards: ShardSet) -> str:
    """Of all that decides a case's result."""
    decisive = {"decoders": decoders, "cascade": asdict(config.cascade), "shards": asdict(shards.manifest)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _result_path(out: Path, name: str) -> Path:
    return out / CASES / f"{name}.json"


def _is_done(out: Path, name: str, fingerprint: str) -> bool:
    path = _result_path(out, name)
    if not path.exists():
        return False
    result = read_json(path)
    # Scores without lesions are an older version's.
    return result["fingerprint"] == fingerprint and "tumors" in result.get("scores", {})


def _evaluate_case(files: CaseFiles, entry: ShardEntry, shards: ShardSet, cascade: Cascade, out: Path) -> dict[str, Any]:
    try:
        truth = read_label(files.segmentation)
    except CaseError as error:
        warn(f"{files.name} is left out: {error}")
        return {"skipped": str(error)}

    def embeddings(first: int, count: int):
        return shards.validation_slices(entry, first, count).embeddings(cascade.device)

    label = label_volume(cascade, embeddings, truth.voxels.shape, truth.spacing)
    save_label(out / PREDICTIONS / f"{files.name}.nii.gz", label, truth.geometry)
    return {"scores": score_case(truth.voxels, label, truth.spacing).to_dict()}


def _finish(config: EvaluateConfig, names: list[str], runs) -> dict[str, str]:
    results = {name: read_json(_result_path(config.out, name)) for name in names}
    scores = {name: CaseScores.from_dict(result["scores"]) for name, result in results.items() if "scores" in result}
    failed = {name: result["skipped"] for name, result in results.items() if "skipped" in result}
    if not scores:
        raise CaseError(f"{config.data}: no validation case could be evaluated: {'; '.join(failed.values())}")
    settings = {
        "command": "evaluate",
        "data": str(config.data.absolute()),
        "shards": absolute(config.shards),
        "predictions": str((config.out / PREDICTIONS).absolute()),
        "runs": {target: str(trained.path.parent.absolute()) for target, trained in runs.items()},
        "cascade": asdict(config.cascade),
        **runs["roi"].signature,
    }
    write_metrics(config.out, scores, settings, failed)
    say(results_table(scores))
    say(detection_table(scores))
    say(f"Label maps: {config.out / PREDICTIONS}")
    say(f"Metrics: {config.out / CSV_NAME}, {config.out / JSON_NAME}")
    return failed
