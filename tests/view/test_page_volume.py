"""The page's voxels are the file's, wherever those lie."""

import nibabel as nib
import numpy as np

from kitsam.view.page_volume import page_axes, page_bytes, page_shape, scan_nifti


def page_index(session, index):
    """Voxel of the file -> of the page, as the page itself reckons (`inFile` of box.js)."""
    geometry = session.volume.geometry
    sizes = page_shape(geometry)
    return tuple(
        size - 1 - index[axis.file_axis] if axis.mirrored else index[axis.file_axis]
        for axis, size in zip(page_axes(geometry), sizes)
    )


def test_each_voxel_of_the_file_is_where_the_page_says(session, scan):
    image = nib.load(scan)
    voxels, shown = np.asanyarray(image.dataobj), nib.Nifti1Image.from_bytes(scan_nifti(session.volume))
    page = np.asanyarray(shown.dataobj)
    assert page.dtype == np.int16 and list(page.shape) == page_shape(session.volume.geometry)
    for index in np.random.default_rng(0).integers(0, voxels.shape, (200, 3)):
        assert page[page_index(session, index)] == voxels[tuple(index)]


def test_the_page_has_its_axes_to_the_right_front_and_head_and_the_sizes_of_the_voxels(session, scan):
    image, shown = nib.load(scan), nib.Nifti1Image.from_bytes(scan_nifti(session.volume))
    assert nib.aff2axcodes(shown.affine) == ("R", "A", "S")
    assert np.array_equal(shown.affine[:3, :3], np.diag(np.diag(shown.affine)[:3]))
    for axis in range(3):
        step = np.zeros(3, int)
        step[axis] = 1
        moved = np.subtract(page_index(session, step), page_index(session, np.zeros(3, int)))
        along = image.affine[:3, axis]
        page_axis = int(np.argmax(np.abs(along)))
        assert moved[page_axis] == np.sign(along[page_axis]) and np.abs(moved).sum() == 1
        np.testing.assert_allclose(shown.header.get_zooms()[page_axis], np.linalg.norm(along), rtol=1e-6)


def test_labels_have_the_order_of_the_shown_scan(session):
    shown = np.asanyarray(nib.Nifti1Image.from_bytes(scan_nifti(session.volume)).dataobj)
    labels = (session.volume.voxels > 0).astype(np.uint8)
    assert page_bytes(labels) == (shown > 0).astype(np.uint8).tobytes(order="F")
