"""Prompts from captions and names."""

import logging

import pytest

from cqdino_d2.structures import TextPrompt
from cqdino_d2.text import PromptTokenizer, caption_prompt, names_prompts, wanted_prompts


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a cat. a red ball", ["a cat", "a red ball"]),
        ("  A Cat . dogs ?", ["A Cat", "dogs"]),
        (".. cat ... cat .", ["cat", "cat"]),
    ],
)
def test_a_caption_is_cut_at_its_separators_alone(caption, phrases):
    prompt = caption_prompt(caption)
    assert [prompt.words(i) for i in range(len(prompt.spans))] == phrases
    assert prompt.caption.endswith((".", "?"))


@pytest.mark.parametrize("caption", ["", "  ", " . ?. "])
def test_a_caption_without_words_is_refused(caption):
    with pytest.raises(ValueError, match="needs words between its separators"):
        caption_prompt(caption)


def test_names_are_packed_by_their_tokens_in_their_order(tokenizer):
    names = ["Red_cat", ["drier", "two"], "a red", "cat"]
    prompts = names_prompts(names, tokenizer)
    assert [p.caption for p in prompts] == ["Red cat.", "drier. two.", "a red. cat."]
    assert [p.vocab_ids for p in prompts] == [(0,), (1, 1), (2, 3)]
    assert [p.words(1) for p in prompts[1:]] == ["two", "cat"]
    for prompt in prompts:  # what was counted is what the model reads
        assert tokenizer([prompt]).input_ids.shape[1] <= 9
    one = names_prompts(names, PromptTokenizer(tokenizer.vocabulary_file, max_tokens=15))
    assert len(one) == 1 and tokenizer.encode(one[0].caption).texts.count(".") == 5


def test_a_prompt_is_filled_to_the_last_token(tokenizer):
    (prompt,) = names_prompts(["a red cat", "a two"], tokenizer)
    assert tokenizer([prompt]).input_ids.shape[1] == 9


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "expected a list of names"),
        ("cat", "expected a list of names, got 'cat'"),
        (["cat", " _ "], "a name needs words"),
        (["cat", []], r"a name needs words, got \[\]"),
        (
            ["cat", "a red cat two drier drier"],
            "'a red cat two drier drier.' has 9 tokens, a prompt holds 7",
        ),
        (["a cat " * 100], r"^'(a cat ){9}a c\.\.\.' has 201 tokens"),
        (["cat", "\u200b"], r"'\\u200b' has no word to look for"),
        (["cat", 5], "a name is a text or a list of synonyms, got 5"),
        (["cat", [5]], "a name is a text or a list of synonyms, got .5."),
        (["cat", {"dog": 1}], "a name is a text or a list of synonyms, got .'dog': 1"),
        (b"cat", "expected a list of names, got b'cat'"),
        (["red cat", "two", "Red_Cat."], "'Red Cat' and 'red cat' are the same to the model"),
    ],
)
def test_names_that_no_prompt_can_hold_are_refused(tokenizer, names, message):
    with pytest.raises(ValueError, match=message):
        names_prompts(names, tokenizer)


def test_a_separator_in_a_name_does_not_cut_it(tokenizer):
    (prompt,) = names_prompts(["a.cat", "two"], tokenizer)
    assert prompt.caption == "a cat. two." and prompt.words(0) == "a cat"


def test_a_name_without_a_known_word_is_named(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        names_prompts(["cat", "猫", "a zebra"], tokenizer)
    (record,) = caplog.records
    assert "no word of '猫'" in record.getMessage()


@pytest.mark.parametrize(
    "wanted",
    [
        "cat. 猫. a zebra",
        TextPrompt("cat. 猫. a zebra.", (((0, 3),), ((5, 6),), ((8, 15),))),
        TextPrompt("猫"),
    ],
)
def test_a_caption_without_a_known_word_is_named_as_well(tokenizer, caplog, wanted):
    with caplog.at_level(logging.WARNING):
        wanted_prompts(wanted, tokenizer)
    (record,) = caplog.records
    assert "no word of '猫'" in record.getMessage()


@pytest.mark.parametrize(
    "prompt", [TextPrompt(" . ?"), TextPrompt("cat ?", (((0, 3),), ((4, 5),)))]
)
def test_a_phrase_of_separators_alone_is_refused(tokenizer, prompt):
    with pytest.raises(ValueError, match="[?]' has no word to look for"):
        wanted_prompts(prompt, tokenizer)


def test_phrases_of_a_caption_may_be_alike_but_not_negatives(tokenizer):
    assert wanted_prompts("cat. Cat", tokenizer).names == ("cat", "Cat")
    wanted_prompts("cat. Cat", tokenizer, negatives=["two"])
    with pytest.raises(ValueError, match="'CAT' and 'Cat' are the same to the model"):
        wanted_prompts("cat. Cat", tokenizer, negatives=["CAT"])
    with pytest.raises(ValueError, match="'CAT' and 'cat' are the same to the model"):
        wanted_prompts("two", tokenizer, negatives=["cat", "CAT"])
