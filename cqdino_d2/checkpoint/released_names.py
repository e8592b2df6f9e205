"""What all converters of other projects' weights share: from their names to ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Rules = Sequence[tuple[str, str]]  # pattern of their name, replacement
INDEX_TABLE = "an index table that the model computes itself"


@dataclass(frozen=True)
class ReleasedConversion:
    """A converted state dict and what became of each name.

    Attributes:
        weights: our name -> tensor.
        released_name: our name -> released name.
        left_out: released name -> why it is not taken over.
    """

    weights: dict[str, Tensor]
    released_name: dict[str, str]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Renaming:
    """How the names of one family of checkpoints become ours.

    Attributes:
        left_out: (pattern of whole names that are not taken over, why).
        downsample: pattern of what stands before the parts of a stage's patch merging; its group
            is the stage.
        output_norm: the same for the norms of the backbone's maps; its group is a number that
            grows from map to map.
        rules: every other name is rewritten by all that match, in order.
        level: the same for the neck; its group is the level, None where rules do.
        prefix: what may stand before all names.
    """

    left_out: Rules
    downsample: str
    output_norm: str
    rules: Rules
    level: str | None = None
    prefix: str = ""

    def convert(self, state: Mapping[str, Tensor], first_rules: Rules = ()) -> ReleasedConversion:
        """Renames a state dict; a name that no rule knows stays and shows up as unexpected.

        Args:
            state: released name -> tensor.
            first_rules: that this state dict asks for, before all others.

        Raises:
            ValueError: two names that become one.
        """
        left_out = [(re.compile(pattern), why) for pattern, why in self.left_out]
        rules = [(re.compile(pattern), new) for pattern, new in [*first_rules, *self.rules]]
        names = {name: name.removeprefix(self.prefix) for name in state}
        maps = {int(m[1]) for n in names.values() if (m := re.match(self.output_norm, n))}
        weights: dict[str, Tensor] = {}
        origin: dict[str, str] = {}
        reasons: dict[str, str] = {}
        for theirs, name in names.items():
            if reason := _reason(name, left_out):
                reasons[theirs] = reason
                continue
            ours = self._placed(name, sorted(maps))
            if ours is None:
                ours = name
                for pattern, replacement in rules:
                    ours = pattern.sub(replacement, ours)
            if ours in weights:
                raise ValueError(f"{theirs} and {origin[ours]} both become {ours}")
            weights[ours], origin[ours] = state[theirs], theirs
        return ReleasedConversion(weights, origin, reasons)

    def _placed(self, name: str, maps: list[int]) -> str | None:
        """Our name where a number in it changes, else None."""
        if match := re.match(self.downsample, name):
            # timm puts the merging in front of the next stage
            return f"backbone.body.layers_{int(match[1]) + 1}.downsample.{name[match.end() :]}"
        if match := re.match(self.output_norm, name):
            return f"backbone.norms.{maps.index(int(match[1]))}.{name[match.end() :]}"
        if self.level and (match := re.match(self.level, name)):
            level, rest = int(match[1]), name[match.end() :]
            extra = level - len(maps)
            return f"neck.lateral.{level}.{rest}" if extra < 0 else f"neck.extra.{extra}.{rest}"
        return None


def _reason(name: str, left_out: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    return next((why for pattern, why in left_out if pattern.fullmatch(name)), None)
