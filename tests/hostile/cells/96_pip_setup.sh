#: must: the set-up code of a package, which pip runs, is as boxed as any cell
#: must not: give a byte of a secret
#: config: timeout=40
#: within: 45
. ./attack.sh
mkdir package
cat >package/setup.py <<'PY'
import sys
sys.path.insert(0, "/workspace")
sys.stdout = open("/workspace/said", "a")
import os
os.chdir("/workspace")
from attack import *
for f in canary["files"] + ["/etc/shadow", "/proc/1/environ"]:
    refused("setup.py reads " + f, read, f)
refused("setup.py core_pattern", os.open, "/proc/sys/kernel/core_pattern", os.O_WRONLY)
refused("setup.py unshare", syscall, 272 if X86 else 97, 0x10000000)
sys.stdout.flush()
os.chdir("/workspace/package")
from setuptools import setup
setup(name="evil", version="1")
PY
cp attack.py package/
/usr/bin/python3 -m pip install --no-index --no-build-isolation --target /home/user/t ./package >log 2>&1 || tail -3 log
cat said
