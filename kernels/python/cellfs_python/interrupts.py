"""SIGINT, turned into KeyboardInterrupt only where the user's code can take it."""

import signal
import sys
import threading


class Interrupts:
    """The SIGINT handler. Unarmed it ignores the signal; held it keeps it until released."""

    def __init__(self):
        self.count = 0
        self._armed = False
        self._holds = 0
        self._pending = False
        self._task = None
        self._loop = None
        self.cancelled = False

    def arm(self):
        """From here on SIGINT interrupts. The handler is set anew: a cell may have replaced it."""
        self._holds = 0
        self._pending = self.cancelled = False
        self.install()
        self._armed = True

    def disarm(self):
        """From here on SIGINT does nothing."""
        self._armed = False
        self._task = None

    def install(self):
        signal.signal(signal.SIGINT, self._handle)

    def watch(self, task, loop):
        """Interrupt `task` by cancelling it while `loop` is between steps."""
        self._task, self._loop = task, loop

    def check(self):
        """Interrupt the run here, for a SIGINT that went elsewhere."""
        if self._armed and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    def _handle(self, signum, frame):
        if not self._armed:
            return
        self.count += 1
        if self._holds:
            self._pending = True
        elif self._task is not None and not self.cancelled and self._waiting():
            self.cancelled = True
            self._task.cancel()
            self._loop.call_soon_threadsafe(int)  # wakes the selector
        else:
            raise KeyboardInterrupt

    def _waiting(self):
        return sys.modules["asyncio"].current_task(self._loop) is None

    def __enter__(self):
        """Hold: what the driver does inside is not torn apart by the signal."""
        if threading.get_ident() == threading.main_thread().ident:
            self._holds += 1

    def __exit__(self, *exc):
        if threading.get_ident() == threading.main_thread().ident:
            self._holds -= 1
            if not self._holds and self._pending:
                self._pending = False
                raise KeyboardInterrupt
