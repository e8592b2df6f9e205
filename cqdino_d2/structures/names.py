"""Names out of other people's files, made fit to be shown."""

from __future__ import annotations

_JOINERS = "\u200c\u200d"  # between letters of some scripts and parts of emoji


def printable(text: str) -> str:
    """A text in which control and escape characters are written out, as Python does (``\\x1b``).

    A terminal would obey such characters: colours, titles, moves of the cursor, and marks that
    turn the direction of what follows.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _JOINERS else _written(one) for one in text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def display_name(name: str) -> str:
    """A category's name as it is shown: on one line, printable, single spaces between words."""
    return printable(" ".join(name.split()))
