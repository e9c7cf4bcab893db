"""The matplotlib backend: a figure becomes a display at show(), or at the end of its cell."""

import io

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

publish = None
_shown = []


class FigureManager(FigureManagerBase):
    def show(self):
        figure = self.canvas.figure
        Gcf.destroy(self)
        publish(figure)


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager


def show(*args, **kwargs):
    """Display every open figure and close it."""
    for manager in Gcf.get_all_fig_managers():
        manager.show()


def render(figure):
    """The figure as PNG."""
    _shown.append(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    return png.getvalue()


def finish(interrupted):
    """Display the open figures that the run has not shown yet; close all."""
    try:
        for manager in Gcf.get_all_fig_managers():
            if not interrupted and manager.canvas.figure not in _shown \
                    and isinstance(manager, FigureManager):
                manager.show()
    finally:
        _shown.clear()
        for manager in Gcf.get_all_fig_managers():
            if isinstance(manager, FigureManager):
                Gcf.destroy(manager)
