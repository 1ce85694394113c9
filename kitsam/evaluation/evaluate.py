"""Stage 3: validation shards -> cascade -> label maps -> the official metrics.

Each process labels its share of the slices from their stored embeddings, with boxes of the ROI decoder itself; a case
that several share is put together by the first of them. Worker processes beside it compare with the truth at full
resolution, while the device goes on with the next case, and write each result as it comes; a restart computes only what
is missing. The main process merges the results in case order.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from accelerate import PartialState

from kitsam.ct.case import CaseFiles, find_cases, paths_of
from kitsam.ct.labels import TARGETS, Target
from kitsam.ct.volume import Volume
from kitsam.decoding.config import runs_of
from kitsam.decoding.runs import check_leak, each_run, load_runs
from kitsam.evaluation.beside import beside_table
from kitsam.evaluation.case_results import CASES, PREDICTIONS, is_done, read_result, save_and_score
from kitsam.evaluation.compare import FILE_NAME, Others, compare_and_tell, read_others, shared_cases
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.decoders import TrainedRuns, by_target, labelling_of
from kitsam.evaluation.labelling import Labelling
from kitsam.evaluation.listening import Listening, heard, listen
from kitsam.evaluation.origins import SETTING as ORIGINS
from kitsam.evaluation.origins import count_origins, is_like_the_papers, origins_text
from kitsam.evaluation.results import CSV_NAME, JSON_NAME, write_metrics
from kitsam.evaluation.scans import check_scans
from kitsam.evaluation.spans import SPANS, read_spans, remove_spans, share_cases, spans_of, write_span
from kitsam.evaluation.summary import detection_table, results_table
from kitsam.evaluation.truths import check_labels, read_truth_once
from kitsam.evaluation.workers import case_workers
from kitsam.inference.second_look import decide_second_look
from kitsam.shards.manifest import ShardEntry, check_signature
from kitsam.shards.reader import ShardSet
from kitsam.shards.source import absolute
from kitsam.system.console import progress, say, warn
from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import look_anew, remove_leftovers, sha256_of
from kitsam.system.head import say_head
from kitsam.system.outputs import files_in, refuse_overwriting
from kitsam.system.pieces import Pieces
from kitsam.system.processes import report_lost_peer, start_processes
from kitsam.system.shares import Part

MOST_WAITING = 2  # label maps that wait for a worker, for each of them


Digests = dict[Target, str | list[str]]  # SHA-256 of the decoders' files


def run(config: EvaluateConfig) -> int:
    processes = start_processes(config.device)
    with report_lost_peer():
        files = decide(lambda: _find_cases(config))
        shards, runs = together(lambda: _read(config))
        has_decoder = shards.manifest.initial_decoder is not None
        cascade = decide_second_look(config.cascade, shards.manifest.encoder["name"], has_decoder)
        config = replace(config, cascade=cascade)
        decide(lambda: check_labels(config.data, config.shards, files, shards.manifest))
        for option in _asks_for_scans(config, runs):
            decide(lambda option=option: check_scans(files, shards.manifest, config.shards, option))
        decide(lambda: _read_others(config, [case.case for case in shards.manifest.val]))
        with sole_writers(config.out):
            return _evaluate(config, files, shards, runs, processes)


def _asks_for_scans(config: EvaluateConfig, runs: TrainedRuns) -> list[str]:
    """The options because of which the scans must be read and not only embeddings."""
    details = [target for target, some in runs.items() if any(trained.detail for trained in some)]
    return ["flips"] * config.flips + details[:1]


def _find_cases(config: EvaluateConfig) -> dict[str, CaseFiles]:
    files = find_cases(config.data)
    _refuse_overwriting(config, files)
    return files


def _read(config: EvaluateConfig) -> tuple[ShardSet, TrainedRuns]:
    """The shard set and the decoders, if they fit one another."""
    shards = ShardSet(config.shards, config.cache, fold=config.fold)
    if config.zero_shot:
        return shards, {}
    runs = load_runs(runs_of(config))
    for target, trained in each_run(runs):
        check_signature(trained.signature, shards.manifest.signature, trained.path, config.shards)
        check_leak(trained, shards.manifest, target, config.shards)
    return shards, runs


def _evaluate(
    config: EvaluateConfig,
    files: dict[str, CaseFiles],
    shards: ShardSet,
    runs: TrainedRuns,
    processes: PartialState,
) -> int:
    """Score what is missing, then write the results of all. Returns the exit code."""
    labelling = labelling_of(config, files, shards, runs, processes.device)
    decoders = decide(lambda: _digests(runs))
    fingerprint, missing = decide(lambda: _missing(config, decoders, shards))
    entries = {entry.case: entry for entry in shards.manifest.val}
    data = f"{config.shards} and {config.data}, {len(entries)} validation cases, {len(missing)} to do"
    say_head("evaluate", config, data, processes.device, "fp32")
    shares = share_cases(
        [entries[name].samples for name in missing], config.cascade.batch_size, processes.num_processes
    )
    cases = [Case(entries[name], files[name], spans_of(shares, index)) for index, name in enumerate(missing)]
    _score_cases(cases, shares[processes.process_index], labelling, config, fingerprint)
    return decide(lambda: _finish(config, files, sorted(entries), runs, decoders, shards))


class Case(NamedTuple):
    """A case to evaluate."""

    entry: ShardEntry
    files: CaseFiles
    spans: list[Part]  # of the processes that label it


def _missing(config: EvaluateConfig, decoders: Digests, shards: ShardSet) -> tuple[str, list[str]]:
    """A hash of all that decides the results, and the cases that have none of it yet."""
    fingerprint = _fingerprint(config, decoders, shards)
    remove_leftovers(config.out, "*/.tmp-*")
    remove_spans(config.out)
    return fingerprint, [case.case for case in shards.manifest.val if not is_done(config.out, case.case, fingerprint)]


def _digests(runs: TrainedRuns) -> Digests:
    return by_target(runs, lambda trained: sha256_of(trained.path))


def _refuse_overwriting(config: EvaluateConfig, files: dict[str, CaseFiles]) -> None:
    label_maps = [config.out / PREDICTIONS / f"{name}.nii.gz" for name in files]
    outputs = [config.out, *(config.out / name for name in (CSV_NAME, JSON_NAME, FILE_NAME)), *label_maps]
    folders = [run for some in runs_of(config).values() for run in some] + [config.against] * bool(config.against)
    given = [config.data, Path(config.shards), *folders, *paths_of(files)]
    refuse_overwriting(outputs, [*given, *(path for folder in folders for path in files_in(folder))])


def _fingerprint(config: EvaluateConfig, decoders: Digests, shards: ShardSet) -> str:
    """A hash of all that decides a case's result."""
    causes = {"decoders": decoders, "cascade": asdict(config.cascade), "shards": asdict(shards.manifest)}
    causes.update({name: True for name in ("zero_shot", "flips") if getattr(config, name)})
    return hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()


