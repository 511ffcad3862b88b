#!/bin/sh
# check.sh BUILD: installs, moves the prefix elsewhere, and builds an outside program against it in four ways.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

DESTDIR=$tmp/first meson install -C "$build" --no-rebuild >/dev/null
prefix=$(meson introspect "$build" --buildoptions |
    python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
mv "$tmp/first$prefix" "$tmp/moved"
rm -rf "$tmp/first"
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/moved" -name ponder.pc)")
export PKG_CONFIG_PATH
lib=$(pkg-config --variable=libdir ponder)
cc=${CC:-cc}

run() { # NAME PROGRAM
    LD_LIBRARY_PATH=$lib "$2" >"$tmp/out" || { echo "$1: the program failed"; cat "$tmp/out"; exit 1; }
    echo "$1: $(cat "$tmp/out")"
}
needs_library() { # PROGRAM YES|NO
    found=NO
    if objdump -p "$1" | grep -q 'NEEDED.*libponder\.so\.0$'; then found=YES; fi
    [ $found = "$2" ] || { echo "$1: links the shared library: $found"; exit 1; }
}

# shellcheck disable=SC2046 # pkg-config answers with several words
$cc -std=c11 -Wall -Wextra -Werror "$here/host.c" $(pkg-config --cflags --libs ponder) -o "$tmp/pc-shared"
needs_library "$tmp/pc-shared" YES
run "pkg-config, shared" "$tmp/pc-shared"

# shellcheck disable=SC2046
$cc -std=c11 -Wall -Wextra -Werror "$here/host.c" $(pkg-config --static --cflags --libs ponder |
    sed 's/-lponder/-Wl,-Bstatic -lponder -Wl,-Bdynamic/') -o "$tmp/pc-static"
needs_library "$tmp/pc-static" NO
run "pkg-config, static" "$tmp/pc-static"

cmake -G Ninja -S "$here" -B "$tmp/cmake" -DCMAKE_PREFIX_PATH="$tmp/moved" -DCMAKE_C_COMPILER="$cc" >"$tmp/log" 2>&1 &&
    cmake --build "$tmp/cmake" >>"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
needs_library "$tmp/cmake/host-shared" YES
run "cmake, shared" "$tmp/cmake/host-shared"
needs_library "$tmp/cmake/host-static" NO
run "cmake, static" "$tmp/cmake/host-static"

strip -o "$tmp/stripped" "$lib/libponder.so"
size=$(wc -c <"$tmp/stripped")
echo "stripped library: $size bytes"
[ "$size" -le 2097152 ] || { echo "more than 2 MB"; exit 1; }
