#!/usr/bin/env python3
"""Tables of what suite.py measured, as markdown, with the aims and marks.

  tests/bench/report.py results.json                               on standard output
  tests/bench/report.py results.json --into doc/performance.md --part avx2
                    between the lines <!-- avx2 --> and <!-- /avx2 --> of a file, which may have a part for each kind of machine
"""
import argparse
import json
import re
import statistics

MEASURES = {"decode": "decode", "decode_8": "8 together", "decode_16": "16", "decode_32": "32", "prefill": "prefill 512",
            "first": "first token", "second": "second", "memory": "memory", "hog": "half a core taken"}
UNITS = {"first": "ms", "second": "ms", "memory": "MB", "hog": "%"}
LESS_IS_BETTER = {"first", "second", "memory"}
FLOATS = {"F16", "BF16", "F32"}
FORMATS = ["Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16", "BF16", "F32"]


def aim(measure, kind):
    """The ratio to the peer that must be reached (hog: the share of the quiet speed); None: no aim."""
    several = {"BF16": 3, "F16": 2.5}.get(kind, 4)
    return {"decode": 1.25 if kind in FLOATS else 1.5, "decode_8": 2.5 if kind in FLOATS else 3, "decode_16": several,
            "decode_32": several, "first": 1, "second": 1, "memory": 1, "hog": 60,
            "prefill": 1.3 if kind in FLOATS else {"Q4_0": 2.5, "Q4_K": 2.5, "Q8_0": 2.5, "Q4_1": 5}.get(kind)}[measure]


def best(samples, measure):
    if not samples.get(measure):
        return None
    return min(samples[measure]) if measure in LESS_IS_BETTER else max(samples[measure])


def ratio(found, measure):
    """As the aim counts: more is better. None where a side was not measured."""
    a, b = best(found["ponder"], measure), best(found["peer"], measure)
    if measure == "hog":
        return a
    if not a or not b:
        return None
    return b / a if measure in LESS_IS_BETTER else a / b


def mark(value, wanted):
    return "" if value is None or wanted is None else " ✓" if value >= wanted else " ✗"


def share(model, found, measure, rate):
    """Of the machine's limit in the same run, and which; None where it has none."""
    limits = {key: max(values) for key, values in found["limits"].items()}
    if rate is None or measure in UNITS:
        return None
    if measure == "decode":
        return rate * model["weight_bytes"] / 1e9 / limits["read_gb_s"], "read"
    peak = {"F16": "f32", "F32": "f32", "BF16": "bf16" if limits["bf16_gop_s"] else "f32"}.get(model["format"], "int8")
    weights = model["parameters"] - (model["head"] if measure == "prefill" else 0)
    return 2e-9 * rate * weights / limits[f"{peak}_gop_s"], peak


def number(value):
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def percent(part):
    return "-" if part is None else f"{100 * part[0]:.0f} %"


def multiple(value, measure):
    return "-" if value is None else f"{value:.0f} %" if measure == "hog" else f"{value:.2f}x"


def quality_marks(q):
    """Mean KL and disagreement no worse than the peer's, and 5 %."""
    kl, top = q["ponder"]["kl"] <= 1.05 * q["peer"]["kl"], 1 - q["ponder"]["same"] <= 1.05 * (1 - q["peer"]["same"])
    return " ✓" if kl and top else " ✗"


def quality_cell(q, side):
    return f"{q[side]['kl']:.6f}, {100 * q[side]['same']:.2f} %"


def quality_text(model):
    q = model.get("quality")
    return f"ponder {quality_cell(q, 'ponder')}; peer {quality_cell(q, 'peer')}{quality_marks(q)}" if q else "not measured"


def limits_text(found):
    limits = {key: max(values) for key, values in found["limits"].items()}
    return (f"read {limits['read_gb_s']:.1f} GB/s, int8 {limits['int8_gop_s']:.0f}, BF16 {limits['bf16_gop_s']:.0f}, "
            f"FP32 {limits['f32_gop_s']:.0f} GOP/s")


