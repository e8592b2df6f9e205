"""What is known about categories in words: names and descriptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files.text_lines import is_json, read_lines, read_text
from ..structures import one_line
from .registration import dataset_vocabulary, register_coco_like, registered_descriptions

_FROM_FILE = "cqdino_d2.data.category_texts"


@dataclass(frozen=True)
class CategoryTexts:
    """V categories by ascending id.

    Attributes:
        ids: their ``dataset_id``.
        names: of each.
        descriptions: of each, empty where there is none.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]

    @classmethod
    def of_dataset(cls, name: str) -> CategoryTexts:
        """Those of a registered dataset.

        Raises:
            ValueError: as `dataset_vocabulary`.
            FileNotFoundError: as `dataset_vocabulary`.
        """
        vocabulary = dataset_vocabulary(name)
        descriptions = registered_descriptions(name)
        return cls(tuple(vocabulary.dataset_ids), tuple(vocabulary.names), tuple(descriptions))

    @classmethod
    def of_file(cls, path: Path) -> CategoryTexts:
        """Those of an annotation file (JSON, whatever its name), or one name per line.

        The ids of lines are 1, 2, ...

        Raises:
            ValueError: no names, or neither of these.
            FileNotFoundError: no such file.
        """
        named_so = path.name.lower().endswith((".json", ".json.gz"))
        if named_so or is_json(read_text(path)):
            register_coco_like(_FROM_FILE, path, path.parent)
            return cls.of_dataset(_FROM_FILE)
        names = [one_line(line) for line in read_lines(path)]  # as annotations are read
        if empty := [number for number, name in enumerate(names, 1) if not name]:
            raise ValueError(
                f"{path}: no name in the lines {empty[:10]} (a line's number is its id)"
            )
        if not names:
            raise ValueError(f"{path} has no names")
        return cls(tuple(range(1, len(names) + 1)), tuple(names), ("",) * len(names))
