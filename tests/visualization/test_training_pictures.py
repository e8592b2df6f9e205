import json

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.visualization.media import write_image
from cqdino_d2.visualization.training_pictures import draw_comparison, draw_loss_curve
from tests.prediction.test_category_predictor import load, save_tiny


def colours_of(path):
    with Image.open(path) as picture:
        return {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}


@pytest.mark.parametrize("count", [1, 4])
def test_truth_and_predictions_side_by_side(tmp_path, count):
    write_image(tmp_path / "a.png", np.full((64, 64, 3), 90, np.uint8))
    boxes = [{"bbox": [8.0, 8.0, 40.0, 30.0], "category_id": 5}]
    record = {"file_name": str(tmp_path / "a.png"), "annotations": boxes}
    predictor = load(save_tiny(tmp_path))
    output = tmp_path / "pictures.png"
    draw_comparison(
        predictor=predictor,
        vocabulary=predictor.vocabulary,
        records=[record] * count,
        path=output,
    )
    assert {(90, 90, 90), (255, 255, 255)} <= colours_of(output)
    with Image.open(output) as picture:
        assert picture.width > picture.height


def test_the_loss_curve_takes_what_a_training_writes(tmp_path):
    rows = [{"iteration": i, "total_loss": 9.0 / (i + 1), "loss_l1": 1.0} for i in range(5)]
    rows.append({"iteration": 5, "bbox/AP": 3.0})
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    draw_loss_curve(tmp_path / "metrics.json", tmp_path / "curve.png")
    assert len(colours_of(tmp_path / "curve.png")) > 20
