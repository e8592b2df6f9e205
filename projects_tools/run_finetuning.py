"""Fine-tunes a detector by words on few images of novel emoji: what does it keep of the base ones?

See --help.
"""

import sys

from studies.finetuning import main

if __name__ == "__main__":
    sys.exit(main())