def _score_cases(
    cases: list[Case], share: list[Part], labelling: Labelling, config: EvaluateConfig, fingerprint: str
) -> None:
    """Label this process's share of the cases one by one, while worker processes write and score those before."""
    waiting: deque[Future[None]] = deque()
    pieces = Pieces()
    shared: dict[Part, tuple[Volume, Listening]] = {}  # with other processes
    targets = TARGETS if config.zero_shot else [target for target in TARGETS if getattr(config, target)]

    def begin() -> None:
        for part in share:
            case = cases[part.item]
            name = case.files.name
            truth = read_truth_once(case.files, part, pieces, config.out, fingerprint)
            if truth is not None and case.spans == [part]:
                listening = listen(truth.voxels)
                labels = labelling.label(case.entry, truth, listening)
                submit(case, labels, listening.levels, listening.counts)
            elif truth is not None:
                shared[part] = truth, (listening := listen(truth.voxels[part.first : part.stop]))
                begun = labelling.begin(case.entry, truth, part.first, part.stop, listening)
                write_span(config.out, name, "begun", part, begun)
            tick(1, name)

    def go_on() -> None:
        look_anew(config.out / SPANS)
        for part, (truth, listening) in shared.items():
            case = cases[part.item]
            begun = read_spans(config.out, case.files.name, "begun", case.spans)
            labels = labelling.go_on(case.entry, truth, begun, part.first, part.stop, listening)
            for stage, some in (("labels", labels), ("levels", listening.levels), ("counts", listening.counts[None])):
                write_span(config.out, case.files.name, stage, part, some)

    def finish() -> None:
        look_anew(config.out / SPANS)
        for part, (truth, _) in shared.items():
            case = cases[part.item]
            if part.first == 0:
                stages = "labels", "levels", "counts"
                labels, levels, counts = (
                    read_spans(config.out, case.files.name, stage, case.spans) for stage in stages
                )
                submit(case, labelling.finish(case.entry, truth, labels), levels, counts.sum(axis=0))
        for future in waiting:
            future.result()

    def submit(case: Case, labels: np.ndarray, levels: np.ndarray, counts: np.ndarray) -> None:
        answers = heard(levels, counts, labels, targets)
        waiting.append(pool.submit(save_and_score, config.out, case.files, labels, answers, fingerprint))
        while len(waiting) > MOST_WAITING * config.workers:
            waiting.popleft().result()

    with case_workers(config.workers, len(share)) as pool, progress("Evaluating", len(share), "cases") as tick:
        for stage in (begin, go_on, finish):
            together(stage)
    pieces.finish()


