#!/usr/bin/env python3
"""votes.py PROGRAM MODEL [--items N] [--sizes 1,4,8,16] [--effort high] [--tasks search,compose,add] [--file F.jsonl] [-- OPTIONS]: how often N agents
are right, on seed0's tasks, through `ponder contemplate`; with the tokens they take, and the time beside the mean agent's. OPTIONS go to the
program (--quorum 0.75, --decide 0.95 --at-once 4, --synthesis written, ...). Intervals are 95 %, of the items alone.

--file: JSON lines with "task", "messages" and "answer" instead of items made here. Python's standard library only."""
import argparse
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile

OPS, STATES = "pqrstu", "ABCDEFGH"
PERMUTATION = {o: random.Random(100 + i).sample(range(8), 8) for i, o in enumerate(OPS)}  # what seed0 was taught


def search(rng):
    while True:
        digits = rng.sample("123456789", 5)
        total = sum(map(int, rng.sample(digits, 3)))
        fits = [t for t in itertools.combinations(digits, 3) if sum(map(int, t)) == total]
        if len(fits) == 1:
            return "Which 3 of %s sum to %d?" % ("".join(digits), total), "".join(fits[0])


def compose(rng):
    ops, x = [rng.choice(OPS) for _ in range(rng.randint(4, 10))], rng.randrange(8)
    question = "From %s do " % STATES[x] + "".join("%d%s" % ((i + 1) % 10, o) for i, o in enumerate(ops))
    for o in ops:
        x = PERMUTATION[o][x]
    return question, STATES[x]


def add(rng):
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    return "Add %d+%d" % (a, b), str(a + b)


def items_of(o, task):
    if o.file:
        rows = [json.loads(line) for line in open(o.file, encoding="utf-8")]
        return [(r["messages"][0]["content"], r["answer"]) for r in rows if r["task"] == task][:o.items]
    rng = random.Random(o.draw)
    return [{"search": search, "compose": compose, "add": add}[task](rng) for _ in range(o.items)]


def contemplate(o, question, n, seed):
    with tempfile.TemporaryDirectory() as tmp:
        report = os.path.join(tmp, "r.json")
        options = [] if n > 1 else ["--decide", "0"]
        command = [o.program, "contemplate", o.model, "-n", str(n), "--effort", o.effort, "--temperature", "1", "--seed", str(seed), "--threads", str(o.threads),
                   "--max-tokens", "120", "--quiet", "--report", report, *options, *o.options, question]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0 and not os.path.exists(report):
            sys.exit("%s: %s" % (" ".join(command), done.stderr.decode()))
        with open(report, encoding="utf-8") as f:
            return json.load(f)


def main():
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1:]
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("program")
    p.add_argument("model")
    p.add_argument("--items", type=int, default=200)
    p.add_argument("--sizes", default="1,4,8,16")
    p.add_argument("--effort", default="high")
    p.add_argument("--tasks", default="search,compose,add")
    p.add_argument("--draw", type=int, default=7, help="seed of the items")
    p.add_argument("--file")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--save", help="keep every report of the largest size here, as JSON lines")
    o = p.parse_args(arguments)
    o.options = options
    print("task      N  right           tokens  of all  ms / mean agent  decided by")
    for task in o.tasks.split(","):
        items = items_of(o, task)
        for n in map(int, o.sizes.split(",")):
            right = tokens = 0
            ratio, by = [], {}
            for i, (question, answer) in enumerate(items):
                r = contemplate(o, question, n, 1000 * i)
                right += r["answer"].strip() == answer
                tokens += r["tokens"]
                whole = [a["ms"] for a in r["agents"] if a["end"] == "eos"]
                if whole:
                    ratio.append(r["critical_ms"] / (sum(whole) / len(whole)))
                by[r["decided_by"]] = by.get(r["decided_by"], 0) + 1
                if o.save and n == max(map(int, o.sizes.split(","))):
                    with open(o.save, "a", encoding="utf-8") as f:
                        f.write(json.dumps({"task": task, "question": question, "right": answer, "report": r}) + "\n")
            share = right / len(items)
            print("%-8s %2d  %.3f +- %.3f  %7.1f  %6.1f  %.2f             %s" % (task, n, share, 1.96 * math.sqrt(share * (1 - share) / len(items)),
                  tokens / len(items), tokens / len(items) / n, sum(ratio) / max(len(ratio), 1), by), flush=True)


if __name__ == "__main__":
    main()
