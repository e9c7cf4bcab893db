"""The tier without IPython: values, display() and top-level await, no magics."""

import builtins
import sys

from . import bundle, rich
from .interpreter import Interpreter


class Bare(Interpreter):
    """Plain Python."""

    engine = "without IPython"

    def __init__(self, driver):
        super().__init__(driver)
        sys.displayhook = self.show
        builtins.display = self._display
        builtins.update_display = self._update_display
        builtins.clear_output = driver.clear

    def transform(self, source):
        """Take the indentation of the first line from all."""
        indent = source[:len(source) - len(source.lstrip(" \t"))]
        if not indent:
            return source
        lines = source.split("\n")
        return "\n".join(line[len(indent):] if line.startswith(indent) else line for line in lines)

    def formats(self, value):
        data, meta = bundle.formats(value)
        rich.add(value, data, meta)
        return data, meta

    def _display(self, *values, display_id=None, raw=False, metadata=None):
        """Show values with all their formats; with `display_id` they can be updated."""
        if display_id is True:
            display_id = f"{id(values):x}-{self.number}"
        for value in values:
            self.driver.display(value, display_id=display_id, raw=raw, metadata=metadata)

    def _update_display(self, value, *, display_id, raw=False, metadata=None):
        """Give the display with this id a new content."""
        self.driver.display(value, "update", display_id, raw, metadata)
