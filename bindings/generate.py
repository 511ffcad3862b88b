#!/usr/bin/env python3
"""Writes python/ponder/_api.py and go/api_gen.go from ../include/ponder.h.

    generate.py           rewrites both files
    generate.py --check   fails when they differ from what the header gives

Needs pycparser (Debian: python3-pycparser) and a C compiler. The output depends on the header alone.
"""
import os
import re
import subprocess
import sys

from pycparser import c_ast, c_parser

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, "..", "include", "ponder.h")

# What the header takes from <stddef.h> and <stdint.h>, on the 64-bit machines that the sizes are checked for.
SCALARS = {
    "char": 1, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4,
    "int64_t": 8, "uint64_t": 8, "size_t": 8, "float": 4, "double": 8,
}
POINTER = 8


# ---- reading ----------------------------------------------------------------------------------------------

class Function:
    def __init__(self, name, ret, params, doc):
        self.name, self.ret, self.params, self.doc = name, ret, params, doc


class Header:
    """macros {name: int}, enums [[(name, value, comment)]], structs {name: [(field, type)]}, opaque [name],
    typedefs {name: type}, functions [Function]. A type is ("name", n), ("ptr", type, const), ("array", type, n) or
    ("func", ret, [type])."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.text = f.read()
        self.comments = comments_by_last_line(self.text)
        self.lines = self.text.split("\n")
        self.macros = {name: int(value) for name, value in
                       re.findall(r"^#define (PONDER_\w+) (-?\d+)$", self.text, re.M)}
        self.enums, self.structs, self.opaque, self.typedefs, self.functions = [], {}, [], {}, []
        for node in parse(self.text).ext:
            self.read(node)

    def read(self, node):
        if isinstance(node, c_ast.Typedef):
            self.read_typedef(node)
        elif isinstance(node.type, c_ast.Enum):
            self.read_enum(node.type)
        elif isinstance(node.type, c_ast.Struct):
            self.read_struct(node.type.name, node.type)
        elif isinstance(node.type, c_ast.FuncDecl):
            _, ret, params = type_of(node.type)
            names = [(p.name or "", t) for p, t in zip(node.type.args.params, params)] if params else []
            self.functions.append(Function(node.name, ret, names, self.doc_of(node.coord.line)))

    def read_typedef(self, node):
        if node.name in SCALARS:
            return
        inner = node.type.type
        if not isinstance(inner, c_ast.Struct):
            self.typedefs[node.name] = type_of(node.type)
        elif inner.decls is None:
            self.opaque.append(node.name)  # unless the struct itself follows
        else:
            self.read_struct(node.name, inner)

    def read_struct(self, name, struct):
        if name in self.opaque:
            self.opaque.remove(name)
        self.structs[name] = [(d.name, type_of(d.type)) for d in struct.decls]

    def read_enum(self, enum):
        values = []
        for e in enum.values.enumerators:
            values.append((e.name, constant(e.value), self.trailing_comment(e.name)))
        self.enums.append(values)

    def trailing_comment(self, name):
        m = re.search(r"^\s*" + name + r" = [^/\n]*/\* (.*?) \*/$", self.text, re.M | re.S)
        return " ".join(m.group(1).split()) if m else ""

    def doc_of(self, line):
        """The comment that ends just above a declaration; one comment may stand above several."""
        above = line - 1
        while above > 0 and above not in self.comments:
            if not self.lines[above - 1].strip():
                return ""
            above -= 1
        return self.comments.get(above, "")

    def params(self):
        """(PONDER_P_X, x, id, i64|f64|str, comment) of every parameter."""
        for enum in self.enums:
            for name, value, comment in enum:
                if name.startswith("PONDER_P_"):
                    m = re.match(r"(i64|f64|str)(\*?): (.*)", comment)
                    if not m:
                        raise SystemExit(name + ": the comment must begin with its type")
                    live = " May change later (Session.configure)." if m.group(2) else ""
                    yield name, name[9:].lower(), value, m.group(1), sentence(m.group(3)) + live


def sentence(text):
    text = text[0].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def comments_by_last_line(text):
    """Line number of a comment's last line -> its text; only comments that begin a line."""
    found = {}
    for m in re.finditer(r"^/\*(.*?)\*/[ \t]*$", text, re.M | re.S):
        lines = [re.sub(r"^ \* ?", "", line).rstrip() for line in m.group(1).split("\n")]
        found[text.count("\n", 0, m.end()) + 1] = "\n".join(lines).strip()
    return found


