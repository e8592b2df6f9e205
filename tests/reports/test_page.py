"""What the page says about numbers, without a browser."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cqdino_d2.reports import page
from cqdino_d2.reports.examples import SiblingGroup


def test_cells_are_as_dark_as_their_share_of_the_row():
    """The root of the share; a row without detections stays empty."""
    matrix = np.array([[9, 4, 3], [0, 0, 0], [5, 0, 20]])
    group = SiblingGroup(parent=1, confusions=12, categories=[4, 2, 3], matrix=matrix)
    content = SimpleNamespace(siblings=[group], node_names=["all", "cats", "lion", "lynx", "tiger"])
    (made,) = page._matrices(content)
    assert made["parent"] == "cats" and made["names"] == ["tiger", "lion", "lynx"]
    first, empty, last = (row["cells"] for row in made["rows"])
    assert [cell["share"] for cell in first] == pytest.approx([0.75, 0.5, math.sqrt(3 / 16)])
    assert [cell["share"] for cell in empty] == [0, 0, 0]
    assert [cell["share"] for cell in last] == pytest.approx([math.sqrt(0.2), 0, math.sqrt(0.8)])
    assert [cell["hit"] for cell in last] == [False, False, True]
