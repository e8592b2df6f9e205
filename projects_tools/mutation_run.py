"""Puts small faults into the package, one at a time, and sees whether the tests find them.

See --help.
"""

import sys

from studies.mutation_run import main

if __name__ == "__main__":
    sys.exit(main())
