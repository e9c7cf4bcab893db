"""Fonts for what matplotlib's own has no glyphs for: CJK and emoji."""

import functools
import os
import re

# By the names of files: a host may have thousands of fonts, and matplotlib's list may be old.
FILES = re.compile(
    r"(cjk|source ?han|wqy|droidsansfallback|simhei|simsun|msyh|pingfang|hiragino|uming|ukai|ipag|"
    r"ipaexg|takao\w*gothic|vl-\w*gothic|nanum|undotum|arialuni|arial unicode|symbola|emoji|"
    r"unifont).*\.(ttf|ttc|otf|otc)$", re.I)
WORST = re.compile("bold|black|light|thin|italic|oblique|serif|ming|simsun|unifont", re.I)
PROBES = "中か한😀🚀"


def install(font_manager):
    """Let every text fall back to the fonts that are there; needs matplotlib 3.6."""
    manager = font_manager.FontManager
    find = getattr(manager, "_find_fonts_by_props", None)
    if find is None:
        return

    @functools.wraps(find)
    def find_more(self, *arguments, **options):
        found = find(self, *arguments, **options)
        try:
            return [*found, *(path for path in fallbacks(font_manager) if path not in found)]
        except Exception:
            return found

    manager._find_fonts_by_props = find_more


@functools.lru_cache(1)
def fallbacks(font_manager):
    """The paths of as few fonts as have the glyphs of PROBES, as far as there are any."""
    paths, missing = [], set(PROBES)
    for path in sorted(_files(), key=lambda path: (bool(WORST.search(path)), path)):
        if not missing:
            break
        try:
            face = font_manager.get_font(path)
        except (OSError, RuntimeError):
            continue
        has = {letter for letter in missing if face.get_char_index(ord(letter))}
        if has and face.scalable:  # matplotlib cannot draw the bitmaps of color fonts
            missing -= has
            paths.append(path)
    return paths


def _files():
    system = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    places = [f"{place}/fonts" for place in (*system.split(":"), own)]
    for place in (*places, os.path.expanduser("~/.fonts")):
        for folder, _, names in os.walk(place):
            yield from (os.path.join(folder, name) for name in names if FILES.search(name))
