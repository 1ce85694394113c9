"""What the page can ask for: its own files, the scan, the labels, and what to do with them.

Files are named one by one; there is no path that leads to another. Bodies are JSON; an error is answered as
{"error": one line}.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from kitsam.ct.labels import CLASS_NAMES
from kitsam.inference.color_table import COLORS
from kitsam.system.console import warn
from kitsam.system.errors import KitsamError
from kitsam.view.page_volume import page_axes, page_bytes, page_shape, page_slices, scan_nifti
from kitsam.view.session import NO_MODEL, Answer, Session

FILES = {
    "": ("page/index.html", "text/html; charset=utf-8"),
    "view.css": ("page/view.css", "text/css; charset=utf-8"),
    **{
        name: (f"page/{name}", "text/javascript; charset=utf-8")
        for name in ("main.js", "planes.js", "box.js", "drag.js", "paint.js", "server.js", "windows.js")
    },
    "niivue.js": ("niivue/niivue.umd.js", "text/javascript; charset=utf-8"),
    "niivue-license.txt": ("niivue/LICENSE", "text/plain; charset=utf-8"),
}


def viewer_app(session: Session) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.add_exception_handler(KitsamError, _in_one_line)
    _add_files(app)
    _add_volumes(app, session)
    _add_actions(app, session)
    return app


def _in_one_line(request: Request, error: KitsamError) -> JSONResponse:
    text = " ".join(str(error).split())
    warn(text)
    return JSONResponse({"error": text}, 400)


def _add_files(app: FastAPI) -> None:
    for address, (name, kind) in FILES.items():
        content = files("kitsam.view").joinpath(*name.split("/")).read_bytes()
        app.get(f"/{address}")(_sender(content, kind))


def _sender(content: bytes, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind)


def _add_volumes(app: FastAPI, session: Session) -> None:
    @app.get("/scan.nii")
    def scan() -> Response:
        return Response(scan_nifti(session.volume), media_type="application/octet-stream")

    @app.get("/labels")
    def labels(first: int = 0, count: int | None = None) -> Response:
        """A byte a voxel, of all slices or of `count` from `first`, as the page counts them."""
        last = len(session.label) if count is None else first + count
        part = page_slices(range(first, last), session.volume.geometry)
        return Response(page_bytes(session.label[part.start : part.stop]), media_type="application/octet-stream")


def _add_actions(app: FastAPI, session: Session) -> None:
    @app.get("/state")
    def state() -> dict[str, Any]:
        return state_of(session)

    @app.get("/progress")
    def progress() -> str:
        return session.progress()

    @app.post("/stop")
    def stop() -> None:
        session.stop()

    @app.post("/label")
    def label(box: Any = Body(None)) -> dict[str, Any]:  # noqa: B008  as FastAPI has it
        return _answered(session, session.label_box(box))

    @app.post("/erase")
    def erase(box: Any = Body()) -> dict[str, Any]:  # noqa: B008
        return _answered(session, session.erase_box(box))

    @app.post("/undo")
    def undo() -> dict[str, Any]:
        return _answered(session, session.undo())

    @app.post("/save")
    def save() -> dict[str, Any]:
        return _answered(session, session.save())


def _answered(session: Session, answer: Answer) -> dict[str, Any]:
    changed = page_slices(answer.slices, session.volume.geometry)
    return {"text": answer.text, "first": changed.start, "count": len(changed), "state": state_of(session)}


def state_of(session: Session) -> dict[str, Any]:
    geometry, model = session.volume.geometry, session.model
    return {
        "name": session.scan.name,
        "shape": page_shape(geometry),
        "spacing": session.volume.spacing[::-1],
        "axes": [axis._asdict() for axis in page_axes(geometry)],
        "classes": [
            {"number": number, "name": name, "color": COLORS[name]} for number, name in enumerate(CLASS_NAMES) if number
        ],
        "model": model and {"name": model.name.text, "about": model.name.about, "needs_boxes": model.needs_boxes},
        "no_model": NO_MODEL,
        "doubts": session.doubts,
        "history": session.history,
        "volumes_ml": session.volumes_ml(),
        "undo": len(session.steps),
        "unsaved": session.unsaved,
        "out": str(session.out),
    }
