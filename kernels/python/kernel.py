"""The Python driver: runs cells for the daemon over the protocol in ../PROTOCOL.md."""

import os
import sys

sys.path[0] = os.path.dirname(os.path.abspath(__file__))

from cellfs_python.driver import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
