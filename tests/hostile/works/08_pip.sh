#: must: a venv is made, and a wheel built here is installed into it without a network
#: within: 55
#: config: timeout=55
set -e
mkdir -p p/mine
echo 'answer = 42' >p/mine/__init__.py
cat >p/setup.py <<'PY'
from setuptools import setup
setup(name="mine", version="1.0", packages=["mine"])
PY
/usr/bin/python3 -m pip wheel -q --no-index --no-build-isolation --no-deps -w wheels ./p
ls wheels
/usr/bin/python3 -m venv v
v/bin/pip install -q --no-index --no-deps wheels/mine-1.0-py3-none-any.whl
v/bin/python -c 'import mine; print("ok: venv and wheel", mine.answer)'
/usr/bin/python3 -m pip install -q --no-index --no-deps --user --break-system-packages wheels/mine-1.0-py3-none-any.whl
cd /
/usr/bin/python3 -c 'import mine; print("ok: --user", mine.__file__)'
