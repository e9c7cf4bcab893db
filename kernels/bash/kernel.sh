# The Bash driver: runs cells for the daemon over the protocol in ../PROTOCOL.md.
#
# A cell is sourced at the top level of this very shell. What only the end of a shell can unwind
# (exit, set -e, set -u, SIGINT) ends it: the EXIT trap writes the state down and executes this file
# anew in the same process, which takes the state up and says how the run ended.

builtin trap : INT

__cellfs_self=${BASH_SOURCE[0]}
BASH_ARGV0=bash

if [[ ${1-} == resume ]]; then
    { source /dev/fd/251; } 2>/dev/null
    exec 251<&-
    __cellfs_resumed=1
else
    exec 253<&3 254>&4 252<&5 3<&- 4>&- 5<&- 6<&-
    shopt -s expand_aliases
    __cellfs_resumed= __cellfs_id= __cellfs_options= __cellfs_owed=0 __cellfs_aliases=
    __cellfs_on_exit= __cellfs_on_error=
    # What evaluates the file of a cell, and what that is called; ../packages/kernel.sh has another.
    : "${__cellfs_language=bash}"
    [[ -v __cellfs_evaluate ]] || __cellfs_evaluate=(builtin source)
fi

# JSON.

# The JSON string of $1 in REPLY: as many characters as fit, invalid UTF-8 replaced.
__cellfs_quote() {
    local LC_ALL=C text=${1:0:${2:-4096}} char out i
    local utf8=$'^([\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee'
    utf8+=$'\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3'
    utf8+=$'][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$'
    [[ $text =~ $utf8 ]] || text=${text//[$'\x80'-$'\xff']/?}
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    if [[ $text == *[[:cntrl:]]* ]]; then
        out=
        for ((i = 0; i < ${#text}; i++)); do
            char=${text:i:1}
            [[ $char == [[:cntrl:]] ]] && builtin printf -v char '\\u%04x' "'$char"
            out+=$char
        done
        text=$out
    fi
    REPLY="\"$text\""
}

# The text of the JSON string $1, given without its quotes, in REPLY.
__cellfs_unquote() {
    REPLY=$1
    [[ $REPLY != *\\* ]] || builtin printf -v REPLY '%b' "${REPLY//\\\"/\"}"
}

# Takes `,"env":{...}` off __cellfs_rest: commands to set it in REPLY, to undo it in __cellfs_undo.
__cellfs_environment() {
    local name value set= before
    local item='^"([A-Za-z_][A-Za-z0-9_]*)":(null|"(([^"\\]|\\.)*)"),?'
    __cellfs_undo= REPLY=
    [[ $__cellfs_rest == ',"env":{'* ]] || return 0
    __cellfs_rest=${__cellfs_rest#*\{}
    while [[ $__cellfs_rest =~ $item ]]; do
        name=${BASH_REMATCH[1]}
        __cellfs_rest=${__cellfs_rest:${#BASH_REMATCH[0]}}
        if [[ ${BASH_REMATCH[2]} == null ]]; then
            set+="unset -v $name;"
        else
            __cellfs_unquote "${BASH_REMATCH[3]}"
            builtin printf -v value '%q' "$REPLY"
            set+="export $name=$value;"
        fi
        before=$(declare -p "$name" 2>/dev/null)
        __cellfs_undo="unset -v $name"$'\n'"$before"$'\n'"$__cellfs_undo"
    done
    __cellfs_rest=${__cellfs_rest#\}}
    REPLY=$set
}

# Enters the directory of `,"cwd":"..."` in __cellfs_rest, if that is there.
__cellfs_enter() {
    [[ $__cellfs_rest == ',"cwd":"'* ]] || return 0
    __cellfs_unquote "${__cellfs_rest:8:-2}"
    builtin cd -- "$REPLY" 2>/dev/null
}

# Events.

__cellfs_log() {
    __cellfs_quote "$1"
    builtin printf '{"ev":"log","text":%s}\n' "$REPLY" >&254
}

# error: name, message, line or nothing.
__cellfs_error() {
    local message line frame=
    __cellfs_quote "$2"
    message=$REPLY
    [[ -z ${3-} ]] || line=",\"line\":$3"
    if [[ -n ${3-} ]]; then
        __cellfs_quote "$__cellfs_name"
        frame="{\"file\":$REPLY,\"line\":$3,\"func\":\"main\"}"
    fi
    __cellfs_quote "$__cellfs_name: ${3:+line $3: }$2"
    builtin printf '{"ev":"error","id":%s,"name":"%s","message":%s%s,%s}\n' \
        "$__cellfs_id" "$1" "$message" "${line-}" \
        "\"frames\":[$frame],\"traceback\":[$REPLY]" >&254
}

# The end of a run that went wrong: status, exit status.
__cellfs_done() {
    local status=$1 code=$2 line= command=
    if [[ $__cellfs_failed == "$code":* ]]; then
        command=${__cellfs_failed#*:}
        line=${command%%:*}
        command=${command#*:}
        [[ $command != return* ]] || command=
    fi
    case $status in
        interrupted) __cellfs_error interrupted SIGINT "$line" ;;
        error)
            # 1 is what a syntax error in an array's value has.
            if { ((code == 2)) || ((code == 1)) && [[ -z $command ]]; } && __cellfs_syntax; then
                code=2
            else
                __cellfs_error ExitStatus "exit status $code${command:+: $command}" "$line"
            fi ;;
    esac
    __cellfs_finish "$status" "$code"
}

__cellfs_finish() {
    local id=$__cellfs_id
    __cellfs_id=
    builtin printf '{"ev":"done","id":%s,"status":"%s","code":%s}\n' "$id" "$1" "$2" >&254
}

# Report a syntax error of the cell, if it has one.
__cellfs_syntax() {
    local said extglob=+O
    [[ $__cellfs_language == bash ]] || return 1
    shopt -q extglob && extglob=-O
    said=$(LC_ALL=C "$BASH" --norc "$extglob" extglob -n -- "$__cellfs_path" 2>&1) && return 1
    [[ ${said%%$'\n'*} =~ :\ line\ ([0-9]+):\ (.*) ]] || return 1
    __cellfs_error SyntaxError "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"
}

# What a cell may call.

# display FILE [MIME]: show the file (- for stdin) as a rich output. Without MIME its name's
# extension tells the type, or else its first bytes.
display() {
    if (($# < 1 || $# > 2)); then
        echo 'usage: display FILE [MIME]' >&2
        return 2
    fi
    if [[ -z $__cellfs_id ]]; then
        __cellfs_log 'a display outside a run was dropped'
        return 1
    fi
    local file=$1 mime=${2-} name=$BASHPID-${EPOCHREALTIME/[.,]/} reply
    if [[ $file != - && ! -r $file ]]; then
        echo "display: cannot read $file" >&2
        return 1
    fi
    (umask 077; set +f -C; exec cat -- "$file" >"$__cellfs_spool/$name") || return
    [[ -n $mime ]] || __cellfs_mime "$file" "$__cellfs_spool/$name"
    mime=${mime:-$REPLY}
    if [[ ! $mime =~ ^[A-Za-z0-9][A-Za-z0-9!#\&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#\&^_.+-]*$ ]]; then
        echo "display: not a MIME type: $mime" >&2
        command rm -f -- "$__cellfs_spool/$name"
        return 2
    fi
    while builtin read -t 0 -u 252; do  # acks that an interrupted subshell has left
        builtin read -r -N 1 -u 252 reply
        __cellfs_owed=0
    done
    __cellfs_owed=$((__cellfs_owed + 1))
    builtin printf '{"ev":"display","id":%s,"kind":"display","data":{"%s":{"file":"%s"}}}\n' \
        "$__cellfs_id" "$mime" "$name" >&254
    while ((__cellfs_owed > 0)); do
        builtin read -r -N 1 -u 252 reply || return
        __cellfs_owed=$((__cellfs_owed - 1))
    done
}

# The MIME type in REPLY: by the extension of $1, else by the content of $2.
__cellfs_mime() {
    local LC_ALL=C head=
    case ${1,,} in
        *.png) REPLY=image/png ;;
        *.jpg | *.jpeg) REPLY=image/jpeg ;;
        *.gif) REPLY=image/gif ;;
        *.webp) REPLY=image/webp ;;
        *.svg) REPLY=image/svg+xml ;;
        *.pdf) REPLY=application/pdf ;;
        *.html | *.htm) REPLY=text/html ;;
        *.md) REPLY=text/markdown ;;
        *.tex) REPLY=text/latex ;;
        *.json) REPLY=application/json ;;
        *.js) REPLY=application/javascript ;;
        *.csv) REPLY=text/csv ;;
        *.txt | *.log) REPLY=text/plain ;;
        *)
            { builtin read -r -d '' -N 256 head; } <"$2" 2>/dev/null
            case $head in
                $'\x89PNG'*) REPLY=image/png ;;
                $'\xff\xd8\xff'*) REPLY=image/jpeg ;;
                GIF8*) REPLY=image/gif ;;
                RIFF*WEBP*) REPLY=image/webp ;;
                %PDF*) REPLY=application/pdf ;;
                *'<svg'*) REPLY=image/svg+xml ;;
                '<!DOCTYPE html'* | '<!doctype html'* | '<html'*) REPLY=text/html ;;
                *) REPLY=text/plain ;;
            esac ;;
    esac
}

