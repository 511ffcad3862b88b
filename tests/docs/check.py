#!/usr/bin/env python3
"""check.py BUILD: compiles the C programs in README.md, doc/*.md and bindings/README.md against the library in BUILD, and runs
some; runs Python programs that are marked.

A program is a ```c or ```python block straight after one of
    <!-- test: compile -->                        (C alone)
    <!-- test: run ARGUMENTS -->                  DATA in an argument stands for tests/data
    <!-- test: run ARGUMENTS prints PATTERN -->   the regular expression must be found in its output
A ```c block without such a line must be marked <!-- test: no --> (fragments), so that none is forgotten.
"""
import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DATA = os.environ.get("PONDER_TEST_DATA", os.path.join(TOP, "tests", "data"))


def blocks(path):
    """(line number, mark or None, language, code) of each C block, and of each Python block with a mark."""
    lines = open(path, encoding="utf-8").read().split("\n")
    i = 0
    while i < len(lines):
        language = {"```c": "c", "```python": "python"}.get(lines[i].strip())
        if language:
            end = lines.index("```", i + 1)
            before = next((text for text in reversed(lines[:i]) if text.strip()), "")
            mark = re.match(r"<!-- test: (.*) -->$", before.strip())
            if mark or language == "c":
                yield i + 1, mark.group(1) if mark else None, language, "\n".join(lines[i + 1:end]) + "\n"
            i = end
        i += 1


def compiled(build, code, tmp):
    source, program = os.path.join(tmp, "program.c"), os.path.join(tmp, "program")
    with open(source, "w", encoding="utf-8") as f:
        f.write(code)
    lib = os.path.join(build, "lib")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-Wall", "-Wextra", "-Werror", "-I" + os.path.join(TOP, "include"),
                    source, "-o", program, "-L" + lib, "-lponder", "-Wl,-rpath," + os.path.abspath(lib)], check=True)
    return [program]


def check(build, mark, language, code, tmp):
    program = compiled(build, code, tmp) if language == "c" else [sys.executable, "-W", "error", "-c", code]
    if mark != "compile":
        arguments, _, pattern = mark[len("run"):].partition(" prints ")
        arguments = [a.replace("DATA", DATA) for a in shlex.split(arguments)]
        environment = dict(os.environ, PYTHONPATH=os.path.join(TOP, "bindings", "python"), PYTHONDONTWRITEBYTECODE="1",
                           PONDER_LIBRARY=os.path.join(os.path.abspath(build), "lib", "libponder.so"))
        out = subprocess.run(program + arguments, check=True, timeout=120, stdout=subprocess.PIPE, cwd=tmp, env=environment).stdout
        print("   it printed %d bytes" % len(out))
        if not re.search(pattern, out.decode("utf-8")):
            raise ValueError("it printed %r, where %s is not to be found" % (out, pattern))


def main():
    build, failed, seen = sys.argv[1], 0, 0
    for path in [os.path.join(TOP, "README.md"), os.path.join(TOP, "bindings", "README.md")] + sorted(glob.glob(os.path.join(TOP, "doc", "*.md"))):
        for line, mark, language, code in blocks(path):
            where = "%s:%d" % (os.path.relpath(path, TOP), line)
            if mark == "no":
                continue
            seen += 1
            print("%s: %s" % (where, mark or "not marked"), flush=True)
            try:
                if not mark or mark.split()[0] not in ("compile", "run"):
                    raise ValueError("mark it with <!-- test: compile|run|no -->")
                with tempfile.TemporaryDirectory() as tmp:
                    check(build, mark, language, code, tmp)
            except (ValueError, subprocess.SubprocessError) as error:
                failed += 1
                print("   FAILED: %s" % error)
    print("%d programs, %d failed" % (seen, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
