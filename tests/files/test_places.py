"""Which files a name from an annotation file may stand for."""

import pytest

from cqdino_d2.files import inside


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.png", "a.png"),
        ("deep/er/a.png", "deep/er/a.png"),
        ("./deep/../a.png", "a.png"),
        ("..a/...png", "..a/...png"),
        ("~/a.png", "~/a.png"),
        ("http://host/a.png", "http:/host/a.png"),
        (" ", " "),
    ],
)
def test_names_below_the_folder(tmp_path, name, place):
    assert inside(tmp_path, name) == tmp_path / place
    assert inside("a folder", name).parts[0] == "a folder"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../a.png", "leads out of"),
        ("..", "leads out of"),
        ("deep/../../a.png", "leads out of"),
        ("./../root_of_another_name/a.png", "leads out of"),
        ("/etc/passwd", "is absolute"),
        ("//host/a.png", "is absolute"),
        ("", "names no file"),
        (".", "names no file"),
        ("deep/..", "names no file"),
        ("a\0.png", "names no file"),
    ],
)
def test_names_elsewhere_are_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        inside(tmp_path, name)


def test_the_owners_links_are_followed_but_not_left_upwards(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere/images"
    elsewhere.mkdir(parents=True)
    root.mkdir()
    (elsewhere / "a.png").write_text("linked")
    (elsewhere.parent / "secret.png").write_text("secret")
    (root / "images").symlink_to(elsewhere)
    assert inside(root, "images/a.png").read_text() == "linked"
    assert inside(root, "images/../secret.png") == root / "secret.png"
    assert not inside(root, "images/../secret.png").exists()
