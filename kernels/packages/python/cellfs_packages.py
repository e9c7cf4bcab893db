"""The prefix with a context's packages, as Python's own: a venv that sees the packages of the host."""

import contextlib
import os
import site
import sys
import sysconfig

VERSION = "%d.%d" % sys.version_info[:2]
INHERITED = "_cellfs_inherited.pth"


def site_of(prefix):
    """Where the prefix has the packages of this Python."""
    return os.path.join(prefix, "lib", f"python{VERSION}", "site-packages")


def python_of(prefix):
    """The prefix's Python."""
    return os.path.join(prefix, "bin", "python")


def _stamp():
    return f"cellfs = {VERSION} {sys.base_prefix} {sys.prefix}\n"


def state(prefix):
    """`made`, `other` (for another Python than this one) or `missing`."""
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8") as settings:
            made = _stamp() in settings.read()
    except OSError:
        return "missing"
    if not os.path.exists(python_of(prefix)):
        return "missing"
    return "made" if made else "other"


def make(prefix):
    """Make the prefix a venv of this Python, whatever it was."""
    import venv
    programs = os.path.join(prefix, "bin")
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(programs):
            path = os.path.join(programs, name)
            if name.startswith("python") and os.path.islink(path):
                os.unlink(path)  # venv leaves a link as it is
    # An "upgrade" makes no scripts to activate it: it is always active.
    venv.EnvBuilder(system_site_packages=True, symlinks=True, upgrade=True).create(prefix)
    place = site_of(prefix)
    os.makedirs(place, exist_ok=True)
    inherited = os.path.join(place, INHERITED)
    if sys.prefix != sys.base_prefix:  # a venv of a venv sees only what is below both
        with open(inherited, "w", encoding="utf-8") as lines:
            lines.writelines(f"{path}\n" for path in site.getsitepackages())
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(inherited)
    with open(os.path.join(prefix, "pyvenv.cfg"), "a", encoding="utf-8") as settings:
        settings.write(_stamp())


def write_list(prefix):
    """Write down what is installed now."""
    from importlib.metadata import distributions
    found = {each.metadata["Name"]: each.version for each in distributions(path=[site_of(prefix)])}
    folder = os.path.join(prefix, "list")
    os.makedirs(folder, exist_ok=True)
    new = os.path.join(folder, f".python-{os.getpid()}")
    with open(new, "w", encoding="utf-8") as lines:
        for name in sorted(filter(None, found), key=str.lower):
            lines.write(f"{name}=={found[name]}\n")
    os.rename(new, os.path.join(folder, "python"))


def how_to_get_pip():
    """What to do when this Python has no pip."""
    if sysconfig.get_path("stdlib").startswith("/usr/lib"):
        return "apt-get install python3-pip"
    return f"{sys.executable} -m ensurepip"
