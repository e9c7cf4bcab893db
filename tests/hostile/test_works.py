"""What has to work inside of a box: the interpreters, the libraries and the tools that people use."""

import re

import pytest

from host import HERE, Cell, missing

CELLS = [Cell(p) for p in sorted((HERE / "works").iterdir()) if p.suffix in (".py", ".sh")]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
def test_works(host, cell):
    if lacking := missing(cell.needs):
        pytest.skip(f"{lacking} is not installed")
    name = "works-" + cell.name.replace("_", "-")
    host.make(name, cell.config)
    try:
        ran = host.cell(name, "cell" + cell.path.suffix, cell.code, float(cell.within))
        print(ran)
        assert ran.status == "ok" and re.search("^ok:", ran.out, re.M), ran
    finally:
        host.remove(name)
