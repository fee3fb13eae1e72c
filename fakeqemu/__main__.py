"""`python -m fakeqemu`."""

import sys

from fakeqemu.cli import main

if __name__ == "__main__":
    sys.exit(main())
