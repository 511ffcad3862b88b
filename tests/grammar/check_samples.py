#!/usr/bin/env python3
"""Grammars against judges that know nothing of them: jsonschema, Python's re and json.

    check_samples.py TOOL CASES.jsonl [--vocabulary FILE]... [--samples N]

Every valid instance is taken token by token, every invalid one is not; N (10,000) seeded samples are all valid and between
them reach every branch of each schema. Then patterns and tool calls. Needs Debian's python3-jsonschema.
"""
import argparse, json, os, re, subprocess, sys

try:
    from judge import judge
except ImportError:  # another Python than the system's comes first
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)

failures = 0


def fail(text):
    global failures
    failures += 1
    if failures <= 20:
        print("FAILED:", text)


def run(tool, lines, vocabulary=None):
    p = subprocess.run([tool] + ([vocabulary] if vocabulary else []), input="\n".join(json.dumps(x) for x in lines) + "\n",
                       capture_output=True, text=True, encoding="utf-8")
    out = [json.loads(x) for x in p.stdout.split("\n") if x]
    if p.returncode or len(out) != len(lines):
        print(p.stderr)
        sys.exit(f"FAILED: {tool} answered {p.returncode}, {len(out)} of {len(lines)} lines")
    return out


def no_twice(pairs):
    names = [k for k, _ in pairs]
    if len(set(names)) != len(names):
        repeated.update(n for n in names if names.count(n) > 1)
    return dict(pairs)


repeated = set()  # further members may repeat a name (no automaton remembers them); declared ones never


# ---- which branches there are, and which an instance takes -----------------------------------------------------------------

class Reach:
    def __init__(self, schema):
        self.root, self.need, self.seen, self.judges, self.met, self.declared = schema, set(), set(), {}, set(), set()
        self.enumerate(schema, "#")

    def target(self, ref):
        at = self.root
        for part in ref[2:].split("/") if len(ref) > 1 else []:
            at = at[part.replace("~1", "/").replace("~0", "~")]
        return at

    def enumerate(self, s, p):
        if not isinstance(s, dict) or p in self.met:
            return
        self.met.add(p)
        for k in ("anyOf", "oneOf", "allOf", "prefixItems"):
            for i, b in enumerate(s.get(k, [])):
                if k in ("anyOf", "oneOf"):
                    self.need.add((p, k, i))
                self.enumerate(b, f"{p}/{k}/{i}")
        if "$ref" in s:
            self.enumerate(self.target(s["$ref"]), s["$ref"])
        for i, _ in enumerate(s.get("enum", [])):
            self.need.add((p, "enum", i))
        t = s.get("type", [])
        for x in t if isinstance(t, list) else []:
            self.need.add((p, "type", x))
        if t == "boolean":
            self.need |= {(p, "value", True), (p, "value", False)}
        for name, b in s.get("properties", {}).items():
            self.declared.add(name)
            if name not in s.get("required", []):
                self.need.add((p, "without", name))
            if b is not False:
                self.need.add((p, "with", name))
            self.enumerate(b, f"{p}/properties/{name}")
        if t == "object" and s.get("additionalProperties", True) is not False:
            self.need |= {(p, "further", True), (p, "further", False)}
            self.enumerate(s.get("additionalProperties"), p + "/additionalProperties")
        if t == "array":
            lo, hi = s.get("minItems", 0), s.get("maxItems", len(s.get("prefixItems", [])) if s.get("items") is False else 10**9)
            self.need |= {(p, "items", n) for n in (lo, min(hi, lo + 1), hi if hi < 6 else lo)}
            self.enumerate(s.get("items"), p + "/items")

    def holds(self, p, s, v):
        if p not in self.judges:
            self.judges[p] = judge({**s, "$defs": self.root.get("$defs", {})} if isinstance(s, dict) and isinstance(self.root, dict) else s)
        return self.judges[p].is_valid(v)

    def observe(self, s, p, v):
        if not isinstance(s, dict):
            return
        for k in ("anyOf", "oneOf"):
            for i, b in enumerate(s.get(k, [])):
                if self.holds(f"{p}/{k}/{i}", b, v):
                    self.seen.add((p, k, i))
                    self.observe(b, f"{p}/{k}/{i}", v)
        for i, b in enumerate(s.get("allOf", [])):
            self.observe(b, f"{p}/allOf/{i}", v)
        if "$ref" in s:
            self.observe(self.target(s["$ref"]), s["$ref"], v)
        for i, x in enumerate(s.get("enum", [])):
            if json.dumps(x) == json.dumps(v):
                self.seen.add((p, "enum", i))
        kind = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}[type(v)]
        self.seen.add((p, "type", kind))
        if kind == "boolean":
            self.seen.add((p, "value", v))
        if kind == "object":
            props = s.get("properties", {})
            for name, b in props.items():
                self.seen.add((p, "with" if name in v else "without", name))
                if name in v:
                    self.observe(b, f"{p}/properties/{name}", v[name])
            others = [k for k in v if k not in props]
            self.seen.add((p, "further", bool(others)))
            for k in others:
                self.observe(s.get("additionalProperties"), p + "/additionalProperties", v[k])
        if kind == "array":
            self.seen.add((p, "items", len(v)))
            prefix = s.get("prefixItems", [])
            for i, x in enumerate(v):
                at = f"{p}/prefixItems/{i}" if i < len(prefix) else p + "/items"
                self.observe(prefix[i] if i < len(prefix) else s.get("items"), at, x)


