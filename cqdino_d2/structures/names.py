"""Names from other people's files, as they are shown."""

from __future__ import annotations

import unicodedata

# what moves a terminal's cursor, turns the direction of writing, or cannot be encoded at all
_NOT_SHOWN = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


def one_line(text: str) -> str:
    """A text for a terminal, a log or a label: in one line and without control characters.

    White space becomes single spaces; control characters, marks of the direction of writing and
    halves of surrogate pairs become U+FFFD.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    return "".join(
        "\ufffd" if char in _NOT_SHOWN or unicodedata.category(char) in ("Cc", "Cs") else char
        for char in " ".join(text.split())
    )
