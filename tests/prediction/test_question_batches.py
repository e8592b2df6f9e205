"""Several questions about several images are answered as each would be alone."""

import pytest
import torch

from cqdino_d2.prediction.loading import Question, load_predictor
from cqdino_d2.prediction.question_batches import QuestionBatches
from tests.prediction.test_category_predictor import load, picture, save_tiny
from tests.prompted import save_prompted

IMAGES = [picture(0), picture(1), picture(2, (48, 96)), picture(3)]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    config, weights = save_prompted(tmp_path_factory.mktemp("words"))
    return load_predictor(config, weights, device="cpu")


@pytest.fixture(scope="module")
def categories(tmp_path_factory):
    return load(save_tiny(tmp_path_factory.mktemp("categories")))


def assert_found(answer, expected):
    found, alone = answer.result["instances"], expected["instances"].to("cpu")
    assert list(found.phrases) == list(alone.phrases)
    assert [answer.vocabulary.names[i] for i in found.pred_classes.tolist()] == list(found.phrases)
    torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.pred_boxes.tensor, alone.pred_boxes.tensor, rtol=1e-4, atol=1e-3
    )


def test_words_of_each_image(words):
    questions = [
        Question(wanted="a red cat."),
        Question(wanted=("dog", ("bus", "two bus"))),
        Question(wanted=("cat",), negatives=("dog",)),
        Question(wanted="two dog. red", nms_threshold=0.3),
    ]
    batches = QuestionBatches(words)
    for answer, image, question in zip(batches(IMAGES, questions), IMAGES, questions, strict=True):
        assert_found(answer, question.put_to(words)(image))
        assert answer.offered is None
    assert words.nms_threshold is None


def test_the_same_words_are_read_once(words, monkeypatch):
    read = []
    original = type(words).ask
    monkeypatch.setattr(
        type(words), "ask", lambda self, *a, **k: read.append(a) or original(self, *a, **k)
    )
    batches = QuestionBatches(words, most_kept=2)
    question = Question(wanted="a cat.")
    first = batches(IMAGES, [question] * 4)
    again = batches(IMAGES[:1], [question])
    assert len(read) == 1
    assert_found(again[0], first[0].result)
    for name in ("dog", "bus", "cat"):
        batches(IMAGES[:1], [Question(wanted=(name,))])
    batches(IMAGES[:1], [question])  # forgotten meanwhile
    assert len(read) == 5 and len(batches._asked) == 2


def test_categories_of_each_image(categories):
    questions = [
        Question(),
        Question(only=("category 3", "category 37")),
        Question(branches=("category 2",), num_selected=3),
        Question(wanted=("category 30", "category 31"), negatives=("category 32",)),
    ]
    answers = QuestionBatches(categories)(IMAGES, questions)
    for answer, image, question in zip(answers, IMAGES, questions, strict=True):
        assert_found(answer, question.put_to(categories)(image))
        assert answer.vocabulary is categories.vocabulary
    assert [answer.offered for answer in answers] == [40, 2, 8, 3]


def test_boxes_on_one_thing_are_suppressed_for_one_question_alone(words):
    questions = [Question(wanted="cat. dog.", nms_threshold=0.05), Question(wanted="cat. dog.")]
    few, all_of_them = QuestionBatches(words)(IMAGES[:1] * 2, questions)
    assert len(few.result["instances"]) < len(all_of_them.result["instances"])


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(), "give it a caption or names"),
        (Question(wanted=" . "), "needs words"),
        (Question(wanted=("cat", "cat")), "the same to the model"),
        (Question(only=("cat",)), "selects no categories"),
        (Question(negatives=("cat",)), "need names to look for"),
        (Question(wanted=("cat",), negatives=("cat",)), "cat"),
    ],
)
def test_what_a_reader_does_not_understand(words, question, message):
    with pytest.raises(ValueError, match=message):
        QuestionBatches(words).check(question)


def test_what_a_model_of_categories_does_not_understand(categories):
    batches = QuestionBatches(categories)
    for question in (Question(wanted=("no such",)), Question(only=("no such",))):
        with pytest.raises(ValueError, match="no such"):
            batches.check(question)
    batches.check(Question(num_selected=2))
