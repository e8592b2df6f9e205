"""What stands behind KEY= on the command line."""

import pytest

from cqdino_d2.engine import load_config
from cqdino_d2.engine.config.overrides import parse_value
from tests.runs import CONFIG

FILE_NAMES = (
    "epoch=3-step=5.pth",
    "modèle.pth",
    "model (1).pth",
    "model(1).pth",
    "a,b.pth",
    "my model.pth",
    "it's.pth",
    'the "best" one.pth',
    "[1].pth",
    "[old]/a[2].pth",
    "{x}.pth",
    "#7.pth",
    "a$b.pth",
    "$HOME.pth",
    "a;b&c|d.pth",
    "~/model.pth",
    "50%.pth",
    "模型.pth",
    "back\\slash.pth",
    "a:b@c!.pth",
    "range(1,3).pth",
)


@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("key", ["train.init_checkpoint", "model.some_file"])
def test_file_names_need_no_quotes(key, name):
    for value in (name, f"/folder/{name}", f"folder/{name}"):
        assert load_config(CONFIG, [f"{key}={value}"]).model is not None
        assert parse_value(key, value) == value


@pytest.mark.parametrize("name", ["2024", "[1,2", "1e5", "true", "{a", "=", "a,b", "range(1,3)"])
def test_paths_are_text_whatever_they_look_like(name):
    cfg = load_config(CONFIG, [f"train.output_dir={name}"])
    assert cfg.train.output_dir == name
    assert load_config(CONFIG, ["train.datasets_root=null"]).train.datasets_root is None
    assert load_config(CONFIG, ['train.output_dir="a b"']).train.output_dir == "a b"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ("[a,b]", ["a", "b"]),
        ("{a:1,b:[2]}", {"a": 1, "b": [2]}),
        ("'3'", "3"),
        ('"a b"', "a b"),
        ("24ep", "24ep"),
        ("[]", []),
    ],
)
def test_values_of_the_grammar(text, value):
    parsed = parse_value("model.anything", text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "text", ["[1,2", "[1,2]]", "{a:1", "[[1,2],[3", "[1.5],[2.5]", "[a]x", "=3"]
)
def test_slips_in_lists_and_dicts_are_errors(text):
    with pytest.raises(ValueError, match=r"cannot read the override model\.anything="):
        load_config(CONFIG, [f"model.anything={text}"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=1e-4x", "a number, got '1e-4x'"),
        ("train.log_period=ten", "a number, got 'ten'"),
        ("train.ema.enabled=no", "true or false, got 'no'"),
        ("train.activation_checkpointing=backbone", "a list, for example"),
        ("train.compile.parts=backbone,neck", "a list, for example"),
    ],
)
def test_text_replaces_no_number_switch_or_list(override, expected):
    with pytest.raises(ValueError, match=f"cannot override .*expected {expected}"):
        load_config(CONFIG, [override])


def test_text_replaces_a_switch_where_the_part_takes_both():
    recipe = "configs/emojidet/icons.py"
    cfg = load_config(recipe, ["model.backbone.pretrained=weights of 2024.pth"])
    assert cfg.model.backbone.pretrained == "weights of 2024.pth"
    with pytest.raises(ValueError, match="expected true or false, got 'yes'"):
        load_config(recipe, ["model.backbone.fixed_statistics=yes"])


def test_later_overrides_count_and_interpolations_stay():
    overrides = ["train.seed=1", "train.seed=2", "optimizer.lr=${train.seed}"]
    cfg = load_config(CONFIG, overrides)
    assert (cfg.train.seed, cfg.optimizer.lr) == (2, 2)
    with pytest.raises(ValueError, match="expected KEY=VALUE or ~KEY"):
        load_config(CONFIG, ["train.seed"])
