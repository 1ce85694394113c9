"""What counts as a case of a data set: used, or left out by name, alike for every command."""

import json

import numpy as np
import pytest
from tiny_scans import IPL, draw, save

from kitsam.ct.case import find_cases, find_test_cases, read_case, read_truth
from kitsam.ct.config import FingerprintConfig
from kitsam.ct.fingerprint import run as fingerprint
from kitsam.system.errors import CaseError, OptionError


def kits_case(data, name):
    image, label = draw()
    save(data / name / "imaging.nii.gz", image)
    save(data / name / "segmentation.nii.gz", label)


def nnunet_case(data, name, part="Tr", ending=".nii.gz"):
    image, label = draw()
    save(data / f"images{part}" / f"{name}_0000{ending}", image)
    save(data / f"labels{part}" / f"{name}{ending}", label)


def describe(data, **content):
    (data / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz", **content}))


def refusal(files):
    with pytest.raises(CaseError) as error:
        read_case(files)
    return str(error.value)


# Hidden files, links, folders


def test_hidden_files_and_folders_are_no_cases(tmp_path, capsys):
    kits_case(tmp_path, "case_00000")
    kits_case(tmp_path, ".case_00001")
    nnunet_case(tmp_path, "x")
    (tmp_path / "imagesTr" / "._x_0000.nii.gz").write_bytes(b"\0\5\26\7")
    (tmp_path / "labelsTr" / "._x.nii.gz").write_bytes(b"\0\5\26\7")
    (tmp_path / "._case_00000").write_bytes(b"\0\5\26\7")

    assert list(find_cases(tmp_path)) == ["case_00000", "x"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("whole_folder", [True, False])
def test_dangling_links_are_a_bad_case_that_says_where_they_lead(tmp_path, whole_folder):
    kits_case(tmp_path, "case_00000")
    folder = tmp_path / "case_00001"
    if whole_folder:
        folder.symlink_to("/nowhere/case_00001")
    else:
        folder.mkdir()
        for name in ("imaging.nii.gz", "segmentation.nii.gz"):
            (folder / name).symlink_to(f"/nowhere/{name}")

    cases = find_cases(tmp_path)

    assert list(cases) == ["case_00000", "case_00001"]
    assert "case_00001" in refusal(cases["case_00001"]) and "a link to /nowhere/" in refusal(cases["case_00001"])


def test_a_dangling_link_ends_no_long_job_but_is_listed(tmp_path, capsys):
    kits_case(tmp_path / "data", "case_00000")
    (tmp_path / "data" / "case_00001").symlink_to("/nowhere")

    assert fingerprint(FingerprintConfig(tmp_path / "data", tmp_path / "out")) == 1
    assert "case_00001 is left out" in capsys.readouterr().err


def test_a_case_folder_with_one_of_its_files_or_none_is_a_bad_case(tmp_path):
    for number in range(3):
        kits_case(tmp_path, f"case_0000{number}")
    (tmp_path / "case_00000" / "imaging.nii.gz").unlink()
    (tmp_path / "case_00001" / "segmentation.nii.gz").unlink()
    for path in (tmp_path / "case_00002").iterdir():
        path.unlink()

    cases = find_cases(tmp_path)

    assert "case_00000/imaging.nii.gz: no such file" in refusal(cases["case_00000"])
    assert "case_00001/segmentation.nii.gz: no such file" in refusal(cases["case_00001"])
    assert "case_00002: holds neither" in refusal(cases["case_00002"])


# Names


def test_a_case_in_both_layouts_is_refused_with_both_places(tmp_path):
    kits_case(tmp_path, "case_00000")
    nnunet_case(tmp_path, "case_00000")

    with pytest.raises(OptionError, match=r"--data: two cases .*case_00000/imaging.* and .*imagesTr/case_00000_0000"):
        find_cases(tmp_path)


@pytest.mark.parametrize("names", [("Case_1", "case_1"), ("M\u00fcller", "Mu\u0308ller")])
def test_names_that_are_one_on_other_file_systems_are_refused(tmp_path, names):
    for name in names:
        kits_case(tmp_path, name)
    if len([*tmp_path.iterdir()]) < 2:
        pytest.skip("they are one here")

    with pytest.raises(OptionError, match="two cases of one name"):
        find_cases(tmp_path)


# nnU-Net


def test_test_scans_are_no_training_cases_and_that_is_said_once(tmp_path, capsys):
    nnunet_case(tmp_path, "a")
    nnunet_case(tmp_path, "b", "Ts")

    assert list(find_cases(tmp_path)) == list(find_cases(tmp_path)) == ["a"]
    assert capsys.readouterr().err.count("imagesTs: 1 test scans") == 1
    assert list(find_test_cases(tmp_path)) == ["b"]


def test_labels_without_an_image_are_a_bad_case(tmp_path):
    nnunet_case(tmp_path, "a")
    nnunet_case(tmp_path, "b")
    (tmp_path / "imagesTr" / "b_0000.nii.gz").unlink()

    assert "b_0000.nii.gz: no such file" in refusal(find_cases(tmp_path)["b"])


def test_a_second_channel_makes_a_bad_case(tmp_path):
    nnunet_case(tmp_path, "a")
    nnunet_case(tmp_path, "b")
    save(tmp_path / "imagesTr" / "b_0001.nii.gz", draw()[0])

    cases = find_cases(tmp_path)

    assert "b_0001.nii.gz: a second channel" in refusal(cases["b"])
    assert read_case(cases["a"]).name == "a"


def test_files_that_are_named_otherwise_are_named(tmp_path, capsys):
    nnunet_case(tmp_path, "a")
    save(tmp_path / "imagesTr" / "b.nii.gz", draw()[0])
    save(tmp_path / "labelsTr" / "a.nii", draw()[1])

    assert list(find_cases(tmp_path)) == ["a"]
    said = capsys.readouterr().err
    assert "not named NAME_0000.nii.gz: b.nii.gz" in said and "labelsTr: left out, not named NAME.nii.gz: a.nii" in said


def test_the_ending_that_dataset_json_gives_is_used(tmp_path):
    nnunet_case(tmp_path, "a", ending=".nii")
    describe(tmp_path, file_ending=".nii")

    assert read_case(find_cases(tmp_path)["a"]).image.shape == draw()[0].shape


@pytest.mark.parametrize("version", [1, 2])
def test_the_cases_that_dataset_json_lists_are_the_cases(tmp_path, version, capsys):
    for name in ("a", "b", "c"):
        nnunet_case(tmp_path, name)
    names = ("a", "b", "gone")
    images = {name: f"imagesTr/{name}_0000.nii.gz" for name in names}
    labels = {name: f"./labelsTr/{name}.nii.gz" for name in names}
    if version == 1:
        # Version 1 lists images without their channel.
        training = [{"image": f"./imagesTr/{name}.nii.gz", "label": labels[name]} for name in names]
        describe(tmp_path, training=training, numTraining=3, modality={"0": "CT"}, labels={"0": "background"})
    else:
        describe(tmp_path, dataset={name: {"images": [images[name]], "label": labels[name]} for name in names})

    cases = find_cases(tmp_path)

    assert list(cases) == ["a", "b", "gone"]
    assert "gone" in refusal(cases["gone"]) and "no such file" in refusal(cases["gone"])
    assert read_case(cases["a"]).label is not None
    assert "left out, not listed there: c" in capsys.readouterr().err


def test_images_of_the_decathlon_have_no_channel(tmp_path):
    image, label = draw()
    save(tmp_path / "imagesTr" / "a.nii.gz", image)
    save(tmp_path / "labelsTr" / "a.nii.gz", label)
    describe(tmp_path, training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}])

    assert read_case(find_cases(tmp_path)["a"]).name == "a"


