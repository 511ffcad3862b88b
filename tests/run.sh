#!/bin/sh
# Installs what is missing (Debian/Ubuntu), builds ponder and runs every test.
set -eu
cd "$(dirname "$0")/.."
packages="gcc clang meson ninja-build pkg-config libpcre2-dev libjansson-dev libcmocka-dev"
missing=""
for p in $packages; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    echo "== installing:$missing"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
build=${PONDER_BUILD:-build}
[ -d "$build" ] || meson setup "$build" >/dev/null
ninja -C "$build"
status=0
meson test -C "$build" --print-errorlogs || status=$?
passed=$(grep -c '"result": "OK"' "$build/meson-logs/testlog.json" || true)
failed=$(grep -c -E '"result": "(FAIL|TIMEOUT|ERROR)"' "$build/meson-logs/testlog.json" || true)
echo "$passed passed, $failed failed"
exit $status
