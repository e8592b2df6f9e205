import numpy as np
import pytest

from cqdino_d2.visualization.drawing import (
    LabelledBox,
    _place,
    draw_boxes,
    draw_category_panel,
    draw_sheet,
    enlargement,
    load_font,
    short,
    text_colour,
    wrapped,
)

RED = (255, 0, 0)


def grey(height=100, width=150):
    return np.full((height, width, 3), 128, np.uint8)


def test_small_pictures_are_enlarged_by_a_whole_factor():
    assert [enlargement(h, w, 640) for h, w in [(128, 128), (600, 1), (3000, 2000)]] == [5, 1, 1]
    assert draw_boxes(grey(), [], min_side=300).shape == (200, 300, 3)
    assert np.array_equal(draw_boxes(grey(), [], min_side=1), grey())


def test_a_box_is_drawn_where_it_is_and_nowhere_else():
    picture = draw_boxes(grey(), [LabelledBox((20, 30, 90, 80), "", RED)], min_side=1)
    red = (picture == RED).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (30, 80, 20, 90)
    changed = (picture != 128).any(-1)
    changed[28:83, 18:93] = False
    assert not changed.any()


def test_the_label_is_beside_its_box_and_in_the_picture():
    for box in [(20, 30, 60, 80), (0, 0, 150, 100), (140, 90, 149, 99)]:
        without = draw_boxes(grey(), [LabelledBox(box, "", RED)], min_side=1)
        drawn = draw_boxes(grey(), [LabelledBox(box, "cat", RED)], min_side=1)
        label = (without != drawn).any(-1)
        assert (drawn[label] == RED).all(-1).mean() > 0.3
        assert 200 < label.sum() < 40 * 40


def test_boxes_outside_of_the_picture_do_not_harm():
    boxes = [(-50, -50, -10, -10), (200, 200, 300, 300), (5.4, 5.6, 5.5, 5.5)]
    picture = draw_boxes(grey(), [LabelledBox(box, "cat", RED) for box in boxes], min_side=1)
    assert picture.shape == (100, 150, 3)


@pytest.mark.parametrize("seed", range(20))
def test_labels_keep_out_of_each_others_way(seed):
    generator = np.random.default_rng(seed)
    taken = np.empty((0, 4))
    for _ in range(8):  # for which there is room
        x, y = generator.uniform(0, [560, 400])
        label = (generator.uniform(30, 90), 18.0)
        corner = _place((x, y, x + 80, y + 80), label, (640, 480), taken)
        new = np.asarray([*corner, corner[0] + label[0], corner[1] + label[1]])
        overlap = np.minimum(new[2:], taken[:, 2:]) - np.maximum(new[:2], taken[:, :2])
        assert not (overlap > 0).all(1).any()
        assert (new >= 0).all() and new[2] <= 640 and new[3] <= 480
        taken = np.concatenate([taken, [new]])


def test_names_are_cut_and_colours_are_readable():
    assert short("a b", 3) == "a b" and short("woman in motorized", 8) == "woman i…"
    assert text_colour((255, 255, 0)) == (0, 0, 0) and text_colour((0, 0, 120)) == (255, 255, 255)


def test_a_long_label_is_wrapped_and_keeps_its_score():
    font = load_font(13)
    name = "hand with index and middle finger crossed"
    lines = wrapped(f"{name} 73", font, 150)
    assert lines == ["hand with index and", "middle finger", "crossed 73"]
    assert all(font.getlength(line) <= 150 for line in lines)
    cut = wrapped(f"{name} 73", font, 75)
    assert len(cut) == 3 and cut[-1].endswith("… 73") and cut[0] == "hand with"
    assert wrapped("cat 9", font, 75) == ["cat 9"]
    assert "".join(wrapped("abcdefghijklmnop", font, 60)) == "abcdefghijklmnop"


def test_a_wrapped_label_stays_in_the_image():
    label = "a name that is much longer than the image is wide 73"
    drawn = draw_boxes(grey(), [LabelledBox((100, 5, 149, 99), label, RED)], min_side=1)
    without = draw_boxes(grey(), [LabelledBox((100, 5, 149, 99), "", RED)], min_side=1)
    rows, columns = (without != drawn).any(-1).nonzero()
    assert rows.max() - rows.min() > 2 * 13 and columns.max() < 150
    assert columns.max() - columns.min() < 149


def test_the_panel_shows_a_bar_per_category():
    rows = [("cat", 0.9, RED), ("dog", 0.3, (0, 0, 255))]
    panel = draw_category_panel(200, rows, title="selected")
    red, blue = ((panel == colour).all(-1).sum() for colour in (RED, (0, 0, 255)))
    assert panel.shape == (200, 380, 3) and red > 1.8 * blue > 0
    many = draw_category_panel(200, rows * 50, title="selected")
    assert (many[-8:] == 250).all()
    assert draw_category_panel(20, rows, title="selected").shape == (20, 380, 3)


def test_a_label_without_room_is_left_out():
    taken = np.asarray([[0.0, 0.0, 640.0, 480.0]])
    assert _place((300, 200, 380, 280), (60, 18), (640, 480), taken) is None
    assert _place((300, 200, 380, 280), (60, 18), (640, 480), np.empty((0, 4))) == (300, 182)


def test_a_sheet_holds_every_picture():
    pictures = [np.full((10 + i, 20, 3), i, np.uint8) for i in range(5)]
    sheet = draw_sheet(pictures, gap=2)
    assert sheet.shape == (2 * 16 - 2, 3 * 22 - 2, 3)
    assert (sheet[:10, :20] == 0).all() and (sheet[16 : 16 + 14, 22:42] == 4).all()
    assert (sheet == 255).all(-1).sum() == 30 * 64 - sum(range(10, 15)) * 20
    assert np.array_equal(draw_sheet(pictures[:1]), pictures[0])
