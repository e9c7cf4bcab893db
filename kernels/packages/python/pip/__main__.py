"""`python -m pip` in a cell: pip, which has the context's packages for its own place.

The prefix can be written to only where there is a network; elsewhere one line says how packages get in.
"""

import os
import shlex
import sys

if sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

import cellfs_packages as packages  # noqa: E402

PREFIX = os.environ.get("CELLFS_PACKAGES")
FETCH = "install", "download", "wheel"
CHANGE = "install", "uninstall"
NO_NETWORK = "cellfs: no network here: {} >> packages (in the context's directory), or echo on > config/network"


def run():
    """Run pip as it is."""
    from pip._internal.cli.main import main
    return main()


def parse(arguments):
    """(command, its options, its arguments) as pip understands them; the command is None without one."""
    from pip._internal.cli.main_parser import create_main_parser
    from pip._internal.commands import commands_dict, create_command
    general, rest = create_main_parser().parse_args(arguments)
    if not rest or rest[0] not in {*FETCH, *CHANGE} & {*commands_dict} or getattr(general, "python", None):
        return None, general, []
    options, names = create_command(rest[0]).parser.parse_args(arguments[len(arguments) - len(rest) + 1:])
    return rest[0], options, names


def is_own_venv():
    """Whether this is the Python of a venv that a cell has made."""
    if sys.prefix == sys.base_prefix or os.path.realpath(sys.prefix) == os.path.realpath(PREFIX):
        return False
    return os.access(sys.prefix, os.W_OK)


def is_elsewhere(options):
    """Whether these options of `install` name another place."""
    return any(getattr(options, name, None)
               for name in ("target_dir", "use_user_site", "prefix_path", "root_path"))


def refusal(command, options, names):
    """The line that says how, for what has been asked for."""
    if command == "uninstall":
        wish = "echo " + shlex.quote("-python: " + " ".join(names))
    elif any(" " in name for name in names):
        wish = r"printf '%s\n' " + shlex.join(names)
    elif names:
        text = " ".join(names)
        wish = "echo " + (shlex.quote(text) if "'" in text else f"'{text}'")
    elif options.requirements:
        wish = "cat " + shlex.join(options.requirements)
    else:
        wish = "echo NAME"
    return NO_NETWORK.format(wish)


def main():
    """Run pip where its packages are to go; the exit status."""
    if not PREFIX or is_own_venv():
        return run()
    command, options, names = parse(sys.argv[1:])
    elsewhere = is_elsewhere(options)
    if not os.access(PREFIX, os.W_OK):
        needs_network = command in FETCH and not getattr(options, "no_index", False)
        if needs_network or command in CHANGE and not elsewhere:
            print(refusal(command, options, names), file=sys.stderr)
            return 1
    if command not in CHANGE or elsewhere:
        return run()
    if os.path.realpath(sys.prefix) == os.path.realpath(PREFIX):
        try:
            return run()
        finally:
            packages.write_list(PREFIX)
    state = packages.state(PREFIX)
    if state == "other":
        return run()  # the prefix is another Python's
    if state == "missing":
        packages.make(PREFIX)
    python = packages.python_of(PREFIX)
    os.execv(python, [python, "-m", "pip", *sys.argv[1:]])


sys.exit(main())
