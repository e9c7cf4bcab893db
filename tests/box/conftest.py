"""What the tests of boxes share."""

import os

import pytest

import boxes


@pytest.fixture(scope="module", params=boxes.MODES)
def makers(request):
    """Who makes boxes: root, then an ordinary user."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("takes root")
    with boxes.maker(request.param) as m:
        yield m
