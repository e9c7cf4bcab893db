"""Jupyter kernels behind the bridge: which of this host, and their cells of test_contract.py."""

import json
import pathlib
import shutil

from conversation import manifests, probe

SPECS = pathlib.Path("/usr/share/jupyter/kernels")  # of Debian's packages


def bridge(name, **changes):
    """The command of the bridge to an installed kernel, with what the daemon would tell it; None if there is none."""
    manifest = manifests()["jupyter"]
    found = probe(manifest)
    if not found or not (SPECS / name / "kernel.json").exists():
        return None
    spec = json.loads((SPECS / name / "kernel.json").read_text())
    program = spec["argv"][0]
    spec["argv"][0] = found[0] if program == "python" else shutil.which(program)
    spec = {**spec, "name": name, "resource_dir": str(SPECS / name), **changes}
    return command(spec)


def command(spec):
    """The command of the bridge to the kernel of a kernelspec."""
    manifest = manifests()["jupyter"]
    parts = {"{interpreter}": probe(manifest)[0], "{spec}": json.dumps(spec)}
    return [parts.get(part) or part.replace("{dir}", manifest["dir"]) for part in manifest["argv"]]


def drivers():
    """{name: command} of the kernel that is held to the whole contract."""
    argv = bridge("python3")
    return {"jupyter-python3": argv} if argv else {}


def snippets(python):
    """{name: cells} of the same."""
    return {"jupyter-python3": {
        **python,
        # Out of a box the bridge uses unix sockets, and a kernel drops what a busy machine does not take at once.
        "ordered": "for i in range(200):\n    print('line', i)\n    display(i)\n", "ordered_count": 200,
        # After os.system() the cell goes on; native code that keeps the interpreter's lock keeps the output too.
        "waits": {name: code for name, code in python["waits"].items() if name not in ("shell", "native")},
    }}
