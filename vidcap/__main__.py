"""`python -m vidcap` is `vidcap`."""

import sys

from vidcap.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
