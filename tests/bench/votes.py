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


# For models that know something. The answer counts when it has the word.
FACTS = """What is the capital of France?|paris
What is the capital of Japan?|tokyo
What is the capital of Italy?|rome
What is the capital of Egypt?|cairo
What is the capital of Canada?|ottawa
What is the capital of Australia?|canberra
What is the capital of Spain?|madrid
What is the capital of Norway?|oslo
What is the largest planet of the solar system?|jupiter
Which planet is closest to the sun?|mercury
What gas do plants take in from the air?|carbon dioxide
What is the chemical symbol of gold?|au
What is the chemical formula of water?|h2o
How many legs does a spider have?|eight|8
How many days does a leap year have?|366
How many continents are there?|seven|7
What is the square root of 81?|9|nine
What is 7 times 8?|56
What is 15 plus 27?|42
What is 100 minus 37?|63
Who wrote Romeo and Juliet?|shakespeare
Who painted the Mona Lisa?|leonardo|da vinci
Which ocean is the largest?|pacific
Which language is spoken in Brazil?|portuguese
What colour do blue and yellow make?|green
What is the opposite of hot?|cold
What is frozen water called?|ice
Which animal is called the king of the jungle?|lion
What is the first month of the year?|january
Which organ pumps blood through the body?|heart
What do bees make?|honey
How many minutes are in an hour?|60|sixty
What is the plural of mouse?|mice
Which metal is attracted by a magnet: gold, iron or copper?|iron
What is the boiling point of water in degrees Celsius?|100
On which continent is Kenya?|africa
Which is larger, a million or a billion?|billion
What is the tallest mountain in the world?|everest
What do you call a baby dog?|puppy
Which star is closest to the earth?|sun"""


def is_right(answer, right):
    return answer.strip() == right if "|" not in right else any(w in answer.lower() for w in right.split("|") if w)


def items_of(o, task):
    if task == "facts":
        return [(line.split("|")[0], line.split("|", 1)[1] + "|") for line in FACTS.splitlines()][:o.items]
    if o.file:
        rows = [json.loads(line) for line in open(o.file, encoding="utf-8")]
        return [(r["messages"][0]["content"], r["answer"]) for r in rows if r["task"] == task][:o.items]
    rng = random.Random(o.draw)
    return [{"search": search, "compose": compose, "add": add}[task](rng) for _ in range(o.items)]


def contemplate(o, question, n, seed):
    with tempfile.TemporaryDirectory() as tmp:
        report = os.path.join(tmp, "r.json")
        options = [] if n > 1 else ["--decide", "0"]
        command = [o.program, "contemplate", o.model, "-n", str(n), *(["--effort", o.effort] if o.effort else []), "--temperature", str(o.temperature), "--seed", str(seed), "--threads", str(o.threads),
                   "--max-tokens", str(o.max_tokens), "--context", "1024", "--quiet", "--report", report, *options, *o.options, question]
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
    p.add_argument("--effort", default="high", help='"" for models whose template has none')
    p.add_argument("--temperature", type=float, default=1)
    p.add_argument("--tasks", default="search,compose,add", help="also facts, for models that know something")
    p.add_argument("--draw", type=int, default=7, help="seed of the items")
    p.add_argument("--file")
    p.add_argument("--max-tokens", type=int, default=120)
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
                right += is_right(r["answer"], answer)
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
