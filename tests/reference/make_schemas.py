#!/usr/bin/env python3
"""Schemas with valid and invalid instances for tests/data/grammar/cases.jsonl, from nothing of ours: instances are drawn by
a generator written against JSON Schema's own words, spelt by Python's json module, and judged by the package jsonschema.

    python -m venv venv && venv/bin/pip install "jsonschema==4.*" rstr
    venv/bin/python make_schemas.py ../data/grammar

A line of cases.jsonl: name, schema (text), valid and invalid (texts). Texts are spelt compactly, with ", " and ": ", or
indented, and members stand in the order the schema declares them, as doc/structured-output.md asks for.
"""
import json, os, random, re, sys
import rstr
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "grammar"))
from judge import judge as judge_of

WANT, BAD = 100, 24


def obj(props, required=None, **more):
    s = {"type": "object", "properties": props}
    if required is not None:
        s["required"] = required
    s.update(more)
    return s


def closed(props, required=None, **more):
    return obj(props, list(props) if required is None else required, additionalProperties=False, **more)


STR, INT, NUM, BOOL = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
NODE = closed({"value": INT, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})
LIST = closed({"head": STR, "tail": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}})
EXPR = {"anyOf": [NUM, closed({"op": {"enum": ["+", "-", "*"]}, "left": {"$ref": "#/$defs/expr"}, "right": {"$ref": "#/$defs/expr"}}),
                  closed({"call": STR, "args": {"type": "array", "items": {"$ref": "#/$defs/expr"}, "maxItems": 2}})]}
ADDRESS = closed({"street": STR, "city": STR, "zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"}}, ["street", "city"])

