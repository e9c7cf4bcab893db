"""The host's pip, found behind this folder, but for `python -m pip`: that is the __main__ beside this file."""


def _become_real():
    import os
    import sys
    from importlib.machinery import PathFinder
    own = os.path.dirname(os.path.abspath(__file__))
    behind = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(own)]
    spec = PathFinder.find_spec("pip", behind)
    if spec is None or spec.loader is None:
        if sys.argv[0] == "-m":
            import cellfs_packages
            sys.exit(f"cellfs: this host has no pip: {cellfs_packages.how_to_get_pip()}")
        raise ModuleNotFoundError("No module named 'pip'", name="pip")
    globals().update(
        __path__=[own, *spec.submodule_search_locations], __file__=spec.origin, __cached__=spec.cached,
        __doc__=None)
    code = spec.loader.get_code("pip")
    del globals()["_become_real"]
    exec(code, globals())


_become_real()
