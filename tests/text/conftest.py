"""A small vocabulary for prompts."""

import pytest

from cqdino_d2.text import PromptTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "red", "cat", "dr", "##ier", "two"]


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return PromptTokenizer(path, max_tokens=9)
