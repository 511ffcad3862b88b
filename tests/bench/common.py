"""What the scripts of this folder share: programs, processors, the peer, results in JSON. Python's standard library only."""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def our_program():
    """Of the builds that run.sh, a plain meson setup and quickstart.sh make, the first that is there."""
    builds = [os.path.join(ROOT, *b.split("/"), "examples", "ponder") for b in ("build/gcc", "build", "build-quickstart")]
    return next((b for b in builds if os.path.isfile(b)), builds[0])


def add_options(parser):
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--peer", default=os.path.join(ROOT, "build-peer"), help="folder that peer.sh built")
    parser.add_argument("--ponder", default=our_program(), help="our program")
    parser.add_argument("--work", default=tempfile.gettempdir(), help="where the scratch folder is made (quality: some GB)")
    parser.add_argument("--json", metavar="FILE", help="put the results there, beside those of other models")


def run(*command, cpus=None, **more):
    """Standard output of a program on these CPUs, or the end of this one with what it said."""
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pin, **more)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        sys.exit(f"{os.path.basename(sys.argv[0])}: {os.path.basename(command[0])} failed ({done.returncode}): {said}")
    return done.stdout


def compile_limits(work):
    run("cc", "-O3", "-pthread", f"{HERE}/limits.c", "-o", f"{work}/limits")


def compile_peer(options, work):
    include = os.path.join(options.peer, "crate", "vendor", "llama-cpp-sys-4", "llama.cpp")
    lib = os.path.join(os.path.abspath(options.peer), "bin")
    run("c++", "-O2", "-o", f"{work}/peer", f"{HERE}/peer.cpp", f"-I{include}/include", f"-I{include}/ggml/include", f"-L{lib}",
        "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{lib}")


def peer_version(options):
    """None where there is no peer."""
    path = os.path.join(options.peer, "version")
    if not os.path.isfile(path):
        return None
    with open(path) as f:
        return f.read().strip()


def processor():
    """A host may hide the model's name, so its vectors are named too."""
    with open("/proc/cpuinfo") as f:
        text = f.read()
    names = re.findall(r"^model name\s*: (.*)", text, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^flags\s*: (.*)", text, re.MULTILINE)[:1]).split())
    vectors = [name for flag, name in {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "BF16"}.items() if flag in flags]
    return f"{len(names)} x {names[0]} ({', '.join(vectors) or 'no vectors known'})" if names else "an unknown processor"


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:<70}\r", end="", file=sys.stderr, flush=True)


def name_of(model):
    return os.path.basename(model).removesuffix(".gguf")


def format_of(name):
    """Q4_K of some-model.Q4_K_S, the last that looks like one; None."""
    found = re.findall(r"(?:I?Q\d_(?:\d|K|NL|XS)|BF16|F16|F32)", name.upper())
    return found[-1] if found else None


def read_results(path):
    if path and os.path.isfile(path):
        with open(path) as f:
            return json.load(f)
    return {"models": {}}


def keep_results(path, model, found):
    """Adds what was found of a model to the file: what else stands there stays."""
    results = read_results(path)
    results["models"].setdefault(name_of(model), {}).update(found)
    if path:
        with open(path, "w") as f:
            json.dump(results, f, indent=1, sort_keys=True)
            f.write("\n")
    return results["models"][name_of(model)]
