"""The official KiTS23 metrics of a case.

Three groups of classes overlap (kidney with all masses, masses, tumor); each is scored by Dice and by surface Dice at
a tolerance that KiTS took from the disagreement of its annotators. A group that truth and prediction both lack scores
1, one that only one of them lacks scores 0. Beside them: Dice of cysts by the same rule, volumes, which lesions were
found, and, where a cascade's answers are known, how sure it was.

All comes from one pass over both label maps, slab by slab; beyond the two maps it needs some ten MB, and a byte a voxel
for the answers.
"""

from dataclasses import dataclass, field, fields, replace
from statistics import fmean

import numpy as np

from kitsam.ct.labels import CLASS_NAMES, CYST, KIDNEY, TUMOR
from kitsam.evaluation.answers import Answers, Heard
from kitsam.evaluation.lesions import LesionCounter, Lesions
from kitsam.evaluation.slabs import Slab, slabs, slowest_first
from kitsam.evaluation.surface_dice import Areas, Spacing, SurfaceMatcher

GROUPS = {"kidney_and_mass": (KIDNEY, TUMOR, CYST), "mass": (TUMOR, CYST), "tumor": (TUMOR,)}
TOLERANCES_MM = {"kidney_and_mass": 1.0330772532390826, "mass": 1.1328796488598762, "tumor": 1.1498198361434828}
CLASSES = (KIDNEY, TUMOR, CYST)
LESIONS = (TUMOR, CYST)
COLUMNS = ("Dice_kidney", "Dice_masses", "Dice_tumor", "SD_kidney", "SD_masses", "SD_tumor")

SUMMARY = ("Dice", "surface_Dice", "tumor_Dice", "kidney_and_masses_Dice", "masses_Dice")


@dataclass(frozen=True)
class CaseScores:
    """Plain numbers and lists, which JSON keeps."""

    kidney_and_mass_dice: float
    mass_dice: float
    tumor_dice: float
    kidney_and_mass_surface_dice: float
    mass_surface_dice: float
    tumor_surface_dice: float
    true_kidney_ml: float
    true_tumor_ml: float
    true_cyst_ml: float
    predicted_kidney_ml: float
    predicted_tumor_ml: float
    predicted_cyst_ml: float
    missing: bool = False  # no prediction was there to be scored
    tumors: Lesions = field(default_factory=Lesions)
    cysts: Lesions = field(default_factory=Lesions)
    cyst_dice: float | None = None  # older files do not tell it
    answers: Answers | None = None  # of label maps alone nobody knows them

    @property
    def columns(self) -> dict[str, float]:
        """The six scores by the names in COLUMNS."""
        names = [f"{group}_{score}" for score in ("dice", "surface_dice") for group in GROUPS]
        return {column: getattr(self, name) for column, name in zip(COLUMNS, names)}

    @property
    def summary(self) -> dict[str, float]:
        """The five figures by the names in SUMMARY."""
        return summary_of(self.columns)


def summary_of(columns: dict[str, float]) -> dict[str, float]:
    """The figures in SUMMARY from those in COLUMNS, of a case or of averages."""
    return {
        "Dice": fmean(columns[name] for name in COLUMNS[:3]),
        "surface_Dice": fmean(columns[name] for name in COLUMNS[3:]),
        "tumor_Dice": columns["Dice_tumor"],
        "kidney_and_masses_Dice": columns["Dice_kidney"],
        "masses_Dice": columns["Dice_masses"],
    }


def score_case(
    truth: np.ndarray,  # (S, H, W) uint8 labels
    prediction: np.ndarray,  # (S, H, W) uint8 labels
    spacing: Spacing,
    voxel_ml: float | None = None,
    heard: Heard | None = None,
) -> CaseScores:
    """Both in the same frame and of the same shape, which is the caller's to check.

    `voxel_ml`: for the volumes; the product of the spacing if not given, which is too much where axes are sheared.
    `heard`: what the decoders answered from which the prediction comes.
    """
    levels = None if heard is None else heard.volume(prediction)
    axes = slowest_first(truth)
    matchers = {name: SurfaceMatcher(spacing, TOLERANCES_MM[name], truth.shape, axes) for name in GROUPS}
    areas = {name: Areas(0.0, 0.0) for name in GROUPS}
    truth, prediction = truth.transpose(axes), prediction.transpose(axes)
    levels = None if levels is None else levels.transpose(axes)
    counters = {label: LesionCounter(label, truth.shape[1:]) for label in LESIONS}
    counts = np.zeros((4, 4), int)  # voxels by true label and predicted label, but those that are background in both
    for slab in slabs(truth, prediction, max(matcher.margin for matcher in matchers.values())):
        pairs = slab.truth[slab.own] << 2 | slab.prediction[slab.own]
        counts += np.bincount(pairs.ravel(), minlength=16).reshape(4, 4)
        for name, classes in GROUPS.items():
            masks = (_is_in(part, classes) for part in (slab.truth, slab.prediction))
            areas[name] += matchers[name].areas(*masks, slab.own, slab.is_last)
        for counter in counters.values():
            counter.add(slab, None if levels is None else _own(slab, levels))
    voxel_ml = float(np.prod(spacing)) / 1000 if voxel_ml is None else voxel_ml
    (tumors, tumor_scores), (cysts, cyst_scores) = (counters[label].lesions(voxel_ml) for label in LESIONS)
    answers = None
    if heard is not None:
        true = {CLASS_NAMES[label]: int(counts[label].sum()) for label in LESIONS}
        answers = Answers(heard.reliability(), true, {"tumor": tumor_scores, "cyst": cyst_scores})
    return CaseScores(
        *(_dice(counts, classes) for classes in GROUPS.values()),
        *(areas[name].dice for name in GROUPS),
        *(float(side[label] * voxel_ml) for side in (counts.sum(axis=1), counts.sum(axis=0)) for label in CLASSES),
        tumors=tumors,
        cysts=cysts,
        cyst_dice=_dice(counts, (CYST,)),
        answers=answers,
    )


def _own(slab: Slab, volume: np.ndarray) -> np.ndarray:
    """(T, H, W) of a volume with the axes of the slab's: what lies at its own planes."""
    return volume[slab.start : slab.start + slab.own.stop - slab.own.start, slab.rows, slab.columns]


def missing_prediction(truth: np.ndarray, spacing: Spacing, voxel_ml: float | None = None) -> CaseScores:
    """A case that was to be predicted and was not: 0 in everything, even in groups that the truth lacks.

    `truth`: (S, H, W) uint8 labels.
    """
    nothing = np.broadcast_to(np.zeros(1, truth.dtype), truth.shape)
    names = [*(one.name for one in fields(CaseScores)[: len(COLUMNS)]), "cyst_dice"]
    return replace(score_case(truth, nothing, spacing, voxel_ml), **dict.fromkeys(names, 0.0), missing=True)


def _is_in(labels: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """(T, H, W) bool, in one comparison: a group is one class, or all classes from one on."""
    return labels >= classes[0] if classes[-1] == CLASSES[-1] else labels == classes[0]


def _dice(counts: np.ndarray, classes: tuple[int, ...]) -> float:
    true, predicted = counts[classes, :].sum(), counts[:, classes].sum()
    return float(2 * counts[np.ix_(classes, classes)].sum() / (true + predicted)) if true or predicted else 1.0


def volumes_ml(scores: CaseScores) -> dict[str, dict[str, float]]:
    """By side, true or predicted, and by class."""
    names = [CLASS_NAMES[label] for label in CLASSES]
    return {side: {name: getattr(scores, f"{side}_{name}_ml") for name in names} for side in ("true", "predicted")}
