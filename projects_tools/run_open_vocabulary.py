"""Trains detectors by words on base emoji and asks them for novel ones, which no image showed.

See --help.
"""

import sys

from studies.open_vocabulary import main

if __name__ == "__main__":
    sys.exit(main())
