"""The category tree as people see it: paths, names rolled up to a depth, colours by branch."""

from __future__ import annotations

import numpy as np

from ..structures import Vocabulary

Colour = tuple[int, int, int]
_INSET = 0.14  # of a branch's share of the hues is left free on either side
# colours of Oklab (B. Ottosson, 2020), in which equal steps of the hue look alike
_LIGHTNESS, _CHROMA, _FIRST_HUE = 0.72, 0.17, 20.0
_GOLDEN_SHARE = (5**0.5 - 1) / 2  # steps of it come back near no earlier hue for long
_LAB_TO_LMS = np.asarray(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.asarray(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def colour_of_number(number: int) -> Colour:
    """RGB, 0..255; numbers that follow each other are far from alike."""
    return _colour_of_hue(number * _GOLDEN_SHARE % 1)


def _colour_of_hue(hue: float) -> Colour:
    angle = np.deg2rad(_FIRST_HUE + 360 * hue)
    lab = np.asarray([_LIGHTNESS, _CHROMA * np.cos(angle), _CHROMA * np.sin(angle)])
    linear = np.clip(_LMS_TO_RGB @ (_LAB_TO_LMS @ lab) ** 3, 0, 1)
    stored = np.where(
        linear <= 0.0031308,
        12.92 * linear,
        1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055,
    )
    red, green, blue = (round(255 * value) for value in stored.tolist())
    return red, green, blue


class CategoryTree:
    """One path from a root to each category; of several parents the first one counts.

    Args:
        vocabulary: V categories; virtual nodes of their hierarchy are looked through.

    Attributes:
        depth: length of the longest path, 1 where there is no tree.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        below = vocabulary.hierarchy.category_children
        self._names = vocabulary.names
        self._parents: list[int | None] = [None] * len(vocabulary)
        for parent in range(len(vocabulary)):
            for child in below[parent].tolist():
                if self._parents[child] is None:
                    self._parents[child] = parent
        self._children: list[list[int]] = [[] for _ in self._names]
        for child, parent in enumerate(self._parents):
            if parent is not None:
                self._children[parent].append(child)
        self._order = self._depth_first()
        self._hues = self._make_hues()
        self.depth = max((len(self.path(vocab_id)) for vocab_id in self._order), default=1)

    @property
    def roots(self) -> list[int]:
        """Categories without a parent."""
        return [vocab_id for vocab_id, parent in enumerate(self._parents) if parent is None]

    def path(self, vocab_id: int) -> list[int]:
        """From the root down to the category itself."""
        path = [vocab_id]
        while (parent := self._parents[path[-1]]) is not None:
            path.append(parent)
        return path[::-1]

    def path_name(self, vocab_id: int) -> str:
        """The names on the path, the root's first."""
        return " › ".join(self._names[node] for node in self.path(vocab_id))

    def rolled_up(self, vocab_id: int, depth: int | None) -> int:
        """The ancestor at a depth (1 for a root), or the category itself if it is not so deep."""
        path = self.path(vocab_id)
        return path[-1] if depth is None else path[min(max(depth, 1), len(path)) - 1]

    def colour(self, vocab_id: int) -> Colour:
        """RGB, 0..255; siblings are alike, and so are the branches that are near in the tree."""
        return _colour_of_hue(self._hues[vocab_id])

    def _depth_first(self) -> list[int]:
        order, waiting = [], self.roots[::-1]
        while waiting:
            node = waiting.pop()
            order.append(node)
            waiting += self._children[node][::-1]
        return order

    def _make_hues(self) -> list[float]:
        """Every node gets the middle of its share of the hues; its children divide the share."""
        leaves = [0] * len(self._names)
        for node in reversed(self._order):
            leaves[node] = sum(leaves[child] for child in self._children[node]) or 1
        shares = [(0.0, 1.0)] * len(self._names)
        waiting = [(self.roots, 0.0, 0.94)]  # the first and the last branch are not neighbours
        while waiting:
            nodes, start, end = waiting.pop()
            scale = (end - start) / max(1, sum(leaves[node] for node in nodes))
            for node in nodes:
                width = scale * leaves[node]
                # an only child takes its parent's share, so that a single root costs no hues
                inset = _INSET * width if len(nodes) > 1 else 0.0
                shares[node] = (start + inset, start + width - inset)
                start += width
                waiting.append((self._children[node], *shares[node]))
        return [(low + high) / 2 for low, high in shares]
