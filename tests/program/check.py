#!/usr/bin/env python3
"""check.py PROGRAM [NAME...]: runs the command-line program from outside and compares with tests/data's references.

Python's standard library only. Each function check_* is one check; NAME chooses some.
"""
import array
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DATA = os.environ.get("PONDER_TEST_DATA", os.path.join(TOP, "tests", "data"))
PROGRAM = os.path.abspath(sys.argv[1])
COMMANDS = ["chat", "ask", "info", "bench", "logits", "tokenize", "detokenize", "render"]


def run(*arguments, text=b""):
    return subprocess.run([PROGRAM, *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(map(str, what)))


def output(*arguments, text=b""):
    done = run(*arguments, text=text)
    expect(done.returncode == 0, arguments, "gave", done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def one_object(*arguments, text=b""):
    """The JSON object that is all of standard output, on one line."""
    out = output(*arguments, text=text)
    expect(out.count(b"\n") == 1 and out.endswith(b"\n"), arguments, "is not one line")
    return json.loads(out)


def error_line(status, *arguments, text=b""):
    done = run(*arguments, text=text)
    expect(done.returncode == status, arguments, "gave", done.returncode, "and not", status)
    line = done.stderr.decode()
    expect(line.count("\n") == 1 and not done.stdout, arguments, "did not print one line of error")
    return line


def npy(path):
    """Shape and values of a float32 file in C order."""
    with open(path, "rb") as f:
        data = f.read()
    expect(data[:8] == b"\x93NUMPY\x01\x00", path, "is no NPY 1.0")
    begin = 10 + int.from_bytes(data[8:10], "little")
    head = eval(data[10:begin])
    expect(head["descr"] == "<f4" and not head["fortran_order"], path, head)
    return head["shape"], array.array("f", data[begin:])


def largest_difference(a, b):
    expect(len(a) == len(b), len(a), "values and not", len(b))
    return max(abs(x - y) for x, y in zip(a, b))


def models():
    """Each reference: folder, its ids.json, and the path of each form that the model has. Not the quantised ones, whose
    production kernels round activations: tests/decoder compares those."""
    for name in sorted(os.listdir(DATA)):
        folder = os.path.join(DATA, name)
        if name.endswith("-mixed") or not os.path.exists(os.path.join(folder, "ids.json")):
            continue
        with open(os.path.join(folder, "ids.json")) as f:
            ids = json.load(f)
        forms = [folder] if os.path.exists(os.path.join(folder, "config.json")) else []
        gguf = os.path.join(folder, "model.gguf")
        yield folder, ids, forms + [gguf] * os.path.exists(gguf)


def joined(ids):
    return ",".join(map(str, ids))


def check_help():
    expect(b"chat" in output("--help"), "no list of commands")
    for command in COMMANDS:
        text = output(command, "--help")
        expect(text.startswith(b"usage: ponder " + command.encode()) and len(text) > 200, command, "has no help")


def check_usage():
    for arguments in ([], ["nonsense"], ["ask"], ["ask", "x", "--nonsense"], ["logits", "x"], ["logits", "x", "--ids", "1,b"],
                      ["logits", "x", "--ids"], ["tokenize"], ["render"], ["bench", "x", "--threads", "-3"],
                      ["bench", "x", "--threads", "many"], ["bench", "x", "--sequences", "0"], ["info"],
                      ["info", "x", "--set", "nonsense=1"]):
        error_line(2, *arguments)


def check_errors():
    for command in (["info"], ["info", "--plan"], ["bench"], ["ask", "--quiet"], ["logits", "--ids", "1"], ["tokenize"]):
        line = error_line(1, command[0], os.path.join(DATA, "no-such-file"), *command[1:], text=b"x")
        expect(line.startswith("ponder: ") and line.endswith("(PONDER_E_IO)\n"), line)
    llama = os.path.join(DATA, "llama", "model.gguf")
    expect("PONDER_E_RANGE" in error_line(1, "logits", llama, "--ids", "1,100000"), "an id outside the vocabulary")
    expect("PONDER_E_UNSUPPORTED" in error_line(1, "ask", llama, "--quiet", "Hi"), "a question without a tokenizer")


def check_logits():
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out.npy")
        for folder, ids, forms in models():
            shape, want = npy(os.path.join(folder, "logits.npy"))
            tolerance = ids["tolerance"]
            for model in forms:
                found = one_object("logits", model, "--ids", joined(ids["ids"]), "--npy", out)
                expect(found == {"positions": shape[0], "vocab": shape[1], "greedy": []}, model, found)
                got_shape, got = npy(out)
                off = largest_difference(got, want)
                print(f"   {os.path.relpath(model, DATA):<34} logits off by {off:.2g} (at most {tolerance:g})")
                expect(got_shape == shape and off <= tolerance, model, "is off by", off)


def check_greedy():
    for folder, ids, forms in models():
        for model in forms:
            found = one_object("logits", model, "--ids", joined(ids["greedy_prompt"]), "--greedy", str(len(ids["greedy"])))
            expect(found["greedy"] == ids["greedy"], model, "goes on with", found["greedy"])


def check_hidden():
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out.npy")
        for folder, ids, forms in models():
            (layers, positions, width), want = npy(os.path.join(folder, "hidden.npy"))
            for model in forms:
                for i, layer in enumerate(ids["hidden_layers"]):
                    one_object("logits", model, "--ids", joined(ids["ids"]), "--hidden", str(layer), "--npy", out)
                    shape, got = npy(out)
                    rows = want[i * positions * width:(i + 1) * positions * width]
                    off = largest_difference(got, rows)
                    scale = max(1.0, max(map(abs, rows)))
                    expect(shape == (positions, width) and off <= 3e-4 * scale, model, "layer", layer, "is off by", off)


def check_bench():
    found = one_object("bench", os.path.join(DATA, "llama", "model.gguf"), "--json", "--threads", "1", "--sequences", "2,3",
                       "--repeat", "1")
    for key in ("prefill_512", "decode", "decode_2", "decode_3", "load_ms", "peak_bytes"):
        expect(found[key] > 0, key, found)
    expect(found["threads"] == 1, found)


def check_info():
    for folder, _, forms in models():
        for model in forms:
            found = one_object("info", model, "--json")
            plan = one_object("info", model, "--plan", "--json")
            expect(found["vocab"] > 0 and found["layers"] > 0 and plan["peak_bytes"] > 0, model, found, plan)
    expect(b"temperature" in output("info", "--parameters"), "no table of parameters")


def check_render():
    with open(os.path.join(DATA, "chat", "cases.json"), encoding="utf-8") as f:
        cases = [c for c in json.load(f)["cases"] if c["template"] in ("muse", "chatml", "gemma", "llama3")]
    refused = 0
    for case in cases[::5] + [c for c in cases if "error" in c][:20]:
        done = run("render", "--template", case["template"], text=case["input"].encode("utf-8", "surrogatepass"))
        if "error" in case:
            refused += 1
            expect(done.returncode == 1 and done.stderr and not done.stdout, "not refused:", case["input"])
        else:
            expect(done.returncode == 0 and done.stdout.decode() == case["output"], "differs:", case["input"], done.stderr)
    expect(refused, "no refusal was tried")
    expect(error_line(1, "render", "--template", "nonsense", text=b"{}").endswith("(PONDER_E_UNKNOWN)\n"), "nonsense known")


def check_tokens():
    folder = os.path.join(DATA, "seed0")
    with open(os.path.join(folder, "reference.json"), encoding="utf-8") as f:
        cases = json.load(f)
    for where in ([folder], ["--tokenizer", os.path.join(folder, "tokenizer.json")]):
        for case in cases:
            found = one_object("tokenize", *where, text=case["rendered"].encode())
            expect(found == {"ids": case["prompt_ids"]}, "other ids for", case["rendered"], found)
            back = output("detokenize", *where, text=json.dumps(found).encode())
            expect(back == case["rendered"].encode(), "another text:", back)
            numbers = " ".join(map(str, case["greedy_ids"])).encode()
            expect(output("detokenize", *where, text=numbers) == case["greedy_text"].encode(), "another text:", numbers)
            plain = one_object("tokenize", "--plain", *where, text=case["rendered"].encode())["ids"]
            expect(plain != found["ids"] and max(plain) < 389, "--plain has special tokens:", plain)
    error_line(1, "detokenize", folder, text=b'{"ids":["a"]}')
    error_line(2, "tokenize", folder, "--tokenizer", "x")


def check_ask():
    folder = os.path.join(DATA, "seed0")
    with open(os.path.join(folder, "reference.json"), encoding="utf-8") as f:
        case = next(c for c in json.load(f) if c["expected"] == c["greedy_text"].split("<|message|>")[-1].split("<|")[0])
    question = case["messages"][-1]["content"]
    options = ["--template", "muse", "--temperature", "0", "--max-tokens", "100", "--effort", case["reasoning_strength"]]
    done = run("ask", folder, *options, question)
    expect(done.returncode == 0 and case["expected"] in done.stdout.decode(), done)
    expect(b"tokens/s" in done.stderr and b"\033" not in done.stdout + done.stderr, "no rates, or colours:", done.stderr)
    script = (question + "\n" + "/new\n" + question + "\n").encode()
    done = run("chat", folder, "--quiet", *options, text=script)
    expect(done.returncode == 0 and done.stdout.decode().count(case["expected"]) >= 2, done)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments):
        self.seen = b""
        self.process, self.fd = pty.fork()
        if not self.process:
            os.environ["TERM"] = "xterm"
            os.environ.pop("NO_COLOR", None)
            os.execv(PROGRAM, [PROGRAM, *arguments])

    def type(self, keys):
        self.seen = b""
        os.write(self.fd, keys)

    def wait_for(self, text, more=0, seconds=60):
        """Until `text` was printed, and `more` bytes after it."""
        end = time.monotonic() + seconds
        while len(self.seen.partition(text)[2]) < more or text not in self.seen:
            expect(time.monotonic() < end, "no", text, "in", self.seen)
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
        expect(text in self.seen, "no", text, "in", self.seen)

    def status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def check_interrupt():
    """Ctrl-C ends a long answer and not the chat. The tiny model is quick: where it came too late, once more."""
    t = Terminal("chat", os.path.join(DATA, "seed0"), "--template", "muse", "--set", "ignore_eos=1")
    t.wait_for(b"> ")
    for _ in range(20):
        t.type(b"From D do 1u2p\n")
        t.wait_for(b"\r\n", 1) # what was typed, and something of the answer
        t.type(b"\x03")
        t.wait_for(b"tokens/s")
        t.wait_for(b"> ")
        if b"cancelled]" in t.seen:
            break
        t.type(b"/new\n")
        t.wait_for(b"> ")
    else:
        raise AssertionError("Ctrl-C never ended an answer")
    t.type(b"/help\n")
    t.wait_for(b"/quit")
    t.wait_for(b"> ")
    t.type(b"\x03")
    t.wait_for(b"Ctrl-D")
    t.type(b"/quit\n")
    expect(t.status() == 0, "the chat ended with an error")


def main():
    signal.alarm(900)
    wanted = sys.argv[2:]
    checks = [(name[6:], check) for name, check in globals().items() if name.startswith("check_")]
    failed = 0
    for name, check in checks:
        if wanted and name not in wanted:
            continue
        print(name, flush=True)
        try:
            check()
        except (AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as problem:
            failed += 1
            print(f"   FAILED: {str(problem)[:600]}", flush=True)
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
