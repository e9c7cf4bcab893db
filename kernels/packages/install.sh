#!/bin/bash
# Installs and removes packages: install.sh FILE. A line of FILE is one package, with a TAB between the fields
#
#   NAME  DRIVER_DIR  INTERPRETER  + or -  SPEC
#
# For each NAME, in order, DRIVER_DIR/install is called once: INTERPRETER +SPEC... -SPEC...  What it says is
# the output; an exit status that is not 0 ends all. At the end comes what is installed now.

trap 'exit 130' INT # who is called gets it too, and is waited for
export PYTHONUNBUFFERED=1
: "${CELLFS_PACKAGES:?}" "${CELLFS_SETTINGS:=/nonexistent}"
export CELLFS_SETTINGS

# What a package has brought comes after the system's programs, and without the wrappers for cells.
path=
IFS=: read -r -a places <<<"$PATH"
for place in "${places[@]}"; do
    [[ $place != /* || $place -ef ${BASH_SOURCE[0]%/*}/bin || $place -ef $CELLFS_PACKAGES/bin ]] || path+=$place:
done
export PATH=$path$CELLFS_PACKAGES/bin

declare -A folders=() interpreters=()
names=() rows=()
while IFS=$'\t' read -r name folder interpreter sign spec; do
    [[ -n $spec ]] || continue
    [[ -n ${folders[$name]-} ]] || names+=("$name")
    folders[$name]=$folder interpreters[$name]=$interpreter
    rows+=("$name"$'\t'"$sign$spec")
done <"$1" || exit

# Tools take their settings from the cwd and from above it, and a name for the file of that name: cells write to
# the workspace. So they are called in an empty folder.
empty=$(mktemp -d) && empty=$(realpath -- "$empty") || exit
trap 'cd / && rm -rf -- "$empty"' EXIT
export CELLFS_WORKSPACE=$PWD GIT_CEILING_DIRECTORIES=${empty%/*}
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_INDEX_FILE XDG_CONFIG_HOME NODE_PATH
cd -- "$empty" || exit

# How to get what a manifest is about, in REPLY.
hint() {
    local manifest
    manifest=$(<"$1/manifest.json")
    REPLY=
    [[ $manifest =~ \"install\":\ *\"([^\"]*)\" ]] && REPLY=": ${BASH_REMATCH[1]}"
}

for name in "${names[@]}"; do
    folder=${folders[$name]} interpreter=${interpreters[$name]}
    if [[ $interpreter == missing ]]; then
        hint "$folder"
        echo "packages: this host cannot run $name$REPLY" >&2
        exit 1
    fi
    specs=()
    for row in "${rows[@]}"; do
        [[ $row != "$name"$'\t'* ]] || specs+=("${row#*$'\t'}")
    done
    "$folder/install" "$interpreter" "${specs[@]}" </dev/null || exit
done

# As the file `packages` shows it.
for list in "$CELLFS_PACKAGES"/list/*; do
    [[ ! -s $list ]] || while IFS= read -r line; do
        [[ -z $line ]] || echo "${list##*/}: $line"
    done <"$list"
done
