"""What LVIS' lists say of a training image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..structures import Vocabulary


class CategoryLists:
    """Gives the mapper LVIS' two lists of an image as vocab_ids, for losses that use them.

    Args:
        vocabulary: of the training.
    """

    def __init__(self, *, vocabulary: Vocabulary) -> None:
        self.vocab_id_of = vocabulary.vocab_id_of

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The lists of one image, or of several that share one.

        A category is absent from a mosaic if it is absent from all its parts, and unfinished if it
        is in one of them.

        Args:
            records: with 'neg_category_ids' and 'not_exhaustive_category_ids' (``dataset_id``);
                one without has empty lists. Ids of other categories are left out.

        Returns:
            'absent_vocab_ids' (n,) and 'unfinished_vocab_ids' (m,) int64, ascending.
        """
        absent = set.intersection(*(self._ids(one, "neg_category_ids") for one in records))
        unfinished = set.union(*(self._ids(one, "not_exhaustive_category_ids") for one in records))
        return {
            "absent_vocab_ids": torch.tensor(sorted(absent), dtype=torch.int64),
            "unfinished_vocab_ids": torch.tensor(sorted(unfinished), dtype=torch.int64),
        }

    def _ids(self, record: Mapping[str, Any], field: str) -> set[int]:
        known = self.vocab_id_of
        return {known[one] for one in record.get(field, ()) if one in known}
