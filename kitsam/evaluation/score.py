"""`kitsam score`: the official metrics for the label maps of any system.

Truth and prediction are brought to the same frame, so a reoriented prediction scores as the straight one does, and
are compared voxel by voxel. Each case goes to one of several processes, which holds its two label maps and little
more. A case without a prediction counts 0 unless it is to be left out; a file that cannot be scored is left out,
named, and makes the exit code 1.
"""

import os
import re
from concurrent.futures import Future, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path

from kitsam.ct.case import CaseFiles, find_cases, find_test_cases, paths_of
from kitsam.ct.layouts import DATASET
from kitsam.evaluation.beside import beside_table
from kitsam.evaluation.case_files import Result, score_files
from kitsam.evaluation.case_results import PREDICTIONS
from kitsam.evaluation.compare import FILE_NAME, Figures, compare_and_tell, figures_of, read_others
from kitsam.evaluation.config import ScoreConfig
from kitsam.evaluation.origins import SETTING as ORIGINS
from kitsam.evaluation.origins import count_origins, is_like_the_papers, origins_text
from kitsam.evaluation.results import CSV_NAME, JSON_NAME, write_metrics
from kitsam.evaluation.summary import detection_table, results_table
from kitsam.evaluation.workers import case_workers
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.outputs import files_in, refuse_overwriting

ENDING = ".nii.gz"


def run(config: ScoreConfig) -> int:
    given = config.predictions
    config = replace(config, predictions=_label_map_folder(given))
    cases = _cases_meant(config)
    predictions = find_predictions(config.predictions, cases)
    _refuse_overwriting(config, given, cases, predictions)
    cases = _with_truth(cases, predictions, config)
    others = read_others(config.against, partial(_figures_of, cases=cases, config=config)) if config.against else None
    results, skipped = _score_cases(cases, predictions, config)
    scores = {name: result.scores for name, result in results.items()}
    origins = count_origins(cases, scores)
    settings = {
        "command": "score",
        "data": str(config.data.absolute()),
        "predictions": str(config.predictions.absolute()),
        "only_present": config.only_present,
        ORIGINS: origins,
    }
    write_metrics(config.out, scores, settings, skipped)
    _warn_of_doubts(results, skipped, list(cases), config)
    say(f"Scored: {origins_text(origins)}")
    say(results_table(scores, is_like_the_papers(settings, origins)))
    say(beside_table(scores))
    say(detection_table(scores))
    say(f"Wrote {config.out / CSV_NAME}, {config.out / JSON_NAME}")
    compare_and_tell(config.out, scores, others, config.against)
    return 1 if skipped else 0


def _label_map_folder(folder: Path) -> Path:
    """The folder itself, or the one in it where `kitsam evaluate` put its label maps."""
    return folder / PREDICTIONS if (folder / JSON_NAME).is_file() and (folder / PREDICTIONS).is_dir() else folder


def _cases_meant(config: ScoreConfig) -> dict[str, CaseFiles]:
    """The training cases, or nnU-Net's test cases where label maps are named for those; both where for both."""
    training, tests = find_cases(config.data), find_test_cases(config.data)
    named = {path.name.removesuffix(ENDING) for path in config.predictions.glob(f"*{ENDING}")}
    if not tests.keys() & named:
        return training
    say(f"Scored: the test cases of {config.data}{' and the training cases' if training.keys() & named else ''}")
    if not training.keys() & named:
        return tests
    if both := sorted(training.keys() & tests.keys()):
        name = both[0]
        raise OptionError(f"--data: two cases of one name: {training[name].imaging} and {tests[name].imaging}")
    return {**training, **tests}


def _refuse_overwriting(
    config: ScoreConfig, given: Path, cases: dict[str, CaseFiles], predictions: dict[str, Path]
) -> None:
    outputs = [config.out / name for name in (CSV_NAME, JSON_NAME, FILE_NAME)]
    inputs = [*paths_of(cases), *predictions.values(), config.data / DATASET]
    # The results of an evaluation, whose label maps these are.
    inputs += [given / name for name in (CSV_NAME, JSON_NAME)] if given != config.predictions else []
    if config.against:
        outputs, inputs = [config.out, *outputs], [*inputs, config.against, *files_in(config.against)]
    refuse_overwriting(outputs, inputs)


