"""Batches of which one bad item must not spoil the others."""

import pytest

from cqdino_d2.structures.one_by_one import results_or_errors


def test_one_bad_item_does_not_spoil_the_others():
    calls = []

    def double(items):
        calls.append(list(items))
        if 3 in items:
            raise ValueError("three")
        return [2 * item for item in items]

    found = results_or_errors(double, [1, 3, 4], (ValueError,))
    assert found[0] == 2 and str(found[1]) == "three" and found[2] == 8
    assert calls == [[1, 3, 4], [1], [3], [4]]
    assert results_or_errors(double, [5, 6], (ValueError,)) == [10, 12] and calls[-1] == [5, 6]
    assert results_or_errors(double, [], (ValueError,)) == [] and calls[-1] == [5, 6]


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        results_or_errors(lambda items: 1 / 0, [1, 2], (ValueError,))
