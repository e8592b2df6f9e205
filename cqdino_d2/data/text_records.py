"""Records whose images have their own texts, and records of several datasets in one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from torch.utils.data import Dataset

from ..annotations.grounded_texts import GroundedTexts
from ..files import inside
from ..structures import RaggedIndex, TextPrompt
from .records import categories_of, sizes_of
from .text_prompts import prompt_of_text


class TextRecords(Sequence[Mapping[str, Any]], Dataset):
    """One record for each text: Detectron2's dict with the text as 'prompt'.

    Besides the prompt there are 'file_name', 'image_id', 'height' and 'width' (where the file
    tells them), 'dataset_name' and 'annotations', whose 'category_id' is the place of the phrase in
    the prompt (0 where the whole text is one thing). A text without a target has no annotation.

    Args:
        texts: of an annotation file.
        image_root: folder that the file names are relative to.

    Raises:
        ValueError: a file name that leads out of the folder.
    """

    def __init__(self, texts: GroundedTexts, image_root: str) -> None:
        self._texts = texts
        self._image_root = image_root
        for name in texts.file_names:
            inside(image_root, name)

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        texts, row = self._texts, range(len(self))[index]
        start, end = texts.box_offsets[row : row + 2].tolist()
        boxes = texts.boxes_xywh[start:end].tolist()
        record: dict[str, Any] = {
            "file_name": os.path.join(self._image_root, os.path.normpath(texts.file_names[row])),
            "image_id": texts.image_ids[row],
            "dataset_name": texts.dataset_names[row],
            "prompt": prompt_of_text(texts.captions[row], texts.phrases[row]),
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": phrase, "iscrowd": 0}
                for box, phrase in zip(boxes, texts.box_phrases[start:end].tolist(), strict=True)
            ],
        }
        height, width = texts.sizes[row].tolist()
        return record | ({"height": height, "width": width} if height else {})

    def sizes(self) -> np.ndarray:
        """(len, 2) int32 height and width of each record's image, 0 where they are not known."""
        return self._texts.sizes


@dataclass(frozen=True)
class PromptedSet:
    """The records of one dataset.

    Attributes:
        name: of the dataset; its records get it as 'set_name'.
        records: its records.
        prompt: for each of its images; None where they have their own or need none.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    prompt: TextPrompt | None = None


class RecordsOfSets(Sequence[Mapping[str, Any]], Dataset):
    """The records of several datasets, one after the other, each with its set's name and prompt.

    Args:
        sets: in their order.
    """

    def __init__(self, sets: Sequence[PromptedSet]) -> None:
        self._sets = tuple(sets)
        self._starts = np.cumsum([0, *(len(one.records) for one in self._sets)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        position = range(len(self))[index]
        place = int(np.searchsorted(self._starts, position, side="right")) - 1
        one = self._sets[place]
        record = {**one.records[position - int(self._starts[place])], "set_name": one.name}
        return record if one.prompt is None else record | {"prompt": one.prompt}

    def set_sizes(self) -> dict[str, int]:
        """How many records each set has, in their order."""
        return {one.name: len(one.records) for one in self._sets}

    def sizes(self) -> np.ndarray:
        """(len, 2) int32 height and width of each record's image, 0 where they are not known."""
        return np.concatenate([sizes_of(one.records) for one in self._sets])

    def categories(self) -> RaggedIndex:
        """The vocab_ids of the boxes of each record, where there is one set and it has categories.

        Raises:
            ValueError: several sets, whose ids have nothing to do with each other, or texts.
        """
        (first, *others) = self._sets
        if others or isinstance(first.records, TextRecords):
            raise ValueError(
                "only records of one set of categories can be put together or sampled by category, "
                f"these are of {', '.join(one.name for one in self._sets)}; give sets shares"
            )
        return categories_of(first.records)
