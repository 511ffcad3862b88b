#!/bin/sh
# Installs what is missing (Debian/Ubuntu packages), builds ponder in several ways and runs every test.
#   sh tests/run.sh            everything
#   sh tests/run.sh gcc abi    only these steps (names as printed)
# Each step prints one line; its log is build/logs/STEP.log (PONDER_BUILD names another folder). The last line counts.
set -u
cd "$(dirname "$0")/.." || exit 1
top=$(pwd)
root=${PONDER_BUILD:-$top/build}
case $root in /*) ;; *) root=$top/$root ;; esac
logs=$root/logs
mkdir -p "$logs" || exit 1
only="$*"
passed=0
failed=0
PONDER_TEST_DATA=$top/tests/data
export PONDER_TEST_DATA

install_packages() {
    packages="gcc g++ clang meson ninja-build pkg-config binutils libpcre2-dev libjansson-dev libcmocka-dev
        libpng-dev libjpeg-dev libcurl4-openssl-dev libspeexdsp-dev libsimde-dev
        python3 python3-pycparser python3-numpy python3-pil python3-jsonschema golang-go cmake abigail-tools strace locales openssl"
    missing=""
    for p in $packages; do
        dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -qq &&
        # shellcheck disable=SC2086 # several names
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# A locale with decimal commas, in our own folder: the tests run under it too.
make_locale() {
    [ -d "$root/locale/de_DE.UTF-8" ] || { mkdir -p "$root/locale" && localedef -i de_DE -f UTF-8 "$root/locale/de_DE.UTF-8"; }
}

# prepare NAME COMMAND...: what the steps need; it counts only when it fails.
prepare() {
    name=$1
    shift
    printf '== %s ... ' "$name"
    if "$@" >"$logs/$name.log" 2>&1; then echo "ok"; else
        echo "FAILED; the end of $logs/$name.log:"
        tail -n 40 "$logs/$name.log" | sed 's/^/   | /'
        failed=$((failed + 1))
    fi
}

# step NAME COMMAND...: one line; the end of the log when it fails. Counts the tests that meson ran, or one; none for a command that
# ends with 77, whose last line says what was skipped.
step() {
    name=$1
    shift
    case " $only " in "  " | *" $name "*) ;; *) return 0 ;; esac
    printf '== %s ... ' "$name"
    begin=$(date +%s)
    testlog=$root/$name/meson-logs/testlog.json
    rm -f "$testlog"
    if "$@" >"$logs/$name.log" 2>&1; then ok=1; elif [ $? = 77 ]; then tail -n 1 "$logs/$name.log"; return 0; else ok=0; fi
    good=0
    bad=0
    if [ -f "$testlog" ]; then
        good=$(grep -cE '"result": "(OK|EXPECTEDFAIL)"' "$testlog")
        bad=$(grep -cE '"result": "(FAIL|TIMEOUT|ERROR|INTERRUPT|UNEXPECTEDPASS)"' "$testlog")
    fi
    if [ $ok = 1 ] && [ "$good" = 0 ]; then good=1; fi
    if [ $ok = 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ $ok = 1 ]; then
        echo "ok: $good passed ($(($(date +%s) - begin)) s)"
    else
        echo "FAILED: $good passed, $bad failed ($(($(date +%s) - begin)) s); the end of $logs/$name.log:"
        tail -n 40 "$logs/$name.log" | sed 's/^/   | /'
    fi
}

# set_up NAME OPTIONS...: once. build NAME OPTIONS...: sets up and compiles.
set_up() {
    dir=$root/$1
    shift
    [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@"
}
build() { set_up "$@" && ninja -C "$dir"; }
# test_all NAME ARGUMENTS...: meson's tests of a build.
test_all() {
    dir=$root/$1
    shift
    LOCPATH=$root/locale meson test -C "$dir" --print-errorlogs --no-rebuild "$@"
}
build_and_test() { build "$@" && test_all "$1"; }

# What is known to be missing must fail here, not be skipped: every feature is required in the first build.
with_gcc() {
    CC=gcc build gcc -Dpng=enabled -Djpeg=enabled -Dcurl=enabled -Dspeexdsp=enabled && test_all gcc
}
# llama-server: one that is built already (PONDER_LLAMA_SERVER, else the cache folder PONDER_CACHE), for ten minutes of building are too many
# to spend unasked. PONDER_TEST_SERVER=build asks for it; then nothing may be missing.
with_server() {
    [ "${PONDER_TEST_SERVER:-}" = build ] || unset PONDER_LLAMA_SOURCE
    sh tests/remote/llama_server.sh "$root/gcc"
    end=$?
    if [ $end = 77 ] && [ "${PONDER_TEST_SERVER:-}" = build ]; then return 1; fi
    return $end
}
# A report for the log, never a judgement of a time.
with_bench() { python3 tests/bench/suite.py tests/data/seed0 --small --ponder "$root/gcc/examples/ponder"; }
with_clang() { CC=clang build_and_test clang; }
# Warnings are judged in the plain builds: with sanitizers gcc warns of paths that its own checks made.
# Not detect_stack_use_after_return: gcc 12 then misaligns 64-byte locals (its bug 110027), and AVX-512 code faults.
with_asan() {
    CC=gcc build asan -Db_sanitize=address,undefined -Dwerror=false -Dbuildtype=debug -Doptimization=1 -Db_lundef=false &&
        LSAN_OPTIONS=suppressions=$top/tests/lsan.supp:print_suppressions=0 \
            ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
            test_all asan --timeout-multiplier 5
}
# ThreadSanitizer cannot bear some kernels' address randomisation; containers may forbid to turn it off.
with_tsan() {
    fixed=""
    if setarch -R true 2>/dev/null; then fixed="setarch -R"; fi
    # shellcheck disable=SC2086 # none or two words
    CC=gcc build tsan -Db_sanitize=thread -Dwerror=false -Dbuildtype=debug -Doptimization=1 -Db_lundef=false &&
        LOCPATH=$root/locale TSAN_OPTIONS=halt_on_error=1 $fixed meson test -C "$root/tsan" --print-errorlogs --no-rebuild \
            --timeout-multiplier 10 --suite base --suite engine --suite session --suite grammar --suite agents --suite remote
}
# The features know nothing of each other, so what each leaves behind when it is off is tested with all of them off.
without_features() {
    CC=gcc build bare -Dpng=disabled -Djpeg=disabled -Dcurl=disabled -Dspeexdsp=disabled -Doptimization=1 -Ddebug=false &&
        test_all bare --timeout-multiplier 3 --no-suite tensor --no-suite program
}

# AVX-512 kernels where the processor lacks it: the same bits, by way of AVX2.
with_emulation() {
    if grep -q avx512_vnni /proc/cpuinfo; then echo "skipped: this processor has AVX-512, and all that is above ran it"; return 77; fi
    if ! grep -q avx2 /proc/cpuinfo; then echo "skipped: this processor has no AVX2 to do it with"; return 77; fi
    CC=gcc set_up emulated -Demulate=true -Dpng=disabled -Djpeg=disabled -Dcurl=disabled -Dspeexdsp=disabled -Doptimization=1 \
        -Ddebug=false || return 1
    kernels=$(ninja -C "$dir" -t targets all | sed -n 's|^tests/tensor/test-\([a-z_]*\):.*|\1|p')
    # shellcheck disable=SC2046,SC2086 # lists of targets and of tests
    ninja -C "$dir" $(printf 'tests/tensor/test-%s ' $kernels) tests/decoder/test-decoder-bits tests/engine/test-engine-bits &&
        test_all emulated $kernels bits
}

prepare packages install_packages
prepare locale make_locale
step gcc with_gcc
step abi sh tests/abi/check.sh "$root/gcc"
step install env CC=gcc sh tests/install/check.sh "$root/gcc"
step bindings sh tests/bindings/check.sh "$root/gcc"
step docs python3 tests/docs/check.py "$root/gcc"
step server with_server
step bench with_bench
step clang with_clang
step asan with_asan
step tsan with_tsan
step bare without_features
step emulated with_emulation
echo "$passed passed, $failed failed"
[ $failed = 0 ]