exit() {
    local __cellfs_status=$?
    ((BASH_SUBSHELL)) || __cellfs_asked=1
    builtin exit "${1-$__cellfs_status}"
}

# The shell's own EXIT trap is how a run's end is noticed: a cell's is kept aside, and runs when the
# cell exits, or with the shell.
trap() {
    local -a signals=("${@:2}")
    if ((BASH_SUBSHELL || $# < 2)) || [[ $1 == -[lp] ]]; then
        builtin trap "$@"
        return
    fi
    local signal action=$1
    [[ $1 != -- ]] || { action=$2; signals=("${@:3}"); }
    for signal in "${signals[@]}"; do
        case ${signal^^} in
            0 | EXIT | SIGEXIT)
                __cellfs_on_exit=$action
                [[ $action != - ]] || __cellfs_on_exit= ;;
            ERR)
                __cellfs_on_error=$action
                [[ $action != - ]] || __cellfs_on_error=
                builtin trap -- "${__cellfs_on_error:-$__cellfs_note}" ERR ;;
            *) builtin trap -- "$action" "$signal" ;;
        esac
    done
}
declare -ft trap

# One line, or LINENO would count its lines too.
__cellfs_note='case ${BASH_SOURCE[0]} in "$__cellfs_path") '
__cellfs_note+='__cellfs_failed=$?:$LINENO:$BASH_COMMAND ;; esac'

