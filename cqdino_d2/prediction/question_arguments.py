"""What a command line looks for."""

from __future__ import annotations

import argparse

from .loading import Question, read_names


def question_of(given: argparse.Namespace) -> Question:
    """What the options of `add_question_arguments` say.

    Raises:
        FileNotFoundError, ValueError: names that cannot be read.
    """
    return Question(
        wanted=given.text if given.names is None else read_names(given.names),
        negatives=given.negatives,
        text_encoder=given.text_encoder,
        only=given.only,
        branches=given.branch,
        num_selected=given.num_selected,
    )
