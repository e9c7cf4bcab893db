#!/bin/sh
# Starts the driver: start.sh JAVA [OPTION...]. It is entered into this folder, because the archive of loaded
# classes (CDS) holds only for the class path that it was made with: a relative one is the same everywhere.
# The driver is told its cwd by `init`.
cd "${0%/*}" || exit 1
java=$1
shift

# Names of files are UTF-8; what Java takes them for is settled by the locale that it starts with.
case ${LC_ALL:-${LC_CTYPE:-${LANG-}}} in
*[Uu][Tt][Ff]*8*) ;;
*) [ -z "${LC_ALL-}" ] || export LC_ALL=C.UTF-8
	export LC_CTYPE=C.UTF-8 ;;
esac

# The archive of another JVM would cost this one its own.
archive=
if read -r jdk 2>/dev/null <cellfs.jdk && [ "$(readlink -f "$java")" = "$jdk" ]; then
	archive=-XX:SharedArchiveFile=cellfs.jsa
fi

# The heap has to fit below the memory limit together with the code, the classes and the threads.
limit=$(ulimit -d)
heap=
if [ "$limit" != unlimited ]; then
	limit=$((limit / 1024))
	heap=$((limit * 6 / 10))
	[ $heap -le $((limit - 112)) ] || heap=$((limit - 112))
	[ $heap -ge 24 ] || heap=24
	heap=-Xmx${heap}m
fi

exec "$java" $archive -Xshare:auto -Xlog:disable -XX:+UseSerialGC -Xms16m $heap \
	-XX:ReservedCodeCacheSize=64m -XX:-UsePerfData -XX:ErrorFile=/dev/null \
	-XX:+UnlockDiagnosticVMOptions -XX:-DumpReplayDataOnError -XX:+DisplayVMOutputToStderr \
	-Djava.awt.headless=true -Dfile.encoding=UTF-8 \
	-Dcellfs.native="$PWD/libcellfs.so" "$@" -jar cellfs.jar "$PWD/cellfs.jar"
