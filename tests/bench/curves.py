#!/usr/bin/env python3
"""Growth as curves (SVG): what a token takes against the context, the number of agents, the threads and the size of the model.

Measuring and drawing are apart, so that a picture can be mended without the machine. What is measured replaces what the file had of the
same kind and model. Drawing needs matplotlib.

  tests/bench/curves.py measure curves.json MODEL.gguf... [--only context,agents,threads,size]
  tests/bench/curves.py draw curves.json doc/curves
"""
import argparse
import json
import os
import tempfile
import time

from common import compile_limits, name_of, our_program, processor, progress, run

CONTEXTS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768]
AGENTS = [1, 2, 4, 8, 16, 32, 64]


# ---- measuring ----------------------------------------------------------------------------------------

def ours(options, model, *arguments):
    return json.loads(run(options.ponder, "bench", model, "--json", *arguments))


def cpus():
    return len(os.sched_getaffinity(0))


def by_context(options, model):
    """One thread, keys and values that contexts.c makes up."""
    program = os.path.join(os.path.dirname(options.ponder), "..", "tests", "decoder", "bench-contexts")
    return [json.loads(line) for line in run(program, model, ",".join(map(str, CONTEXTS)), "f16").splitlines()]


def by_agents(options, model):
    """A step of N sequences that share a prefix of 256 tokens."""
    found = ours(options, model, "--prompt", "0", "--context", "0", "--tokens", "32", "--sequences", ",".join(map(str, AGENTS)), "--repeat", "2")
    return [{"agents": n, "ms": 1e3 * n / found[f"decode_{n}"]} for n in AGENTS]


def by_threads(options, model):
    """From one to twice as many as there are processors."""
    rows = []
    for n in range(1, 2 * cpus() + 1):
        found = ours(options, model, "--threads", str(n), "--repeat", "2")
        rows.append({"threads": n, "decode_ms": 1e3 / found["decode"], "prefill_ms": 1e3 / found["prefill_512"]})
    return rows


def by_size(options, model):
    """With the read bandwidth of the same minute."""
    info = json.loads(run(options.ponder, "info", model, "--json"))
    decode = ours(options, model, "--prompt", "0", "--tokens", "32", "--repeat", "2")["decode"]
    return {"bytes": info["weight_bytes"], "ms": 1e3 / decode, "read_gb_s": json.loads(run(options.limits, str(cpus())))["read_gb_s"]}


KINDS = {"context": by_context, "agents": by_agents, "threads": by_threads, "size": by_size}


def measure(options):
    found = {}
    if os.path.isfile(options.json):
        with open(options.json) as f:
            found = json.load(f)
    found.update({"machine": processor(), "date": time.strftime("%Y-%m-%d")})
    with tempfile.TemporaryDirectory() as work:
        compile_limits(work)
        options.limits = os.path.join(work, "limits")
        for kind in options.only.split(","):
            for model in options.models:
                progress(f"{kind}: {name_of(model)}")
                found.setdefault(kind, {})[name_of(model)] = KINDS[kind](options, model)
    progress("")
    with open(options.json, "w") as f:
        json.dump(found, f, indent=1, sort_keys=True)
        f.write("\n")


# ---- drawing ------------------------------------------------------------------------------------------

def draw_context(axes, models):
    for name, rows in models.items():
        x = [r["context"] for r in rows]
        full, sliding = rows[0]["layers"] - rows[0]["sliding_layers"], rows[0]["sliding_layers"]
        line = axes.plot(x, [r["ms"] for r in rows], marker="o", label=f"{name}: a token")[0]
        axes.plot(x, [(r["attention_ms"] - r["sliding_ms"]) / full for r in rows], ":", marker=".", color=line.get_color(),
                  label=f"{name}: attention of a full layer")
        if sliding:
            axes.plot(x, [r["sliding_ms"] / sliding for r in rows], "--", marker=".", color=line.get_color(),
                      label=f"{name}: of a sliding layer")
    axes.set(xscale="log", yscale="log", xlabel="context, tokens", ylabel="ms", title="One token against the context, one thread")
    powers(axes, CONTEXTS)


def draw_agents(axes, models):
    for name, rows in models.items():
        one = rows[0]["ms"]
        axes.plot([r["agents"] for r in rows], [r["ms"] / one for r in rows], marker="o", label=f"{name} (one: {one:.1f} ms)")
    axes.plot(AGENTS, AGENTS, color="grey", linewidth=1, label="if each cost as much as one")
    axes.set(xscale="log", yscale="log", xlabel="agents that share a prefix of 256 tokens", ylabel="a step, times the step of one",
             title="A step against the number of agents")
    powers(axes, AGENTS)
    axes.set_yticks([1, 2, 4, 8, 16, 32, 64], labels=["1", "2", "4", "8", "16", "32", "64"])


def draw_threads(axes, models):
    for name, rows in models.items():
        x = [r["threads"] for r in rows]
        for key, style in (("decode_ms", "-"), ("prefill_ms", ":")):
            axes.plot(x, [rows[0][key] / r[key] for r in rows], style, marker="o", label=f"{name}: {key[:-3]} (one thread: {rows[0][key]:.2f} ms)")
    axes.set(xlabel="threads", ylabel="speed, times one thread's", title="Speed against threads", ylim=(0, None), xticks=x)


def draw_size(axes, models):
    rows = sorted(models.items(), key=lambda item: item[1]["bytes"])
    x = [r["bytes"] for _, r in rows]
    read = sorted(r["read_gb_s"] for _, r in rows)
    axes.plot(x, [r["ms"] for _, r in rows], marker="o", label="a token")
    axes.plot(x, [1e-6 * r["bytes"] / r["read_gb_s"] for _, r in rows], "--", marker=".", color="grey",
              label=f"reading the weights once ({read[0]:.0f} to {read[-1]:.0f} GB/s in the same minutes)")
    for name, r in rows:
        axes.annotate(name, (r["bytes"], r["ms"]), textcoords="offset points", xytext=(0, 8), fontsize=8, ha="center")
    axes.set(xscale="log", yscale="log", xlabel="bytes of weights", ylabel="ms", title="One token against the model's size, all threads")
    axes.margins(x=0.2, y=0.15)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter("")


DRAWN = {"context": draw_context, "agents": draw_agents, "threads": draw_threads, "size": draw_size}


def powers(axes, values):
    axes.set_xticks(values, labels=[f"{v:,}" for v in values])
    axes.minorticks_off()


def draw(options):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "ponder", "svg.fonttype": "none", "font.family": "sans-serif"})
    from matplotlib import pyplot
    with open(options.json) as f:
        found = json.load(f)
    os.makedirs(options.folder, exist_ok=True)
    for kind in (kind for kind in DRAWN if kind in found):
        figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
        DRAWN[kind](axes, found[kind])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right" if kind == "size" else "best")
        figure.supxlabel(f"{found['machine']}, {found['date']}", fontsize=8, color="grey", ha="right", x=0.99)
        figure.savefig(os.path.join(options.folder, f"{kind}.svg"), metadata={"Date": None})
        pyplot.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(required=True)
    part = doing.add_parser("measure")
    part.add_argument("json", metavar="curves.json")
    part.add_argument("models", nargs="+", metavar="MODEL.gguf")
    part.add_argument("--only", default=",".join(KINDS))
    part.add_argument("--ponder", default=our_program())
    part.set_defaults(do=measure)
    part = doing.add_parser("draw")
    part.add_argument("json", metavar="curves.json")
    part.add_argument("folder")
    part.set_defaults(do=draw)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
