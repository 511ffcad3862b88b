#!/usr/bin/env python3
"""closes.py MODEL.gguf [--prompts N] [--most N] [--grace N] [--soft N]: where thoughts are closed. A model that marks no thoughts writes prose
between markers of the host's; each prompt is let run to its natural end first, then again with a cap of half its length. Says how
many of the closes fall on the end of a sentence or line, and how far before the cap. The Python layer and its library are found as
everywhere (PYTHONPATH, PONDER_LIBRARY)."""
import argparse
import ctypes
from concurrent.futures import ThreadPoolExecutor

import ponder
from ponder import _api
from ponder._lib import lib

TOPICS = ["a lighthouse", "the tides", "baking bread", "a chess game", "the moon", "a train journey", "honey bees", "an old map", "a violin",
          "winter", "a garden", "the number zero", "glass", "a market", "sleep", "a river", "clouds", "a clock", "maps of the sea", "paper",
          "a small town", "wind mills", "salt", "a bridge", "coffee"]
ASKS = ["Tell me about %s in a few short paragraphs.", "Explain %s step by step to a child.", "Write a short story about %s.",
        "What should one know about %s?"]
ENDS = ".!?\n:\u3002"


def thought(session):
    t = _api.ponder_thought(size=ctypes.sizeof(_api.ponder_thought))
    session._call(lib.ponder_session_thought, ctypes.byref(t))
    return t


def think(model, prompt, seed, **options):
    s = model.session(temperature=0.7, top_p=0.95, seed=seed, context=2048, think_open="<think>", think_close="</think>", think_start=1, **options)
    s.add("user", prompt)
    text = []

    def note(e):
        if e.kind == ponder.EVENT_THOUGHT:
            text.append(e.text)
        return e.kind == ponder.EVENT_ANSWER  # the rest is not looked at
    s.generate(note)
    t = thought(s)
    return "".join(text), t.tokens, t.why


def at_end(text):
    bare = text.rstrip(" \"')]*\u201d\u2019")
    return text.endswith("\n") or (bare and bare[-1] in ENDS)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--prompts", type=int, default=60)
    ap.add_argument("--most", type=int, default=500)
    ap.add_argument("--callers", type=int, default=12)
    ap.add_argument("--grace", type=int, default=-1)
    ap.add_argument("--soft", type=int, default=-1)
    ap.add_argument("--show", action="store_true")
    a = ap.parse_args()
    model = ponder.Model(a.model, threads=2)
    prompts = [(ASKS[i // len(TOPICS) % len(ASKS)] % TOPICS[i % len(TOPICS)], i) for i in range(a.prompts)]

    def one(p):
        _, natural, why = think(model, *p, think_tokens=a.most)
        if why != _api.THOUGHT_NATURAL:
            natural = a.most
        cap = natural // 2
        text, tokens, how = think(model, *p, think_tokens=cap, think_grace=a.grace, think_soft=a.soft)
        return natural, why, cap, tokens, how, text
    with ThreadPoolExecutor(a.callers) as pool:
        rows = list(pool.map(one, prompts))
    closes = [r for r in rows if r[4] != _api.THOUGHT_NATURAL]
    good = [r for r in closes if at_end(r[5])]
    over = [r for r in rows if r[3] > r[2]]
    print("%d prompts, %d ended naturally within %d tokens, natural length %.0f on average" %
          (len(rows), sum(r[1] == _api.THOUGHT_NATURAL for r in rows), a.most, sum(r[0] for r in rows) / len(rows)))
    print("cut at half: %d closes (%d of them hard), %d at the end of a sentence or line (%.0f %%), %d over the cap" %
          (len(closes), sum(r[4] == _api.THOUGHT_CAP for r in closes), len(good), 100 * len(good) / max(1, len(closes)), len(over)))
    print("used of the cap: %.0f %% on average" % (100 * sum(r[3] / r[2] for r in closes) / max(1, len(closes))))
    for r in closes:
        if a.show or not at_end(r[5]):
            print("   cap %d, %d used, why %d: ...%r" % (r[2], r[3], r[4], r[5][-60:]))


if __name__ == "__main__":
    main()
