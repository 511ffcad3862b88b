#!/usr/bin/env python3
"""How far the production kernels are from F32 arithmetic on the same dequantised weights, ours and the peer's.

Over the first TOKENS ids of a text, in windows: mean KL(F32 || other) in nats and how often the most likely token is the
same. F32 is ponder's own F32 path on an F32 GGUF that the peer's llama-quantize dequantises from MODEL; the row `peer F32`
(the peer on that file, F32 store) says how far the two references are apart. Python's standard library only; a C and a
C++ compiler; the peer from peer.sh.

  tests/bench/quality.py MODEL.gguf... [--peer build-peer] [--ponder build/gcc/examples/ponder]
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def our_program():
    """Of the builds that run.sh, a plain meson setup and quickstart.sh make, the first that is there."""
    builds = [os.path.join(ROOT, *b.split("/"), "examples", "ponder") for b in ("build/gcc", "build", "build-quickstart")]
    return next((b for b in builds if os.path.isfile(b)), builds[0])


def run(*command, stdin=None):
    """Standard output of a program, or the end of this one with what it said."""
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        sys.exit(f"quality.py: {os.path.basename(command[0])} failed ({done.returncode}): {said}")
    return done.stdout


def build(options, work):
    """The two small programs beside this script, built into the scratch folder."""
    include = os.path.join(options.peer, "crate", "vendor", "llama-cpp-sys-4", "llama.cpp")
    lib = os.path.join(options.peer, "bin")
    run("c++", "-O2", "-o", f"{work}/peer_logits", f"{HERE}/peer_logits.cpp", f"-I{include}/include",
        f"-I{include}/ggml/include", f"-L{lib}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{lib}")
    run("cc", "-O2", "-march=native", "-o", f"{work}/divergence", f"{HERE}/divergence.c", "-lm")


def windows(options, work, model):
    """The text's ids cut into windows, the begin token before each where the model wants one; and how many rows to skip."""
    with open(options.text, "rb") as text:
        bos, ids = run(f"{work}/peer_logits", "ids", model, str(options.tokens), stdin=text).splitlines()
    ids = [int(i) for i in ids.split()]
    if len(ids) < options.tokens:
        sys.exit(f"quality.py: {options.text} has only {len(ids)} tokens")
    begin = [int(bos)] if int(bos) >= 0 else []
    return [begin + ids[i:i + options.window] for i in range(0, len(ids), options.window)], len(begin)


class Side:
    """One way of computing logits, and the sums of its distances from the base."""

    def __init__(self, name, command):
        self.name, self.command = name, command
        self.rows = self.same = 0
        self.kl = self.most = 0.0

    def compute(self, ids, out):
        run(*[{"IDS": ",".join(map(str, ids)), "OUT": out}.get(word, word) for word in self.command])

    def add(self, line):
        rows, kl, most, same = line.split()
        self.rows += int(rows)
        self.kl += float(kl)
        self.most = max(self.most, float(most))
        self.same += int(same)

    def row(self):
        return f"  {self.name:<28}{self.kl / self.rows:>12.6f}{self.most:>12.4f}{100 * self.same / self.rows:>10.2f} %"


def sides(options, work, model, f32):
    """The base first."""
    threads = str(options.threads)
    peer = lambda file, kv: [f"{work}/peer_logits", "logits", file, threads, kv, "OUT", "IDS"]
    ours = lambda file, *more: [options.ponder, "logits", file, "--threads", threads, "--ids", "IDS", "--npy", "OUT", *more]
    found = [Side("peer F32", peer(f32, "f32")), Side("peer", peer(model, "f16"))]
    if options.base == "ours":
        found.insert(1, Side("ponder", ours(model, "--native")))
        found.insert(0, Side("ponder F32", ours(f32)))
    return found


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text:<60}\r", end="", file=sys.stderr, flush=True)


def vocab_of(path, rows):
    return (os.path.getsize(path) - 128) // (4 * rows)


def measure(options, work, model):
    f32 = os.path.join(work, "f32.gguf")
    run(os.path.join(options.peer, "bin", "llama-quantize"), "--allow-requantize", model, f32, "F32", str(options.threads))
    texts, skip = windows(options, work, model)
    base, *others = sides(options, work, model, f32)
    for n, ids in enumerate(texts):
        progress(f"{os.path.basename(model)}: window {n + 1} of {len(texts)}")
        base.compute(ids, f"{work}/base")
        for side in others:
            side.compute(ids, f"{work}/other")
            vocab = vocab_of(f"{work}/base", len(ids))
            side.add(run(f"{work}/divergence", f"{work}/base", f"{work}/other", str(vocab), str(skip)))
    progress("")
    print(f"{os.path.basename(model)}: {others[0].rows} tokens in windows of {options.window}, against {base.name}")
    print(f"  {'':<28}{'mean KL':>12}{'largest':>12}{'same top':>12}")
    for side in others:
        print(side.row(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--peer", default=os.path.join(ROOT, "build-peer"), help="folder that peer.sh built")
    parser.add_argument("--ponder", default=our_program(), help="our program")
    parser.add_argument("--base", choices=["ours", "peer"], default="ours", help="whose F32; peer: without ponder at all")
    parser.add_argument("--text", default="/usr/share/common-licenses/GPL-3", help="a text (Debian's own GPL-3)")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", default=tempfile.gettempdir(), help="where the scratch folder is made (some GB)")
    options = parser.parse_args()
    options.peer = os.path.abspath(options.peer)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the scratch folder goes then too
    work = tempfile.mkdtemp(prefix="quality-", dir=options.work)
    try:
        with open(os.path.join(options.peer, "version")) as f:
            print(f"peer: {f.read().strip()}; text: {options.text}")
        build(options, work)
        for model in options.models:
            measure(options, work, model)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