def parse(text):
    """Keeps line numbers: comments are found by them. The system headers are replaced by the scalars above."""
    text = re.sub(r"^#include <\w+\.h>$", "", text, flags=re.M)
    command = os.environ.get("CC", "cc").split() + ["-E", "-U__GNUC__", "-x", "c", "-"]
    out = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    known = "".join("typedef int %s;\n" % t for t in sorted(SCALARS) if t.endswith("_t"))
    return c_parser.CParser().parse(known + '# 1 "<stdin>"\n' + out)


def constant(node):
    if isinstance(node, c_ast.UnaryOp) and node.op == "-":
        return -constant(node.expr)
    return int(node.value, 0)


def type_of(node):
    if isinstance(node, c_ast.TypeDecl):
        return ("name", node.type.names[-1])
    if isinstance(node, c_ast.PtrDecl):
        const = isinstance(node.type, c_ast.TypeDecl) and "const" in node.type.quals
        return ("ptr", type_of(node.type), const)
    if isinstance(node, c_ast.ArrayDecl):
        return ("array", type_of(node.type), int(node.dim.value))
    if isinstance(node, c_ast.FuncDecl):
        params = [type_of(p.type) for p in node.args.params] if node.args else []
        return ("func", type_of(node.type), [] if params == [("name", "void")] else params)
    raise SystemExit("%s: a declaration that the generator does not know" % node.coord)


def layout(h, t):
    """(size, alignment) of a type where pointers have eight bytes."""
    if t[0] == "ptr":
        return POINTER, POINTER
    if t[0] == "array":
        size, align = layout(h, t[1])
        return size * t[2], align
    name = t[1]
    if name in SCALARS:
        return SCALARS[name], SCALARS[name]
    if name in h.typedefs:
        return layout(h, h.typedefs[name])
    offset, widest = 0, 1
    for field, ft in h.structs[name]:
        size, align = layout(h, ft)
        if offset % align:
            raise SystemExit("%s.%s: hidden padding before it" % (name, field))
        offset, widest = offset + size, max(widest, align)
    if offset % widest:
        raise SystemExit("%s: hidden padding at its end" % name)
    return offset, widest


# ---- Python -----------------------------------------------------------------------------------------------

PY_SCALARS = {"char": "c_char", "float": "c_float", "double": "c_double", "void": "None"}


def py_type(h, t):
    if t[0] == "name":
        if t[1] in h.opaque or t[1] in h.structs or t[1] in h.typedefs:
            return t[1]
        return PY_SCALARS.get(t[1]) or ("c_size_t" if t[1] == "size_t" else "c_" + t[1].replace("_t", ""))
    if t[0] == "array":
        return "%s * %d" % (py_type(h, t[1]), t[2])
    if t[0] == "func":
        return "CFUNCTYPE(%s)" % ", ".join(py_type(h, x) for x in [t[1]] + t[2])
    inner = t[1]
    if inner[0] == "func":
        return py_type(h, inner)
    if inner == ("name", "void"):
        return "c_void_p"
    if inner == ("name", "char") and t[2]:
        return "c_char_p"
    return "POINTER(%s)" % py_type(h, inner)


def py_field(h, t):
    """A const char * in a struct has a length beside it, or ends in NUL: both can be read from a POINTER(c_char)."""
    return "POINTER(c_char)" if t == ("ptr", ("name", "char"), True) else py_type(h, t)


