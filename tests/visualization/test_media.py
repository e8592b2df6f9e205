from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.files import read_image
from cqdino_d2.visualization.media import (
    VideoFile,
    VideoReader,
    find_sources,
    output_path,
    write_image,
)


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_patterns_folders_and_lists(tmp_path):
    a, b, c = tmp_path / "x/a.png", tmp_path / "x/deep/b.JPG", tmp_path / "y/a.jpg"
    touch(a, b, c, tmp_path / "x/notes.txt", tmp_path / "x/deep/clip.mp4")
    folder = find_sources([str(tmp_path / "x")], ())
    assert [str(s.relative) for s in folder] == ["a.png", "deep/b.JPG", "deep/clip.mp4"]
    assert [s.is_video for s in folder] == [False, False, True]
    pattern = find_sources([str(tmp_path / "*/a.*")], ())
    assert [(s.path, str(s.relative)) for s in pattern] == [(a, "a.png"), (c, "a_2.jpg")]
    lines = [f"{c}\n", "\n", f"{a}\n", f"{c}\n"]
    assert [s.path for s in find_sources(["-", str(b)], lines)] == [c, a, b]


def test_names_with_pattern_characters_are_files_first(tmp_path):
    odd = tmp_path / "a[1].png"
    touch(odd, tmp_path / "a1.png")
    assert [s.path for s in find_sources([str(odd)], ())] == [odd]


def test_nothing_to_be_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file fits the pattern"):
        find_sources([str(tmp_path / "*.png")], ())
    with pytest.raises(FileNotFoundError, match="no image or video in the folder"):
        find_sources([str(tmp_path)], ())


def test_where_results_go(tmp_path):
    touch(tmp_path / "in/a.webp", tmp_path / "in/b.jpg", tmp_path / "in/c.mkv")
    a, b, c = find_sources([str(tmp_path / "in")], ())
    out = tmp_path / "out"
    paths = [output_path(s, out, False).relative_to(out) for s in (a, b, c)]
    assert [str(p) for p in paths] == ["a.png", "b.jpg", "c.mp4"]
    assert output_path(a, tmp_path / "x.jpg", True) == tmp_path / "x.jpg"
    with pytest.raises(ValueError, match="several need a folder"):
        output_path(a, tmp_path / "x.jpg", False)
    with pytest.raises(ValueError, match="is a video"):
        output_path(c, tmp_path / "x.jpg", True)
    with pytest.raises(ValueError, match="would overwrite the input"):
        output_path(b, tmp_path / "in", False)


def test_pictures_are_written_and_read(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "deep/a.png", image)
    assert np.array_equal(read_image(tmp_path / "deep/a.png", "BGR"), image[:, :, ::-1])


def test_errors_of_pictures(tmp_path):
    with pytest.raises(OSError, match="no such file"):
        read_image(tmp_path / "gone.png", "BGR")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match="cannot identify"):
        read_image(tmp_path / "text.png", "BGR")
    touch(tmp_path / "file")
    with pytest.raises(OSError):
        write_image(tmp_path / "file/a.png", np.zeros((2, 2, 3), np.uint8))


def test_a_rotated_photograph_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", "BGR").shape == (8, 4, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_videos_are_written_and_read(tmp_path, suffix):
    path = tmp_path / f"deep/clip{suffix}"
    with VideoFile(path, 12.5) as video:
        for grey in (0, 100, 200):
            video.write(np.full((33, 48, 3), (grey, 50, 50), np.uint8))
    assert list(path.parent.iterdir()) == [path]
    reader = VideoReader(path)
    frames = list(reader)
    assert (reader.rate, reader.num_frames) == (12.5, 3)
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    red = [frame[..., 2].mean() for frame in frames]  # BGR
    assert np.allclose(red, [0, 100, 200], atol=12)


def test_errors_of_videos(tmp_path):
    with pytest.raises(OSError, match="no such file"):
        VideoReader(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(OSError, match="cannot read it as a video"):
        VideoReader(Path(tmp_path / "text.mp4"))
    with pytest.raises(RuntimeError), VideoFile(tmp_path / "half.mp4", 25) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError
    assert not list(tmp_path.glob("*half*"))


def test_a_folder_says_what_is_left_out(tmp_path, caplog):
    names = ["a.avif", "b.JFIF", "c.jp2", "d.heic", "e.HEIC", "f.svg", "README", "g.mp4"]
    touch(*[tmp_path / "deep" / name for name in names])
    sources = find_sources([str(tmp_path)], ())
    assert [s.path.name for s in sources] == ["a.avif", "b.JFIF", "c.jp2", "g.mp4"]
    assert caplog.text.count("left out") == 1
    assert "2 .heic, 1 without an ending, 1 .svg" in caplog.text
    caplog.clear()
    assert len(find_sources([str(tmp_path / "deep/f.svg"), str(tmp_path / "deep/*.jp2")], ())) == 2
    assert not caplog.text


def test_images_that_opencv_cannot_write(tmp_path):
    for suffix in (".gif3", ".jfif"):
        with pytest.raises(OSError, match=f"OpenCV cannot write a {suffix}"):
            write_image(tmp_path / f"a{suffix}", np.zeros((2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())