HINTS = {"tool arguments": ['"filters": [{"field":"author","op":"="', '"op":"="'],
         "tuple and rest": [',"x"', '"]'], "arrays": [",true", ",[true,true,true]"], "names and prefixes": ['"abc":1', '"a":1'], "patterns": ["err1", "error7", ".png", ".jpeg", '"'], "expression": ["[1,2]", "1"], "open object": ['"n":1']}
# Branches that the schema itself rules out.
IMPOSSIBLE = {"allOf closed": {("#/allOf/0", "with", "x"), ("#/allOf/0", "further", True), ("#/allOf/1", "without", "id")},
              "allOf": {(p, "further", False) for p in ("#", "#/allOf/0", "#/allOf/1")},  # the others' members
              "ref siblings": {("#/$defs/base", "without", "tag")}, "anyOf with base": {("#", "further", False)}}


# ---- schemas ------------------------------------------------------------------------------------------------------------------

def check_instances(tool, cases, vocabulary):
    out = run(tool, [{"kind": "schema", "text": c["schema"], "texts": c["valid"] + c["invalid"], "seed": 7} for c in cases], vocabulary)
    valid = invalid = 0
    for c, r in zip(cases, out):
        if r["status"] != "PONDER_OK":
            fail(f"{c['name']}: {r}")
            continue
        n = len(c["valid"])
        valid, invalid = valid + n, invalid + len(c["invalid"])
        for text, taken in zip(c["valid"], r["taken"]):
            if taken != -1:
                fail(f"{c['name']}: valid, but stopped at byte {taken}: {text!r}")
        for text, taken in zip(c["invalid"], r["taken"][n:]):
            if taken == -1:
                fail(f"{c['name']}: invalid, but taken: {text!r}")
    print(f"{vocabulary and os.path.basename(vocabulary) or 'made-up vocabulary'}: {valid} valid instances taken, {invalid} invalid ones refused")


def check_samples(tool, cases, total, vocabulary):
    each = -(-total // len(cases))
    out = run(tool, [{"kind": "schema", "text": c["schema"], "samples": each, "seed": 1000 + i, "steer": 40, "hints": HINTS.get(c["name"], [])} for i, c in enumerate(cases)], vocabulary)
    count = branches = 0
    for c, r in zip(cases, out):
        schema = json.loads(c["schema"])
        whole, reach = judge(schema), Reach(schema)
        repeated.clear()
        for text in r.get("samples", [None]):
            count += 1
            try:
                v = json.loads(text, object_pairs_hook=no_twice) if text is not None else None
            except ValueError as e:
                fail(f"{c['name']}: no JSON: {e}: {text!r}")
                continue
            if text is None:
                fail(f"{c['name']}: a walk did not end")
            elif not whole.is_valid(v):
                fail(f"{c['name']}: invalid sample: {text!r}")
            else:
                reach.observe(schema, "#", v)
        if repeated & reach.declared:
            fail(f"{c['name']}: members named twice: {repeated & reach.declared}")
        missed = reach.need - reach.seen - IMPOSSIBLE.get(c["name"], set())
        branches += len(reach.need)
        if missed:
            fail(f"{c['name']}: never reached: {sorted(map(str, missed))}")
    print(f"{count} samples valid, {branches} branches reached")
    if count < total:
        fail(f"only {count} samples")


# ---- patterns -------------------------------------------------------------------------------------------------------------------

PATTERNS = ["", "abc", "a|bc|", "[a-f0-9]{4,6}", "(ab?c){2,}", "x*y+z?", "(?:a|b)*abb", "[^a-z]{3}", "\\d{4}-\\d\\d", "\\w+@\\w+\\.com", "(?<year>\\d{2})\\.\\x41\\u00e9",
            "é|ß|[中-文]+", "\\{\\}\\[\\]\\(\\)\\*\\+\\?\\.\\|\\^\\$\\\\\\/", "^a$|^b$", "((((a))))?", "[\\w.-]{1,20}", "a{0}", "(a{2}){2}", ".{3}", "[\\s\\S]{2}", "[^]{1}", "(a|ab)(c|bcd)",
            "\\t\\n\\r\\f\\v", "[\\]\\-^]+", "a{3,}?b*?", "[a\\-z]", "[\\d-x]{2}", "(|a)+b", "(a*)*c", "\\u{1F600}[\\u{1F600}-\\u{1F602}]", "(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(\\.\\d{1,3}){3}"]


def as_python(pattern):
    pattern = re.sub(r"\\u\{([0-9A-Fa-f]+)\}", lambda m: "\\U" + m[1].zfill(8), pattern)
    return pattern.replace("(?<", "(?P<").replace("[^]", "[\\s\\S]").replace("\\/", "/").replace("[\\d-x]", "[\\dx-]")


def check_patterns(tool):
    out = run(tool, [{"kind": "regex", "text": p, "samples": 40, "seed": i, "steer": 5} for i, p in enumerate(PATTERNS)])
    for p, r in zip(PATTERNS, out):
        if r["status"] != "PONDER_OK":
            fail(f"{p!r}: {r}")
        flags = re.A if "\\w" in p or "\\d" in p else 0
        for text in r.get("samples", []):
            if text is None or not re.fullmatch(as_python(p), text, flags):
                fail(f"pattern {p!r} gave {text!r}")
    print(f"{len(PATTERNS)} patterns")


# ---- tool calls -------------------------------------------------------------------------------------------------------------------

TOOLS = [{"name": "files.write", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "mode": {"enum": ["w", "a", 1, None]}, "size": {"type": "integer", "minimum": 0},
          "id": {"type": "string", "pattern": "^[a-z]{2}<?[0-9]+$"}, "opts": {"type": "object", "properties": {"sync": {"type": "boolean"}, "why": {"type": "string"}}}, "either": {"type": ["integer", "boolean", "array"]},
          "tag": {"type": "string", "minLength": 2, "maxLength": 6}}, "required": ["path", "size"]}},
         {"name": "clock", "parameters": {"type": "object", "properties": {}}},
         {"name": "notes.add", "parameters": {"type": "object", "properties": {"n": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}, "additionalProperties": {"type": "number"}}}]