def write_python(h):
    out = ['"""Generated by bindings/generate.py from include/ponder.h; not to be edited."""',
           "from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64,",
           "                    c_size_t, c_uint8, c_uint32, c_uint64, c_void_p)", ""]
    for name, value in h.macros.items():
        out.append("%s = %d" % (name[7:], value))
    for enum in h.enums:
        out.append("")
        for name, value, comment in enum:
            out.append("%s = %d%s" % (name[7:], value, "  # " + comment if comment else ""))
    out.append("\nSTATUS_NAMES = {")
    out += ['    %d: "%s",' % (value, name) for name, value, _ in status_enum(h)]
    out.append("}")
    for name in h.opaque:
        out.append("\n\nclass %s(Structure):\n    pass" % name)
    out.append("\n")
    for name, t in h.typedefs.items():
        if t[0] == "name":
            out.append("%s = %s" % (name, py_type(h, t)))
    for name, fields in h.structs.items():
        out.append("\n\nclass %s(Structure):\n    _fields_ = [" % name)
        out += ['        ("%s", %s),' % (f, py_field(h, t)) for f, t in fields]
        out.append("    ]")
    out.append("\n")
    for name, t in h.typedefs.items():
        if t[0] != "name":
            out.append("%s = %s" % (name, py_type(h, t)))
    out.append("\n# Sizes where pointers have eight bytes.\nSIZES = {")
    out += ["    %s: %d," % (name, layout(h, ("name", name))[0]) for name in h.structs]
    out.append("}\n\n# name, result, arguments\nFUNCTIONS = [")
    for f in h.functions:
        args = ", ".join(py_type(h, t) for _, t in f.params)
        out.append('    ("%s", %s, [%s]),' % (f.name, py_type(h, f.ret), args))
    out.append("]\n\nDOCS = {")
    out += ['    "%s": %s,' % (f.name, py_string(f.doc)) for f in h.functions
            if f.doc and not f.name.endswith("_free")]
    out.append("}\n\n# name, id, type\nPARAMS = [")
    out += ['    ("%s", %d, TYPE_%s),' % (low, value, kind.upper()) for _, low, value, kind, _ in h.params()]
    out.append("]\n\n\nclass ConfigSetters:\n"
               '    """One setter a parameter; the class that inherits supplies _i64, _f64 and _str(id, value)."""')
    for name, low, _, kind, comment in h.params():
        hint = {"i64": "int", "f64": "float", "str": "str"}[kind]
        out.append('\n    def set_%s(self, value: %s):\n        """%s"""\n        return self._%s(%s, value)'
                   % (low, hint, comment.replace('""', "'' "), kind, name[7:]))
    return "\n".join(out) + "\n"


def py_string(text):
    return repr(text) if "\n" not in text else '"""' + text.replace("\\", "\\\\").replace('"""', "'''") + '"""'


def status_enum(h):
    return next(e for e in h.enums if e[0][0] == "PONDER_OK")


# ---- Go ---------------------------------------------------------------------------------------------------

# The family of a constant gives its Go type.
GO_FAMILIES = [("PONDER_P_", "Param", "Param", "int32"), ("PONDER_TYPE_", "Type", "ParamType", "int32"),
               ("PONDER_INFO_", "Info", "Info", "int32"), ("PONDER_TOKENIZE_", "Tokenize", "TokenizeFlags", "uint32"),
               ("PONDER_EVENT_", "Event", "EventKind", "int32"), ("PONDER_END_", "End", "End", "int32"),
               ("PONDER_AGENT_", "Agent", "AgentState", "int32"), ("PONDER_DECIDED_", "Decided", "DecidedBy", "int32"),
               ("PONDER_THOUGHT_", "Thought", "ThoughtWhy", "int32"),
               ("PONDER_RGB", "FormatRGB", "PixelFormat", "int32"),
               ("PONDER_E_", "Err", "Status", "int32"), ("PONDER_", "", "Status", "int32")]
# Those of which a program prints the names.
GO_NAMED = {"PONDER_END_", "PONDER_AGENT_", "PONDER_DECIDED_", "PONDER_THOUGHT_"}
GO_WORDS = {"CPU", "KV", "EOS", "BOS", "OK", "ABI", "I64", "F64", "IO"}
GO_SCALARS = {"float": "float32", "double": "float64", "size_t": "int", "int32_t": "int32", "uint32_t": "uint32",
              "int64_t": "int64", "uint64_t": "uint64", "ponder_status": "Status", "ponder_param": "Param"}


def camel(name):
    return "".join(w if w in GO_WORDS else w.capitalize() for w in name.upper().split("_"))


def go_family(h, enum):
    if enum[0][0] in (name for name, _, _ in status_enum(h)):
        return "Status"
    return next((t for p, _, t, _ in GO_FAMILIES if enum[0][0].startswith(p)), None)


def go_constant(name):
    prefix, short = next((p, s) for p, s, _, _ in GO_FAMILIES if name.startswith(p))
    return short + camel(name[len(prefix):])


def go_pointer(t):
    """Type of a parameter or result that is not a scalar."""
    if t[0] == "name":
        return "C." + t[1]
    if t[1] == ("name", "void"):
        return "unsafe.Pointer"
    if t[1][0] == "func":
        return "*[0]byte"
    return "*" + go_pointer(t[1])