def _read_others(config: EvaluateConfig, names: Iterable[str]) -> Others | None:
    """What is to be compared with; raises `KitsamError` when fewer than two cases are in both."""
    if config.against is None:
        return None
    others = read_others(config.against, _no_label_maps)
    shared_cases(names, others.figures, str(config.against))
    return others


def _no_label_maps(folder: Path) -> NoReturn:
    raise OptionError(f"--against: neither {JSON_NAME} nor {CSV_NAME} in {folder}: run `kitsam evaluate` there first")


def _finish(
    config: EvaluateConfig,
    files: dict[str, CaseFiles],
    names: list[str],
    runs: TrainedRuns,
    decoders: Digests,
    shards: ShardSet,
) -> int:
    """Write and print the results of all cases. Returns the exit code."""
    remove_spans(config.out)
    look_anew(config.out / CASES)
    names = sorted(case.case for case in shards.manifest.val)
    results = {name: read_result(config.out, name) for name in names}
    scores = {name: result.scores for name, result in results.items() if result.scores}
    failed = {name: result.skipped for name, result in results.items() if result.skipped}
    manifest = shards.manifest
    lost = {name: why for name, why in manifest.skipped.items() if name in manifest.split.val}
    for name, why in lost.items():
        warn(f"{name} was left out of the shard set: {why}")
    failed.update(lost)
    if not scores:
        raise CaseError(f"{config.data}: no validation case could be evaluated: {'; '.join(failed.values())}")
    origins = count_origins(files, scores)
    settings = {
        "command": "evaluate",
        "data": str(config.data.absolute()),
        "shards": absolute(config.shards),
        "predictions": str((config.out / PREDICTIONS).absolute()),
        "runs": by_target(runs, lambda trained: str(trained.path.parent.absolute())),
        "decoders": decoders,
        "cascade": asdict(config.cascade),
        "fingerprint": shards.fingerprint,
        "fold": shards.fold,
        "split": {"train": list(manifest.split.train), "val": list(manifest.split.val)},
        **{name: True for name in ("zero_shot", "flips") if getattr(config, name)},
        **({"against": str(config.against.absolute())} if config.against else {}),
        **asdict(manifest.signature),
        ORIGINS: origins,
    }
    write_metrics(config.out, scores, settings, failed)
    say(f"Evaluated: {origins_text(origins)}")
    say(results_table(scores, is_like_the_papers(settings, origins)))
    say(beside_table(scores))
    say(detection_table(scores))
    say(f"Label maps: {config.out / PREDICTIONS}")
    say(f"Metrics: {config.out / CSV_NAME}, {config.out / JSON_NAME}")
    compare_and_tell(config.out, scores, _read_others(config, names), config.against)
    return 1 if failed or manifest.skipped else 0
