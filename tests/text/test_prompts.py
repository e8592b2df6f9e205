"""From names to prompts to embeddings: one way for the command and for a longer vocabulary."""

import pytest
import torch
from torch.nn.functional import normalize

from cqdino_d2.text.encoders import RandomEncoder
from cqdino_d2.text.prompts import (
    encode_categories,
    encode_names,
    prompts_of,
    read_templates,
    spoken_name,
)


class Counting(RandomEncoder):
    """Counts the texts of each call."""

    def __init__(self):
        super().__init__(6, 0)
        self.calls = []

    def encode(self, texts):
        self.calls.append(len(texts))
        return super().encode(texts)


def test_names_are_spoken_and_put_into_every_template():
    assert spoken_name(" golden__retriever\n(dog) ") == "golden retriever (dog)"
    assert prompts_of("a_b", "", ["the {}", "{} here"]) == ["the a b", "a b here"]
    assert prompts_of("{}", "so.", ["the {}"]) == ["the {} so."]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_prompts_are_averaged_whatever_the_batches(batch_size):
    prompts = [[f"{name} {place}" for place in range(3)] for name in "abcde"]
    encoder = Counting()
    found = encode_categories(encoder, prompts, batch_size, progress=False)
    rows = torch.stack([RandomEncoder(6, 0).encode(texts).mean(dim=0) for texts in prompts])
    torch.testing.assert_close(found, normalize(rows, dim=-1))
    assert max(encoder.calls) <= batch_size and sum(encoder.calls) == 15


def test_names_alone_are_encoded_the_same():
    templates = ["a {}", "the {}"]
    prompts = [prompts_of(name, "", templates) for name in ("a_b", "c")]
    wanted = encode_categories(RandomEncoder(6, 0), prompts, progress=False)
    assert torch.equal(encode_names(RandomEncoder(6, 0), ["a_b", "c"], templates), wanted)
    for names, templates in (([], ["{}"]), (["a"], [])):
        with pytest.raises(ValueError, match="at least one prompt"):
            encode_names(RandomEncoder(6, 0), names, templates)


@pytest.mark.parametrize(
    "content",
    [
        "a photo of a {}.\r\nthe {}.\r\n".encode("utf-8-sig"),
        b"a photo of a {}.\n\n  the {}.  \n\n",
        b"a photo of a {}.\rthe {}.",
    ],
)
def test_templates_of_a_file(tmp_path, content):
    (tmp_path / "t.txt").write_bytes(content)
    assert read_templates(str(tmp_path / "t.txt")) == ["a photo of a {}.", "the {}."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"every line needs one \{\}"),
        (b"a {} and a {}\n", r"got \['a \{\} and a \{\}'\]"),
        (b"the dog\n", r"got \['the dog'\]"),
        (b'["a photo of a {}."]', "is JSON, expected a text with an entry per line"),
        ("the {}".encode("utf-16"), "no text file in UTF-8"),
        ("the {}".encode("utf-16-le"), "no text file in UTF-8"),
        (b"the {} caf\xe9", "no text file in UTF-8"),
    ],
)
def test_files_that_hold_no_templates(tmp_path, content, message):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"t\.txt.*{message}"):
        read_templates(str(tmp_path / "t.txt"))
