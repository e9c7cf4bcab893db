#: must: the bomb stays within the limit of processes and ends with its context; the box lives
#: must not: take the host's processes or hold up another context
#: config: processes=64 memory=512M timeout=3
#: status: (ok|error|timeout|killed|interrupted)\b.*
#: within: 12
#: next: any
#: other: yes
#: after: few_processes
. ./attack.sh
bomb() { bomb | bomb & }
bomb 2>/dev/null
for i in {1..40}; do sleep 0.05 2>/dev/null; done
echo "ok: the bomb is lit"
