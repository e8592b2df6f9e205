"""Batches of which one bad item must not spoil the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def results_or_errors(
    function: Callable[[list[Item]], Sequence[Result]],
    items: Sequence[Item],
    errors: tuple[type[Exception], ...],
) -> list[Result | Exception]:
    """What a function of a batch gives; where it fails, what it gives for one after the other.

    Args:
        function: items -> as many results.
        items: of the batch; may be empty.
        errors: that are given in place of an item's result; others are raised.
    """
    if not items:
        return []
    try:
        return list(function(list(items)))
    except errors as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in results_or_errors(function, [item], errors)]
