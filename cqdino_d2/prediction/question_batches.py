"""Several questions about several images, answered together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..structures import Vocabulary, flat_vocabulary
from ..text import wanted_prompts
from .loading import AnyPredictor, Question
from .text_predictor import TextPredictor


@dataclass(frozen=True)
class Answer:
    """What was found in an image.

    Attributes:
        result: of the predictor, on the CPU.
        vocabulary: in which its ``pred_classes`` are places.
        offered: categories that could be selected; None where it was said what to look for.
    """

    result: dict[str, Any]
    vocabulary: Vocabulary
    offered: int | None


class QuestionBatches:
    """Answers questions about images, each its own, with as few passes as possible.

    Images with the same question go through the model together; so do images with different words,
    unless there are negatives as well. What was made of a question is kept for the next time.

    Args:
        predictor: shared with nobody who changes it.
        most_kept: questions; the least recently used ones are forgotten.
    """

    def __init__(self, predictor: AnyPredictor, *, most_kept: int = 32) -> None:
        self.predictor, self.most_kept = predictor, most_kept
        self._asked: OrderedDict[Question, AnyPredictor] = OrderedDict()

    def check(self, question: Question) -> None:
        """Makes sure that the model understands a question; any thread may ask.

        Raises:
            TypeError, ValueError: see `Question.put_to`.
        """
        question.check_form(self.predictor)
        if isinstance(self.predictor, TextPredictor):  # without reading the words
            options = {"negatives": question.negatives}
            wanted_prompts(question.wanted, self.predictor.tokenizer, **options)
        else:
            question.put_to(self.predictor)

    def __call__(self, images: Sequence[np.ndarray], questions: Sequence[Question]) -> list[Answer]:
        """An answer for each image.

        Args:
            images: as `ImagePredictor.batch` takes them.
            questions: one for each image, of hashable parts.
        """
        groups: dict[Hashable, list[int]] = {}
        for place, question in enumerate(questions):
            groups.setdefault(self._group_of(question), []).append(place)
        answers: dict[int, Answer] = {}
        for places in groups.values():
            found = self._answer([images[i] for i in places], [questions[i] for i in places])
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(images))]

    def _group_of(self, question: Question) -> Hashable:
        if isinstance(self.predictor, TextPredictor) and not question.negatives:
            return question.nms_threshold
        return question

    def _answer(self, images: list[np.ndarray], questions: list[Question]) -> list[Answer]:
        if len(set(questions)) == 1:
            asked = self._kept(questions[0])
            reads = isinstance(asked, TextPredictor)
            offered = None if reads else len(asked.requested_vocab_ids)
            results = asked.batch(images)
            return [Answer(_on_cpu(result), asked.vocabulary, offered) for result in results]
        iou = questions[0].nms_threshold  # the group's
        predictor = self.predictor if iou is None else self.predictor.suppressing(iou)
        results = predictor.batch(images, [question.wanted for question in questions])
        names = [wanted_prompts(one.wanted, predictor.tokenizer).names for one in questions]
        return [
            Answer(_on_cpu(result), flat_vocabulary(row), None)
            for result, row in zip(results, names, strict=True)
        ]

    def _kept(self, question: Question) -> AnyPredictor:
        if question not in self._asked:
            self._asked[question] = question.put_to(self.predictor)
        self._asked.move_to_end(question)
        if len(self._asked) > self.most_kept:
            self._asked.popitem(last=False)
        return self._asked[question]


def _on_cpu(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value.to("cpu") for key, value in result.items()}
