"""Compares CQ-DINO with a classification-head DINO as the vocabulary grows.

See --help.
"""

import sys

from studies.claim.run import main

if __name__ == "__main__":
    sys.exit(main())
