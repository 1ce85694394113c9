"""Who may ask, and for what."""

import pytest
from starlette.testclient import TestClient

from kitsam.view.app import FILES, viewer_app
from kitsam.view.guard import guarded

TOKEN, PORT = "a-token_of-this-start", 8123
HOST = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def client(session) -> TestClient:
    return TestClient(guarded(viewer_app(session), TOKEN, PORT), HOST, follow_redirects=False)


def test_the_page_its_files_the_scan_and_the_labels_are_served(client, session):
    for name in (*FILES, "scan.nii", "labels", "state", "progress"):
        answer = client.get(f"/{TOKEN}/{name}", headers={"Origin": HOST, "Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 200 and answer.content, name
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["cache-control"] == "no-store" and answer.headers["referrer-policy"] == "no-referrer"
    assert len(client.get(f"/{TOKEN}/labels?first=2&count=3").content) == 3 * session.label[0].size


@pytest.mark.parametrize(
    "path", ["", "/", "/state", "/scan.nii", f"/{TOKEN[:-1]}/state", f"/{TOKEN}x/state", f"/{TOKEN}"]
)
def test_without_the_token_nothing_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 403 and "scan" not in answer.text
    assert client.post(path).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Origin": f"http://localhost:{PORT}"},  # another than the host that is asked
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{PORT}"},
        {"Host": f"127.0.0.1:{PORT + 1}"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_and_other_names_are_refused_even_with_the_token(client, session, headers):
    assert client.get(f"/{TOKEN}/state", headers=headers).status_code == 403
    assert client.post(f"/{TOKEN}/save", headers=headers).status_code == 403
    assert not session.out.exists()


def test_this_machine_may_be_called_localhost(client):
    here = {"Host": f"localhost:{PORT}", "Origin": f"http://localhost:{PORT}"}
    assert client.get(f"/{TOKEN}/state", headers=here).status_code == 200


def test_no_other_path_is_served(client, scan):
    outside = (
        "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "//etc/passwd",
        str(scan), scan.name, f"page/{scan}", "page/main.js", "niivue/LICENSE", "app.py", "main.js/../../app.py",
        "docs", "openapi.json", "redoc", "%00", "scan.nii/x", "..\\..\\app.py",
    )  # fmt: skip
    for path in outside:
        answer = client.get(f"/{TOKEN}/{path}")
        assert answer.status_code in (403, 404) and b"root:" not in answer.content and len(answer.content) < 100, path


def test_errors_are_one_line_and_change_nothing(client, session):
    answer = client.post(f"/{TOKEN}/label", json={"box": [0, 0, 0, 900, 0, 0]})
    assert answer.status_code == 400 and "leaves the scan" in answer.json()["error"]
    for body in ('{"box": "x"}', "[]", "7", '{"box": [0,0,0,0,0,0], "label": 9}', '{"box": [0,0,0,0,0,0], "more": 1}'):
        answer = client.post(f"/{TOKEN}/erase", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and "\n" not in answer.json()["error"], body
    assert not session.steps


def test_the_page_is_told_which_slices_changed(client, session, scan):
    shape = session.volume.geometry.in_file_order(session.label).shape
    before = client.get(f"/{TOKEN}/labels").content
    entry = {"box": [0, 0, 0, *(size - 1 for size in shape)], "label": 1}
    answer = client.post(f"/{TOKEN}/label", json=entry).json()
    after = client.get(f"/{TOKEN}/labels").content
    size = session.label[0].size
    changed = [z for z in range(len(session.label)) if before[z * size :][:size] != after[z * size :][:size]]
    assert (answer["first"], answer["count"]) == (changed[0], changed[-1] - changed[0] + 1)
    part = client.get(f"/{TOKEN}/labels?first={answer['first']}&count={answer['count']}").content
    assert part == after[answer["first"] * size :][: answer["count"] * size]
    assert answer["state"]["unsaved"] and answer["state"]["history"] == [answer["text"]]
    undone = client.post(f"/{TOKEN}/undo").json()
    assert client.get(f"/{TOKEN}/labels").content == before and undone["state"]["undo"] == 0
