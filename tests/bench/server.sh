#!/bin/sh
# Builds llama-server, the OpenAI-compatible server that the remote sessions are tried against, from the git bundle that the
# npm package node-llama-cpp carries. Needs npm (only to fetch), git, cmake and a C++ compiler; about 15 minutes of one core.
#   sh tests/bench/server.sh [FOLDER]      FOLDER: build-server beside this repository's meson.build unless given
# Afterwards FOLDER/bin/llama-server runs and FOLDER/version names it. Nothing is fetched or built again that is there.
#   FOLDER/bin/llama-server -m MODEL.gguf --host 127.0.0.1 --port 8080 --parallel 4 --kv-unified --jinja
set -eu
package=node-llama-cpp
version=3.22.1
jobs=${SERVER_JOBS:-2}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/build-server}"
out=$(cd "${1:-$root/build-server}" && pwd)

for tool in npm git cmake c++; do
    command -v $tool >/dev/null || { echo "server.sh: $tool is missing (Debian packages: npm, git, cmake, g++)" >&2; exit 1; }
done

if [ ! -f "$out/src/CMakeLists.txt" ]; then
    echo "== fetching $package $version"
    rm -rf "$out/npm" "$out/src"
    mkdir "$out/npm"
    (cd "$out/npm" && npm pack --silent "$package@$version" >/dev/null && tar -xzf "$package-$version.tgz" package/llama/gitRelease.bundle)
    git -c advice.detachedHead=false clone --quiet "$out/npm/package/llama/gitRelease.bundle" "$out/src"
    rm -rf "$out/npm"
fi

echo "== building in $out"
cmake -S "$out/src" -B "$out" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_BUILD_SERVER=ON \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$out/cmake.log" 2>&1 || { tail -20 "$out/cmake.log" >&2; exit 1; }
nice cmake --build "$out" -j "$jobs" --target llama-server >"$out/build.log" 2>&1 ||
    { grep -n -m 20 -i -E 'error|No such' "$out/build.log" >&2; exit 1; }

echo "llama-server of $(git -C "$out/src" log -1 --format=%cs) ($package $version)" >"$out/version"
echo "== $(cat "$out/version") in $out/bin"
