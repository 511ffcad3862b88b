#!/usr/bin/env python3
"""The suite: speed, load, memory and quality of models beside the peer, with the machine's limits, all in one run.

Both take turns in rounds on pinned CPUs, with all threads and then with one; between them the machine's read bandwidth and
multiply-add rates are measured. Best and median of all samples, the ratio of the bests, the share of the limit that the best is
(decoding: bytes of weights a second of the read bandwidth; else multiply-adds of the products of the int8, BF16 or FP32 rate),
and the aim with a mark. The peer plays its best hand: for each of its settings a short trial says which it uses.

  prefill       a prompt of 512 tokens                          decode     128 tokens of one sequence
  decode_N      N sequences that share a prefix of 256, 32 tokens each, in all
  first, second from the start of the process to the first token after 8, and to the second, before which ours has repacked the weights;
                files in the page cache; memory: the most until then (VmHWM), of ours until the second
  hog           decode while something else takes half of one core: share of the quiet speed in the same run

Afterwards quality.py (--no-quality: not). Without a peer the same for ours alone.

  tests/bench/suite.py MODEL.gguf... [--peer build-peer] [--json results.json] [--rounds 2]
  tests/bench/report.py results.json          the whole as tables
"""
import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import quality
import report
from common import (add_options, compile_limits, compile_peer, format_of, keep_results, name_of, peer_version, processor, progress, run)

COUNTS = "8,16,32"
# How the peer keeps many sequences: one cache that all share, or one for each (the prefix is copied); fused attention or not.
TOGETHER = [f"{kvu} -fa {fa}" for kvu in ("-kvu", "-no-kvu") for fa in ("on", "off")]
HOG_PERIOD = 0.02


def cpus_of(threads):
    """The last ones: the first usually has the machine's interrupts."""
    return set(sorted(os.sched_getaffinity(0))[-threads:])


def ours(options, model, threads, *arguments):
    return json.loads(run(options.ponder, "bench", model, "--json", "--threads", str(threads), *arguments, cpus=cpus_of(threads)))


def our_speeds(options, model, threads):
    found = ours(options, model, threads, "--repeat", "2")
    if options.small:
        return {"prefill": found["prefill_512"], "decode": found["decode"]}
    together = ours(options, model, threads, "--prompt", "0", "--context", "0", "--tokens", "32", "--sequences", COUNTS, "--repeat", "2")
    return {"prefill": found["prefill_512"], "decode": found["decode"],
            **{key: rate for key, rate in together.items() if key.startswith("decode_")}}


def first_line(command, threads):
    """Milliseconds from the start of a program to its first line, and the line."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, cpus_of(threads))) as child:
        line = child.stdout.readline()
        took = (time.perf_counter() - begin) * 1e3
    if child.returncode:
        sys.exit(f"suite.py: {' '.join(command)} failed")
    return took, line


def our_first(options, model, threads):
    """In processes of their own, for the bench tells what it measured at its end."""
    bench = [options.ponder, "bench", model, "--json", "--threads", str(threads), "--repeat", "1"]
    first, _ = first_line([*bench, "--prompt", "8", "--context", "0"], threads)
    second, line = first_line([*bench, "--prompt", "0", "--context", "8", "--tokens", "1"], threads)
    return {"first": first, "second": second, "memory": json.loads(line)["peak_bytes"] / 1e6}


def peer_first(options, model, threads):
    """Mapped or read: the better of the two in each."""
    tries = {tokens: [first_line([f"{options.scratch}/peer", "first", model, str(threads), mode, str(tokens)], threads)
                      for mode in ("map", "read")] for tokens in (1, 2)}
    return {"first": min(took for took, _ in tries[1]), "second": min(took for took, _ in tries[2]),
            "memory": min(int(line) for _, line in tries[1]) / 1e6}


def peer_single(options, model, threads, fa="on,off", prompt=512, tokens=128, repeat=2):
    """{(measure, fa): rate}"""
    found = json.loads(run(f"{options.peer}/bin/llama-bench", "-m", model, "-p", str(prompt), "-n", str(tokens), "-r", str(repeat),
                           "-fa", fa, "-t", str(threads), "-o", "json", cpus=cpus_of(threads)))
    return {("prefill" if r["n_prompt"] else "decode", r["flash_attn"]): max(r["samples_ts"]) for r in found}


def peer_together(options, model, threads, setting, counts=COUNTS, tokens=32):
    """{measure: rate}; a count that stands there twice is measured twice, and the better kept."""
    most = max(map(int, counts.split(",")))
    prefix = 256 if setting.startswith("-kvu") else 256 * most
    text = run(f"{options.peer}/bin/llama-batched-bench", "-m", model, "-npp", "256", "-ntg", str(tokens), "-pps", *setting.split(),
               "-npl", counts, "-c", str(prefix + most * (tokens + 32)), "-t", str(threads), "--output-format", "jsonl", cpus=cpus_of(threads))
    rates = {}
    for r in map(json.loads, filter(lambda line: line.startswith("{"), text.splitlines())):
        key = f"decode_{r['pl']}"
        rates[key] = max(rates.get(key, 0), r["speed_tg"])
    return rates


def best_hand(options, model, threads):
    """The peer's fastest settings: of fused attention for one sequence, of all four for each number of sequences."""
    single = peer_single(options, model, threads, tokens=32, repeat=1)
    tried = {setting: peer_together(options, model, threads, setting, tokens=8) for setting in TOGETHER}
    hand = {key: max((rate, fa) for (k, fa), rate in single.items() if k == key)[1] for key in ("prefill", "decode")}
    return {**hand, **{f"decode_{n}": max(TOGETHER, key=lambda s: tried[s].get(f"decode_{n}", 0)) for n in COUNTS.split(",")}}