MEMBERS = ["path", "mode", "size", "id", "opts", "either", "tag", "n"]
CALL = re.compile(r'<atem:function_calls>\n<atem:invoke name="([^"]+)">\n((?:<atem:parameter name="[^"]+">[\s\S]*?</atem:parameter>\n)*)</atem:invoke>\n</atem:function_calls>')
PARAMETER = re.compile(r'<atem:parameter name="([^"]+)">([\s\S]*?)</atem:parameter>\n')


def takes_string(s):
    t = s.get("type", [])
    return t == "string" or (isinstance(t, list) and "string" in t) or any(takes_string(x) for x in s.get("anyOf", []))


def muse_arguments(schema, text):
    out = {}
    for name, value in PARAMETER.findall(text):
        s = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
        if takes_string(s):
            out[name] = value
        else:
            try:
                out[name] = json.loads(value)
            except ValueError:
                out[name] = value
    return out


def check_calls(tool):
    tools = [{"name": t["name"], "parameters": json.dumps(t["parameters"])} for t in TOOLS]
    judges, names, members = {t["name"]: judge(t["parameters"]) for t in TOOLS}, set(), set()
    out = run(tool, [{"kind": k, "tools": tools, "samples": 400, "seed": 3, "steer": 40,
                     "hints": [f'<atem:parameter name="{n}">' for n in MEMBERS] + ['"n":1', '"tag":"']} for k in ("muse", "call")])
    for text in out[0]["samples"]:
        m = CALL.fullmatch(text or "")
        schema = m and next(t["parameters"] for t in TOOLS if t["name"] == m[1])
        if not m or not judges[m[1]].is_valid(muse_arguments(schema, m[2])):
            fail(f"Muse call {text!r}")
        else:
            names.add(m[1])
            members |= set(muse_arguments(schema, m[2]))
    for text in out[1]["samples"]:
        v = json.loads(text or "{}")
        if list(v) != ["name", "arguments"] or not judges[v["name"]].is_valid(v["arguments"]):
            fail(f"JSON call {text!r}")
    if names != set(judges) or not set(MEMBERS) <= members:
        fail(f"calls never reached {set(MEMBERS) - members} or {set(judges) - names}")
    print(f"{len(out[0]['samples']) + len(out[1]['samples'])} calls")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("tool")
    a.add_argument("cases")
    a.add_argument("--vocabulary", action="append", default=[])
    a.add_argument("--samples", type=int, default=10000)
    a = a.parse_args()
    cases = [json.loads(x) for x in open(a.cases, encoding="utf-8")]
    for v in [None] + a.vocabulary:
        check_instances(a.tool, cases, v)
    check_samples(a.tool, cases, a.samples, None)
    check_patterns(a.tool)
    check_calls(a.tool)
    sys.exit(f"{failures} failures" if failures else 0)


if __name__ == "__main__":
    main()
