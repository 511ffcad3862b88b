#!/bin/sh
# network.sh PROGRAM: traces a whole chat; not one network call may be made. 77 (skipped) where tracing is forbidden.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
strace -o /dev/null true 2>/dev/null || { echo "strace cannot trace here"; exit 77; }
# A leak check of a sanitizer needs the tracing that strace occupies.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -e trace=network -o "$log" "$1" --traced || exit 1
if grep -E '^[0-9]+ +[a-z0-9_]+\(' "$log"; then
    echo "network calls (above)"
    exit 1
fi
"$1" --call
[ $? -ge 128 ] || { echo "the filter of the other test does not bite"; exit 1; }
"$1" --remote
code=$?
[ $code -ge 128 ] || [ $code = 3 ] || { echo "a remote model was opened without a socket"; exit 1; }
echo "no network call"