def peer_speeds(options, model, threads, hand):
    """In one process whatever has the same settings."""
    rates = {}
    for fa in {hand["prefill"], hand["decode"]}:
        wanted = {key for key in ("prefill", "decode") if hand[key] == fa}
        found = peer_single(options, model, threads, str(fa), 512 if "prefill" in wanted else 0, 128 if "decode" in wanted else 0)
        rates.update({key: rate for (key, _), rate in found.items()})
    for setting in sorted({hand[f"decode_{n}"] for n in COUNTS.split(",")}):
        counts = [n for n in COUNTS.split(",") if hand[f"decode_{n}"] == setting]
        rates.update(peer_together(options, model, threads, setting, ",".join(counts * 2)))
    return rates


def spin(cpu):
    """Half of one core: busy for the first half of each period."""
    os.sched_setaffinity(0, {cpu})
    while True:
        begin = time.monotonic()
        while time.monotonic() - begin < HOG_PERIOD / 2:
            pass
        time.sleep(max(0, begin + HOG_PERIOD - time.monotonic()))


def beside_a_hog(options, threads, measure):
    """The rate while a hog runs on one of the CPUs that the measured program has, as a share of the same without, in per cent."""
    quiet = measure()
    hog = multiprocessing.Process(target=spin, args=(max(cpus_of(threads)),), daemon=True)
    hog.start()
    try:
        return {"hog": 100 * measure() / quiet}
    finally:
        hog.kill()
        hog.join()


def our_hog(options, model, threads):
    return beside_a_hog(options, threads,
                        lambda: ours(options, model, threads, "--prompt", "0", "--repeat", "2")["decode"])


def peer_hog(options, model, threads):
    """Its own loop and not llama-bench, which would take minutes to decode the tokens."""
    return beside_a_hog(options, threads, lambda: float(run(f"{options.scratch}/peer", "decode", model, str(threads), "700",
                                                            cpus=cpus_of(threads))))


def collect(samples, rates):
    for key, rate in rates.items():
        samples.setdefault(key, []).append(rate)


def measure(options, model, threads, hand):
    """Rounds of the limits, ours and the peer's; who is first changes."""
    limits, a, b = {}, {}, {}
    turns = [(a, lambda: our_speeds(options, model, threads)), (a, lambda: our_first(options, model, threads))]
    if hand:
        turns = [turns[0], (b, lambda: peer_speeds(options, model, threads, hand)),
                 turns[1], (b, lambda: peer_first(options, model, threads))]
        if threads > 1:
            turns += [(a, lambda: our_hog(options, model, threads)), (b, lambda: peer_hog(options, model, threads))]
    for n in range(options.rounds):
        progress(f"{name_of(model)}: round {n + 1} of {options.rounds}, {threads} threads")
        collect(limits, {key: value for key, value in json.loads(run(f"{options.scratch}/limits", str(threads))).items()
                         if key.endswith("_s")})
        for samples, turn in turns[::-1] if n % 2 else turns:
            collect(samples, turn())
    progress("")
    return {"ponder": a, "peer": b, "limits": limits}


def suite(options, model, version):
    info = json.loads(run(options.ponder, "info", model, "--json"))
    most = len(os.sched_getaffinity(0))
    hand = best_hand(options, model, most) if version else {}
    found = {"machine": processor(), "date": time.strftime("%Y-%m-%d"), "peer": version, "hand": hand, "format": format_of(name_of(model)) or info["type"],
             "weight_bytes": info["weight_bytes"], "parameters": info["parameters"], "head": info["vocab"] * info["width"],
             "threads": {str(threads): measure(options, model, threads, hand) for threads in sorted({most, 1}, reverse=True)}}
    if version and not options.no_quality:
        found["quality"] = quality.measure(options, model)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    quality.add_options(parser)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-quality", action="store_true")
    parser.add_argument("--small", action="store_true", help="one round of prefill, decode and load, without the peer: seconds")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the scratch folder goes then too
    options.scratch = tempfile.mkdtemp(prefix="suite-", dir=options.work)
    version = None if options.small else peer_version(options)
    options.rounds = 1 if options.small else options.rounds
    try:
        compile_limits(options.scratch)
        if version:
            compile_peer(options, options.scratch)
        for model in options.models:
            print(report.one(name_of(model), keep_results(options.json, model, suite(options, model, version))), flush=True)
    finally:
        shutil.rmtree(options.scratch)


if __name__ == "__main__":
    main()
