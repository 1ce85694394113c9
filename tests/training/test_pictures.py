"""Validation slices as pictures: that TensorBoard gets them."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_a_run_shows_the_same_slices_at_each_validation(runs):
    for target, run in runs.items():
        (events,) = {path.parent for path in run.glob("**/events.out.tfevents.*")}
        shown = EventAccumulator(str(events), {"images": 0}).Reload()
        names = shown.Tags()["images"]
        assert len(names) == 2 and all(name.startswith("case_") for name in names)  # one of each validation case
        for images in map(shown.Images, names):
            assert [image.step for image in images] == [3, 6], target
            assert (images[0].width, images[0].height) == (64, 64)
