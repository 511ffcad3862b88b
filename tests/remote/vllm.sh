#!/bin/sh
# vllm.sh BUILD: the remote tests against a real vLLM, CPU build, with the scripted Muse Glimmer (tests/reference/make_scripted.py).
#   PONDER_VLLM        the program (default: vllm in the path)
#   PONDER_VLLM_MODEL  the folder of the checkpoint
# A minute to start, two to run. 77 (skipped) when one of them is not there, and it says so.
build=$(cd "$1" && pwd) || exit 1
vllm=${PONDER_VLLM:-$(command -v vllm)}
[ -x "$vllm" ] || { echo "skipped: no vLLM here (PONDER_VLLM)"; exit 77; }
[ -d "${PONDER_VLLM_MODEL:-}" ] || { echo "skipped: no checkpoint for vLLM (PONDER_VLLM_MODEL)"; exit 77; }
log=$(mktemp)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
    "$vllm" serve "$PONDER_VLLM_MODEL" --host 127.0.0.1 --port "$port" --served-model-name scripted --enforce-eager --dtype float32 \
    --max-model-len 2048 --max-num-seqs 16 --reasoning-parser muse_glimmer --tool-call-parser muse_glimmer --enable-auto-tool-choice \
    ${PONDER_VLLM_MORE:+"$PONDER_VLLM_MORE"} >"$log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -f "$log"' EXIT
up=
for i in $(seq 1 300); do
    kill -0 $server 2>/dev/null || { tail -n 20 "$log"; echo "vLLM ended"; exit 1; }
    grep -q "Application startup complete" "$log" && { up=1; break; }
    sleep 2
done
[ "$up" ] || { tail -n 20 "$log"; echo "vLLM does not answer"; exit 1; }
"$build/tests/remote/live" "http://127.0.0.1:$port" --template muse --thinks
