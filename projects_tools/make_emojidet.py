"""Builds EmojiDet, a detection dataset of emoji or icons, in V3Det's layout.

Example:
    python projects_tools/make_emojidet.py --output datasets/emojidet --categories 96 --hue-shift

Other styles of artwork are icon sets of iconify with emoji, each fetched by npm:
    npm pack --pack-destination icons @iconify-json/noto @iconify-json/openmoji
    python projects_tools/make_emojidet.py --output datasets/emojidet --icons icons \\
        --train-styles twemoji,noto --val-styles openmoji

Icons as categories make vocabularies of any size (game-icons, logos and mdi have 14,000 together):
    npm pack --pack-destination icons @iconify-json/game-icons @iconify-json/logos @iconify-json/mdi
    python projects_tools/make_emojidet.py --output datasets/emojidet --icons icons \\
        --icon-sets game-icons,logos,mdi --categories 10000 --zipf 1 --balanced-val
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cqdino_d2.structures import one_line


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    pair = {"nargs": 2, "type": int, "metavar": ("MIN", "MAX")}
    add("--output", required=True, type=Path, help="folder to make")
    add("--categories", type=int, default=96, help="at most 1884 of emoji (default 96)")
    add("--train-images", type=int, default=8000, help="training images (default 8000)")
    add("--val-images", type=int, default=500, help="held-out images (default 500)")
    add("--image-size", type=int, default=128, help="side of an image in pixels (default 128)")
    add("--object-size", default=[16, 48], help="longer side in pixels (default 16 48)", **pair)
    add("--objects", default=[2, 6], help="objects per image (default 2 6)", **pair)
    add("--overlap", type=float, default=0.4, help="largest hidden share of one (default 0.4)")
    add("--hue-shift", action="store_true", help="turn the hues of objects by up to 15 degrees")
    add("--grey-share", type=float, default=0.2, help="share of grey objects (default 0.2)")
    add("--zipf", type=float, default=0.0, help="exponent of the frequencies (0: balanced)")
    add("--balanced-val", action="store_true", help="all equally often in held-out images")
    add(
        "--alone",
        default=[0, 0, 0],
        nargs=3,
        type=int,
        metavar=("RARE", "COMMON", "FREQUENT"),
        help="images of each emoji alone, in a folder for each, without boxes",
    )
    add(
        "--interior-categories",
        action="store_true",
        help="groups and sub-groups are categories as well (without boxes of their own)",
    )
    add(
        "--hold-out-novel",
        action="store_true",
        help="the quarter of the emoji that is marked novel is in no training image",
    )
    add("--train-styles", metavar="NAME,NAME,...", help="of the artwork (twemoji)")
    add("--val-styles", metavar="NAME,NAME,...", help="of held-out images (twemoji)")
    add("--icon-sets", default="", metavar="NAME,NAME,...", help="icons are the categories")
    add("--icons", type=Path, metavar="DIR", help="where npm left the icon sets, see above")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=2, help="processes (no influence on the result)")
    add("--overwrite", action="store_true", help="replace an EmojiDet with other parameters")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Builds the set; returns the exit code."""
    given = parse_arguments(arguments)
    from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet  # takes seconds
    from cqdino_d2.data.emojidet.compose import CompositionSettings
    from cqdino_d2.data.emojidet.styles import TWEMOJI

    try:
        settings = EmojiDetSettings(
            categories=given.categories,
            train_images=given.train_images,
            val_images=given.val_images,
            composition=CompositionSettings(
                image_size=given.image_size,
                object_size=tuple(given.object_size),
                objects=tuple(given.objects),
                overlap=given.overlap,
                hue_shift=given.hue_shift,
                grey_share=given.grey_share,
            ),
            zipf=given.zipf,
            balanced_val=given.balanced_val,
            alone=tuple(given.alone),
            interior_categories=given.interior_categories,
            hold_out_novel=given.hold_out_novel,
            train_styles=tuple((given.train_styles or TWEMOJI).split(",")),
            val_styles=tuple((given.val_styles or TWEMOJI).split(",")),
            icon_sets=tuple(given.icon_sets.split(",")) if given.icon_sets else (),
            seed=given.seed,
        )
        built = build_emojidet(
            given.output,
            settings,
            icons=given.icons,
            workers=given.workers,
            overwrite=given.overwrite,
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"make_emojidet: {one_line(str(error))}", file=sys.stderr)
        return 2
    state = "built" if built else "already there with these parameters, nothing to do"
    print(f"{given.output}: {state} (credit for the artwork: README.md there)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
