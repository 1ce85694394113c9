import json
from dataclasses import dataclass, field

import pytest

from kitsam.system.errors import KitsamError, ShardError
from kitsam.system.records import as_record, decode_record, read_record


@dataclass(frozen=True)
class Point:
    name: str
    place: tuple[int, int]


@dataclass(frozen=True)
class Drawing:
    points: tuple[Point, ...]
    title: str | None = None
    sizes: dict[str, float] = field(default_factory=dict)


CONTENT = {"points": [{"name": "a", "place": [1, 2]}], "sizes": {"x": 1}}


def test_json_becomes_the_dataclass_with_tuples_and_defaults(tmp_path):
    path = tmp_path / "drawing.json"
    path.write_text(json.dumps({**CONTENT, "unknown": 1}))
    expected = Drawing((Point("a", (1, 2)),), sizes={"x": 1.0})
    assert read_record(path, Drawing) == decode_record(path.read_bytes(), Drawing, "text") == expected
    assert as_record(CONTENT, Drawing, "text") == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"points": [{"name": "a", "place": [1, "2"]}]}', r"points\[0\].place"),
        ('{"points": [{"name": "a"}]}', r"place"),
        ('{"points": {}}', "points"),
        ("{", ""),
        ("\x00", ""),
        ("[]", ""),
    ],
)
def test_what_does_not_fit_is_said_with_the_file_and_the_place(tmp_path, text, place):
    path = tmp_path / "drawing.json"
    path.write_text(text)
    with pytest.raises(ShardError, match=f"drawing.json: damaged: .*{place}"):
        read_record(path, Drawing, ShardError)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused_by_name(tmp_path):
    path = tmp_path / "drawing.json"
    path.write_bytes(b'{"points": [{"name": "\xff\xfe", "place": [1, 2]}]}')
    with pytest.raises(KitsamError, match="drawing.json: damaged"):
        read_record(path, Drawing)
    with pytest.raises(KitsamError, match="none.json: cannot be read"):
        read_record(tmp_path / "none.json", Drawing)
