import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitsam.system.errors import KitsamError
from kitsam.system.seals import SEAL, read_sealed, seal_of, write_sealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True)
class Record:
    name: str
    sizes: dict[str, float]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "record.json"
    write_sealed(path, {"name": "a", "sizes": {"x": 1.5}})
    return path


def test_a_sealed_record_is_read_back_whatever_the_order_of_its_entries(path):
    assert read_sealed(path, Record) == Record("a", {"x": 1.5})
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_sealed(path, Record) == Record("a", {"x": 1.5})


@pytest.mark.parametrize("change", [{"name": "b"}, {"sizes": {"x": 1.25}}, {"extra": 1}, {SEAL: "0" * 64}])
def test_another_value_under_the_same_seal_is_refused_by_name(path, change):
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(KitsamError, match="record.json: damaged"):
        read_sealed(path, Record)


def test_a_record_without_a_seal_is_taken_as_it_is(path):
    path.write_text('{"name": "a", "sizes": {}}')
    assert read_sealed(path, Record) == Record("a", {})


@given(st.dictionaries(st.text(min_size=1), JSON, min_size=1), JSON)
def test_a_seal_survives_json_and_tells_other_values(content, other):
    content = {name: value for name, value in content.items() if name != SEAL}
    assert seal_of(content) == seal_of(json.loads(json.dumps(content)))
    name = next(iter(content), "x")
    if json.dumps(content.get(name), sort_keys=True) != json.dumps(other, sort_keys=True):
        assert seal_of(content) != seal_of({**content, name: other})
