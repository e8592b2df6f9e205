"""Prompts as values: spans are checked, and lists do as well as tuples."""

import numpy as np
import pytest

from cqdino_d2.structures import TextPrompt


def test_lists_as_of_a_json_file_make_the_same_prompt():
    expected = TextPrompt("a cat. a dog.", (((0, 1), (2, 5)), ((7, 12),)), (0, 0))
    for vocab_ids in ([0, 0], np.zeros(2, np.int64)):
        prompt = TextPrompt("a cat. a dog.", [[[0, 1], [2, 5]], [[7, 12]]], vocab_ids)
        assert prompt == expected and hash(prompt) == hash(expected)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (((0, 9),), r"\(first, last \+ 1\) .* got \(\(0, 9\),\)"),
        ((((0, 1, 2),),), r"\(first, last \+ 1\)"),
        ((((0.0, 1.0),),), r"\(first, last \+ 1\)"),
        (5, r"\(first, last \+ 1\) .* got 5"),
        ((((0, 6),),), r"within its caption of 5 characters, got \[\(0, 6\)\]"),
        ((((-1, 2),),), "within its caption of 5 characters"),
        ((((2, 2),),), "within its caption of 5 characters"),
        (((),), r"within its caption of 5 characters, got \[\]"),
    ],
)
def test_what_are_no_spans_of_the_caption_is_refused(spans, message):
    with pytest.raises(ValueError, match=message):
        TextPrompt("a cat", spans)


@pytest.mark.parametrize("vocab_ids", [(0, 1), (-1,), (0.5,), ("0",), 0])
def test_vocab_ids_are_one_number_for_each_phrase(vocab_ids):
    with pytest.raises(ValueError, match="one number from 0 on for each of the 1 phrases"):
        TextPrompt("a cat", (((0, 5),),), vocab_ids)


def test_a_caption_is_a_text():
    with pytest.raises(TypeError, match="expected a caption, got NoneType"):
        TextPrompt(None)
