import pytest
import torch

from cqdino_d2.data.embedding_files import load_category_embeddings
from cqdino_d2.structures import random_vocabulary

VOCABULARY = random_vocabulary(3)  # ids 1, 2, 3
ROWS = torch.arange(6.0).reshape(3, 2)
NAMES = ["Category_0", "category 1", "category (2)"]


def write(path, **content):
    torch.save(content, path)
    return path


def test_by_position(tmp_path):
    path = write(tmp_path / "e.pth", embeddings=ROWS.double(), categories=NAMES)
    loaded = load_category_embeddings(path, VOCABULARY, 2)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, ROWS)


def test_names_of_others_are_refused_and_few_are_reported(tmp_path, caplog):
    vocabulary = random_vocabulary(20)
    names = list(vocabulary.names)
    rows = torch.rand(20, 2)
    renamed = write(tmp_path / "a.pth", embeddings=rows, categories=["tench", *names[1:]])
    assert torch.equal(load_category_embeddings(renamed, vocabulary, 2), rows)
    assert "row 0: 'tench' found, 'category 0' expected" in caplog.text
    reordered = write(tmp_path / "b.pth", embeddings=rows, categories=names[::-1])
    with pytest.raises(ValueError, match="20 of 20 names .* another vocabulary"):
        load_category_embeddings(reordered, vocabulary, 2)


def test_by_id(tmp_path):
    rows = torch.cat([ROWS, torch.full((1, 2), 9.0)])
    path = write(tmp_path / "e.pth", embeddings=rows, categories=[*NAMES, "d"], ids=[3, 1, 2, 8])
    assert torch.equal(load_category_embeddings(path, VOCABULARY, 2), ROWS[[1, 2, 0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"embeddings": ROWS[:2], "categories": NAMES[:2]}, "holds 2 .* has 3 categories"),
        ({"embeddings": ROWS, "categories": NAMES[:2]}, "2 categories for 3 embeddings"),
        ({"embeddings": ROWS, "categories": NAMES, "ids": [1, 2]}, "2 ids for 3 embeddings"),
        ({"embeddings": ROWS, "categories": NAMES, "ids": [1, 2, 8]}, r"lacks .* 1 of 3 .*\[3\]"),
        ({"embeddings": ROWS, "categories": NAMES, "ids": [1, 2, 2]}, "'ids' are not unique"),
        ({"embeddings": ROWS.reshape(2, 3)}, r"shape \(2, 3\) found, \(V, 2\) expected"),
        ({"weights": ROWS}, "no embedding file"),
    ],
)
def test_mismatches(tmp_path, content, message):
    path = write(tmp_path / "e.pth", **content)
    with pytest.raises(ValueError, match=message) as caught:
        load_category_embeddings(path, VOCABULARY, 2)
    assert "e.pth" in str(caught.value)


def test_unreadable(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        load_category_embeddings(tmp_path / "gone.pth", VOCABULARY, 2)
    (tmp_path / "e.pth").write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match=r"e\.pth cannot be read"):
        load_category_embeddings(tmp_path / "e.pth", VOCABULARY, 2)
    torch.save({"embeddings": ROWS}, tmp_path / "f.pth")
    content = (tmp_path / "f.pth").read_bytes()
    (tmp_path / "f.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"f\.pth cannot be read"):
        load_category_embeddings(tmp_path / "f.pth", VOCABULARY, 2)
