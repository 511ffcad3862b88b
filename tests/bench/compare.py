#!/usr/bin/env python3
"""Speed beside the peer: the same GGUF, the same threads, in one run, taking turns so that both meet the same machine.

Prefill of 512 tokens, decoding of 128, and N sequences that share a prefix of 256 tokens (128 each, total rate), in
tokens a second; best and median, and the ratio ours / peer of the bests. Python's standard library only; the peer from
peer.sh.

  tests/bench/compare.py MODEL.gguf... [--peer build-peer] [--ponder build/gcc/examples/ponder] [--threads 2]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def our_program():
    """Of the builds that run.sh, a plain meson setup and quickstart.sh make, the first that is there."""
    builds = [os.path.join(ROOT, *b.split("/"), "examples", "ponder") for b in ("build/gcc", "build", "build-quickstart")]
    return next((b for b in builds if os.path.isfile(b)), builds[0])


def run(*command):
    """Standard output of a program, or the end of this one with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare.py: {os.path.basename(command[0])} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def ours(options, model, counts):
    """{measure: rate} of one run of our program, which keeps the best of its two repeats."""
    several = ["--sequences", ",".join(map(str, counts))] if counts else []
    found = json.loads(run(options.ponder, "bench", model, "--json", "--threads", str(options.threads), "--repeat", "2",
                           *several))
    return {key: rate for key, rate in found.items() if key.startswith(("prefill_", "decode"))}


def peer_single(options, model):
    found = json.loads(run(f"{options.peer}/bin/llama-bench", "-m", model, "-p", "512", "-n", "128", "-r", "2",
                           "-t", str(options.threads), "-o", "json"))
    return {"prefill_512" if r["n_prompt"] else "decode": max(r["samples_ts"]) for r in found}


def peer_together(options, model, counts):
    """Twice like ours: the better of two."""
    rates = {}
    for _ in range(2 if counts else 0):
        text = run(f"{options.peer}/bin/llama-batched-bench", "-m", model, "-npp", "256", "-ntg", "128", "-pps", "-kvu",
                   "-npl", ",".join(map(str, counts)), "-c", str(256 + 128 * max(counts) + 128),
                   "-t", str(options.threads), "--output-format", "jsonl")
        for line in text.splitlines():
            if line.startswith("{"):
                r = json.loads(line)
                key = f"decode_{r['pl']}"
                rates[key] = max(rates.get(key, 0), r["speed_tg"])
    return rates


def collect(samples, rates):
    for key, rate in rates.items():
        samples.setdefault(key, []).append(rate)


def compare(options, model):
    """Rounds of ours, then the peer's; {measure: ([ours], [peer's])}."""
    counts = [int(n) for n in options.sequences.split(",") if n]
    a, b = {}, {}
    for n in range(options.rounds):
        if sys.stderr.isatty():
            print(f"\r{os.path.basename(model)}: round {n + 1} of {options.rounds}\r", end="", file=sys.stderr, flush=True)
        if not options.peer_only:
            collect(a, ours(options, model, counts))
        collect(b, peer_single(options, model))
        collect(b, peer_together(options, model, counts))
    return {key: (a.get(key, []), b.get(key, [])) for key in {**b, **a}}


def cells(rates):
    return f"{max(rates):>10.1f}{statistics.median(rates):>10.1f}" if rates else f"{'-':>10}{'-':>10}"


def table(options, model, found):
    print(f"{os.path.basename(model)}, {options.threads} threads, {options.rounds} rounds")
    print(f"  {'':<14}{'ponder':>10}{'median':>10}{'peer':>10}{'median':>10}{'ratio':>9}")
    for key, (a, b) in found.items():
        ratio = f"{max(a) / max(b):>8.2f}x" if a and b else f"{'-':>9}"
        print(f"  {key:<14}{cells(a)}{cells(b)}{ratio}", flush=True)


def processor():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else "an unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--peer", default=os.path.join(ROOT, "build-peer"), help="folder that peer.sh built")
    parser.add_argument("--ponder", default=our_program(), help="our program")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", default="1,8,16", help='how many at once; "" for none')
    parser.add_argument("--peer-only", action="store_true", help="the peer's figures without ours")
    options = parser.parse_args()
    with open(os.path.join(options.peer, "version")) as f:
        print(f"peer: {f.read().strip()}, on {processor()}")
    for model in options.models:
        table(options, model, compare(options, model))


if __name__ == "__main__":
    main()
