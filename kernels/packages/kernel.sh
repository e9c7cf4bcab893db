# The driver of the runs that install packages: Bash's, but that a cell is no script. It is a list of
# what to install and to remove, which the program beside this file takes.

__cellfs_language=packages
__cellfs_evaluate=("$BASH" "${BASH_SOURCE[0]%/*}/install.sh")
builtin source "${BASH_SOURCE[0]%/*}/../bash/kernel.sh"
