#!/bin/sh
# check.sh BUILD [--accept]: compares the library in BUILD and include/ponder.h with the last reviewed state:
#   libponder.abi   types and functions (abidw)
#   exports.txt     exported names
#   constants.txt   every constant with its number: tools that read types do not see them behind int32_t
# Prints every difference, and fails on one that was not reviewed. --accept is the review: it rewrites the three files,
# and the difference then stands in the commit. BUILD must be made by gcc, without sanitizers, with debug information.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
include=$(cd "$here/../../include" && pwd)
lib=$(cd "$1" && pwd)/lib/libponder.so
accept=${2:-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0

fail() { echo "$1"; failed=1; }

# The header alone, as a C and as a C++ program would include it.
printf '#include "ponder.h"\n#include "ponder.h"\n' >"$tmp/alone.c"
cp "$tmp/alone.c" "$tmp/alone.cc"
strict="-Wall -Wextra -Werror -pedantic -fsyntax-only -I$include"
for cc in gcc clang; do
    # shellcheck disable=SC2086 # several options
    { $cc -std=c11 $strict "$tmp/alone.c" && $cc -x c++ -std=c++17 $strict "$tmp/alone.cc"; } ||
        fail "ponder.h does not compile alone with $cc"
done

nm -D --defined-only "$lib" | awk '{print $NF}' | LC_ALL=C sort >"$tmp/exports.txt"
if grep -v '^ponder_' "$tmp/exports.txt"; then fail "exported, but not ours to export (above)"; fi
sed -n 's/^PONDER_API .*[ *]\(ponder_[a-z0-9_]*\)(.*/\1/p' "$include/ponder.h" | LC_ALL=C sort >"$tmp/declared.txt"
diff -u "$tmp/declared.txt" "$tmp/exports.txt" >"$tmp/diff" || { cat "$tmp/diff"; fail "declared and exported differ"; }

# Names by text, numbers by the compiler.
{
    printf '#include <stdio.h>\n#include "ponder.h"\nint main(void)\n{\n'
    grep -oE '^#define PONDER_[A-Z0-9_]+ -?[0-9]+$|PONDER_[A-Z0-9_]+ = -?[0-9]+' "$include/ponder.h" |
        sed 's/^#define //' | awk '{printf "    printf(\"%%s %%ld\\n\", \"%s\", (long)%s);\n", $1, $1}'
    printf '    return 0;\n}\n'
} >"$tmp/constants.c"
gcc -I"$include" -o "$tmp/constants" "$tmp/constants.c"
"$tmp/constants" >"$tmp/constants.txt"

abidw --exported-interfaces-only --headers-dir "$include" --drop-private-types --no-comp-dir-path --no-corpus-path --short-locs --no-elf-needed "$lib" >"$tmp/libponder.abi"

for name in exports.txt constants.txt; do
    [ -f "$here/$name" ] || : >"$tmp/empty"
    old=$here/$name
    [ -f "$old" ] || old=$tmp/empty
    diff -u "$old" "$tmp/$name" >"$tmp/diff" || { sed 1,2d "$tmp/diff"; [ "$accept" ] || fail "$name: not reviewed"; }
done
if [ -f "$here/libponder.abi" ]; then
    abidiff --headers-dir2 "$include" --drop-private-types "$here/libponder.abi" "$lib" >"$tmp/diff" ||
        { cat "$tmp/diff"; [ "$accept" ] || fail "types or functions: not reviewed"; }
else
    [ "$accept" ] || fail "libponder.abi is missing"
fi

if [ $failed != 0 ]; then
    echo "See doc/abi.md. When every difference is meant: sh tests/abi/check.sh BUILD --accept, and a line in CHANGELOG.md."
    exit 1
fi
if [ "$accept" ]; then
    cp "$tmp/exports.txt" "$tmp/constants.txt" "$tmp/libponder.abi" "$here/"
    echo "accepted"
else
    echo "$(wc -l <"$tmp/exports.txt") functions, $(wc -l <"$tmp/constants.txt") constants: as reviewed"
fi
