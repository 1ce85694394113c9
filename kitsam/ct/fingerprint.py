"""`kitsam fingerprint`: what a data set holds, before anything is trained on it.

Every case is read once; memory is one case per thread. A case that differs from the rest of the data set, or from any
usual CT, is listed as an outlier; a case that cannot be used is left out, listed, and makes the exit code 1.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from kitsam.ct.case import CaseFiles, find_cases, paths_of, try_case
from kitsam.ct.config import FingerprintConfig
from kitsam.ct.fingerprint_plot import plot_fingerprint
from kitsam.ct.fingerprint_tables import print_fingerprint
from kitsam.ct.labels import CLASS_NAMES, CYST, KIDNEY, TUMOR
from kitsam.ct.layouts import DATASET
from kitsam.ct.measure import CaseFingerprint, measure, round_digits, summarize
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import write_text
from kitsam.system.head import say_head
from kitsam.system.outputs import refuse_overwriting

READING_THREADS = min(4, os.cpu_count() or 1)  # unpacking gzip releases the interpreter

# KiTS23 has 0.5-5 mm between slices and fields of view of 200-532 mm; a little beyond is not worth a note.
USUAL_SLICE_SPACING = (0.4, 6.0)  # mm
USUAL_FIELD = (190.0, 560.0)  # mm
USUAL_ASPECT = 1.01  # longer by shorter side of a pixel, at most


def run(config: FingerprintConfig) -> int:
    files = find_cases(config.data, "DATA")
    folder = config.out or Path(f"fingerprint-{config.data.resolve().name}")
    text, picture = folder / "fingerprint.json", folder / "fingerprint.png"
    refuse_overwriting([text, picture], [*paths_of(files), config.data / DATASET])
    say_head("fingerprint", config, f"{config.data}, {len(files)} cases")
    cases, skipped = _measure_all(list(files.values()))
    if not cases:
        raise OptionError(f"DATA: no usable case in {config.data}: {next(iter(skipped.values()))}")
    outliers = {case.name: reasons for case in cases if (reasons := list(_oddities(case, cases)))}
    summary = summarize(cases)
    write_text(text, _json(summary, cases, outliers, skipped))
    plot_fingerprint(picture, cases)
    print_fingerprint(summary, outliers, skipped)
    say(f"Wrote {text} and {picture}")
    return 1 if skipped else 0


def _measure_all(files: Sequence[CaseFiles]) -> tuple[list[CaseFingerprint], dict[str, str]]:
    """The usable cases, and why each of the others is not: name -> reason."""
    cases, skipped = [], {}
    with ThreadPoolExecutor(READING_THREADS) as threads, progress("Measuring", len(files), "cases") as tick:
        for case, result in zip(files, threads.map(partial(try_case, measure), files)):
            if isinstance(result, CaseError):
                warn(f"{case.name} is left out: {result}")
                skipped[case.name] = str(result)
            else:
                for doubt in result.doubts:
                    warn(doubt)
                cases.append(result)
            tick(1, case.name)
    return cases, skipped


def _oddities(case: CaseFingerprint, cases: Sequence[CaseFingerprint]) -> Iterator[str]:
    """Why a person should look at this case."""
    common = Counter(other.shape[1:] for other in cases).most_common(1)[0][0]
    slice_spacing, row_spacing, column_spacing = case.spacing
    fields = (case.shape[1] * row_spacing, case.shape[2] * column_spacing)
    if case.shape[1:] != common:
        yield f"slices of {case.shape[1]}x{case.shape[2]} pixels, most have {common[0]}x{common[1]}"
    if not case.voxels[KIDNEY]:
        yield "no kidney is labeled"
    if not USUAL_SLICE_SPACING[0] <= slice_spacing <= USUAL_SLICE_SPACING[1]:
        yield f"{slice_spacing:g} mm between slices, usual are {_range_text(USUAL_SLICE_SPACING)}"
    if min(fields) < USUAL_FIELD[0] or max(fields) > USUAL_FIELD[1]:
        yield f"field of view of {fields[0]:.0f} x {fields[1]:.0f} mm, usual are {_range_text(USUAL_FIELD)}"
    if max(row_spacing, column_spacing) > USUAL_ASPECT * min(row_spacing, column_spacing):
        yield f"pixels are not square: {row_spacing:g} x {column_spacing:g} mm"
    yield from case.doubts


def _range_text(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"


def _json(
    summary: dict[str, Any], cases: Sequence[CaseFingerprint], outliers: dict[str, list[str]], skipped: dict[str, str]
) -> str:
    """Indented, but with one line per case: a person can read it, and `grep` finds a case."""
    rows = {
        case.name: {
            "shape": list(case.shape),
            "spacing": [round_digits(mm) for mm in case.spacing],
            "hu_range": [round_digits(hu) for hu in case.hu_range],
            "voxels": list(case.voxels),
            "strata": case.strata,
            "volume_ml": {CLASS_NAMES[kind]: round_digits(case.milliliters(kind)) for kind in (KIDNEY, TUMOR, CYST)},
        }
        for case in cases
    }
    head = json.dumps({**summary, "outliers": outliers, "left_out": skipped}, indent=1, ensure_ascii=False)
    lines = ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(row)}" for name, row in rows.items())
    return head.removesuffix("\n}") + f',\n "per_case": {{\n{lines}\n }}\n}}\n'