def go_type(t):
    return GO_SCALARS.get(t[1]) if t[0] == "name" and t[1] in GO_SCALARS else go_pointer(t)


def go_name(name):
    first, *rest = name.split("_")
    name = first + "".join(w.capitalize() for w in rest)
    return {"type": "kind", "func": "fn"}.get(name, name)


def write_go_function(f):
    params = ", ".join("%s %s" % (go_name(n), go_type(t)) for n, t in f.params)
    args = ", ".join("C.%s(%s)" % (t[1], go_name(n)) if t[0] == "name" and t[1] in GO_SCALARS else go_name(n)
                     for n, t in f.params)
    call = "C.%s(%s)" % (f.name, args)
    name = "c" + camel(f.name[7:])
    if f.ret == ("name", "void"):
        return "func %s(%s) {\n\t%s\n}" % (name, params, call)
    ret = go_type(f.ret)
    value = "%s(%s)" % (ret, call) if f.ret[0] == "name" else call
    return "func %s(%s) %s {\n\treturn %s\n}" % (name, params, ret, value)


def write_go_names(h, prefix, short, name):
    values = [value for enum in h.enums for value, _, _ in enum if value.startswith(prefix)]
    table = short.lower() + "Names"
    yield "var %s = map[%s]string{" % (table, name)
    yield from ['\t%s: "%s",' % (go_constant(value), value[len(prefix):].lower()) for value in values]
    yield "}\n"
    yield "func (v %s) String() string { return nameOf(%s[v], int32(v)) }\n" % (name, table)


def write_go(h):
    out = ["// Code generated by bindings/generate.py from include/ponder.h; DO NOT EDIT.", "", "package ponder", "",
           "/*", "#cgo pkg-config: ponder", "#include <ponder.h>", "*/", 'import "C"', "", 'import "unsafe"', "",
           "// ABI and version of the header that this file was made from."]
    out += ["const %s = %d" % (camel(name[7:]), value) for name, value in h.macros.items()]
    out.append("")
    types = {}
    for _, _, name, base in GO_FAMILIES:
        types.setdefault(name, base)
    out += ["type %s %s\n" % (name, base) for name, base in types.items()]
    for enum in h.enums:
        for name, value, comment in enum:
            note = " // " + comment if comment else ""
            out.append("const %s %s = %d%s\n" % (go_constant(name), go_family(h, enum), value, note))
    for prefix, short, name, _ in GO_FAMILIES:
        if prefix in GO_NAMED:
            out += write_go_names(h, prefix, short, name)
    out.append("// An index out of range here: the installed header is not the one that this file was made from.")
    out.append("var (")
    for name, value in h.macros.items():
        out.append("\t_ = [1]struct{}{}[C.%s-%d]" % (name, value))
    for name in h.structs:
        out.append("\t_ = [1]struct{}{}[C.sizeof_%s-%d]" % (name, layout(h, ("name", name))[0]))
    out.append(")\n\n// Params lists every parameter that the header names.\nvar Params = []struct {\n\tID   Param\n\tName string\n\tType ParamType\n}{")
    out += ['\t{%s, "%s", Type%s},' % (go_constant(name), low, camel(kind)) for name, low, _, kind, _ in h.params()]
    out.append("}\n")
    for name, low, _, kind, comment in h.params():
        go = {"i64": "int64", "f64": "float64", "str": "string"}[kind]
        setter = "Set" + camel(low)
        out.append("// %s: %s" % (setter, comment))
        out.append("func (c *Config) %s(value %s) error {\n\treturn c.set%s(%s, value)\n}\n"
                   % (setter, go, camel(kind), go_constant(name)))
    out += [write_go_function(f) + "\n" for f in h.functions]
    return "\n".join(out).rstrip("\n") + "\n"


# ---- main -------------------------------------------------------------------------------------------------

def main():
    h = Header(HEADER)
    outputs = {"python/ponder/_api.py": write_python(h), "go/api_gen.go": write_go(h)}
    stale = []
    for name, text in outputs.items():
        path = os.path.join(HERE, name)
        old = open(path, encoding="utf-8").read() if os.path.exists(path) else ""
        if old == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    for name in stale:
        print(("stale: " if "--check" in sys.argv[1:] else "wrote ") + name)
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
