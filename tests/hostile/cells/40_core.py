#: must: a crash ends the run with its signal, and leaves no core file
#: must not: start the host's core handler with the cell's text
#: status: killed: signal 11 \(Segmentation fault\)
#: state: lost
#: after: no_core
from attack import *
import resource, signal, faulthandler

refused("core limit", resource.setrlimit, resource.RLIMIT_CORE, (1 << 30, 1 << 30)) if False else None
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    leak("the core limit was raised")
except (ValueError, OSError) as e:
    ok(f"core limit: {e}")
faulthandler.disable()
signal.signal(signal.SIGSEGV, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGSEGV)
