"""The page in a browser, 1280 x 800: open a scan, draw a box, label, undo, save, load again.

Where the kidney is on the screen is seen in the picture, and where it is in the file is read from the file.
"""

import base64
import io
import json
import threading
import time

import chromium
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from test_session import box_around, expected

from kitsam.view.config import ViewConfig
from kitsam.view.serve import listen, server

BRIGHT_PIXEL = 190  # of 255: a kidney in the abdomen's window; its masses and all else are darker
AXIAL = (0, 0, 590, 800)  # left, top, right, bottom of the picture
CLOSE = 4  # pixels between the kidney and the box, less than a voxel


class Viewer(chromium.Page):
    """The page of one session. WebGL is drawn by the processor."""

    options = (
        *(option for option in chromium.OPTIONS if option != "--disable-gpu"),
        "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    )  # fmt: skip

    def wait_for(self, condition: str) -> None:
        until = time.monotonic() + 120
        while not self.evaluate(condition):
            assert time.monotonic() < until, (condition, self.status, self.errors)
            time.sleep(0.1)

    def load(self, address: str) -> None:
        self.visit(address)
        self.wait_for("!document.getElementById('status').textContent.startsWith('loading')")
        self.wait_for("!document.getElementById('save').disabled")

    @property
    def status(self) -> str:
        return self.evaluate("document.getElementById('status').textContent")

    @property
    def box(self) -> list[int]:
        return json.loads(self.evaluate("document.getElementById('box').textContent").partition(" (")[0])

    def volume(self, name: str) -> float:
        lines = self.evaluate("[...document.querySelectorAll('#classes label')].map(line => line.textContent)")
        return next(float(line.removeprefix(name).split()[0]) for line in lines if line.startswith(name))

    def key(self, key: str, code: int) -> str:
        """What the page says when it has been done."""
        self.press(key, code)
        self.wait_for("!document.getElementById('save').disabled")
        return self.status

    def drag(self, *places: tuple[float, float]) -> None:
        for kind, (x, y), button in (
            ("mouseMoved", places[0], 0), ("mousePressed", places[0], 1),
            *(("mouseMoved", place, 1) for place in places[1:]), ("mouseReleased", places[-1], 0),
        ):  # fmt: skip
            name = "none" if kind == "mouseMoved" and not button else "left"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=name, buttons=button, clickCount=1)

    def picture(self) -> np.ndarray:
        """(800, 1280, 3) uint8."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def address(session):
    listener = listen(ViewConfig(session.scan.path))
    port = listener.getsockname()[1]
    serving = server(session, "token", port)
    thread = threading.Thread(target=serving.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{port}/token/"
    serving.should_exit = True
    thread.join()


@pytest.fixture
def page(address):
    if chromium.PROGRAM is None:
        pytest.skip("needs chromium")
    viewer = Viewer(1280)
    try:
        viewer.load(address)
        yield viewer
        assert viewer.errors == []
    finally:
        viewer.close()


def kidney_on_screen(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the one on the left of the axial plane, which is the patient's right."""
    left, top, right, bottom = AXIAL
    gray = picture[top : bottom - 30, left : right // 2]  # above the captions
    bright = (gray.min(2) > BRIGHT_PIXEL) & (np.ptp(gray, 2) < 8)  # what is drawn over it has a color
    rows, columns = (np.flatnonzero(bright.sum(axis) > 10).tolist() for axis in (1, 0))
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1


def draw_around_the_kidney(page: Viewer) -> tuple[int, int, int, int]:
    left, top, right, bottom = kidney_on_screen(page.picture())
    page.drag((left - CLOSE, top - CLOSE), (left + 9, top + 9), (right + CLOSE, bottom + CLOSE))
    return left - CLOSE, top - CLOSE, right + CLOSE, bottom + CLOSE


def test_a_box_is_drawn_labelled_undone_saved_and_there_after_loading_again(page, address, session, scan):
    around = draw_around_the_kidney(page)
    box, true = page.box, box_around(scan, right=True)
    slices = int(np.argmax(np.abs(nib.load(scan).affine[2, :3])))
    assert box[slices] == box[slices + 3]
    assert all(
        abs(found - there) <= 1 for axis in range(6) if axis % 3 != slices for found, there in [(box[axis], true[axis])]
    )
    assert page.key("2", 50) and page.key("Enter", 13).startswith("tumor found in box")
    assert page.volume("tumor") > 1 and page.volume("kidney") == 0
    middle = (around[1] + around[3]) // 2 + 20, (around[0] + around[2]) // 2 + 20
    red, green, _ = page.picture()[middle].astype(int)
    assert red > green + 30  # the label is seen
    assert page.key("u", 85).startswith("undone: tumor found") and page.volume("tumor") == 0
    red, green, _ = page.picture()[middle].astype(int)
    assert abs(red - green) < 8
    page.key("Enter", 13)
    assert page.key("s", 83) == f"saved to {session.out}"
    saved = nib.load(session.out)
    assert np.array_equal(np.asanyarray(saved.dataobj), expected(scan, box, 2)) and saved.get_fdata().any()
    np.testing.assert_array_equal(saved.affine, nib.load(scan).affine)
    volume = page.volume("tumor")
    page.load(address)
    assert page.status == f"saved to {session.out}" and page.volume("tumor") == volume
    red, green, _ = page.picture()[middle].astype(int)
    assert red > green + 30
    assert all(url.startswith((address, "data:", "blob:")) for url in page.requests)
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.parametrize("scan", [("LAI", 12)], indirect=True)
def test_a_box_is_changed_by_its_edges_over_slices_moved_and_removed(page, session, scan):
    left, top, right, bottom = draw_around_the_kidney(page)
    slices = int(np.argmax(np.abs(nib.load(scan).affine[2, :3])))
    drawn, height = np.array(page.box), (top + bottom) // 2
    page.drag((right, height), (right + 10, height), (right + 30, height))
    wider = np.array(page.box)
    assert np.count_nonzero(wider != drawn) == 1 and np.abs(wider - drawn).max() == round(30 / pixels_a_voxel(page))
    middle = (left + right) // 2
    page.drag((middle, height), (middle, height + 10), (middle, height + 40))
    moved = np.array(page.box)
    assert np.array_equal(moved[3:] - moved[:3], wider[3:] - wider[:3]) and np.count_nonzero(moved != wider) == 2

    page.drag((middle, height), (middle, height))  # look there
    edge, across = upper_edge_in_the_coronal_plane(page)
    page.drag((across, edge), (across, edge - 10), (across, edge - 40))
    taller = np.array(page.box)
    assert np.flatnonzero(taller != moved).tolist() in ([slices], [slices + 3]) and taller[slices + 3] > taller[slices]
    assert page.key("Enter", 13).endswith("slices")

    page.press("Escape", 27)
    assert page.evaluate("document.getElementById('box').textContent") == "none"
    assert page.key("Enter", 13) == "draw a box in the axial plane first"
    session.out = scan / "no folder" / "labels.nii.gz"
    assert "cannot be written" in page.key("s", 83) and "\n" not in page.status
    assert page.evaluate("document.getElementById('status').className") == "error"
    page.errors.clear()  # the browser notes there that the answer was no success
    session.model = None
    page.key("u", 85)
    assert "kitsam weights lite_medsam" in page.evaluate("document.getElementById('model').textContent")
    assert page.evaluate("document.getElementById('label').disabled")


def upper_edge_in_the_coronal_plane(page: Viewer) -> tuple[int, int]:
    """Its row, and a column beside its middle, where the crosshair is."""
    picture = page.picture()[:400, 600:960].astype(int)
    blue = picture[..., 2] - picture[..., 0] > 50
    rows = np.flatnonzero(blue.sum(1) > 60)
    return int(rows[0]), 600 + int(np.flatnonzero(blue[rows[0]]).mean()) + 20


def pixels_a_voxel(page: Viewer) -> float:
    """In the axial plane, from the patient's width there."""
    picture = page.picture()[: AXIAL[3] - 30, : AXIAL[2]]
    columns = np.flatnonzero((picture.max(2) > 60).sum(0) > 200)
    return (columns[-1] - columns[0] + 1) / 56  # `draw_case` leaves 4 columns of air on each side
