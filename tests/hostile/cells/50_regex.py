#: must: a regular expression that never ends, which does not look at signals, is killed
#: must not: go past the time-out and the ladder
#: config: timeout=1
#: status: timeout\b.*
#: within: 7.5
#: other: yes
from attack import *
import re

ok("begun")
re.match(r"(a*)*b", "a" * 40)
