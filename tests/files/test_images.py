"""One reader of images, which reads a few formats and starts no program."""

import io
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.files import UnreadableImageError, read_image, read_image_size
from cqdino_d2.files.images import FORMATS, image_suffixes, rounded_pixels

ROOT = Path(__file__).resolve().parents[2]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n(x) print\n%%EOF\n"


def noise(height=9, width=14):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_under_any_name(tmp_path, name):
    with open(tmp_path / "a.dat", "wb") as file:
        Image.fromarray(noise()).save(file, name)
    image = read_image(tmp_path / "a.dat", "RGB")
    assert (image.shape, image.dtype) == ((9, 14, 3), np.uint8)
    assert read_image_size(tmp_path / "a.dat") == (9, 14)
    opened = io.BytesIO((tmp_path / "a.dat").read_bytes())
    for _ in range(2):  # from its start, wherever it stands
        assert read_image_size(opened) == (9, 14)
        assert np.array_equal(read_image(opened, "RGB"), image)
    if name in ("BMP", "PNG", "PPM", "TIFF"):
        assert np.array_equal(image, noise())
        assert np.array_equal(read_image(str(tmp_path / "a.dat"), "BGR"), noise()[:, :, ::-1])


def test_eps_starts_no_program(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin64c", "gswin32c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    (tmp_path / "a.png").write_bytes(EPS)
    for allow_truncated in (False, True):
        with pytest.raises(UnreadableImageError, match=r"a\.png: cannot identify it as one of AV"):
            read_image(tmp_path / "a.png", "BGR", allow_truncated=allow_truncated)
    with pytest.raises(UnreadableImageError, match="cannot identify"):
        read_image_size(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()
    refused = (OSError, subprocess.CalledProcessError)
    with pytest.raises(refused), Image.open(tmp_path / "a.png") as image:  # what Pillow would do
        image.load()
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["ICO", "PCX", "SGI", "TGA", "IM", "DDS", "ICNS"])
def test_other_formats_of_pillow_are_refused(tmp_path, name):
    with open(tmp_path / "a.png", "wb") as file:
        Image.fromarray(noise(32, 32)).save(file, name)
    with pytest.raises(UnreadableImageError, match="cannot identify"):
        read_image(tmp_path / "a.png", "RGB")


def test_endings_are_those_of_the_formats():
    assert {".jpg", ".jfif", ".jp2", ".avif", ".png", ".webp", ".tif", ".pgm"} <= image_suffixes()
    assert not {".eps", ".ps", ".ico", ".psd", ".pdf", ".tga", ".wmf"} & image_suffixes()


def test_too_many_pixels_are_one_line(tmp_path, monkeypatch):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # refused from twice as many
    with pytest.raises(UnreadableImageError) as caught:
        read_image(tmp_path / "a.png", "RGB", 7)
    assert re.fullmatch(
        r"image 7: cannot read .*a\.png: .*126 pixels.* limit of 120 pixels.*", str(caught.value)
    )


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image_size, lambda path: read_image(path, "RGB")):
        with pytest.raises(UnreadableImageError, match=r"a\.png: it is no regular file$"):
            read(tmp_path / "a.png")


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^image 3: no such file: .*gone\.png$"):
        read_image(tmp_path / "gone.png", "RGB", 3)
    with pytest.raises(UnreadableImageError, match=r"cannot read .*: Is a directory$") as caught:
        read_image(tmp_path, "RGB")
    assert caught.value.reason == "Is a directory"
    Image.fromarray(noise(90, 90)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match="truncated") as caught:
        read_image(tmp_path / "a.jpg", "RGB")
    assert "\n" not in str(caught.value) and "a.jpg" not in caught.value.reason
    assert read_image(tmp_path / "a.jpg", "RGB", allow_truncated=True).shape == (90, 90, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about the damage
def test_damage_of_any_kind_is_unreadable_and_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    read = refused = 0
    for name in FORMATS:
        with open(tmp_path / "a", "wb") as file:
            Image.fromarray(noise(20, 26)).save(file, name)
        whole = np.frombuffer((tmp_path / "a").read_bytes(), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, min(len(whole), 300), 3)] = rng.integers(0, 256, 3)
            (tmp_path / "a").write_bytes(damaged[: rng.integers(1, len(damaged) + 1)].tobytes())
            try:
                read_image(tmp_path / "a", "RGB", allow_truncated=bool(rng.integers(2)))
                read += 1
            except UnreadableImageError as error:
                assert "\n" not in str(error)
                refused += 1
    assert read + refused == 40 * len(FORMATS) and read and refused


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 7, 7), ("LA", (7, 0), 7), ("RGBA", (7, 7, 7, 0), 7), ("1", 1, 255), ("I;16", 513, 2)],
)
def test_modes_of_a_png(tmp_path, mode, value, expected):
    Image.new(mode, (5, 4), value).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", "RGB"), np.full((4, 5, 3), expected))


def test_floating_point_files(tmp_path):
    Image.new("F", (5, 4), 99.6).save(tmp_path / "a.tiff")
    assert np.array_equal(read_image(tmp_path / "a.tiff", "RGB"), np.full((4, 5, 3), 100))
    for value, message in ((0.5, "multiply by 255"), (np.nan, "NaN"), (300, "expected 0..255")):
        Image.new("F", (5, 4), value).save(tmp_path / "a.tiff")
        with pytest.raises(UnreadableImageError, match=message):
            read_image(tmp_path / "a.tiff", "RGB")


def test_floating_point_pixels_are_rounded():
    values = np.array([[0.0, 0.4, 0.6, 1.5, 254.6, 255.0]], dtype=np.float32)
    assert rounded_pixels(values).tolist() == [[0, 0, 1, 2, 255, 255]]
    assert rounded_pixels(np.zeros((2, 3))).tolist() == [[0] * 3] * 2
    for wrong in ([-0.1, 9], [0, 255.1], [0, 1.0], [0.2, 0.9], [np.inf, 9], [np.nan, 9]):
        with pytest.raises(ValueError):
            rounded_pixels(np.array(wrong))


def test_images_are_opened_in_one_place_alone():
    readers = r"Image\.open\(|\bimread\(|import_?\w* read_image\b.*detection_utils|imdecode\("
    readers += r"|detection_utils(\.| import .*)read_image|io\.(read_image|decode_image)"
    readers += r"|from PIL\.Image import|imageio"
    files = [*(ROOT / "cqdino_d2").rglob("*.py"), *(ROOT / "projects_tools").rglob("*.py")]
    files += [*(ROOT / "configs").rglob("*.py"), ROOT / "train_net.py"]
    found = [str(f.relative_to(ROOT)) for f in files if re.search(readers, f.read_text("utf-8"))]
    assert found == ["cqdino_d2/files/images.py"]
