"""The modules of the bridge. What a kernel's language has of its own is in languages.py, and nowhere else."""
