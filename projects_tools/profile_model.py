"""What each stage of a detector costs as the vocabulary grows.

See --help.
"""

import sys

from benchmarks.profile_model import main

if __name__ == "__main__":
    sys.exit(main())
