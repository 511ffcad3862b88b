#!/bin/sh
# llama_server.sh BUILD: the remote tests against real llama-servers.
#   PONDER_LLAMA_SERVER  the program, or a folder with it; or
#   PONDER_LLAMA_SOURCE  llama.cpp's source: built once (some ten minutes of a core) into PONDER_CACHE (default: BUILD/cache), then found there
#   PONDER_SMOLLM2       a GGUF of SmolLM2
#   PONDER_SCRIPTED      a GGUF of the scripted Muse Glimmer (may be missing: its part is skipped aloud)
# 77 (skipped) when there is no program and no source, or no model, and it says so.
build=$(cd "$1" && pwd) || exit 1
cache=${PONDER_CACHE:-$build/cache}
program=${PONDER_LLAMA_SERVER:-$cache/llama-server/bin/llama-server}
for place in bin/llama-server llama-server; do
    if [ -d "$program" ] && [ -f "$program/$place" ]; then program=$program/$place; fi
done
if [ ! -x "$program" ] && [ -d "${PONDER_LLAMA_SOURCE:-}" ]; then
    mkdir -p "$cache/llama-server"
    cmake -S "$PONDER_LLAMA_SOURCE" -B "$cache/llama-server" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=ON \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF >"$cache/llama-server.log" 2>&1 &&
        cmake --build "$cache/llama-server" --target llama-server -j2 >>"$cache/llama-server.log" 2>&1 || { tail "$cache/llama-server.log"; exit 1; }
fi
[ -f "$program" ] && [ -x "$program" ] || { echo "skipped: no llama-server here (PONDER_LLAMA_SERVER, PONDER_LLAMA_SOURCE)"; exit 77; }
[ -f "${PONDER_SMOLLM2:-}" ] || { echo "skipped: no model (PONDER_SMOLLM2)"; exit 77; }
dir=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null; rm -rf "$dir"' EXIT

# start MODEL: sets $url and $pid once it answers.
start() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$program" -m "$1" --host 127.0.0.1 --port "$port" --parallel 8 --kv-unified -c 8192 --jinja -t 1 -tb 1 >"$dir/$port.log" 2>&1 &
    pid=$!
    pids="$pids $pid"
    url=http://127.0.0.1:$port
    for i in $(seq 1 120); do
        kill -0 $pid 2>/dev/null || { tail "$dir/$port.log"; echo "llama-server ended"; exit 1; }
        python3 -c "import urllib.request; urllib.request.urlopen('$url/health', timeout=2)" 2>/dev/null && return 0
        sleep 0.5
    done
    echo "llama-server does not answer"
    exit 1
}

bad=0
start "$PONDER_SMOLLM2"
one=$url first=$pid
"$build/tests/remote/live" "$one" || bad=1
start "$PONDER_SMOLLM2"
echo "-- two servers, one of them killed"
"$build/tests/remote/live" "$one $url" --kill "$first" || bad=1
if [ -f "${PONDER_SCRIPTED:-}" ]; then
    echo "-- the scripted Muse Glimmer"
    start "$PONDER_SCRIPTED"
    "$build/tests/remote/live" "$url" --template muse --thinks || bad=1
else
    echo "skipped: no scripted Muse Glimmer (PONDER_SCRIPTED)"
fi
exit $bad
