"""The tier with IPython: its InteractiveShell gives magics, formatters and display()."""

import os
import shlex
import subprocess
import sys
import types


def _lazy_embed(*args, **kwargs):
    """IPython.embed"""
    from IPython.terminal.embed import embed
    return embed(*args, **kwargs)


# Half of IPython's import is a terminal and a completer, which no cell needs at the start.
_embed = types.ModuleType("IPython.terminal.embed")
_embed.embed = _lazy_embed
_left_out = {"IPython.terminal.embed": _embed, "jedi": None}
_left_out = {name: module for name, module in _left_out.items() if name not in sys.modules}
sys.modules.update(_left_out)
try:
    from IPython.core import interactiveshell
    from IPython.core.autocall import ExitAutocall
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.formatters import DisplayFormatter, MimeBundleFormatter, PlainTextFormatter
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
    from IPython.core.release import version
    from IPython.utils.text import LSString, SList
finally:
    for _name in _left_out:
        sys.modules.pop(_name, None)

from . import rich  # noqa: E402
from .interpreter import Interpreter  # noqa: E402

# Types without methods to look for: asking all formatters costs more than such a cell.
PLAIN = {bool, bytes, complex, dict, float, int, list, set, str, tuple}

interactiveshell.PickleShareDB = lambda root: {}  # what %cd and %store write lives in memory


class _Exit(ExitAutocall):
    rewrite = False

    def __call__(self, code=None):
        raise SystemExit(code)


class _Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **_):
        display_id = (transient or {}).get("display_id")
        kind = "update" if update else "display"
        self.shell.driver.publish(data, metadata or {}, kind, display_id)

    def clear_output(self, wait=False):
        self.shell.driver.clear(wait)


class _DisplayHook(DisplayHook):
    def __call__(self, result=None):
        if self.exec_result is not None:
            self.exec_result.result = result
        self.shell.interpreter.show(result)


class _PlainText(PlainTextFormatter):
    # Elsewhere IPython prints what a format raises and goes on; a failing repr is an error here.
    __call__ = getattr(PlainTextFormatter.__call__, "__wrapped__", PlainTextFormatter.__call__)


class _Bundle(MimeBundleFormatter):
    def __call__(self, obj, include=None, exclude=None):
        made = super().__call__(obj, include=include, exclude=exclude)
        good = isinstance(made, tuple) and [type(part) for part in made] == [dict, dict]
        return made if good else ({}, {})


class _Formatter(DisplayFormatter):
    def format(self, obj, include=None, exclude=None):
        data, meta = super().format(obj, include, exclude)
        if data and not include and not exclude:
            rich.add(obj, data, meta)
        return data, meta


