import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqdino_d2.evaluation import (
    compiled,
    ground_truth_from,
    load_results,
    result_json,
    save_results_json,
    save_results_npz,
    save_results_parquet,
)
from tests.evaluation import sets

CONTENT, RESULTS = sets.large_set(detections=800)


@pytest.fixture(params=["compiled", "python"], autouse=True)
def parser(request, monkeypatch):
    """Every test once with the C++ parser and once without."""
    if request.param == "compiled" and not compiled.is_available():
        pytest.skip("not built")
    if request.param == "python":
        monkeypatch.setattr(compiled, "is_available", lambda: False)
    return request.param


def assert_columns(detections, truth, rows):
    """Against what the standard parser reads."""
    assert truth.image_ids[detections.images].tolist() == [r["image_id"] for r in rows]
    assert truth.category_ids[detections.categories].tolist() == [r["category_id"] for r in rows]
    assert detections.boxes_xywh_abs.tolist() == [r["bbox"] for r in rows]
    assert detections.scores.tolist() == [r["score"] for r in rows]


def read(path):
    truth = ground_truth_from(CONTENT, "annotations")
    return load_results(path, truth), truth


@pytest.mark.parametrize("piece", [1 << 10, 5000, 1 << 23])
@pytest.mark.parametrize("form", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_any_layout_and_any_cut(tmp_path, monkeypatch, piece, form):
    monkeypatch.setattr(result_json, "_PIECE", piece)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS, **form))
    assert_columns(*read(path), RESULTS)


@pytest.mark.parametrize("piece", [1 << 9, 3000])
def test_other_fields_are_skipped_whatever_is_in_them(tmp_path, monkeypatch, piece):
    """Masks, strings that look like records, lists of objects; the keys in any order."""
    monkeypatch.setattr(result_json, "_PIECE", piece)
    rng = random.Random(0)
    others = [
        {"segmentation": {"size": [4, 4], "counts": 'a}, {"image_id": 1\\"]['}},
        {"parts": [{"image_id": 3}, {"x": [True, None, {}]}, []], "é": -1e-7},
        {"note": "", "id": 12, "area": 0.5},
    ]
    rows = []
    for index, row in enumerate(RESULTS):
        items = list((row | others[index % 3]).items())
        rng.shuffle(items)
        rows.append(dict(items))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    assert_columns(*read(path), rows)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    numbers=st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
        min_size=5,
        max_size=5,
    ),
    spelling=st.sampled_from(["{!r}", "{:e}", "{:.20g}"]),
)
def test_numbers_are_rounded_as_python_does(tmp_path_factory, numbers, spelling):
    words = [spelling.format(n) for n in numbers]
    text = '[{"image_id": 1.0, "category_id": 2e0, "bbox": [%s, %s, %s, %s], "score": %s}]'
    path = tmp_path_factory.mktemp("numbers") / "results.json"
    path.write_text(text % tuple(words))
    wanted = json.loads(path.read_text())[0]
    detections, truth = read(path)
    assert detections.boxes_xywh_abs[0].tolist() == wanted["bbox"]
    assert detections.scores[0] == wanted["score"]
    assert truth.image_ids[detections.images[0]] == 1


@pytest.mark.parametrize("word", ["01", "1.", ".5", "+1", "0x1", "1e", "--1", "1_0", "True"])
def test_what_is_no_number_in_json_is_refused(tmp_path, word):
    path = tmp_path / "results.json"
    box = f"[0, {word}, 1, 1]"
    path.write_text(f'[{{"image_id": 1, "category_id": 1, "bbox": {box}, "score": 1}}]')
    with pytest.raises(ValueError, match="no results file.*near byte"):
        read(path)


def test_an_error_in_a_later_piece_has_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(result_json, "_PIECE", 1 << 10)
    text = json.dumps(RESULTS)
    place = text.index('"bbox"', 40_000)
    path = tmp_path / "results.json"
    path.write_text(text[:place] + "?" + text[place + 1 :])
    with pytest.raises(ValueError) as error:
        read(path)
    assert abs(int(str(error.value).rsplit("byte ", 1)[1].strip(")")) - place) < 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["json", "npz", "parquet"])
def test_what_is_written_reads_back_bit_for_bit(tmp_path, dtype, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    truth, detections = sets.columns_of(CONTENT, RESULTS)
    detections = type(detections)(
        detections.images,
        detections.categories,
        detections.boxes_xywh_abs.astype(dtype),
        detections.scores.astype(dtype),
    )
    save = {
        "json": save_results_json,
        "npz": save_results_npz,
        "parquet": save_results_parquet,
    }[kind]
    path = tmp_path / f"results.{kind}"
    save(path, detections, truth)
    again = load_results(path, truth)
    for name, column in vars(detections).items():
        np.testing.assert_array_equal(getattr(again, name), column)
    assert list(tmp_path.iterdir()) == [path]
    empty = detections.take(slice(0, 0))
    save(path, empty, truth)
    assert len(load_results(path, truth)) == 0
