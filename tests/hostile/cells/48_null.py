#: must: a null dereference ends the run with the name of its signal
#: must not: be taken for something else
#: status: killed: signal 11 \(Segmentation fault\)
#: state: lost
from attack import *

ok("begun")
ctypes.string_at(0)