SCHEMAS = {
    "person": closed({"name": STR, "age": {"type": "integer", "minimum": 0, "maximum": 150}, "email": {"type": "string", "format": "email"}}, ["name", "age"]),
    "nested": closed({"user": closed({"name": STR, "address": ADDRESS, "phones": {"type": "array", "items": {"type": "string", "pattern": "^\\+?[0-9 ]{5,15}$"}}}), "active": BOOL}),
    "enum strings": {"enum": ["red", "green", "blue", "naïve", "a\"b\\c", "line\nbreak", "中文", "\U0001f600"]},
    "enum mixed": {"enum": [1, -2, 2.5, 1e-7, "one", True, None, [1, {"x": []}], {"a": "b", "c": [None]}, {}]},
    "const object": {"const": {"version": 2, "parts": ["a", 1.5], "none": None}},
    "order": closed({"id": {"type": "string", "format": "uuid"}, "created": {"type": "string", "format": "date-time"}, "status": {"enum": ["new", "paid", "sent"]},
                     "lines": {"type": "array", "minItems": 1, "maxItems": 4, "items": closed({"sku": {"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]{3,6}$"},
                               "count": {"type": "integer", "minimum": 1, "maximum": 99}, "price": {"type": "number", "minimum": 0, "maximum": 9999.99}})}}),
    "tree": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "linked list": {"$defs": {"list": LIST}, "$ref": "#/$defs/list"},
    "expression": {"$defs": {"expr": EXPR}, "$ref": "#/$defs/expr"},
    "optional only": closed({"a": INT, "b": STR, "c": BOOL, "d": NUM}, []),
    "optional between": closed({"a": INT, "b": STR, "c": BOOL, "d": {"type": "null"}, "e": INT}, ["b", "d"]),
    "open object": obj({"name": STR, "n": INT}, ["name"]),
    "typed extras": obj({"id": INT}, ["id"], additionalProperties={"type": "number"}),
    "map": {"type": "object", "additionalProperties": closed({"x": NUM, "y": NUM})},
    "any object": {"type": "object"},
    "anything": {},
    "true": True,
    "integers": closed({"a": {"type": "integer", "minimum": -17, "maximum": 1234}, "b": {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 100000},
                        "c": {"type": "integer", "minimum": 5}, "d": {"type": "integer", "maximum": -3}, "e": {"type": "integer", "multipleOf": 7, "minimum": -50, "maximum": 500}, "f": INT}),
    "numbers": closed({"a": {"type": "number", "minimum": -1.5, "maximum": 2.25}, "b": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                       "c": {"type": "number", "minimum": 0.001}, "d": {"type": "number", "maximum": -99.5}, "e": NUM, "f": {"type": "number", "minimum": 10, "exclusiveMaximum": 10.5}}),
    "lengths": closed({"a": {"type": "string", "minLength": 3, "maxLength": 8}, "b": {"type": "string", "maxLength": 1}, "c": {"type": "string", "minLength": 40}, "d": {"type": "string", "maxLength": 300}}),
    "patterns": closed({"slug": {"type": "string", "pattern": "^[a-z0-9]+(?:-[a-z0-9]+)*$"}, "anywhere": {"type": "string", "pattern": "err(or)?[0-9]"},
                        "start": {"type": "string", "pattern": "^(GET|POST) /"}, "end": {"type": "string", "pattern": "\\.(png|jpe?g)$"},
                        "limited": {"type": "string", "pattern": "^(ab|cde)+$", "minLength": 4, "maxLength": 9}, "any": {"type": "string", "pattern": "^.{2,12}$"}}),
    "unicode pattern": {"type": "string", "pattern": "^[À-ſ中-鿿😀-😏]{2,6}[^a-z]$"},
    "escapes": {"type": "string", "pattern": "^[\"\\\\/\\n\\t\\u0001-\\u001f]{1,5}$"},
    "formats": closed({"d": {"type": "string", "format": "date"}, "t": {"type": "string", "format": "time"}, "dt": {"type": "string", "format": "date-time"},
                       "u": {"type": "string", "format": "uuid"}, "ip": {"type": "string", "format": "ipv4"}, "e": {"type": "string", "format": "email"}}),
    "anyOf scalars": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "integer", "minimum": 1000}, {"type": "null"}, {"const": -1}]},
    "type list": {"type": ["string", "null", "boolean", "array"], "minLength": 2, "maxItems": 2},
    "tuple": {"type": "array", "prefixItems": [STR, INT, {"enum": ["N", "S"]}], "items": False, "minItems": 2},
    "tuple and rest": {"type": "array", "prefixItems": [BOOL, NUM], "items": STR, "minItems": 1, "maxItems": 5},
    "arrays": closed({"a": {"type": "array", "items": INT, "minItems": 2, "maxItems": 3}, "b": {"type": "array", "items": STR, "minItems": 1}, "c": {"type": "array", "maxItems": 0}, "d": {"type": "array", "items": {"type": "array", "items": BOOL, "maxItems": 3}}}),
    "shapes": {"type": "array", "items": {"oneOf": [closed({"kind": {"const": "circle"}, "r": NUM}), closed({"kind": {"const": "rect"}, "w": NUM, "h": NUM}), closed({"kind": {"const": "label"}, "text": STR, "align": {"enum": ["l", "r"]}}, ["kind", "text"])]}},
    "oneOf types": {"oneOf": [STR, INT, {"type": "array", "items": INT}, closed({"x": INT})]},
    "oneOf ranges": {"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 10, "maximum": 20}]},
    "allOf": {"allOf": [obj({"id": INT}, ["id"]), obj({"name": {"type": "string", "maxLength": 10}}, ["name"])], "properties": {"note": STR}, "type": "object"},
    "allOf closed": {"allOf": [obj({"id": INT, "name": STR, "x": INT}, ["id"]), closed({"id": {"minimum": 3}, "name": True}, [])]},
    "allOf scalars": {"allOf": [{"type": ["integer", "string"]}, {"minimum": 3, "minLength": 2}, {"maximum": 12}, {"maxLength": 4}]},
    "ref siblings": {"$defs": {"base": obj({"id": {"type": "integer", "minimum": 1}, "tag": STR}, ["id"])}, "type": "object", "properties": {"item": {"$ref": "#/$defs/base", "required": ["tag"], "description": "x"}}, "required": ["item"], "additionalProperties": False},
    "anyOf with base": {"type": "object", "properties": {"a": INT}, "required": ["a"], "anyOf": [{"properties": {"b": STR}, "required": ["b"]}, {"properties": {"c": BOOL}, "required": ["c"]}]},
    "tool arguments": {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.org/t", "title": "search", "description": "d", "type": "object", "properties": {
        "query": {"type": "string", "description": "what", "minLength": 1}, "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
        "filters": {"type": "array", "items": closed({"field": {"enum": ["author", "year", "lang"]}, "op": {"enum": ["=", "<", ">"]}, "value": {"anyOf": [STR, NUM]}})},
        "sort": {"anyOf": [{"enum": ["asc", "desc"]}, {"type": "null"}], "examples": ["asc"]}}, "required": ["query"], "additionalProperties": False},
    "pydantic": {"$defs": {"Cat": closed({"kind": {"const": "cat", "title": "Kind", "type": "string"}, "lives": {"default": 9, "title": "Lives", "type": "integer"}}, ["kind"], title="Cat"),
                           "Dog": closed({"kind": {"const": "dog", "type": "string"}, "good": {"type": "boolean"}}, ["kind", "good"], title="Dog")},
                 "properties": {"pet": {"discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"}, "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]},
                                "n": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}}, "required": ["pet"], "title": "Home", "type": "object", "additionalProperties": False},
    "unicode names": closed({"naïve": INT, "中文": STR, "a\"b": INT, "x/y~z": BOOL, "": INT}, ["naïve", ""]),
    "names and prefixes": obj({"a": INT, "ab": INT, "abc": INT}, ["ab"], additionalProperties=STR),
    "deep": obj({"a": obj({"b": obj({"c": {"type": "array", "items": obj({"d": {"type": "array", "items": {"type": "array", "items": INT}}}, ["d"], additionalProperties=False)}}, ["c"], additionalProperties=False)}, ["b"], additionalProperties=False)}, ["a"], additionalProperties=False),
    "mutual recursion": {"$defs": {"a": closed({"b": {"$ref": "#/$defs/b"}}, []), "b": {"type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 2}}, "$ref": "#/$defs/a"},
    "false member": obj({"yes": INT, "no": False}, ["yes"]),
}

CHARS = list("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 .,-_:;!?'()[]{}<>/@#") + list("éßñ中文字😀𝒳\u00a0") + ['"', "\\", "\n", "\t", "\u0001", "\u007f"]


class Gen:
    """One value of a schema, or None twice (see Dead): what jsonschema rejects is thrown away by the caller."""

    def __init__(self, root, rng):
        self.root, self.rng = root, rng

    def resolve(self, s):
        while isinstance(s, dict) and "$ref" in s:
            at = self.root
            for part in s["$ref"][2:].split("/") if len(s["$ref"]) > 1 else []:
                at = at[part.replace("~1", "/").replace("~0", "~")]
            rest = {k: v for k, v in s.items() if k != "$ref"}
            s = self.merge(at, rest) if rest else at
        return s

    def merge(self, a, b):
        if a is True or a == {}:
            return b
        if b is True or b == {}:
            return a
        if a is False or b is False:
            return False
        a, b = self.resolve(a), self.resolve(b)
        out = dict(a)
        for k, v in b.items():
            if k == "properties":
                out[k] = dict(out.get(k, {}))
                for name, p in v.items():
                    out[k][name] = self.merge(out[k][name], p) if name in out[k] else p
            elif k == "required":
                out[k] = list(dict.fromkeys(out.get(k, []) + v))
            elif k == "type" and k in out:
                x = out[k] if isinstance(out[k], list) else [out[k]]
                y = v if isinstance(v, list) else [v]
                out[k] = [t for t in x if t in y or (t == "integer" and "number" in y)]
            else:
                out[k] = v
        return out

    def value(self, s, depth=0):
        r = self.rng
        s = self.resolve(s)
        if s is True or s == {}:
            return self.value({"type": r.choice(["null", "boolean", "integer", "number", "string"] + (["array", "object"] if depth < 3 else []))}, depth + 1)
        if s is False:
            raise ValueError
        for k in ("allOf", "anyOf", "oneOf"):
            if k in s:
                base = {x: v for x, v in s.items() if x != k}
                if k == "allOf":
                    for part in s[k]:
                        base = self.merge(base, part)
                else:
                    branches = s[k] if depth < 6 else sorted(s[k], key=lambda b: len(json.dumps(b)))[:1]
                    base = self.merge(base, r.choice(branches))
                return self.value(base, depth)
        if "const" in s:
            return s["const"]
        if "enum" in s:
            return r.choice(s["enum"])
        t = s.get("type")
        if t is None:
            t = "object" if "properties" in s else r.choice(["string", "integer", "object"])
        if isinstance(t, list):
            t = r.choice(t)
        return getattr(self, "make_" + t)(s, depth)

    def make_null(self, s, depth):
        return None

    def make_boolean(self, s, depth):
        return self.rng.random() < 0.5

    def make_integer(self, s, depth):
        r, wide = self.rng, self.rng.choice([3, 30, 1000, 10**6, 10**15])
        lo = s.get("minimum", s.get("exclusiveMinimum", -wide if "maximum" not in s else s["maximum"] - wide) + ("exclusiveMinimum" in s))
        hi = s.get("maximum", s.get("exclusiveMaximum", lo + 2 * wide) - ("exclusiveMaximum" in s))
        if r.random() < 0.3:
            v = r.choice([lo, hi, lo + 1, hi - 1])
        else:
            v = r.randint(lo, max(lo, hi))
        return v - v % s["multipleOf"] if "multipleOf" in s else v

    def make_number(self, s, depth):
        r = self.rng
        bounded = any(k in s for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
        if not bounded:
            return r.choice([r.randint(-99, 99), round(r.uniform(-1e3, 1e3), 3), r.uniform(-1, 1) * 10 ** r.randint(-200, 200), 0.0, -0.0, 1e21, 5e-324])
        lo = s.get("minimum", s.get("exclusiveMinimum", s.get("maximum", 0) - 1000))
        hi = s.get("maximum", s.get("exclusiveMaximum", lo + 1000))
        v = r.choice([round(r.uniform(lo, hi), r.randint(0, 6)), lo, hi, r.uniform(lo, hi)])
        return int(v) if v == int(v) and r.random() < 0.5 else v

    def make_string(self, s, depth):
        r = self.rng
        lo, hi = s.get("minLength", 0), s.get("maxLength")
        if "format" in s:
            return getattr(self, "format_" + s["format"].replace("-", "_"))()
        if "pattern" in s:
            for _ in range(200):
                p = s["pattern"]
                if p == "^.{2,12}$":
                    v = "".join(r.choice([c for c in CHARS if c not in "\n\r"]) for _ in range(r.randint(2, 12)))
                else:
                    v = rstr.Rstr(r).xeger(p)
                if not p.startswith("^"):
                    v = "".join(r.choice(CHARS) for _ in range(r.randint(0, 5))) + v
                if not p.endswith("$"):
                    v = v + "".join(r.choice(CHARS) for _ in range(r.randint(0, 5)))
                if lo <= len(v) and (hi is None or len(v) <= hi):
                    return v
            raise ValueError
        n = r.choice([lo, hi, None]) if hi is not None else r.choice([lo, None, None])
        if n is None:
            n = r.randint(lo, min(hi, lo + 40) if hi is not None else lo + r.choice([3, 12, 60]))
        return "".join(r.choice(CHARS) for _ in range(n))

    def make_array(self, s, depth):
        r = self.rng
        prefix, items = s.get("prefixItems", []), s.get("items", True)
        lo = s.get("minItems", 0)
        hi = s.get("maxItems", len(prefix) + (0 if items is False else r.choice([0, 1, 2, 5] if depth < 4 else [0])))
        n = r.randint(lo, max(lo, hi))
        return [self.value(prefix[i] if i < len(prefix) else items, depth + 1) for i in range(n)]

    def make_object(self, s, depth):
        r = self.rng
        out = {}
        props, required = s.get("properties", {}), s.get("required", [])
        for name in list(props) + [n for n in required if n not in props]:
            if name in required or (props[name] is not False and r.random() < (0.6 if depth < 6 else 0)):
                out[name] = self.value(props.get(name, s.get("additionalProperties", True)), depth + 1)
        more = s.get("additionalProperties", True)
        if more is not False and r.random() < (0.5 if depth < 3 else 0.1):
            for _ in range(r.randint(1, 3)):
                name = "".join(r.choice(CHARS) for _ in range(r.randint(0, 9))) if r.random() < 0.7 else r.choice(list(props) or ["k"]) + r.choice("xé\"")
                if name not in props and name not in out:
                    out[name] = self.value(more, depth + 1)
        return out

    def digits(self, n, hi):
        return str(self.rng.randint(0, hi)).zfill(n)

    def format_date(self):
        r = self.rng
        return r.choice([f"{r.randint(1, 9999):04}-{r.randint(1, 12):02}-{r.randint(1, 28):02}", "2024-02-29", "2000-02-29", "1999-12-31", "2023-04-30", "0004-02-29", "2400-02-29"])

    def format_time(self):
        r = self.rng
        return f"{r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}" + r.choice(["", f".{r.randint(0, 999)}"]) + r.choice(["Z", "+00:00", "-08:30", "+14:00"])

    def format_date_time(self):
        return self.format_date() + "T" + self.format_time()

    def format_uuid(self):
        h = "".join(self.rng.choice("0123456789abcdef") for _ in range(32))
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def format_ipv4(self):
        return ".".join(str(self.rng.choice([0, 9, 10, 99, 100, 199, 200, 249, 250, 255, self.rng.randint(0, 255)])) for _ in range(4))

    def format_email(self):
        r = self.rng
        return r.choice(["a", "first.last", "x+tag", "o'neil", "a_b-c.d"]) + "@" + r.choice(["example.org", "a.b.co", "x-1.example.com"])


def spell(v, rng):
    way = rng.randint(0, 3)
    if way == 0:
        return json.dumps(v, ensure_ascii=False, separators=(",", ":"))
    if way == 1:
        return json.dumps(v, ensure_ascii=False, indent=rng.choice([1, 2, 4]))
    return json.dumps(v, ensure_ascii=False)


def plain_numbers(v):
    """Numbers between bounds are written without an exponent: Python's would be needed for these."""
    return not re.search(r"[0-9]e[-+]", json.dumps(v))


def break_it(v, rng):
    """Some value near v."""
    if isinstance(v, dict) and v and rng.random() < 0.8:
        k = rng.choice(list(v))
        out = dict(v)
        what = rng.randint(0, 2)
        if what == 0:
            del out[k]
        elif what == 1:
            out[k] = break_it(v[k], rng)
        else:
            out["zz" + k] = v[k]
        return out
    if isinstance(v, list) and v and rng.random() < 0.8:
        i = rng.randrange(len(v))
        return rng.choice([v[:i] + v[i + 1:], v[:i] + [break_it(v[i], rng)] + v[i + 1:], v + v, v + [None]])
    if isinstance(v, str):
        return rng.choice([v + "!", v[1:], v * 2, None, 1, v + "\n"])
    if isinstance(v, bool) or v is None:
        return rng.choice(["true", 0, {}, []])
    if isinstance(v, (int, float)):
        return rng.choice([v + 1000, v - 1000, v + 0.5, -v, str(v), v * 10**6])
    return rng.choice([None, 1, "x", [], {}, [[]]])


def main():
    if os.environ.get("PYTHONHASHSEED") != "0":  # rstr draws from sets
        os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, "PYTHONHASHSEED": "0"})
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "cases.jsonl"), "w", encoding="utf-8") as f:
        for name, schema in SCHEMAS.items():
            rng = random.Random(name)
            judge = judge_of(schema)
            bounded = re.search(r'"(m|exclusiveM)(in|ax)imum"', json.dumps(schema))
            gen = Gen(schema, rng)
            valid, invalid, values, tries = {}, {}, [], 0
            while len(valid) < WANT and tries < 3000:
                tries += 1
                try:
                    v = gen.value(schema)
                except ValueError:
                    continue
                text = spell(v, rng)
                if judge.is_valid(v) and len(text) < 1500 and not (bounded and not plain_numbers(v)):
                    valid[text] = None
                    values.append(v)
            for _ in range(2000):
                v = break_it(rng.choice(values), rng)
                text = spell(v, rng)
                if len(invalid) < BAD and not judge.is_valid(v) and len(text) < 1500:
                    invalid[text] = None
            texts = list(valid)
            while len(texts) < WANT:  # a schema with few values: again
                texts.append(rng.choice(list(valid)))
            f.write(json.dumps({"name": name, "schema": json.dumps(schema, ensure_ascii=False), "valid": texts, "invalid": list(invalid)}, ensure_ascii=False) + "\n")
            print(f"{name}: {len(valid)} valid, {len(invalid)} invalid")


if __name__ == "__main__":
    main()