def test_another_number_of_cases_than_dataset_json_says_is_told(tmp_path, capsys):
    nnunet_case(tmp_path, "a")
    describe(tmp_path, numTraining=2)
    find_cases(tmp_path)

    assert "numTraining is 2, but 1 cases are there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"file_ending": ".nrrd"}, "file_ending .nrrd"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, "2 channels"),
        ({"labels": {"background": 0, "tumor": 1, "kidney": 2}}, "tumor is label 1, but kitsam reads KiTS's"),
        ({"labels": {"0": "background", "1": "Tumour"}}, "Tumour is label 1"),
        ({"training": [{"image": 3}]}, "damaged"),
    ],
)
def test_a_dataset_json_of_other_data_is_refused_by_name(tmp_path, content, complaint):
    nnunet_case(tmp_path, "a")
    describe(tmp_path, **content)

    with pytest.raises(OptionError, match=f"dataset.json: .*{complaint}"):
        find_cases(tmp_path)


def test_regions_and_kits_own_numbers_are_taken(tmp_path):
    nnunet_case(tmp_path, "a")
    describe(tmp_path, labels={"background": 0, "kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2})

    assert list(find_cases(tmp_path)) == ["a"]


def test_a_channel_that_is_not_ct_is_told(tmp_path, capsys):
    nnunet_case(tmp_path, "a")
    describe(tmp_path, channel_names={"0": "T2"})
    find_cases(tmp_path)

    assert "the channel is T2, not CT" in capsys.readouterr().err


def test_truth_needs_no_scan_but_is_compared_with_one(tmp_path):
    kits_case(tmp_path, "case_00000")
    files = find_cases(tmp_path)["case_00000"]
    np.testing.assert_array_equal(read_truth(files).voxels, draw()[1])
    save(files.imaging, draw()[0], IPL * [[1], [1], [-1], [1]])
    with pytest.raises(CaseError, match="does not lie where its scan lies"):
        read_truth(files)
    files.imaging.write_bytes(b"broken")
    assert "not compared" in " ".join(read_truth(files).doubts)
    files.imaging.unlink()
    assert read_truth(files).doubts == ()