def table(head, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def plural(threads):
    return f"{threads} thread{'s' if int(threads) > 1 else ''}"


def one(name, model):
    """Everything about one model."""
    text = [f"{name}, {model['weight_bytes'] / 1e6:.0f} MB of weights, on {model['machine']}, {model['date']}; peer: {model['peer'] or 'none'}",
            f"mean KL from F32 arithmetic, same most likely token: {quality_text(model)}"]
    for threads, found in model["threads"].items():
        rows = []
        for measure in (m for m in MEASURES if found["ponder"].get(m)):
            sides = [found["ponder"], found["peer"]]
            tops = [best(side, measure) for side in sides]
            middles = [statistics.median(side[measure]) if side.get(measure) else None for side in sides]
            shares = [share(model, found, measure, top) for top in tops]
            value, wanted = ratio(found, measure), aim(measure, model["format"])
            rows.append([f"{MEASURES[measure]} ({UNITS.get(measure, 'tokens/s')})", number(tops[0]), number(middles[0]), number(tops[1]),
                         number(middles[1]), multiple(value, measure) + mark(value, wanted), multiple(wanted, measure),
                         percent(shares[0]), percent(shares[1]), shares[0][1] if shares[0] else ""])
        text += ["", f"{plural(threads)}; {limits_text(found)}", "",
                 table(["", "ponder", "median", "peer", "median", "ratio", "aim", "of the limit", "peer", "limit"], rows)]
    return "\n".join(text) + "\n"


def family(name):
    return re.sub(r"[.-](?:I?Q\d_\w+|BF16|F16|F32)$", "", name, flags=re.IGNORECASE)


def by_format(models):
    return sorted(models.items(), key=lambda item: (FORMATS.index(item[1]["format"]) if item[1]["format"] in FORMATS else 99, item[0]))


def ratios(models, threads):
    rows = []
    for _, model in by_format(models):
        found, cells = model["threads"][threads], []
        for measure in MEASURES:
            value = ratio(found, measure)
            cells.append(multiple(value, measure) + mark(value, aim(measure, model["format"])))
        rows.append([model["format"], *cells, *([quality_cell(model["quality"], "ponder") + quality_marks(model["quality"]),
                                                 quality_cell(model["quality"], "peer")] if model.get("quality") else ["-", "-"])])
    return table(["", *MEASURES.values(), "KL, same top", "the peer's"], rows)


def speeds(models, threads):
    """Ours / the peer's, with shares of the limit."""
    rows = []
    for _, model in by_format(models):
        found, cells = model["threads"][threads], []
        for measure in MEASURES:
            tops = [best(found[side], measure) for side in ("ponder", "peer")]
            shares = [share(model, found, measure, top) for top in tops]
            cells.append(" / ".join(number(top) + (f" ({percent(part)})" if part else "") for top, part in zip(tops, shares)))
        rows.append([model["format"], *cells])
    return table(["", *(f"{text}, {UNITS.get(key, 'tokens/s')}" for key, text in MEASURES.items())], rows)


def qualities(models):
    """Of models whose speed was not measured here: quality has no clock and no machine."""
    rows = [[name, quality_cell(model["quality"], "ponder") + quality_marks(model["quality"]), quality_cell(model["quality"], "peer")]
            for name, model in sorted(models.items())]
    return ["", "### Quality alone", "", table(["", "KL, same top", "the peer's"], rows)] if rows else []


def whole(results):
    models = {name: model for name, model in results["models"].items() if "threads" in model}
    if not models:
        return "Nothing was measured.\n"
    some = next(iter(models.values()))
    dates = sorted({model["date"] for model in models.values()})
    text = [f"On {some['machine']}, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}. The peer is {some['peer']}, native flags, each time with "
            "its fastest settings. Ratios are of the best of the rounds; ✓ and ✗ say whether the aim is reached (aims: tests/bench/report.py). "
            "In brackets, of the machine's limit in the same run: decode of the read bandwidth (by the file's weights), all else of the int8, "
            "BF16 or, for F16, FP32 multiply-adds. KL is the mean from F32 arithmetic on the same dequantised weights."]
    for group in sorted({family(name) for name in models}):
        some = {name: model for name, model in models.items() if family(name) == group}
        for threads in sorted({t for model in some.values() for t in model["threads"]}, reverse=True):
            here = {name: model for name, model in some.items() if threads in model["threads"]}
            limits = {"limits": {key: [v for m in here.values() for v in m["threads"][threads]["limits"][key]]
                                 for key in next(iter(here.values()))["threads"][threads]["limits"]}}
            text += ["", f"### {group}, {plural(threads)}", "", "Ratio to the peer:", "", ratios(here, threads), "",
                     f"ponder / peer (limits: {limits_text(limits)}):", "", speeds(here, threads)]
    text += qualities({name: model for name, model in results["models"].items() if "threads" not in model and model.get("quality")})
    return "\n".join(text) + "\n"


def put_between(path, part, text):
    with open(path) as f:
        old = f.read()
    new, n = re.subn(rf"(<!-- {part} -->\n).*(<!-- /{part} -->)", lambda m: m.group(1) + text + m.group(2), old, flags=re.DOTALL)
    if n != 1:
        raise SystemExit(f"report.py: {path} has no part {part}")
    with open(path, "w") as f:
        f.write(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", metavar="results.json")
    parser.add_argument("--into", metavar="FILE")
    parser.add_argument("--part", default="suite")
    options = parser.parse_args()
    with open(options.results) as f:
        text = whole(json.load(f))
    if options.into:
        put_between(options.into, options.part, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
