"""The packages of the context: on sys.path before the host's, also those that come while a cell runs."""

import os
import sys
from importlib import machinery

LOADERS = (
    (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
    (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
    (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
)


class Prefix:
    """CELLFS_PACKAGES, which may be named, and its directory be there, only after the driver's start."""

    def __init__(self):
        self.place = None
        self._seen = None
        sys.meta_path.append(self)

    def follow(self):
        """Take the prefix that the environment names now."""
        prefix = os.environ.get("CELLFS_PACKAGES")
        place = prefix and os.path.join(prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
        if place != self.place:
            if self.place in sys.path:
                sys.path.remove(self.place)
            self.place, self._seen = place, None
        self.refresh()

    def refresh(self):
        """Take in what has been installed since: whether there was anything."""
        if not self.place:
            return False
        try:
            seen = os.stat(self.place).st_mtime_ns
        except OSError:
            seen = None
        if seen == self._seen and (seen is not None or self.place in sys.path):
            return False
        self._put_in_path()
        self._seen = seen
        if seen is not None:
            self._read_pth_files()
        return seen is not None

    def _put_in_path(self):
        """Before the host's packages. A finder of its own, for Python gives none to what does not exist yet."""
        if self.place not in sys.path:
            at = (i for i, path in enumerate(sys.path) if path.endswith("-packages"))
            sys.path.insert(next(at, len(sys.path)), self.place)
        sys.path_importer_cache[self.place] = machinery.FileFinder(self.place, *LOADERS)

    def _read_pth_files(self):
        import site
        before = list(sys.path)
        site.addsitedir(self.place)
        after = sys.path.index(self.place) + 1
        sys.path[:] = [*before[:after], *(path for path in sys.path if path not in before), *before[after:]]

    def find_spec(self, name, path=None, target=None):
        """Asked last, when nothing else has the module: the cell itself may have installed it."""
        if path is None and self.refresh():
            return machinery.PathFinder.find_spec(name, None, target)
        return None

    def versions(self):
        """{package: version} of what the prefix has."""
        from importlib.metadata import distributions
        found = distributions(path=[self.place]) if self.place else ()
        return {each.metadata["Name"]: each.version for each in found}

    def imported(self, names):
        """Which of these packages have a module that is imported already."""
        from importlib.metadata import packages_distributions
        modules = packages_distributions().items()
        return sorted(each for each in names if any(
            module in sys.modules and each in homes for module, homes in modules))
