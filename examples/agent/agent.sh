#!/bin/bash
# An agent in plain shell: a chat model whose only tools are the files of one context.
# usage: agent.sh CONTEXT_DIR TASK...      (CONTEXT_DIR: MOUNTPOINT/contexts/NAME)
#   MODEL_URL       an OpenAI-compatible endpoint (http://localhost:11434/v1, …)
#   MODEL           the model's name
#   MODEL_KEY       its key, if it wants one
#   TRANSCRIPT      a file for all messages, as JSON
set -uo pipefail

if [ $# -lt 2 ] || [ ! -d "$1/cells" ] || [ -z "${MODEL_URL-}" ] || [ -z "${MODEL-}" ]; then
	sed -n '2,/^set/{/^set/d; s/^# //p}' "$0" >&2
	exit 2
fi
context=$(realpath -- "$1")
shift
[ -z "${TRANSCRIPT-}" ] || TRANSCRIPT=$(realpath -m -- "$TRANSCRIPT")
cd -- "$context" || exit 1
turns=${TURNS:-30}

rules='You work in a directory. A file written to cells/NAME.py (.js .ts .r .java .sh too) runs at once, in a session that
keeps its variables; then read results/NAME.py/report.md: output, value, error, names of the files it made. Cells work in
workspace/. To mend a cell, write it again. When the task is done, answer in words, without a tool.'

tools=$(jq -n 'def text: {type: "string"};
	def tool($name; $says; $fields): {type: "function", function: {name: $name, description: $says,
		parameters: {type: "object", properties: $fields, required: ($fields | keys)}}};
	[tool("read_file"; "The first 32 KiB of a file."; {path: text}),
	 tool("write_file"; "Writes a file in cells/ or workspace/."; {path: text, content: text}),
	 tool("list"; "The names in a directory."; {path: text})]')

# The model's path as ./NAME, or an error if it leads out of the context: by "..", from the root, or over a link.
inside() {
	case /$1/ in */../* | //*) return 1 ;; esac
	local full
	full=$(realpath -m -- "./$1" 2>/dev/null) || return 1
	case $full/ in "$context"/*) printf '.%s' "${full#"$context"}" ;; *) return 1 ;; esac
}

# Does one call: name, arguments (JSON). What it prints is the answer.
use() {
	local asked path
	asked=$(jq -er '.path | strings' <<<"$2" 2>/dev/null) || { echo "error: no path in $2"; return; }
	path=$(inside "$asked") || { echo "error: $asked is outside"; return; }
	case $1 in
	read_file) timeout 300 head -c 32768 "$path" | tr -d '\0' ;;
	list) ls -p "$path" | head -c 32768 ;;
	write_file)
		case $path in ./cells/* | ./workspace/*) ;; *) echo "error: $asked: write to cells/ or workspace/"; return ;; esac
		mkdir -p "${path%/*}" && jq -j .content <<<"$2" >"$path" && echo "written: $asked" ;;
	*) echo "error: there is no tool $1" ;;
	esac 2>&1 || true
}

# For the terminal: without the characters that control it.
plain() { tr -d '\000-\010\013-\037\177' | LC_ALL=C sed 's/\xc2[\x80-\x9f]/?/g'; }

ask() {
	jq -n --arg model "$MODEL" --argjson tools "$tools" --slurpfile messages "$talk" \
		'{model: $model, tools: $tools, messages: $messages}' |
		curl -sS --fail-with-body --max-time 600 -H 'Content-Type: application/json' --data-binary @- \
			-K <([ -z "${MODEL_KEY-}" ] || printf 'header = "Authorization: Bearer %s"\n' "$MODEL_KEY") \
			"${MODEL_URL%/}/chat/completions"
}

talk=$(mktemp -t cellfs-agent.XXXXXX)
trap '[ -z "${TRANSCRIPT-}" ] || jq -s . "$talk" >"$TRANSCRIPT"; rm -f "$talk"' EXIT
jq -n --arg rules "$rules" --arg task "$*" '{role: "system", content: $rules}, {role: "user", content: $task}' >"$talk"

while [ "$((turns--))" -gt 0 ]; do
	answer=$(ask) && answer=$(jq -ce '.choices[0].message | select(.)' <<<"$answer") || { printf 'agent: no answer: %s\n' "$answer" | plain >&2; exit 1; }
	printf '%s\n' "$answer" >>"$talk"
	jq -r '.content // empty' <<<"$answer" | plain
	calls=$(jq -c '.tool_calls // [] | .[]' <<<"$answer")
	[ -n "$calls" ] || exit 0
	while read -r call <&3; do
		name=$(jq -r .function.name <<<"$call")
		arguments=$(jq -r .function.arguments <<<"$call")
		said=$(use "$name" "$arguments")
		printf '> %s %s\n%s\n' "$name" "$(jq -r '.path? // ""' <<<"$arguments" 2>/dev/null)" "${said:0:400}" | plain
		jq -n --slurpfile call <(printf %s "$call") --rawfile said <(printf %s "$said") \
			'{role: "tool", tool_call_id: $call[0].id, content: $said}' >>"$talk"
	done 3<<<"$calls"
done
echo "agent: not done after ${TURNS:-30} turns" >&2
exit 1
