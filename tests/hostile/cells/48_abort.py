#: must: abort() ends the run with the name of its signal
#: must not: be taken for something else
#: status: killed: signal 6 \(Aborted\)
#: state: lost
from attack import *

ok("begun")
os.abort()
