"""The Jupyter bridge: runs cells for the daemon (../PROTOCOL.md) in any kernel that speaks Jupyter's protocol.

Its argument is a kernelspec: what a kernel.json says, with the program found, the `name` and the `resource_dir`.
What it shares with the Python driver it has from its folder.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:1] = [HERE, os.path.join(os.path.dirname(HERE), "python")]

from cellfs_jupyter.bridge import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
