"""Trains EmojiDet in the paper's two stages, and in one stage for the same time.

See --help.
"""

import sys

from studies.two_stage import main

if __name__ == "__main__":
    sys.exit(main())
