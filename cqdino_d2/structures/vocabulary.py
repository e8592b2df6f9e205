"""The vocabulary a detector speaks: names, data-set ids and the hierarchy of its categories."""

from __future__ import annotations

import difflib
import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..files.atomic_file import write_atomically
from .hierarchy import CategoryHierarchy
from .names import one_line

_FORMAT = "cqdino_d2.vocabulary.v1"
_FIELDS = {
    "names": (str, "texts"),
    "dataset_ids": (int, "whole numbers"),
    "parents": (list, "lists of nodes"),
    "levels": (int, "whole numbers"),
}


@dataclass(frozen=True)
class Vocabulary:
    """V categories in the order of their ``vocab_id`` (0..V-1).

    Attributes:
        names: display names; they need not be unique and are never used as keys.
        dataset_ids: the id of each category in the dataset's JSON; unique.
        hierarchy: the relation among the categories, `CategoryHierarchy.flat` where there is none.
    """

    names: tuple[str, ...]
    dataset_ids: tuple[int, ...]
    hierarchy: CategoryHierarchy

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.dataset_ids) == self.hierarchy.num_categories:
            raise ValueError(
                f"a vocabulary needs as many names as ids and nodes, got {len(self.names)} names, "
                f"{len(self.dataset_ids)} ids, a hierarchy of {self.hierarchy.num_categories}"
            )
        if len(set(self.dataset_ids)) != len(self.dataset_ids):
            raise ValueError("category ids must be unique")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def vocab_id_of(self) -> Mapping[int, int]:
        """dataset_id -> vocab_id."""
        return {dataset_id: index for index, dataset_id in enumerate(self.dataset_ids)}

    def check_numbering(self, names_of: Mapping[int, str], source: str) -> None:
        """Compares the ids of equal names, as some tools number every file's categories anew.

        Names that are spelt differently, or that several categories share, say nothing.

        Args:
            names_of: dataset_id -> name in another file.
            source: what to call that file.

        Raises:
            ValueError: a name has another id there; names some.
        """
        here, there = Counter(self.names), Counter(names_of.values())
        id_here = {n: i for n, i in zip(self.names, self.dataset_ids, strict=True) if here[n] == 1}
        differing = [
            f"{name!r} is {id_here[name]} here and {one} there"
            for one, name in names_of.items()
            if there[name] == 1 and id_here.get(name, one) != one
        ]
        if differing:
            raise ValueError(
                f"{source} numbers its categories differently: {', '.join(differing[:3])} "
                f"({len(differing)} such names). Give a category the same id in all files"
            )

    @cached_property
    def _places(self) -> Mapping[str, tuple[int, ...]]:
        places: dict[str, tuple[int, ...]] = {}
        for vocab_id, name in enumerate(self.names):
            key = _spoken(name)
            places[key] = (*places.get(key, ()), vocab_id)
        return places

    def knows(self, name: str) -> bool:
        """Whether `find` finds a name; a look-up, where `find` searches names that come close."""
        return _spoken(name) in self._places

    def find(self, category: str | int) -> tuple[int, ...]:
        """The vocab_ids of a name (all that bear it) or of a data-set id.

        Case does not matter in names, nor whether words are joined by spaces or underscores.

        Raises:
            ValueError: no such category; names that come close are named.
        """
        if not isinstance(category, str):
            if category not in self.vocab_id_of:
                raise ValueError(f"there is no category with the id {category}")
            return (self.vocab_id_of[category],)
        key = _spoken(category)
        if key not in self._places:
            near = difflib.get_close_matches(key, self._places, n=3)
            near += [name for name in self._places if key and key in name and name not in near][:3]
            hint = (
                f"did you mean {' or '.join(map(repr, near))}?" if near else "nothing comes close"
            )
            raise ValueError(f"there is no category {category!r}: {hint}")
        return self._places[key]

    def extended(
        self,
        names: Sequence[str],
        parents: Sequence[Sequence[int]] | None = None,
        dataset_ids: Sequence[int] | None = None,
    ) -> Vocabulary:
        """The vocabulary with n more categories behind its V.

        Args:
            names: of the new categories.
            parents: of each, as vocab_ids 0..V+n-1; None makes roots.
            dataset_ids: by default those after the highest.

        Raises:
            ValueError: other lengths than n, an id that is taken, a parent that is no category.
        """
        first = max(self.dataset_ids, default=0) + 1
        ids = range(first, first + len(names)) if dataset_ids is None else dataset_ids
        rows = [()] * len(names) if parents is None else parents
        if not len(names) == len(ids) == len(rows):
            raise ValueError(
                f"got {len(names)} new names, {len(ids)} ids and parents of {len(rows)}: "
                "expected as many of each"
            )
        hierarchy = self.hierarchy.extended(rows)
        return Vocabulary((*self.names, *names), (*self.dataset_ids, *ids), hierarchy)

    def as_json(self) -> str:
        """What `save` writes."""
        hierarchy = self.hierarchy
        content = {
            "format": _FORMAT,
            "names": self.names,
            "dataset_ids": self.dataset_ids,
            "parents": [hierarchy.parents[node].tolist() for node in range(hierarchy.num_nodes)],
            "levels": hierarchy.levels.tolist(),
        }
        return json.dumps(content, ensure_ascii=False)

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary as JSON, whole or not at all."""
        text = self.as_json()
        write_atomically(path, lambda file: file.write(text.encode()))


def _spoken(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def load_vocabulary(path: str | Path) -> Vocabulary:
    """Reads a vocabulary that `Vocabulary.save` wrote.

    As long as its content is the last one that was read, it is the same object: a config names its
    vocabulary in several places.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a vocabulary, or not a whole one.
    """
    return _vocabulary_of(Path(path).read_bytes(), path)


@functools.lru_cache(maxsize=1)
def _vocabulary_of(text: bytes, path: str | Path) -> Vocabulary:
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, nested too deeply
        raise ValueError(f"{path} is not a vocabulary: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a vocabulary file (expected format {_FORMAT!r})")
    for field, (kind, what) in _FIELDS.items():
        values = content.get(field)
        if not isinstance(values, list):
            raise ValueError(f"{path} is not a vocabulary: it lacks the list {field!r}")
        if wrong := [value for value in values if type(value) is not kind]:
            raise ValueError(
                f"{path} is not a vocabulary: {field!r} must be {what}, got {str(wrong[0])[:60]!r}"
            )
    names = tuple(one_line(name) for name in content["names"])
    try:
        hierarchy = CategoryHierarchy(len(names), content["parents"], content["levels"])
        return Vocabulary(names, tuple(content["dataset_ids"]), hierarchy)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path} is not a vocabulary: {error}") from error


def flat_vocabulary(names: Sequence[str]) -> Vocabulary:
    """V names without a tree, with the ids 1..V."""
    hierarchy = CategoryHierarchy.flat(len(names))
    return Vocabulary(tuple(names), tuple(range(1, len(names) + 1)), hierarchy)


def random_vocabulary(num_categories: int, branching: int = 4) -> Vocabulary:
    """A made-up vocabulary in which category i > 0 is a child of (i - 1) // branching.

    Serves tests and trials of large models without their dataset.
    """
    parents: list[Sequence[int]] = [
        [(index - 1) // branching] if index else [] for index in range(num_categories)
    ]
    return Vocabulary(
        names=tuple(f"category {index}" for index in range(num_categories)),
        dataset_ids=tuple(range(1, num_categories + 1)),
        hierarchy=CategoryHierarchy(num_categories, parents),
    )
