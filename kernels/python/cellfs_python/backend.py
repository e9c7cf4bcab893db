"""The matplotlib backend: a figure becomes a display at show(), or at the end of its cell."""

import io
import os

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from . import bundle

CHART = "application/vnd.cellfs.chart+json"
FORMATS = {
    "png": "image/png", "retina": "image/png", "png2x": "image/png", "svg": "image/svg+xml",
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "pdf": "application/pdf",
}
DOUBLED = "retina", "png2x"

publish = None
chosen = {}  # what the user has chosen by IPython's ways: formats, options of savefig
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


def choose(formats, options):
    """Draw figures in these formats from now on."""
    names = {formats} if isinstance(formats, str) else set(formats)
    for name in names:
        _mime(name)
    chosen.update(formats=names, options=options)


def _mime(name):
    if name not in FORMATS:
        raise ValueError(f"no figure format {name!r}: there are {', '.join(FORMATS)}")
    return FORMATS[name]


def add(figure, data, meta):
    """Add the pictures and the chart of a figure to its bundle."""
    _shown.append(figure)
    formats = chosen.get("formats")
    if formats is None:
        formats = os.environ.get("CELLFS_FIGURES", "png").replace(",", " ").split()
    for name in formats:
        try:
            mime = _mime(name)
            if mime not in data:
                data[mime] = picture = _draw(figure, name)
                if name in DOUBLED:
                    sides = picture[16:20], picture[20:24]  # IHDR has them
                    width, height = (int.from_bytes(side, "big") // 2 for side in sides)
                    meta[mime] = {"width": width, "height": height}
        except Exception:
            bundle.complain(f"drawing the figure as {name}")
    try:
        from . import charts
        chart = charts.chart(figure)
    except Exception:  # or ImportError, from a matplotlib of another age
        chart = None
    if chart:
        data[CHART] = chart


def _draw(figure, name):
    options = {"bbox_inches": "tight", **chosen.get("options", {})}
    if name in DOUBLED:
        name, options["dpi"] = "png", figure.dpi * 2
    picture = io.BytesIO()
    figure.savefig(picture, format=name, **options)
    return picture.getvalue().decode() if name == "svg" else picture.getvalue()


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
