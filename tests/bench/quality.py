#!/usr/bin/env python3
"""How far the production kernels are from F32 arithmetic on the same dequantised weights, ours and the peer's.

Over the first TOKENS ids of a text, in windows: mean KL(F32 || other) in nats and how often the most likely token is the
same. F32 is ponder's own F32 path on an F32 GGUF that the peer's llama-quantize dequantises from MODEL; the row `peer F32`
(the peer on that file, F32 store; --references) says how far the two references are apart. Python's standard library only; a C
and a C++ compiler; the peer from peer.sh.

  tests/bench/quality.py MODEL.gguf... [--peer build-peer] [--ponder build/gcc/examples/ponder] [--json results.json]
"""
import argparse
import os
import shutil
import signal
import sys
import tempfile

from common import HERE, add_options as add_common_options, compile_peer, keep_results, name_of, peer_version, progress, run


def windows(options, work, model):
    """The text's ids cut into windows, the begin token before each where the model wants one; and how many rows to skip."""
    with open(options.text, "rb") as text:
        bos, ids = run(f"{work}/peer", "ids", model, str(options.tokens), stdin=text).splitlines()
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

    def result(self):
        return {"kl": self.kl / self.rows, "most": self.most, "same": self.same / self.rows, "tokens": self.rows}


def sides(options, work, model, f32):
    """The base first."""
    threads = str(os.cpu_count())
    peer = lambda file, kv: [f"{work}/peer", "logits", file, threads, kv, "OUT", "IDS"]
    ours = lambda file, *more: [options.ponder, "logits", file, "--threads", threads, "--ids", "IDS", "--npy", "OUT", *more]
    references = [Side("peer F32", peer(f32, "f32"))] if options.references else []
    return [Side("ponder F32", ours(f32)), Side("ponder", ours(model, "--native")), Side("peer", peer(model, "f16")), *references]


def vocab_of(path, rows):
    return (os.path.getsize(path) - 128) // (4 * rows)


def compare(options, work, model):
    f32 = os.path.join(work, "f32.gguf")
    run(os.path.join(options.peer, "bin", "llama-quantize"), "--allow-requantize", model, f32, "F32", str(os.cpu_count()))
    texts, skip = windows(options, work, model)
    base, *others = sides(options, work, model, f32)
    for n, ids in enumerate(texts):
        progress(f"{name_of(model)}: window {n + 1} of {len(texts)}")
        base.compute(ids, f"{work}/base")
        for side in others:
            side.compute(ids, f"{work}/other")
            vocab = vocab_of(f"{work}/base", len(ids))
            side.add(run(f"{work}/divergence", f"{work}/base", f"{work}/other", str(vocab), str(skip)))
    progress("")
    return {side.name: side.result() for side in others}


def measure(options, model):
    """{side: its distances}, in a scratch folder of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the scratch folder goes then too
    work = tempfile.mkdtemp(prefix="quality-", dir=options.work)
    try:
        compile_peer(options, work)
        run("cc", "-O2", "-march=native", "-o", f"{work}/divergence", f"{HERE}/divergence.c", "-lm")
        return compare(options, work, model)
    finally:
        shutil.rmtree(work)


def add_options(parser):
    parser.add_argument("--text", default="/usr/share/common-licenses/GPL-3", help="a text (Debian's own GPL-3)")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--references", action="store_true", help="also how far the peer's F32 is from ours")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    add_options(parser)
    options = parser.parse_args()
    print(f"peer: {peer_version(options)}; text: {options.text}, {options.tokens} tokens in windows of {options.window}")
    print(f"{'':<40}{'mean KL':>12}{'largest':>12}{'same top':>12}")
    for model in options.models:
        found = measure(options, model)
        keep_results(options.json, model, {"quality": found})
        for side, r in found.items():
            print(f"{name_of(model) + ', ' + side:<40}{r['kl']:>12.6f}{r['most']:>12.4f}{100 * r['same']:>10.2f} %", flush=True)


if __name__ == "__main__":
    main()
