#!/bin/sh
# check.sh BUILD: the generated files are what the header gives, a mismatched library is refused, and both layers work
# over the library in BUILD, installed into a temporary prefix.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
PONDER_TEST_DATA=$top/tests/data
PYTHONPATH=$top/bindings/python
PYTHONDONTWRITEBYTECODE=1
GOFLAGS=-mod=mod GOTOOLCHAIN=local
export PONDER_TEST_DATA PYTHONPATH PYTHONDONTWRITEBYTECODE GOFLAGS GOTOOLCHAIN
unset PONDER_LIBRARY || true

# Debian's pycparser is seen by Debian's Python only.
python=python3
$python -c 'import pycparser' 2>/dev/null || python=/usr/bin/python3
$python "$top/bindings/generate.py" --check
echo "generated files: up to date"

meson install -C "$build" --no-rebuild --destdir "$tmp/root" >/dev/null
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/root" -name ponder.pc)")
lib=$(dirname "$(find "$tmp/root" -name libponder.a)")
export PKG_CONFIG_PATH

# Libraries with every name of ours that answer another ABI, or our ABI and another version, and fail at all else.
fake() { # DIR ABI VERSION
    mkdir -p "$1"
    { while read -r name; do
        case $name in ponder_abi) value=$2 ;; ponder_version) value=$3 ;; *) value=-16 ;; esac
        echo "int $name(void); int $name(void) { return $value; }"
    done; } <"$top/tests/abi/exports.txt" >"$1/fake.c"
    cc -shared -fPIC -Wl,-soname,libponder.so.0 -o "$1/libponder.so.0" -fno-builtin "$1/fake.c"
}
fake "$tmp/abi" 99 1000
fake "$tmp/version" 0 99000
fake "$tmp/structs" 0 1000

PONDER_LIBRARY=$tmp/abi/libponder.so.0 python3 "$top/tests/bindings/mismatch.py" "ABI 99"
PONDER_LIBRARY=$tmp/version/libponder.so.0 python3 "$top/tests/bindings/mismatch.py" "version 0.99"
PONDER_LIBRARY=$tmp/structs/libponder.so.0 python3 "$top/tests/bindings/mismatch.py" "structs"
libc=$(ldd /bin/sh | sed -n 's/.*=> \(.*libc\.so[^ ]*\).*/\1/p')
PONDER_LIBRARY=$libc python3 "$top/tests/bindings/mismatch.py" "no libponder"
for name in python tools agents remote arguments; do
    echo "test_$name.py"
    LD_LIBRARY_PATH=$lib python3 -W error "$top/tests/bindings/test_$name.py"
done
# Arrays with numpy and pillow (Debian's are seen by Debian's Python only), and without.
python=python3
$python -c 'import numpy, PIL' 2>/dev/null || python=/usr/bin/python3
for numpy in yes no; do
    echo "test_media.py, numpy: $numpy"
    LD_LIBRARY_PATH=$lib PONDER_TEST_NUMPY=$numpy $python -W error "$top/tests/bindings/test_media.py"
done

command -v go >/dev/null || { echo "Go is missing"; exit 1; }
cd "$top/bindings/go"
# Go's cache does not see that pkg-config answers another folder now, but it sees this.
CGO_LDFLAGS="-O2 -g -L$lib"
export CGO_LDFLAGS
go vet .
go test -c -o "$tmp/go-test" .
for which in abi version structs; do
    LD_LIBRARY_PATH=$tmp/$which PONDER_EXPECT_MISMATCH=$which "$tmp/go-test" -test.run Mismatch
done
LD_LIBRARY_PATH=$lib "$tmp/go-test"
