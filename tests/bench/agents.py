#!/usr/bin/env python3
"""N agents beside one: N sequences of equal length that share a prefix of 256 tokens, ours and the peer's in turns, in one run.

For each N the total rate in tokens a second (best and median of the rounds), how many times as long N take as one does
(best rates; 1.0 would be free, N no gain at all), and the ratio ours / peer. The peer plays its best hand: each of its
settings is tried first, and for every N the fastest is used. Between the rounds the machine's read bandwidth is measured
with as many threads: `of it` is how much of it one sequence's step uses, were the file's bytes all read once a step.
Python's standard library only; the peer from peer.sh, and a model larger than the last-level cache if N to one is to mean much.

  tests/bench/agents.py MODEL.gguf [--peer build-peer] [--ponder build/gcc/examples/ponder] [--threads 2] [--json OUT]
"""
import argparse
import ctypes
import json
import os
import statistics
import sys
import threading
import time

from compare import ROOT, our_program, processor, run

PREFIX, LENGTH = 256, 128
# One cache that all share, or one for each (the prefix is copied); fused attention or not.
SETTINGS = {f"{cache}, {attention}": [*kvu, "-fa", fa]
            for cache, kvu in (("shared cache", ["-kvu"]), ("own caches", ["-no-kvu"]))
            for attention, fa in (("flash", "on"), ("plain", "off"))}


def ours(options, n):
    command = [options.ponder, "bench", options.model, "--json", "--threads", str(options.threads), "--repeat", "2",
               "--sequences", str(n), *(["--stepped"] if options.stepped else [])]
    return json.loads(run(*command))[f"decode_{n}"]


def peer(options, n, setting, length=LENGTH):
    """Twice like ours, the better of two."""
    context = (PREFIX if "-kvu" in SETTINGS[setting] else n * PREFIX) + n * length + n * 32
    rates = []
    for _ in range(2):
        text = run(f"{options.peer}/bin/llama-batched-bench", "-m", options.model, "-npp", str(PREFIX), "-ntg", str(length), "-pps",
                   *SETTINGS[setting], "-npl", str(n), "-c", str(context), "-t", str(options.threads), "--output-format", "jsonl")
        rates += [json.loads(line)["speed_tg"] for line in text.splitlines() if line.startswith("{")]
    if not rates:
        sys.exit(f"agents.py: the peer measured nothing with {setting}, {n} sequences")
    return max(rates)


def best_settings(options, counts):
    return {n: max(SETTINGS, key=lambda s: peer(options, n, s, LENGTH // 4)) for n in counts}


class Bandwidth:
    """Reading memory that no cache holds, all threads at once: the C library's memchr looks for a byte that is not there."""

    def __init__(self, threads, size=256 << 20):
        self.size, self.libc = size, ctypes.CDLL(None)
        self.libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self.libc.memchr.restype = ctypes.c_void_p
        self.parts = [ctypes.create_string_buffer(size) for _ in range(threads)]
        for part in self.parts:                     # written once, or every page would be the same page of zeros
            ctypes.memset(part, 0xA5, size)

    def measure(self):
        threads = [threading.Thread(target=self.libc.memchr, args=(ctypes.addressof(p), 0, self.size)) for p in self.parts]
        begin = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return self.size * len(threads) / (time.perf_counter() - begin) / 1e9


def measure(options, counts, settings):
    a, b, bandwidth, memory = {n: [] for n in counts}, {n: [] for n in counts}, [], Bandwidth(options.threads)
    for round_ in range(options.rounds):
        for n in counts:
            if sys.stderr.isatty():
                print(f"\rround {round_ + 1} of {options.rounds}, {n} sequences  \r", end="", file=sys.stderr, flush=True)
            bandwidth.append(max(memory.measure() for _ in range(3)))
            a[n].append(ours(options, n))
            b[n].append(peer(options, n, settings[n]))
    return a, b, bandwidth


def table(options, a, b, bandwidth, settings):
    read = max(bandwidth)
    share = lambda rates: max(rates[1]) * os.path.getsize(options.model) / 1e9 / read
    print(f"{os.path.basename(options.model)}, {os.path.getsize(options.model) / 1e6:.0f} MB, {options.threads} threads, {options.rounds} rounds")
    print(f"read bandwidth {read:.1f} GB/s (median {statistics.median(bandwidth):.1f}); of it one sequence uses: ponder {share(a):.0%}, peer {share(b):.0%}")
    print(f"{'N':>4}{'ponder':>10}{'median':>9}{'peer':>10}{'median':>9}{'ratio':>8}{'N to 1':>9}{'peer':>7}   the peer's setting")
    for n in a:
        longer = [n * max(rates[1]) / max(rates[n]) for rates in (a, b)]
        print(f"{n:>4}{max(a[n]):>10.1f}{statistics.median(a[n]):>9.1f}{max(b[n]):>10.1f}{statistics.median(b[n]):>9.1f}"
              f"{max(a[n]) / max(b[n]):>7.2f}x{longer[0]:>8.2f}x{longer[1]:>6.2f}x   {settings[n]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL.gguf")
    parser.add_argument("--peer", default=os.path.join(ROOT, "build-peer"), help="folder that peer.sh built")
    parser.add_argument("--ponder", default=our_program(), help="our program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", default="1,2,4,8,16,32")
    parser.add_argument("--stepped", action="store_true", help="ours stepped in turn on one host thread, not on a thread each")
    parser.add_argument("--json", metavar="OUT", help="also write every round's rates there")
    options = parser.parse_args()
    counts = sorted({1, *map(int, options.sequences.split(","))})
    with open(os.path.join(options.peer, "version")) as f:
        print(f"peer: {f.read().strip()}, on {processor()}", flush=True)
    settings = best_settings(options, counts)
    a, b, bandwidth = measure(options, counts, settings)
    table(options, a, b, bandwidth, settings)
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"model": os.path.basename(options.model), "threads": options.threads, "ponder": a, "peer": b,
                       "settings": settings, "read_gb_s": bandwidth}, f)


if __name__ == "__main__":
    main()
