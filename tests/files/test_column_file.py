"""Column files: arrays come back as they were, and nothing else is ever believed."""

import json
import random
import zlib

import numpy as np
import pytest

from cqdino_d2.files import open_column_file, write_column_file

COLUMNS = {
    "a": np.arange(5, dtype=np.int16),
    "empty": np.empty((0, 4), np.float32),
    "flags": np.asarray([[True], [False]]),
    "b": np.arange(6.0).reshape(2, 3)[:, ::2],
}


@pytest.fixture
def path(tmp_path):
    write_column_file(tmp_path / "x", COLUMNS, {"n": [1, "ü"]})
    return tmp_path / "x"


def test_arrays_stay_as_they_are(path):
    found, facts = open_column_file(path)
    assert facts == {"n": [1, "ü"]}
    assert list(found) == list(COLUMNS)
    for name, column in COLUMNS.items():
        assert found[name].dtype == column.dtype
        assert np.array_equal(found[name], column)
        assert not found[name].flags.writeable or not column.size


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="column 'o' has the type object"):
        write_column_file(tmp_path / "x", {"o": np.array([{}])}, {})
    assert not list(tmp_path.iterdir())


def test_every_flipped_bit_is_noticed(path):
    good = path.read_bytes()
    draw = random.Random(0)
    for place in [*range(24), *draw.choices(range(24, len(good)), k=150)]:
        bad = bytearray(good)
        bad[place] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"x (is|has)"):
            open_column_file(path)


def test_every_cut_and_addition_is_noticed(path):
    good = path.read_bytes()
    for content in [*(good[:cut] for cut in range(len(good))), good + b"\0", good + bytes(64)]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x (is|has)"):
            open_column_file(path)


def forge(path, change):
    """Another header with a checksum that fits."""
    good = path.read_bytes()
    length = int.from_bytes(good[8:16], "little")
    header = json.loads(good[24 : 24 + length])
    data = good[-(-(24 + length) // 64) * 64 :]
    changed = change(header)
    text = json.dumps(header if changed is None else changed).encode()
    rest = text + bytes(-(24 + len(text)) % 64) + data
    size = len(text).to_bytes(8, "little")
    checksum = zlib.crc32(rest, zlib.crc32(size)).to_bytes(8, "little")
    path.write_bytes(good[:8] + size + checksum + rest)


def entry(column, place, value):
    def change(header):
        header["columns"][column][place] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header: [],
        lambda header: 5,
        lambda header: header.pop("facts") and None,
        lambda header: header.pop("columns") and None,
        lambda header: header.pop("bytes") and None,
        lambda header: header.update(facts=[]),
        lambda header: header.update(columns=[1]),
        lambda header: header.update(columns=None),
        lambda header: header.update(bytes="9"),
        entry(0, 0, 5),
        entry(0, 1, "|O"),
        entry(0, 1, "zz"),
        entry(0, 1, ["<i4"]),
        entry(0, 2, [2**60]),
        entry(0, 2, [2**33, 2**33]),
        entry(0, 2, [-5]),
        entry(0, 2, [1.5]),
        entry(0, 2, 5),
        entry(0, 2, [True, 2]),
        entry(3, 2, [2, 2, 64]),
        entry(0, 3, -64),
        entry(0, 3, 2**62),
        entry(0, 3, 1),
        entry(0, 3, "0"),
    ],
)
def test_a_forged_header_is_not_believed(path, change):
    forge(path, change)
    with pytest.raises(ValueError, match=r"x has a header that does not fit"):
        open_column_file(path)


def test_the_forger_of_these_tests_makes_readable_files(path):
    forge(path, lambda header: header["facts"].update(n=2))
    assert open_column_file(path)[1] == {"n": 2}
