"""Which jobs an experiment has, and what their names depend on."""

from pathlib import Path

from recipes import GOOD

from kitsam.experiment.config import ExperimentConfig
from kitsam.experiment.jobs import Plan, make_plan
from kitsam.experiment.recipe import read_recipe
from kitsam.experiment.run import _of_this_share


def plan_of(folder: Path, text: str = GOOD, out: str = "out") -> Plan:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return make_plan(read_recipe(path, Path("data"), Path(out)), Path("data"), Path(out))


def test_variants_share_what_they_have_in_common(tmp_path):
    plan = plan_of(tmp_path)
    parts = [job.part for job in plan.jobs.values()]
    # One set; of two folds and two seeds each two ROI decoders and one tumor decoder; an evaluation of each variant.
    assert [parts.count(part) for part in ("embed", "train", "evaluate")] == [1, 12, 8]
    again = plan_of(tmp_path, GOOD.replace("2.0e-3", "1.0e-3"))
    assert [job.part for job in again.jobs.values()].count("train") == 8


def test_a_job_comes_after_what_it_needs(tmp_path):
    plan = plan_of(tmp_path)
    names = list(plan.jobs)
    for job in plan.jobs.values():
        assert all(names.index(need) < names.index(job.name) for need in job.needs)
    tumor = next(job for job in plan.jobs.values() if job.name.startswith("tumor"))
    assert tumor.options.start_from == plan.jobs[tumor.needs[1]].folder


def test_names_depend_on_what_decides_the_result_and_on_nothing_else(tmp_path):
    names = set(plan_of(tmp_path).jobs)
    assert set(plan_of(tmp_path, out="elsewhere").jobs) == names
    assert set(plan_of(tmp_path, GOOD.replace("steps: 4", "steps: 4, workers: 1, device: cpu")).jobs) == names
    other = set(plan_of(tmp_path, GOOD.replace("input_size: 64", "input_size: 96")).jobs)
    assert not names & other
    other = set(plan_of(tmp_path, GOOD.replace("steps: 2", "steps: 3")).jobs)
    assert {name for name in names if name.startswith(("set", "roi"))} <= other


def test_shares_are_disjoint_cover_all_and_keep_runs_that_start_from_one_another_together(tmp_path):
    plan = plan_of(tmp_path)
    config = {"file": Path("e.yaml"), "data": Path("data"), "out": Path("out"), "part": "train"}
    shares = [_of_this_share(ExperimentConfig(**config, share=f"{number}/3"), plan) for number in (1, 2, 3)]
    names = [job.name for share in shares for job in share]
    assert sorted(names) == sorted(name for name, job in plan.jobs.items() if job.part == "train")
    for share in shares:
        own = {job.name for job in share}
        for job in share:
            assert all(need in own for need in job.needs if plan.jobs[need].part == "train")
