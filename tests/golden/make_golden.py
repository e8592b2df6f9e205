"""Cuts the golden files of this folder out of the recorded fixtures (which are too large to keep).

    python tests/golden/make_golden.py FOLDER_OF_FIXTURES

* `tree_no_backbone.{json,npz}`: a fixture of the tree variant for `check_parity.py`, without the
  backbone: its recorded maps stand for it.
* `padded_stages.{json,npz}`: from the neck's maps to the losses, two images of different sizes in
  one batch; weights of the transformer alone, what goes into its stages and what comes out.
* `coco_relation.npz`: the released form of the self-attention over the categories.
* `swin_stage0.npz`: picture, weights and results of the backbone's first stage with its merging.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BACKBONE_ONLY = ("sd/backbone.", "grad/backbone.", "eval/patch_embed", "eval/swin_")
TRANSFORMER = (
    "level_embed",
    "encoder.",
    "memory_trans_",
    "query_embedding.",
    "dn_query_generator.",
    "decoder.",
    "bbox_head.",
)
PADDED_STAGES = (
    *(f"{kind}/{weight}" for kind in ("sd", "grad") for weight in TRANSFORMER),
    *("in/img_shapes", "eval/neck.", "eval/topk_categories", "eval/text_feat", "eval/enc_in."),
    "eval/category_logits",
    *("eval/memory", "eval/topk_proposals", "eval/enc_class", "eval/enc_coord_unact"),
    *("eval/dec_layer", "eval/dec_class", "eval/dec_boxes", "train/", "gt/", "dn/", "match/"),
)


def cut_tree(folder: Path) -> None:
    name = "tree_seed2_deep_nopad"
    arrays = np.load(folder / f"{name}.npz")
    dropped = (*BACKBONE_ONLY, "in/batch_inputs", "in/image_bgr", "match/")
    kept = {key: arrays[key] for key in arrays.files if not key.startswith(dropped)}
    np.savez_compressed(HERE / "tree_no_backbone.npz", **kept)
    about = json.loads((folder / f"{name}.json").read_text())
    about["backbone_weights"] = {
        key[3:]: shape for key, shape in about["arrays"].items() if key.startswith("sd/backbone.")
    }
    for unused in ("arrays", "checks", "grad_norms", "params_without_grad", "params_zero_grad"):
        del about[unused]
    (HERE / "tree_no_backbone.json").write_text(json.dumps(about) + "\n")


def cut_padded_stages(folder: Path) -> None:
    name = "tree_seed0_fixtree"
    arrays = np.load(folder / f"{name}.npz")
    kept = {key: arrays[key] for key in arrays.files if key.startswith(PADDED_STAGES)}
    dropped = ("train/dec_in.", "train/dec_layer", "train/dec_hidden", "train/dec_references")
    kept = {key: array for key, array in kept.items() if not key.startswith(dropped)}
    np.savez_compressed(HERE / "padded_stages.npz", **kept)
    about = json.loads((folder / f"{name}.json").read_text())
    wanted = ("variant", "losses", "categories", "tree", "dims", "model_cfg")
    content = {key: about[key] for key in wanted}
    (HERE / "padded_stages.json").write_text(json.dumps(content) + "\n")


def cut_coco_relation(folder: Path) -> None:
    arrays = np.load(folder / "coco_seed0.npz")
    prefixes = [f"sd/language_model.{part}" for part in ("label_", "wordvec_proj")]
    prefixes += ["eval/label_relu", "eval/after_label_attn"]
    kept = {key: arrays[key] for key in arrays.files if key.startswith(tuple(prefixes))}
    np.savez_compressed(HERE / "coco_relation.npz", **kept)


def cut_swin_stage(folder: Path) -> None:
    arrays = np.load(folder / "tree_seed2_deep_nopad.npz")
    prefixes = ("sd/backbone.patch_embed", "sd/backbone.stages.0.", "eval/swin_")
    kept = {key: arrays[key] for key in arrays.files if key.startswith(prefixes)}
    kept["in/image_bgr.0"] = arrays["in/image_bgr.0"]
    np.savez_compressed(HERE / "swin_stage0.npz", **kept)


if __name__ == "__main__":
    for cut in (cut_tree, cut_padded_stages, cut_coco_relation, cut_swin_stage):
        cut(Path(sys.argv[1]))
