"""The modules of the Python driver, in a package so that no cell's import meets their names."""
