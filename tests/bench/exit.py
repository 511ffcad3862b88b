#!/usr/bin/env python3
"""exit.py MODEL [--items N] [--samples N] [--effort E] [--file F.jsonl]: what leaving a thought early saves, and costs, on seed0's search task
("Which 3 of 62839 sum to 11?"): for each kind and threshold the share of thought tokens saved, what the probes computed, and the accuracy,
beside a plain cap that thinks as long. The Python layer and its library are found as everywhere (PYTHONPATH, PONDER_LIBRARY).

--file: JSON lines with "task", "messages" and "answer" instead of items made here.
--facts: votes.py's questions, for a model that knows something and marks no thoughts: it is to think in prose between markers of the
host's, at most --most tokens, and answer in at most 24."""
import argparse
import ctypes
import itertools
import json
import random

import ponder
import votes
from ponder import _api
from ponder._lib import lib


def made(n):
    rng, items = random.Random(5), []
    while len(items) < n:
        digits = rng.sample("123456789", 5)
        total = sum(map(int, rng.sample(digits, 3)))
        fits = [t for t in itertools.combinations(digits, 3) if sum(map(int, t)) == total]
        if len(fits) == 1:
            items.append(("Which 3 of %s sum to %d?" % ("".join(digits), total), "".join(fits[0])))
    return items


def read(path):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    return [(r["messages"][0]["content"], r["answer"]) for r in rows if r["task"] == "search"]


def thought(session):
    t = _api.ponder_thought(size=ctypes.sizeof(_api.ponder_thought))
    session._call(lib.ponder_session_thought, ctypes.byref(t))
    return t


def measure(model, items, a, **options):
    right = tokens = probes = early = 0
    if a.facts:
        fixed = {"temperature": 0.7, "think_open": "<think>", "think_close": "</think>", "think_start": 1, "max_tokens": a.most + 30, "answer_tokens": 24}
        fixed["think_tokens"] = a.most
    else:
        fixed = {"temperature": 1.0, "max_tokens": 160, "effort": a.effort}
    for seed in range(a.samples):
        for question, answer in items:
            s = model.session(seed=seed, context=1024, **(fixed | options))
            said = "".join(s.ask("Explain step by step. " + question if a.facts else question))
            t = thought(s)
            right += votes.is_right(said, answer) if a.facts else sorted(said) == sorted(answer)
            tokens += t.tokens
            probes += t.probe_tokens
            early += t.why == _api.THOUGHT_CONFIDENT
    n = len(items) * a.samples
    return right / n, tokens / n, probes / n, early / n


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--items", type=int, default=200)
    ap.add_argument("--samples", type=int, default=2)
    ap.add_argument("--effort", default="xhigh")
    ap.add_argument("--file")
    ap.add_argument("--facts", action="store_true")
    ap.add_argument("--most", type=int, default=120)
    ap.add_argument("--share", type=float, default=100.0, help="think_probe_share")
    a = ap.parse_args()
    model = ponder.Model(a.model, threads=1)
    items = votes.items_of(a, "facts") if a.facts else read(a.file) if a.file else made(a.items)
    runs = len(items) * a.samples
    base = measure(model, items, a)
    print("%d items, %d samples each, %s: accuracy %.3f (+-%.3f), %.1f thought tokens" %
          (len(items), a.samples, "facts" if a.facts else "effort " + a.effort, base[0], 2 * (base[0] * (1 - base[0]) / runs) ** .5, base[1]), flush=True)
    print("| exit | threshold | every | tokens | saved | probes | left early | accuracy |\n|---|---|---|---|---|---|---|---|")
    steps = (16,) if a.facts else (4, 8)
    settings = [("entropy", at, every) for every in steps for at in (0.05, 0.2, 0.5, 1.0, 1.5)]
    settings += [("answer", at, every) for every in steps for at in (0.99, 0.95, 0.9, 0.8, 0.6)]
    for kind, at, every in settings:
        r = measure(model, items, a, think_exit=kind, think_exit_at=at, think_interval=every, think_probe_share=a.share)
        print("| %s | %g | %d | %.1f | %.0f %% | %.0f %% | %.0f %% | %.3f |" %
              (kind, at, every, r[1], 100 * (1 - r[1] / base[1]), 100 * r[2] / r[1], 100 * r[3], r[0]), flush=True)
    for cap in (16, 32, 64, 96) if a.facts else (8, 16, 24, 32, 40):
        r = measure(model, items, a, think_tokens=cap)
        print("| cap | %d | | %.1f | %.0f %% | | | %.3f |" % (cap, r[1], 100 * (1 - r[1] / base[1]), r[0]), flush=True)


if __name__ == "__main__":
    main()
