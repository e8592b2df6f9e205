import pytest

from cqdino_d2.structures import one_line


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
