import pytest

from cqdino_d2.structures import display_name, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dog", "dog"),
        ("Zürich 中 🐕", "Zürich 中 🐕"),
        ("👩\u200d🚒", "👩\u200d🚒"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x7f\x00", r"a\rb\x7f\x00"),
        ("right\u202eleft", r"right\u202eleft"),
        ("a\u2028b", r"a\u2028b"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_nothing_reaches_a_terminal_that_it_would_obey(text, shown):
    assert printable(text) == shown
    printable(text).encode()


def test_a_name_is_one_line():
    assert display_name(" red\n  box\t\n") == "red box"
    assert display_name("\x1b[2Jx") == r"\x1b[2Jx"
    assert display_name("\n") == ""
