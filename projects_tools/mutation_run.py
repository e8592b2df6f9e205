"""Puts small faults into the package, one at a time, and sees whether the tests find them.

See --help.
"""

import signal
import sys

from studies.mutation_run import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends its runs too
    sys.exit(main())