def _with_truth(cases: dict[str, CaseFiles], predictions: dict[str, Path], config: ScoreConfig) -> dict[str, CaseFiles]:
    """Without the cases that are there to be predicted, unless one was."""
    without = [
        name
        for name, files in cases.items()
        if not files.problem and name not in predictions and not os.path.lexists(files.segmentation)
    ]
    if without:
        say(f"Not scored, without a segmentation in {config.data}: {', '.join(without)}")
    return {name: files for name, files in cases.items() if name not in without}


def find_predictions(folder: Path, cases: dict[str, CaseFiles], option: str = "predictions") -> dict[str, Path]:
    """The label maps by the case that they are named for. Raises `OptionError` when there is none."""
    if not folder.is_dir():
        raise OptionError(f"{option}: no such folder: {folder}")
    paths = {name: path for name in cases if (path := folder / f"{name}{ENDING}").is_file()}
    if not paths:
        raise OptionError(
            f"{option}: no label map of any case of --data in {folder} (such as {next(iter(cases))}{ENDING})"
        )
    return paths


def _score_cases(
    cases: dict[str, CaseFiles], predictions: dict[str, Path], config: ScoreConfig
) -> tuple[dict[str, Result], dict[str, str]]:
    """The results by case, and why the other cases have none."""
    if config.only_present:
        cases = {name: cases[name] for name in predictions if name in cases}
    results, skipped = {}, {}
    with case_workers(config.workers, len(cases)) as pool, progress("Scoring", len(cases), "cases") as tick:
        futures: dict[Future[Result], str] = {
            pool.submit(score_files, files, predictions.get(name)): name for name, files in cases.items()
        }
        for future in as_completed(futures):
            name = futures[future]
            try:
                results[name] = future.result()
            except CaseError as error:
                skipped[name] = str(error)
                warn(str(error))
            tick(note=name)
    return {name: results[name] for name in cases if name in results}, dict(sorted(skipped.items()))


def _figures_of(folder: Path, cases: dict[str, CaseFiles], config: ScoreConfig) -> dict[str, Figures]:
    """Of the label maps in a folder to compare with, under the same rule for those that are missing."""
    results, _ = _score_cases(cases, find_predictions(folder, cases, "--against"), config)
    return {name: figures_of(result.scores) for name, result in results.items()}


def _warn_of_doubts(results: dict[str, Result], skipped: dict[str, str], cases: list[str], config: ScoreConfig) -> None:
    absent = [name for name in cases if not (config.predictions / f"{name}{ENDING}").is_file()]
    if absent:
        consequence = "are left out" if config.only_present else "count 0"
        warn(f"{len(absent)} of {len(cases)} cases have no prediction and {consequence}: {', '.join(absent)}")
    for result in results.values():
        for doubt in result.doubts:
            warn(doubt)
    extra = [_with_guess(name, absent) for name in _label_maps_of_no_case(config.predictions, cases)]
    if extra:
        warn(f"{config.predictions}: not scored, named for no case of {config.data}: {', '.join(extra)}")
    if skipped:
        warn(f"{len(skipped)} of {len(cases)} cases could not be scored and are left out: {', '.join(skipped)}")


def _label_maps_of_no_case(folder: Path, cases: list[str]) -> list[str]:
    file_names = {f"{name}{ENDING}" for name in cases}
    return sorted(
        path.name for path in folder.iterdir() if path.name.endswith((".nii", ENDING)) and path.name not in file_names
    )


def _with_guess(file_name: str, absent: list[str]) -> str:
    """With the case that a file was perhaps meant for: one that has no prediction, and the same number."""
    meant = [name for name in absent if set(re.findall(r"\d+", name)) & set(re.findall(r"\d+", file_name))]
    return f"{file_name} (meant for {meant[0]}{ENDING}?)" if len(meant) == 1 else file_name
