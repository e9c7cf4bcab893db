"""What a matplotlib figure was drawn from, as data: `application/vnd.cellfs.chart+json`.

cellfs(5) has the fields. All is read from the artists of a figure that has been drawn. What they do
not tell any more is noted while they are made: the bins of a histogram, the statistics of a box.
"""

import functools
import re
import sys
import warnings

import numpy as np
from matplotlib import category, container, dates, ticker
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_rgba_array
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch, Wedge

POINTS_MOST = 5000  # of a figure
SERIES_MOST = 1000  # of one Axes
CHARTS_MOST = 36
TICKS_MOST = 200
TEXT_MOST = 500
UNIT = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")
MATH = re.compile(r"\$\\mathdefault\{(.*)\}\$")
EXPONENT = re.compile(r"\^\{(-?\d+)\}")
NOTE = "_cellfs_note"
BOX = {"min": "whislo", "first_quartile": "q1", "median": "med", "third_quartile": "q3",
       "max": "whishi"}


def watch(axes):
    """Have the class `Axes` note what its artists do not tell."""

    def noted(name, note):
        draw = getattr(axes, name)

        @functools.wraps(draw)
        def drawn(self, *arguments, **options):
            made = draw(self, *arguments, **options)
            try:
                note(made, arguments, options)
            except Exception:
                pass  # a figure without a note is a figure
            return made

        setattr(axes, name, drawn)

    noted("hist", lambda *call: _note_histogram(*call))
    noted("bxp", lambda *call: _note_boxes(*call))
    noted("pie", lambda *call: _note_slices(*call))
    noted("bar", lambda made, _, options: setattr(made, NOTE, options.get("align") == "edge"))


def _note_histogram(made, _, options):
    tops, bins, patches = made
    tops = np.atleast_2d(np.asarray(tops, float))
    heights = tops
    if options.get("stacked") or options.get("histtype") == "barstacked":
        heights = np.diff(tops, axis=0, prepend=0)
    series = [patches] if len(heights) == 1 else patches
    for values, parts in zip(heights, series):
        note = {"kind": "histogram", "bins": np.asarray(bins, float), "values": values,
                "horizontal": options.get("orientation") == "horizontal"}
        for part in parts:
            setattr(part, NOTE, note)


def _note_boxes(made, arguments, options):
    statistics = arguments[0] if arguments else options["bxpstats"]
    upright = options.get("vert", arguments[3] if len(arguments) > 3 else True)
    horizontal = options.get("orientation") == "horizontal" or upright is False
    places = options.get("positions", arguments[1] if len(arguments) > 1 else None)
    if places is None:
        places = range(1, len(statistics) + 1)
    note = {"kind": "box_and_whisker", "statistics": [dict(each) for each in statistics],
            "places": list(places), "horizontal": horizontal}
    for part in (part for parts in made.values() for part in parts):
        setattr(part, NOTE, note)


def _note_slices(made, arguments, options):
    values = np.ravel(arguments[0] if arguments else options["x"]).astype(float)
    for wedge, value in zip(made[0], values, strict=True):
        setattr(wedge, NOTE, value)


