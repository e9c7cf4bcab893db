"""The Jupyter bridge: runs cells for the daemon (../PROTOCOL.md) in any kernel that speaks Jupyter's protocol.

Its argument is a kernelspec: what a kernel.json says, with the program found, the `name` and the `resource_dir`.
"""

import os
import sys

sys.path[0] = os.path.dirname(os.path.abspath(__file__))

from cellfs_jupyter.bridge import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
