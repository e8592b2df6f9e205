"""Laws fitted to points."""

import json

import numpy as np
import pytest
from benchmarks import doc_tables, growth


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 1.0, 7.0), (0.5, 2.0, 30.0), (4.0, 0.5, 1.0)])
def test_a_law_is_found_again(a, b, c):
    x = np.array([1.0, 3, 10, 40, 100])
    np.testing.assert_allclose(growth.fit(x, a * x**b + c), (a, b, c), rtol=1e-3)


def test_three_points_are_too_few():
    with pytest.raises(ValueError, match="3 points"):
        growth.fit([1, 2, 3], [1, 2, 3])


def test_the_page_has_the_laws_of_the_stored_points():
    stored = json.loads((doc_tables.DOCS / growth.FILE).read_text("utf-8"))
    assert growth.laws_table(stored["series"]) == stored["tables"]["laws"]
