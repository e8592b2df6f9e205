"""Names from other people's files, as they are shown."""

from __future__ import annotations

import logging
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
    return _shown(" ".join(text.split()))


def _shown(text: str) -> str:
    return "".join(
        "\ufffd" if char in _NOT_SHOWN or unicodedata.category(char) in ("Cc", "Cs") else char
        for char in text
    )


def shown_lines(text: str) -> str:
    """A text for a terminal or a log without what `one_line` replaces; lines and spaces stay."""
    return "\n".join(map(_shown, text.expandtabs().split("\n")))


class ShownRecords(logging.Filter):
    """Lets records pass as `shown_lines` leaves them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record."""
        record.msg, record.args = shown_lines(record.getMessage()), None
        return True


def log_to_terminal(form: str, level: int) -> None:
    """For a command: its log goes to the terminal, in which names can do no harm.

    Args:
        form: of a record, as `logging` understands it.
        level: of `logging`, from which on records are shown.
    """
    logging.basicConfig(format=form, level=level)
    show_records(logging.getLogger())


def show_records(logger: logging.Logger) -> None:
    """Makes a logger's handlers show records as `ShownRecords` leaves them."""
    for handler in logger.handlers:
        if not any(isinstance(one, ShownRecords) for one in handler.filters):
            handler.addFilter(ShownRecords())