class _Shell(InteractiveShell):
    driver = interpreter = None

    profile_dir = types.SimpleNamespace(location="")

    def init_ipython_dir(self, ipython_dir):
        """No directory: nothing is left behind in HOME."""

    init_profile_dir = init_ipython_dir

    def _exiter_default(self):
        return _Exit(self)

    def init_display_formatter(self):
        self.display_formatter = _Formatter(parent=self)
        self.display_formatter.mimebundle_formatter = _Bundle(parent=self.display_formatter)
        self.configurables.append(self.display_formatter)

    def init_virtualenv(self):
        """The interpreter was chosen by the daemon."""

    def init_displayhook(self):
        super().init_displayhook()
        self.display_trap.__enter__()

    def system(self, cmd):
        """Run `cmd` by the shell, its output to the cell's own stdout and stderr."""
        executable = os.environ.get("SHELL") or None
        code = subprocess.call(self.var_expand(cmd, depth=1), shell=True, executable=executable)
        self.user_ns["_exit_code"] = code

    system_raw = system_piped = system

    def getoutput(self, cmd, split=True, depth=0):
        """The output of `cmd`, as a list of lines if `split`."""
        out = subprocess.run(
            self.var_expand(cmd, depth=depth + 1), shell=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ).stdout.decode("utf-8", "replace")
        return SList(out.splitlines()) if split else LSString(out)

    def run_line_magic(self, magic_name, line, _stack_depth=1):
        if magic_name == "config":
            self._know_inline_backend()
        return self._interruptible(super().run_line_magic, magic_name, line, _stack_depth + 2)

    def run_cell_magic(self, magic_name, line, cell):
        return self._interruptible(super().run_cell_magic, magic_name, line, cell)

    def _know_inline_backend(self):
        """`%config InlineBackend.figure_formats = …` chooses the formats of figures."""
        try:
            from matplotlib_inline.config import InlineBackend
        except ImportError:
            return
        inline = InlineBackend.instance(parent=self)
        if inline not in self.configurables:
            inline.shell = self
            self.configurables.append(inline)

    def _interruptible(self, magic, *arguments):
        """Some magics swallow KeyboardInterrupt, or rename it; it ends the cell all the same."""
        interrupts = self.driver.interrupts
        count = interrupts.count
        try:
            return magic(*arguments)
        finally:
            if interrupts.count != count:
                raise KeyboardInterrupt

    def enable_matplotlib(self, gui=None):
        """The one backend there is, whatever `%matplotlib` names."""
        import matplotlib
        matplotlib.use("module://cellfs_python.backend")
        return gui, matplotlib.get_backend()

    def _showtraceback(self, etype, evalue, stb):
        print(self.InteractiveTB.stb2text(stb), file=sys.stderr)

    def init_completer(self):
        """Nothing asks for completions."""
        self.Completer = None


class Shell(Interpreter):
    """IPython."""

    engine = f"IPython {version}"

    def __init__(self, driver):
        super().__init__(driver)
        _Shell.driver, _Shell.interpreter = driver, self
        HistoryManager.enabled = False
        self.shell = shell = _Shell.instance(
            user_module=self.module, colors="NoColor", xmode="Plain", cache_size=0,
            display_pub_class=_Publisher, displayhook_class=_DisplayHook,
        )
        formatters = shell.display_formatter.formatters
        formatters["text/plain"] = _PlainText(parent=shell.display_formatter)
        shell.register_magic_function(self._pip, magic_name="pip")
        self._rich = [each for mime, each in formatters.items() if mime != "text/plain"]
        self._rich.append(shell.display_formatter.ipython_display_formatter)
        shell.builtin_trap.__enter__()
        self.namespace.update(Out=self.results, _oh=self.results)

    def _pip(self, line):
        """Run pip; what it installs can be imported at once."""
        prefix = self.driver.prefix
        before = prefix.versions()
        self.shell.system(f"{shlex.quote(sys.executable)} -m pip {line}")
        prefix.refresh()
        changed = {name for name, version in prefix.versions().items() if before.get(name) != version}
        old = prefix.imported(changed) if changed else ()
        if old:
            print(f"cellfs: imported before it changed: {', '.join(old)}: echo restart python > ctl", file=sys.stderr)

    def transform(self, source):
        code = self.shell.transform_cell(source)
        if self.number:  # not of warm()
            self.shell.history_manager.store_inputs(self.number, code, source)
        return code

    def rewrite(self, tree):
        return self.shell.transform_ast(tree)

    def formats(self, value):
        formatter = self.shell.display_formatter
        kind = type(value)
        if kind in PLAIN and not any(kind in rich.type_printers for rich in self._rich):
            return {"text/plain": formatter.formatters["text/plain"](value)}, {}
        return formatter.format(value)

    def run(self, raw, name, number):
        shell = self.shell
        shell.execution_count = number
        inputs = shell.history_manager.input_hist_parsed
        inputs.extend([""] * (number - len(inputs)))
        info = ExecutionInfo(raw, True, False, True, name)
        result = ExecutionResult(info)
        shell.events.trigger("pre_execute")
        shell.events.trigger("pre_run_cell", info)
        try:
            super().run(raw, name, number)
        except BaseException as error:
            result.error_in_exec = error
            sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
            raise
        finally:
            shell.last_execution_result = result
            shell.last_execution_succeeded = result.success
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)
