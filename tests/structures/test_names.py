import io
import logging

import pytest

from cqdino_d2.structures import one_line, show_records


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("red panda", "red panda"),
        (" a  b\n", "a b"),
        ("a\r\n\tb\u2028c", "a b c"),
        ("\x1b[2Ja\x07\x9b", "\ufffd[2Ja\ufffd\ufffd"),
        ("a\u202eb\u2066c", "a\ufffdb\ufffdc"),
        ("caf\udce9", "caf\ufffd"),
        ("café 小熊猫 👩\u200d🚀", "café 小熊猫 👩\u200d🚀"),
        ("", ""),
    ],
)
def test_names_are_shown_in_one_line(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown
    one_line(text).encode()


def test_what_is_logged_cannot_steer_a_terminal():
    logger, stream = logging.Logger("of a command"), io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    show_records(logger)
    show_records(logger)
    logger.warning("no file %s\n  in %d places: %r", "\x1b[2Jcat\ud800\u202e", 3, "\x07")
    assert stream.getvalue() == "no file \ufffd[2Jcat\ufffd\ufffd\n  in 3 places: '\\x07'\n"
    assert len(logger.handlers[0].filters) == 1