def chart(figure):
    """The chart of a figure that has been drawn; None of one that shows nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plots = [_Plot(axes) for axes in figure.axes
                 if axes.get_visible() and not hasattr(axes, "_colorbar")]
        plots = [plot for plot in plots if plot.series or plot.lines or plot.unread]
        if not plots:
            return None
        shown = plots[:CHARTS_MOST]
        most = _share([series.size for plot in shown for series in plot.series])
        charts = [plot.chart(most) for plot in shown]
    title = getattr(figure, "_suptitle", None)
    title = title and _text(title.get_text())
    if len(plots) == 1:
        charts[0]["title"] = charts[0]["title"] or title
        return {**charts[0], "library": "matplotlib"}
    made = {"type": "superchart", "title": title, "elements": charts, "library": "matplotlib"}
    if len(plots) > len(shown):
        made.update(truncated=True, total=len(plots))
    return made


def _share(sizes):
    """The most points of one series, so that all have no more than POINTS_MOST."""
    room, left = POINTS_MOST, len(sizes)
    for size in sorted(sizes):
        if size * left > room:
            return max(room // left, 1)
        room -= size
        left -= 1
    return POINTS_MOST


class _Series:
    """One element to be, or, of bars, boxes and slices, several; `make(most)` returns them."""

    def __init__(self, kind, size, make, horizontal=None):
        self.kind, self.size, self.make, self.horizontal = kind, size, make, horizontal


class _Plot:
    """The chart of one Axes."""

    def __init__(self, axes):
        self.axes = axes
        self.x, self.y = _Scale(axes.xaxis), _Scale(axes.yaxis)
        self.series, self.lines, self.unread = [], [], set()
        self._taken = set()
        self._drawn = set(map(id, _artists(axes)))
        self._errors = {}  # {(bars are horizontal, the middle of a bar): its ends, once found}
        if axes.name == "3d":
            self.unread = {type(each).__name__ for each in _artists(axes)}
            return
        self._names = _legend(axes)
        for each in axes.containers:
            if isinstance(each, container.ErrorbarContainer):
                self._errorbar(each)
        for each in axes.containers:
            if isinstance(each, container.BarContainer):
                self._bars(each)
            elif isinstance(each, container.StemContainer):
                self._stems(each)
        for artist in _artists(axes):
            if id(artist) not in self._taken and artist.get_visible():
                self._artist(artist)

    def chart(self, most):
        axes, kinds = self.axes, list(dict.fromkeys(series.kind for series in self.series))
        kind = kinds[0] if len(kinds) == 1 else "mixed" if kinds else \
            "line" if self.lines else "unknown"
        titles = (axes.get_title(loc=side) for side in ("center", "left", "right"))
        made = {"type": kind, "title": next((_text(title) for title in titles if title), None)}
        if kind != "pie":
            made.update(x_label=_text(axes.get_xlabel()), y_label=_text(axes.get_ylabel()))
            made.update(x_unit=_unit(made["x_label"]), y_unit=_unit(made["y_label"]))
            for name, scale in (("x", self.x), ("y", self.y)):
                ticks, labels = scale.ticks()
                made.update({f"{name}_ticks": ticks, f"{name}_tick_labels": labels,
                             f"{name}_scale": scale.kind})
        if kind == "mixed":
            made["kinds"] = kinds
        sides = {series.horizontal for series in self.series} - {None}
        if len(sides) == 1:
            made["orientation"] = "horizontal" if sides.pop() else "vertical"
        made["elements"] = elements = []
        for series in self.series[:SERIES_MOST]:
            for element in series.make(most):
                elements.append({"type": series.kind, **element} if kind == "mixed" else element)
        if len(self.series) > SERIES_MOST:
            made.update(truncated=True, total=len(self.series))
        elif any(series.size > most for series in self.series):
            made["truncated"] = True
        if self.lines:
            made["reference_lines"] = self.lines
        if self.unread:
            made["not_read"] = sorted(self.unread)
        if axes.name not in ("rectilinear", "3d"):
            made["projection"] = axes.name
        return made

    def _add(self, kind, size, make, horizontal=None):
        self.series.append(_Series(kind, size, make, horizontal))

    def _take(self, artists):
        self._taken.update(map(id, artists))

    def _name(self, artist, color=None):
        label = str(artist.get_label() or "")
        if not label.startswith("_") and label:
            return _text(label)
        return self._names.get(_rgb(color), "")

    def _artist(self, artist):
        note = getattr(artist, NOTE, None)
        if isinstance(note, dict):
            parts = [each for each in _artists(self.axes) if getattr(each, NOTE, None) is note]
            self._take(parts)
            if note["kind"] == "histogram":
                self._histogram(artist, note["bins"], note["values"], note["horizontal"])
            else:
                self._boxes(note)
        elif isinstance(artist, Line2D):
            self._line(artist)
        elif isinstance(artist, PathCollection) and \
                artist.get_offset_transform().contains_branch(self.axes.transData):
            self._scatter(artist)
        elif isinstance(artist, Wedge):
            self._add("pie", 1, functools.partial(self._slice, artist))
        elif isinstance(artist, StepPatch):
            values, edges, _ = artist.get_data()
            self._histogram(artist, edges, values, artist.orientation == "horizontal")
        elif isinstance(artist, AxesImage) and np.ndim(artist.get_array()) == 2:
            self._image(artist)
        elif isinstance(artist, QuadMesh):
            self._mesh(artist)
        elif not isinstance(artist, Rectangle) or artist.get_width() or artist.get_height():
            self.unread.add(type(artist).__name__)

    def _line(self, line, label=None, **more):
        in_x, in_y = line.get_transform().contains_branch_seperately(self.axes.transData)
        if not (in_x or in_y) or type(line).__name__.endswith("AxLine"):
            self.unread.add(type(line).__name__)
            return
        name = label or self._name(line, line.get_color())
        x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
        if not np.isfinite(x).any() or not np.isfinite(y).any() or self._is_error(line, x, y):
            return
        if not in_x or not in_y:
            axis, scale, place = ("x", self.x, x) if in_x else ("y", self.y, y)
            self.lines.append({"label": name, "axis": axis, "value": scale.values(place[:1])[0]})
            return
        dots = line.get_linestyle() in ("None", " ", "") and line.get_marker() not in ("None", "")
        self._points("scatter" if dots else "line", name, x, y, more)

    def _is_error(self, line, x, y):
        """Whether the line is the bar of error that seaborn draws over a bar; then it is noted."""
        if "seaborn" not in sys.modules or len(x) != 2 or line.get_label()[:1] != "_":
            return False
        for across, along, horizontal in ((x, y, False), (y, x, True)):
            place = horizontal, round(across[0], 6)
            if across[0] == across[1] and place in self._errors:
                self._errors[place] = sorted(along)
                return True
        return False

    def _points(self, kind, label, x, y, more):
        """A series of points; each of `more` is a column of numbers beside them."""
        x, y = np.ma.atleast_1d(x), np.ma.atleast_1d(y)

        def make(most):
            kept = _thin(len(x), most)
            xs, ys = (scale.values(numbers[kept], kind == "scatter")
                      for scale, numbers in ((self.x, x), (self.y, y)))
            element = {"label": label, "points": [list(point) for point in zip(xs, ys)]}
            for key, column in more.items():
                element[key] = _plain(np.ma.asarray(column)[kept])
            return [_cut(element, len(x), most)]

        self._add(kind, len(x), make)

    def _scatter(self, dots):
        offsets = np.ma.asarray(dots.get_offsets())
        colors, count = dots.get_facecolors(), len(offsets)
        if not count:
            return
        more = {}
        if dots.get_array() is not None and np.size(dots.get_array()) == count:
            more["values"] = np.ma.ravel(dots.get_array())
        if len(dots.get_sizes()) == count > 1 and np.ptp(dots.get_sizes()):
            more["sizes"] = dots.get_sizes()
        names = []
        if self._names and len(colors) == count > 1 and "values" not in more:
            names = [self._names.get(tuple(color)) for color in _rounded(colors)]
        if names and None not in names:
            for name in dict.fromkeys(names):
                chosen = np.array([each == name for each in names])
                columns = {key: column[chosen] for key, column in more.items()}
                self._points("scatter", name, *offsets[chosen].T, columns)
            return
        label = self._name(dots, colors[0] if len(colors) else None)
        self._points("scatter", label, *offsets.T, more)

    def _errorbar(self, bars):
        line, caps, stripes = bars
        self._take((*caps, *stripes))
        if line is None or id(line) not in self._drawn:
            return
        self._take((line,))
        errors = {}
        if len(stripes) == bars.has_xerr + bars.has_yerr:
            for index, name in enumerate(["x"] * bars.has_xerr + ["y"] * bars.has_yerr):
                ends = _ends(stripes[index], 0 if name == "x" else 1)
                if len(ends) == len(line.get_xdata()):
                    errors[f"{name}_errors"] = ends
        self._line(line, self._name(bars, line.get_color()), **errors)

    def _stems(self, stems):
        self._take((stems.markerline, stems.baseline))
        self._take(stems.stemlines if isinstance(stems.stemlines, list) else (stems.stemlines,))
        marks = stems.markerline
        x, y = marks.get_xdata(orig=False), marks.get_ydata(orig=False)
        self._points("line", self._name(stems, marks.get_color()), x, y, {})

    def _bars(self, bars):
        patches = [each for each in bars.patches if id(each) in self._drawn]
        self._take(patches)
        if not patches:
            return
        note = getattr(patches[0], NOTE, None)
        horizontal = bars.orientation == "horizontal"
        across, along = (self.y, self.x) if horizontal else (self.x, self.y)
        boxes = np.array([(each.get_y(), each.get_height(), each.get_x(), each.get_width())
                          if horizontal else
                          (each.get_x(), each.get_width(), each.get_y(), each.get_height())
                          for each in patches], float).reshape(-1, 4)
        starts, widths, bases, values = boxes.T
        if isinstance(note, dict):
            self._histogram(patches[0], note["bins"], values, horizontal)
            return
        ends = starts + widths
        if getattr(bars, NOTE, False) and len(patches) > 1 and across.kind != "categorical" and \
                np.allclose(ends[:-1], starts[1:], rtol=0, atol=abs(widths).max() / 1e6):
            edges = np.append(starts, ends[-1])
            self._histogram(patches[0], edges, values, horizontal, self._name(bars))
            return
        group = self._name(bars, patches[0].get_facecolor())
        middles = starts + widths / 2
        errors = bars.errorbar and bars.errorbar[2] and \
            _ends(bars.errorbar[2][0], 0 if horizontal else 1)
        keys = [(horizontal, middle) for middle in np.round(middles, 6).tolist()]
        if not errors:
            self._errors.update(dict.fromkeys(keys))

        def make(most):
            labels = across.names(middles)
            figures = along.lengths(bases, values)
            made = [{"label": label, "group": group, "value": value}
                    for label, value in zip(labels, figures)]
            if bases.any():
                for element, base in zip(made, along.values(bases)):
                    element["base"] = base
            ends = errors if errors else [self._errors[key] for key in keys]
            for element, error in zip(made, ends if len(ends) == len(made) else ()):
                if error is not None:
                    element["error"] = _plain(error)
            return made[:most]

        self._add("bar", len(patches), make, horizontal)

    def _histogram(self, artist, bins, values, horizontal, label=""):
        scale = self.y if horizontal else self.x
        label = label or self._name(artist, artist.get_facecolor())

        def make(most):
            most = max(most, 2)
            element = {"label": label, "bins": scale.values(np.asarray(bins, float)[:most + 1]),
                       "values": _plain(values)[:most]}
            return [_cut(element, len(values), most)]

        self._add("histogram", len(values), make, horizontal)

    def _boxes(self, note):
        across, along = (self.y, self.x) if note["horizontal"] else (self.x, self.y)

        def make(place, each, outliers, most):
            name = across.name(place) or _text(each.get("label")) or across.names([place])[0]
            element = {"label": name}
            for key, short in BOX.items():
                element[key] = along.values([each[short]])[0]
            element["outliers"] = along.values(outliers[_thin(len(outliers), most)])
            return [_cut(element, len(outliers), most)]

        for place, each in zip(note["places"], note["statistics"]):
            outliers = np.ravel(each.get("fliers", ()))
            self._add("box_and_whisker", len(outliers),
                      functools.partial(make, place, each, outliers), note["horizontal"])

    def _slice(self, wedge, _):
        angle = round(abs(wedge.theta2 - wedge.theta1), 3)  # float32 made it
        element = {"label": self._name(wedge, wedge.get_facecolor()),
                   "angle": _plain([angle])[0], "radius": _plain([wedge.r])[0]}
        if hasattr(wedge, NOTE):
            element["value"] = _plain([getattr(wedge, NOTE)])[0]
        return [element]

    def _image(self, image):
        cells = np.ma.asarray(image.get_array())
        left, right, bottom, top = image.get_extent()
        first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
        rows, columns = cells.shape
        self._heatmap(image, cells, np.linspace(left, right, columns + 1),
                      np.linspace(first, last, rows + 1))

    def _mesh(self, mesh):
        corners = np.ma.asarray(mesh.get_coordinates())
        rows, columns = (size - 1 for size in corners.shape[:2])
        cells = np.ma.asarray(mesh.get_array())
        x, y = corners[0, :, 0], corners[:, 0, 1]
        straight = np.allclose(corners[..., 0], x) and np.allclose(corners[..., 1], y[:, None])
        if cells.size != rows * columns or not straight:
            self.unread.add(type(mesh).__name__)
        else:
            self._heatmap(mesh, cells.reshape(rows, columns), x, y)

    def _heatmap(self, artist, cells, x, y):
        label = self._name(artist)
        bar = getattr(artist, "colorbar", None)
        if bar is not None:
            label = label or _text(bar.ax.get_ylabel() or bar.ax.get_xlabel()) or ""
        x, y = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2

        def make(most):
            rows, columns = cells.shape
            step = 1 + int(np.sqrt(cells.size // (most + 1)))
            while -(-rows // step) * -(-columns // step) > most:
                step += 1
            element = {"label": label, "x": self.x.values(x[::step]), "y": self.y.values(y[::step]),
                       "values": _plain(cells[::step, ::step])}
            if step > 1:
                element.update(truncated=True, total=[rows, columns])
            return [element]

        self._add("heatmap", cells.size, make)


class _Scale:
    """One axis: what its numbers stand for."""

    def __init__(self, axis):
        self.axis = axis
        converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
        units = axis.get_units()
        self._freq = getattr(axis, "freq", None)  # of pandas: the numbers count periods
        self._zone = units if hasattr(units, "utcoffset") else None
        self._names = {}
        self.kind = axis.get_scale()
        dated = dates.DateConverter, getattr(dates, "_SwitchableDateConverter", dates.DateConverter)
        if self._freq is not None or isinstance(converter, dated):
            self.kind = "datetime"
        elif isinstance(units, category.UnitData):
            self._names = {place: _text(name) for name, place in units._mapping.items()}
        elif self.kind == "linear" and isinstance(axis.get_major_locator(), ticker.FixedLocator):
            self._names = self._fixed()
        if self._names:
            self.kind = "categorical"

    def _fixed(self):
        """The labels that somebody put at 0, 1, 2 and so on (or 1, or 0.5) instead of numbers."""
        places = np.asarray(self.axis.get_majorticklocs(), float)
        if not len(places) or places[0] not in (0, 0.5, 1) or not np.allclose(np.diff(places), 1):
            return {}
        labels = self._labels(places)
        if not all(labels) or all(_is_number(label) for label in labels) and \
                np.allclose([float(label) for label in labels], places):
            return {}
        return dict(zip(places.tolist(), labels))

    def _labels(self, places):
        texts = self.axis.get_major_formatter().format_ticks(places)
        return [_text(EXPONENT.sub(r"^\1", MATH.sub(r"\1", str(text)))) or "" for text in texts]

    def ticks(self):
        """The major ticks in view, and what is written at them."""
        places = np.asarray(self.axis.get_majorticklocs(), float)
        labels = np.array(self._labels(places), object)
        low, high = sorted(self.axis.get_view_interval())
        room = (high - low) * 1e-9
        seen = np.flatnonzero((places >= low - room) & (places <= high + room))
        seen = seen[_thin(len(seen), TICKS_MOST)]
        return self.values(places[seen]), labels[seen].tolist()

    def values(self, numbers, near=False):
        """What the numbers stand for, as JSON has it; `near` a category is in it."""
        if self.kind == "datetime":
            return self._times(np.ma.filled(np.ma.asarray(numbers, float), np.nan))
        plain = _plain(numbers)
        if not self._names:
            return plain
        if near:  # seaborn spreads points, so that they do not hide each other
            places = (each if each is None else round(each) for each in plain)
        else:
            places = plain
        return [self._names.get(place, each) for place, each in zip(places, plain)]

    def name(self, place):
        """The category at a place, or None."""
        return self._names.get(float(place))

    def names(self, places):
        """A text for each place: of a category near it, else of what it stands for."""
        places = np.asarray(places, float)
        known = self._names
        if not known and isinstance(self.axis.get_major_locator(), ticker.FixedLocator):
            written = np.asarray(self.axis.get_majorticklocs(), float)
            known = dict(zip(written.tolist(), self._labels(written)))
        texts = self.values(places) if self.kind == "datetime" else map(_digits, places.tolist())
        if not known:
            return [text or "" for text in texts]
        at = np.array(sorted(known), float)
        reach = np.diff(at).min() / 2 if len(at) > 1 else 0.5
        nearest = at[np.searchsorted((at[1:] + at[:-1]) / 2, places)].tolist()
        return [known[tick] if abs(place - tick) <= reach * 1.000001 and known[tick] else text
                for tick, place, text in zip(nearest, places.tolist(), texts)]

    def lengths(self, bases, lengths):
        """The lengths of bars along this axis; on one of times a bar is as long as its end says."""
        if self.kind == "datetime":
            return self.values(np.asarray(bases) + lengths)
        return _plain(lengths)

    def _times(self, numbers):
        if self._freq is not None:
            times = _periods(numbers, self._freq)
        else:
            span = np.where(np.isfinite(numbers), numbers, 0) * 86400e6
            whole = np.round(span / 1000) * 1000  # a double is some microseconds off
            span = np.where(abs(span - whole) < 20, whole, np.round(span))
            times = np.datetime64(dates.get_epoch(), "us") + span.astype("timedelta64[us]")
        if self._zone is not None:
            import datetime
            texts = [each.replace(tzinfo=datetime.timezone.utc).astimezone(self._zone).isoformat()
                     for each in times.tolist()]
        else:
            whole = not (times.astype("int64") % 1000000).any()
            texts = np.datetime_as_string(times, "s" if whole else "us").tolist()
        return [text if known else None for text, known in zip(texts, np.isfinite(numbers))]


def _periods(numbers, freq):
    import pandas
    whole = np.where(np.isfinite(numbers), numbers, 0).astype("int64")
    made = getattr(pandas.PeriodIndex, "from_ordinals", None)
    index = made(whole, freq=freq) if made else pandas.PeriodIndex(ordinal=whole, freq=freq)
    return index.to_timestamp().to_numpy().astype("datetime64[us]")


def _artists(axes):
    return [*axes.lines, *axes.patches, *axes.collections, *axes.images]


def _legend(axes):
    """{color: label} of the legend, for what carries no label of its own."""
    legend = axes.get_legend()
    if legend is None:
        return {}
    handles = getattr(legend, "legend_handles", None) or getattr(legend, "legendHandles", ())
    names = {}
    for handle, text in zip(handles, legend.get_texts()):
        color = next((get() for get in (getattr(handle, name, None) for name in
                                        ("get_facecolor", "get_color")) if get), None)
        names.setdefault(_rgb(color), _text(text.get_text()) or "")
    names.pop(None, None)
    return names


def _rgb(color):
    colors = to_rgba_array(color) if color is not None else ()
    return tuple(_rounded(colors)[0]) if len(colors) else None


def _rounded(colors):
    return np.round(colors[:, :3], 3).tolist()


def _ends(stripes, side):
    """The two ends of each bar of error."""
    return [sorted(segment[:, side]) for segment in stripes.get_segments() if len(segment) == 2]


def _plain(numbers):
    """Lists of ints and floats; None where there is no number."""
    numbers = np.ma.filled(np.ma.asarray(numbers, float), np.nan)
    good = np.isfinite(numbers)
    if good.all():
        whole = (numbers == np.floor(numbers)).all() and (abs(numbers) < 2**53).all()
        return (numbers.astype("int64") if whole else numbers).tolist()
    return np.where(good, numbers.astype(object), None).tolist()


def _thin(count, most):
    """The indices of `most` of `count`, evenly spread, with the first and the last."""
    if count <= most:
        return slice(None)
    return np.linspace(0, count - 1, max(most, 1)).round().astype(int)


def _cut(element, total, most):
    if total > most:
        element.update(truncated=True, total=total)
    return element


def _text(text):
    return str(text)[:TEXT_MOST] or None if text is not None else None


def _unit(label):
    found = UNIT.search(label or "")
    return found and found[1].strip()


def _digits(number):
    return f"{number:.12g}"


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
