#!/bin/sh
# Builds the peer that ponder is measured against: llama.cpp, from the source that the crate llama-cpp-sys-4
# carries. Needs cargo (only to fetch), cmake and a C++ compiler; about 15 minutes of one core.
#   sh tests/bench/peer.sh [FOLDER]      FOLDER: build-peer beside this repository's meson.build unless given
# Afterwards FOLDER/bin has llama-bench, llama-batched-bench, llama-quantize, llama-perplexity, llama-mtmd-cli (it says how long
# a picture took) and libmtmd, and FOLDER/version the name that the tables print.
set -eu
crate=llama-cpp-sys-4
version=0.11.0
jobs=${PEER_JOBS:-2}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/build-peer}"
out=$(cd "${1:-$root/build-peer}" && pwd)

for tool in cargo cmake c++; do
    command -v $tool >/dev/null || { echo "peer.sh: $tool is missing (Debian packages: cargo, cmake, g++)" >&2; exit 1; }
done

if [ ! -d "$out/crate/vendor/$crate" ]; then
    echo "== fetching $crate $version"
    mkdir -p "$out/crate/src"
    : >"$out/crate/src/lib.rs"
    printf '[package]\nname = "scratch"\nversion = "0.0.0"\nedition = "2021"\n\n[workspace]\n\n[dependencies]\n%s = "=%s"\n' \
        "$crate" "$version" >"$out/crate/Cargo.toml"
    (cd "$out/crate" && cargo vendor --quiet >/dev/null)
fi
source=$out/crate/vendor/$crate/llama.cpp

echo "== building in $out"
cmake -S "$source" -B "$out" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
    -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$out/cmake.log" 2>&1 || { tail -20 "$out/cmake.log" >&2; exit 1; }
nice cmake --build "$out" -j "$jobs" \
    --target llama-bench llama-batched-bench llama-quantize llama-perplexity llama-mtmd-cli >"$out/build.log" 2>&1 ||
    { grep -n -m 20 -i -E 'error|No such' "$out/build.log" >&2; exit 1; }

commit=$(sed -n 's/^\*\*llama.cpp version:\*\* `\([^`]*\)`.*/\1/p' "$out/crate/vendor/$crate/README.md")
echo "llama.cpp ${commit:-unknown} ($crate $version)" >"$out/version"
echo "== $(cat "$out/version"): $(ls "$out/bin" | grep -c '^llama-') programs in $out/bin"
