"""Packages that tests make: a wheel, a tarball for npm, a source package of R; and whether the real ones can be had."""

import base64
import hashlib
import io
import json
import socket
import subprocess
import tarfile
import urllib.parse
import zipfile

import pytest

ASK = {
    "python": ["/usr/bin/python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.url)"],
    "js": ["npm", "config", "get", "registry"],
}


def reach(language):
    """Skips where what the language's tool asks by itself cannot be reached."""
    url = subprocess.run(ASK[language], capture_output=True, text=True).stdout.strip()
    host = urllib.parse.urlsplit(url).hostname
    try:
        socket.create_connection((host, 443), 5).close()
    except OSError as error:
        pytest.skip(f"{host}: {error}")


def wheel(folder, name, version="1.0", code=None, requires=(), extra=None):
    """A wheel whose module has VERSION; `extra` are files beside it."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    files = {
        f"{name}/__init__.py": code or f"VERSION = {version!r}\n\ndef main():\n    print({name!r}, VERSION)\n",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-program = {name}:main\n",
        **(extra or {}),
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return made


def tarball(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return path


def npm_package(folder, name, version="1.0.0", **scripts):
    about = {"name": name, "version": version, "main": "index.js", "bin": {name.split("/")[-1] + "-program": "index.js"},
             "scripts": scripts}
    return tarball(folder / f"{name.replace('/', '-').strip('@')}-{version}.tgz", {
        "package/package.json": json.dumps(about),
        "package/index.js": f"#!/usr/bin/env node\nexports.version = {version!r};\n",
    })


def r_package(folder, name, version="1.0", imports="", code=""):
    return tarball(folder / f"{name}_{version}.tar.gz", {
        f"{name}/DESCRIPTION": f"Package: {name}\nVersion: {version}\nTitle: A Test\nDescription: A test.\n"
        f"Author: Nobody\nMaintainer: Nobody <n@example.org>\nLicense: GPL-3\n" + (f"Imports: {imports}\n" if imports else ""),
        f"{name}/NAMESPACE": "export(answer)\n",
        f"{name}/R/code.R": f"answer <- function() '{name} {version}'\n{code}",
    })
