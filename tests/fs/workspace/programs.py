"""The C programs of these tests, compiled once."""

import pathlib
import subprocess

from mount import BUILD

HERE = pathlib.Path(__file__).resolve().parent


def program(name, *libs):
    made = BUILD / "tests" / name
    source = HERE / (name + ".c")
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-std=gnu11", "-O2", "-o", made, source, *libs], check=True)
    return made