# The end of the shell.

# Commands that make a new shell what this one is, on stdout. Runs in a subshell: it looks below
# the local variables of the functions that the exit has cut off by removing them.
__cellfs_state() {
    local __cellfs_d __cellfs_v
    declare -p IFS 2>/dev/null || echo 'unset -v IFS'
    IFS=$' \t\n'
    shopt -p
    echo "set +hB -${__cellfs_keep//[fxvC]/}"
    [[ :$__cellfs_shellopts: != *:pipefail:* ]] || echo 'set -o pipefail'
    # Not `compgen -v`, which leaves out what is declared without a value. A line of a value that
    # looks like a declaration does no harm.
    declare -p | while builtin read -r __cellfs_d _ __cellfs_v; do
        __cellfs_v=${__cellfs_v%%=*}
        [[ $__cellfs_d == declare && $__cellfs_v =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || continue
        case $__cellfs_v in
            BASH | BASHOPTS | BASHPID | BASH_A* | BASH_C* | BASH_LINENO | BASH_REMATCH | \
                BASH_S* | BASH_VERS* | COMP_WORDBREAKS | DIRSTACK | EPOCH* | EUID | FUNCNAME | \
                FUNCNEST | GROUPS | HISTCMD | IFS | LINENO | OPTIND | PIPESTATUS | PPID | PWD | \
                RANDOM | SECONDS | SHELLOPTS | SHLVL | SRANDOM | UID | _ | __cellfs_[dv])
                continue ;;
        esac
        while declare -p "$__cellfs_v" 2>/dev/null; do
            if [[ -R $__cellfs_v ]]; then
                unset -n "$__cellfs_v"
            else
                unset -v "$__cellfs_v"
            fi 2>/dev/null || break
            declare -p "$__cellfs_v" &>/dev/null && echo "unset -v $__cellfs_v"
        done
    done
    echo "SECONDS=$SECONDS"
    declare -f
    declare -F | while builtin read -r _ flags name; do
        [[ $flags == -f ]] || echo "declare $flags $name"
    done
}

__cellfs_leave() {
    __cellfs_code=$1 __cellfs_keep=${-//[ceinsu]/} __cellfs_shellopts=$SHELLOPTS
    set +eufxvC +o posix
    [[ -z $__cellfs_on_exit ]] || (eval "$__cellfs_on_exit")
    [[ -n $__cellfs_id ]] || return
    __cellfs_on_exit=
    if [[ -n $__cellfs_interrupted ]]; then
        __cellfs_kind=interrupted __cellfs_code=130
    elif [[ -n $__cellfs_asked ]]; then
        __cellfs_kind=exit
    else
        __cellfs_kind=error
    fi
    builtin trap : INT
    # When this is acked no SIGINT comes any more: the shell that takes over cannot handle one at first.
    builtin printf '{"ev":"ending","id":%s}\n' "$__cellfs_id" >&254
    __cellfs_owed=$((__cellfs_owed + 1))
    while ((__cellfs_owed > 0)); do
        if builtin read -r -N 1 -u 252 REPLY; then
            __cellfs_owed=$((__cellfs_owed - 1))
        elif (($? <= 128)); then
            break
        fi
    done
    builtin trap - EXIT ERR
    # A SIGINT that is on its way already must not cut the state short: a subshell has no handler.
    until set -- "$(alias -p; builtin trap -p; echo '# all')"; [[ $1 == *'# all' ]]; do :; done
    __cellfs_aliases=$1
    until set -- "$(builtin trap '' INT; __cellfs_state; echo '# all')"; [[ $1 == *'# all' ]]; do :; done
    TMPDIR=$__cellfs_spool
    exec "$BASH" --norc --noprofile "$__cellfs_self" resume 251<<<"$1"
}

# The loop. A cell is sourced here, outside any function, so that its `declare` makes globals; all
# is one command, so that no alias of a cell gets into it.
{
    builtin trap '__cellfs_exit=$?; builtin trap : INT; __cellfs_leave "$__cellfs_exit"' EXIT

    if [[ -n $__cellfs_resumed ]]; then
        eval "$__cellfs_aliases" 2>/dev/null
        builtin trap -- "${__cellfs_on_error:-$__cellfs_note}" ERR
        __cellfs_options=${__cellfs_keep//[!fxvC]/}
        eval "$__cellfs_undo" 2>/dev/null
        [[ -z $__cellfs_back ]] || builtin cd -- "$__cellfs_back"
        __cellfs_done "$__cellfs_kind" "$__cellfs_code"
        set -- "${__cellfs_args[@]}"
    else
        builtin trap -- "$__cellfs_note" ERR
        builtin printf '{"ev":"hello","proto":1,"min_proto":1,"lang":"%s","ver":"%s",' \
            "$__cellfs_language" "${BASH_VERSION%%(*}" >&254
        builtin printf '"engine":"bash","pid":%s}\n' $$ >&254
    fi

    while :; do
        IFS= builtin read -r -u 253 __cellfs_line || {
            (($? > 128)) && continue  # an idle SIGINT
            builtin exit 0
        }
        case $__cellfs_line in
            '{"op":"exec",'*)
                __cellfs_id=${__cellfs_line#*'"id":'} __cellfs_id=${__cellfs_id%%,*}
                __cellfs_path=${__cellfs_line#*'"path":"'}
                __cellfs_rest=${__cellfs_path#*'","name":"'}
                __cellfs_unquote "${__cellfs_path%%'","name":"'*}"
                __cellfs_path=$REPLY
                [[ $__cellfs_rest =~ ^(([^\"\\]|\\.)*)\" ]]
                __cellfs_rest=${__cellfs_rest:${#BASH_REMATCH[0]}}
                __cellfs_unquote "${BASH_REMATCH[1]}"
                __cellfs_name=$REPLY
                __cellfs_failed= __cellfs_interrupted= __cellfs_asked= __cellfs_back=
                __cellfs_environment
                __cellfs_set=$REPLY
                if [[ -n $__cellfs_rest && $__cellfs_rest != \} ]]; then
                    __cellfs_back=$PWD __cellfs_before=${OLDPWD-}
                    __cellfs_enter || {
                        __cellfs_error DirectoryError "cannot enter $REPLY"
                        __cellfs_finish error 1
                        continue
                    }
                fi
                __cellfs_args=("$@")
                eval "$__cellfs_set"
                # An exit that is under way goes on: a second one would cut its trap off.
                builtin trap '__cellfs_interrupted=1; [[ $__cellfs_asked ]] || builtin exit 130' INT
                [[ -z $__cellfs_options ]] || set -$__cellfs_options
                "${__cellfs_evaluate[@]}" "$__cellfs_path"
                {
                    __cellfs_code=$?
                    builtin trap : INT
                    __cellfs_options=${-//[!eufxvC]/}
                    set +eufxvC
                    [[ -z $__cellfs_undo ]] || eval "$__cellfs_undo"
                    if [[ -n $__cellfs_back ]]; then
                        builtin cd -- "$__cellfs_back"
                        OLDPWD=$__cellfs_before
                    fi
                } 2>/dev/null
                if ((__cellfs_code)); then
                    __cellfs_done error "$__cellfs_code"
                else
                    __cellfs_finish ok 0
                fi ;;
            '{"op":"set"'*)
                __cellfs_rest=${__cellfs_line#*'"set"'}
                __cellfs_environment
                eval "$REPLY"
                __cellfs_enter || __cellfs_log "set: cannot enter $REPLY" ;;
            '{"op":"init",'*)
                [[ $__cellfs_line == *'"proto":1,'* ]] || {
                    __cellfs_log 'only protocol 1 is spoken here'
                    builtin exit 1
                }
                __cellfs_spool=${__cellfs_line#*'"spool":"'}
                __cellfs_unquote "${__cellfs_spool%%'","env":'*}"
                __cellfs_spool=$REPLY
                builtin printf '{"ev":"ready"}\n' >&254 ;;
            '{"op":"shutdown"'*) builtin exit 0 ;;
            *) __cellfs_log "unknown op: $__cellfs_line" ;;
        esac
    done
}
