"""Cuts the golden files of this folder out of the recorded fixtures (which are too large to keep).

    python tests/golden/make_golden.py FOLDER_OF_FIXTURES

* `tree_no_backbone.{json,npz}`: a fixture of the tree variant for `check_parity.py`, without the
  backbone: its recorded maps stand for it.
* `coco_relation.npz`: the released form of the self-attention over the categories.
* `swin_stage0.npz`: picture, weights and results of the backbone's first stage with its merging.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BACKBONE_ONLY = ("sd/backbone.", "grad/backbone.", "eval/patch_embed", "eval/swin_")


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
    for cut in (cut_tree, cut_coco_relation, cut_swin_stage):
        cut(Path(sys.argv[1]))
