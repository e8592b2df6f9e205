"""Long prompts, cut into parts."""

import random

import pytest

from cqdino_d2.structures import TextPrompt
from cqdino_d2.text import PromptTokenizer, names_prompt
from cqdino_d2.text.prompt_parts import joined

WORDS = ("a", "red", "cat", "drier", "two")


def said(prompt):
    """What a prompt says: words of its phrases with the things they name."""
    return [(prompt.words(i), thing) for i, thing in enumerate(prompt.phrase_ids)]


@pytest.mark.parametrize("seed", range(20))
def test_parts_say_all_in_its_order_within_the_tokens_and_are_as_full_as_they_can_be(
    tokenizer, seed
):
    draw = random.Random(seed)
    names = [" ".join(draw.choices(WORDS, k=draw.randint(1, 3))) for _ in range(draw.randint(1, 9))]
    prompt = names_prompt(names)
    parts = tokenizer.split(prompt)
    assert [row for part in parts for row in said(part)] == said(prompt)
    lengths = [len(tokenizer.encode(part.caption).ids) for part in parts]
    assert max(lengths) <= tokenizer.max_tokens
    for part, following in zip(parts, parts[1:], strict=False):
        more = len(tokenizer.encode(f"{part.caption} {following.words(0)}.").ids)
        assert more > tokenizer.max_tokens


def test_a_short_prompt_and_one_without_phrases_stay(tokenizer):
    short = TextPrompt("a cat. two.", (((0, 5),),))
    assert tokenizer.split(short) == (short,)
    whole = TextPrompt("a cat. " * 9)
    assert tokenizer.split(whole) == (whole,)
    long = names_prompt(["cat"] * 9)
    cutting = PromptTokenizer(tokenizer.vocabulary_file, max_tokens=9, cut_long=True)
    assert cutting.split(long) == (long,)


def test_what_names_the_same_thing_and_what_a_dot_does_not_divide_stays_together(tokenizer):
    caption = "a cat two. red drier a cat. cat red. two? a"
    spans = (((2, 5), (6, 9)), ((11, 14), (11, 14)), ((24, 26),), ((28, 31),), ((37, 40),))
    prompt = TextPrompt(caption, spans, (4, 2, 2, 9, 9))
    parts = tokenizer.split(prompt)
    assert [part.caption for part in parts] == ["a cat two.", "red drier a cat.", "cat red. two?"]
    assert [part.phrase_ids for part in parts] == [(4,), (2, 2), (9, 9)]
    assert parts[0].words(0) == "cat two" and parts[2].words(1) == "two"
    with pytest.raises(ValueError, match="'a cat. a cat. two a cat.' has 10 tokens, a prompt"):
        tokenizer.split(TextPrompt("a cat. a cat. two a cat. two.", (((2, 16),), ((20, 23),))))


def test_some_things_stand_in_every_part(tokenizer):
    prompt = joined(names_prompt(["a red", "cat", "drier", "two"]), names_prompt(["red"], 4))
    parts = tokenizer.split(prompt, everywhere=[4])
    assert [part.caption for part in parts] == ["a red. cat. red.", "drier. two. red."]
    assert [part.phrase_ids for part in parts] == [(0, 1, 4), (2, 3, 4)]


def test_many_names_are_cut_fast_enough_for_a_vocabulary():
    tokenizer = PromptTokenizer(max_tokens=256)
    names = [f"thing number {number}" for number in range(13_204)]
    parts = tokenizer.split(names_prompt(names))  # minutes, were it quadratic
    assert sum(len(part.spans) for part in parts) == 13_204
    assert max(len(tokenizer.encode(part.caption).ids) for part in parts) <= 256
