#: must: a flood of rich outputs ends: at the limit of messages or at the time-out
#: must not: hold up another context or fill the disk
#: config: timeout=2
#: status: (timeout|killed|error|ok)\b.*
#: within: 11
#: other: yes
#: next: any
from attack import *
from IPython.display import display, HTML

ok("begun")
while True:
    display(HTML("<p>" + "x" * 100))
