"""Changes to modules that are made when, and only when, a cell imports them."""

import importlib.abc
import signal
import sys

from . import rich


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module when that has been imported."""

    def __init__(self, log):
        self._hooks = {}
        self._log = log
        sys.meta_path.insert(0, self)

    def on(self, name, hook):
        """Call `hook(module)` after the import of `name`, now if it is imported already."""
        self._hooks[name] = hook
        if name in sys.modules:
            hook(sys.modules[name])

    def find_spec(self, name, path, target=None):
        hook = self._hooks.get(name)
        if hook is None:
            return None
        for finder in sys.meta_path:
            spec = finder is not self and finder.find_spec(name, path, target)
            if spec:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                hook(module)
            except Exception as error:  # the library is another than it was
                self._log(f"{name} stays as it is: {error!r}")

        spec.loader.exec_module = exec_module
        return spec


def install(driver):
    """Fit the driver to the libraries that draw, show or ask."""
    after = AfterImport(driver.wire.log)

    def matplotlib(module):
        # Not by setting MPLBACKEND: a child process has no such module.
        if "MPLBACKEND" not in sys.modules["os"].environ:
            module.rcParams["backend"] = "module://cellfs_python.backend"

    def axes(module):
        from . import charts
        charts.watch(module.Axes)

    def fonts(module):
        from . import fonts
        fonts.install(module)

    def pylabtools(module):
        def select_figure_formats(shell, formats, **options):
            """Draw figures in these formats from now on."""
            from . import backend
            backend.choose(formats, options)

        module.select_figure_formats = select_figure_formats

    def plotly_figures(module):
        del module.BaseFigure._ipython_display_  # it shows what should be the cell's value

    def plotly_renderers(module):
        show = module.show

        def show_here(fig, renderer=None, *arguments, **options):
            if renderer is None and module.renderers.default == rich.PLOTLY_RENDERER \
                    and not isinstance(fig, dict):
                driver.display(fig)
            else:
                show(fig, renderer, *arguments, **options)

        module.show = show_here

    def backend(module):
        module.publish = driver.display
        driver.epilogues.append(module.finish)

    def image_show(module):
        class Viewer(module.Viewer):
            def show(self, image, **options):
                driver.display(image)
                return 1

        module.register(Viewer(), 0)

    def getpass(module):
        module.getpass = driver.refuse_input

    def asyncio(module):
        create_task = module.create_task

        def create_task_anywhere(coroutine, **options):
            """Also between the loop's runs: the task goes on when the cell has ended."""
            if module._get_running_loop() is None and driver.loop_here():
                return driver.loop_here().create_task(coroutine, **options)
            return create_task(coroutine, **options)

        module.create_task = create_task_anywhere

    def os(module):
        system = module.system

        def interruptible_system(command):
            """The C function ignores SIGINT while it waits: who was hit by it is the child."""
            status = system(command)
            if status & 0x7F == signal.SIGINT:
                driver.interrupts.check()
            return status

        module.system = interruptible_system

    after.on("os", os)
    after.on("asyncio", asyncio)
    after.on("matplotlib", matplotlib)
    after.on("matplotlib.axes._axes", axes)
    after.on("matplotlib.font_manager", fonts)
    after.on("IPython.core.pylabtools", pylabtools)
    after.on("plotly.basedatatypes", plotly_figures)
    after.on("plotly.io._renderers", plotly_renderers)
    after.on("cellfs_python.backend", backend)
    after.on("PIL.ImageShow", image_show)
    after.on("getpass", getpass)
