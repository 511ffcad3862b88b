#!/usr/bin/env python3
"""check.py BUILD: compiles the C programs in README.md and doc/*.md against the library in BUILD, and runs some.

A program is a ```c block straight after one of
    <!-- test: compile -->
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
    """(line number, mark or None, code) of each C block."""
    lines = open(path, encoding="utf-8").read().split("\n")
    i = 0
    while i < len(lines):
        if lines[i].strip() == "```c":
            end = lines.index("```", i + 1)
            before = next((text for text in reversed(lines[:i]) if text.strip()), "")
            mark = re.match(r"<!-- test: (.*) -->$", before.strip())
            yield i + 1, mark.group(1) if mark else None, "\n".join(lines[i + 1:end]) + "\n"
            i = end
        i += 1


def check(build, mark, code, tmp):
    source, program = os.path.join(tmp, "program.c"), os.path.join(tmp, "program")
    with open(source, "w", encoding="utf-8") as f:
        f.write(code)
    lib = os.path.join(build, "lib")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-Wall", "-Wextra", "-Werror", "-I" + os.path.join(TOP, "include"),
                    source, "-o", program, "-L" + lib, "-lponder", "-Wl,-rpath," + os.path.abspath(lib)], check=True)
    if mark != "compile":
        arguments, _, pattern = mark[len("run"):].partition(" prints ")
        arguments = [a.replace("DATA", DATA) for a in shlex.split(arguments)]
        out = subprocess.run([program] + arguments, check=True, timeout=120, stdout=subprocess.PIPE, cwd=tmp).stdout
        print("   it printed %d bytes" % len(out))
        if not re.search(pattern, out.decode("utf-8")):
            raise ValueError("it printed %r, where %s is not to be found" % (out, pattern))


def main():
    build, failed, seen = sys.argv[1], 0, 0
    for path in [os.path.join(TOP, "README.md")] + sorted(glob.glob(os.path.join(TOP, "doc", "*.md"))):
        for line, mark, code in blocks(path):
            where = "%s:%d" % (os.path.relpath(path, TOP), line)
            if mark == "no":
                continue
            seen += 1
            print("%s: %s" % (where, mark or "not marked"), flush=True)
            try:
                if not mark or mark.split()[0] not in ("compile", "run"):
                    raise ValueError("mark it with <!-- test: compile|run|no -->")
                with tempfile.TemporaryDirectory() as tmp:
                    check(build, mark, code, tmp)
            except (ValueError, subprocess.SubprocessError) as error:
                failed += 1
                print("   FAILED: %s" % error)
    print("%d programs, %d failed" % (seen, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
