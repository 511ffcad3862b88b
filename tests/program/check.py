#!/usr/bin/env python3
"""check.py PROGRAM [NAME...]: runs the command-line program from outside and compares with tests/data's references.

Python's standard library only. Each function check_* is one check; NAME chooses some.
"""
import array
import json
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import xml.dom.minidom
import zlib

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DATA = os.environ.get("PONDER_TEST_DATA", os.path.join(TOP, "tests", "data"))
PROGRAM = os.path.abspath(sys.argv[1])
COMMANDS = ["chat", "ask", "contemplate", "see", "info", "bench", "logits", "tokenize", "detokenize", "render", "parse", "features"]


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
    """Shape and values of a file of float32 or bytes in C order."""
    with open(path, "rb") as f:
        data = f.read()
    expect(data[:8] == b"\x93NUMPY\x01\x00", path, "is no NPY 1.0")
    begin = 10 + int.from_bytes(data[8:10], "little")
    head = eval(data[10:begin])
    expect(head["descr"] in ("<f4", "|u1") and not head["fortran_order"], path, head)
    return head["shape"], array.array("f" if head["descr"] == "<f4" else "B", data[begin:])


def largest_difference(a, b):
    expect(len(a) == len(b), len(a), "values and not", len(b))
    return max(abs(x - y) for x, y in zip(a, b))


def load_json(*path):
    with open(os.path.join(DATA, *path), encoding="utf-8") as f:
        return json.load(f)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def least_cosine(got, want, width):
    """Of all rows."""
    expect(len(got) == len(want), len(got), "values and not", len(want))
    return min(cosine(got[i:i + width], want[i:i + width]) for i in range(0, len(want), width))


def normed(rows, width, eps):
    """The text model's norm without weights, in double precision."""
    out = []
    for i in range(0, len(rows), width):
        row = rows[i:i + width]
        scale = 1 / math.sqrt(sum(x * x for x in row) / width + eps)
        out += [x * scale for x in row]
    return out


def write_png(path, shape, pixels):
    """8-bit RGB, no filters."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    height, width, _ = shape
    raw = b"".join(b"\0" + bytes(pixels[y * width * 3:(y + 1) * width * 3]) for y in range(height))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def read_png(path):
    """Width, height and bytes of an 8-bit RGB picture that is not interlaced."""
    with open(path, "rb") as f:
        data = f.read()
    expect(data[:8] == b"\x89PNG\r\n\x1a\n", path, "is no PNG")
    packed, at = b"", 8
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, *form = struct.unpack(">IIBBBBB", data[at + 8:at + 21])
            expect(form == [8, 2, 0, 0, 0], path, "is not 8-bit RGB:", form)
        packed += data[at + 8:at + 8 + n] if kind == b"IDAT" else b""
        at += n + 12
    raw, rows, above = zlib.decompress(packed), [], bytes(3 * width)
    for y in range(height):
        kind, row = raw[y * (3 * width + 1)], bytearray(raw[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)])
        for i in range(len(row)):
            a, b, c = row[i - 3] if i > 2 else 0, above[i], above[i - 3] if i > 2 else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
        rows.append(bytes(row))
        above = rows[-1]
    return width, height, b"".join(rows)


def write_wav(path, samples, rate=24000):
    """Floats, one channel."""
    data = array.array("f", samples).tobytes()
    with open(path, "wb") as f:
        f.write(b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, rate, rate * 4, 4, 32))
        f.write(b"data" + struct.pack("<I", len(data)) + data)


def media(name):
    return os.path.join(DATA, "media", name)


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
                      ["bench", "x", "--threads", "many"], ["bench", "x", "--sequences", "0"], ["bench", "x", "--tokens", "0"], ["info"],
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
    found = one_object("bench", os.path.join(DATA, "llama", "model.gguf"), "--json", "--prompt", "20", "--context", "0", "--tokens", "4",
                       "--repeat", "1")
    expect(found["prefill_20"] > 0 and "decode" not in found, found)


def check_info():
    for folder, _, forms in models():
        for model in forms:
            found = one_object("info", model, "--json")
            plan = one_object("info", model, "--plan", "--json")
            expect(found["vocab"] > 0 and found["layers"] > 0 and plan["peak_bytes"] > 0, model, found, plan)
    for name, images, sounds in (("llama", False, False), ("vision-glimmer", True, False), ("audio-spark", True, True)):
        folder = os.path.join(DATA, name)
        found, plan = one_object("info", folder, "--json"), one_object("info", folder, "--plan", "--json")
        expect((found["images"], found["sounds"]) == (images, sounds), name, found)
        expect(found["tower_bytes"] == plan["tower_bytes"] and (plan["tower_bytes"] > 0) == images, name, found, plan)
        expect(re.search(rb"sees images +" + (b"yes" if images else b"no"), output("info", folder)), name, "says nothing of images")
    gguf = os.path.join(DATA, "vision-glimmer", "model.gguf")
    expect(not one_object("info", gguf, "--json")["images"], "a GGUF alone sees")
    expect(one_object("info", gguf, "--json", "--projector", os.path.join(DATA, "vision-glimmer", "mmproj.gguf"))["images"], "no projector")
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


def features(tmp, model, *options):
    """What is printed, the rows' shape, and their values."""
    out = os.path.join(tmp, "out.npy")
    found = one_object("features", *model, *options, "--npy", out)
    shape, rows = npy(out)
    expect((found["rows"], found["width"]) == shape, found, shape)
    return found, shape, rows


def tower_models(name):
    folder = os.path.join(DATA, name)
    return [[folder], [os.path.join(folder, "model.gguf"), "--projector", os.path.join(folder, "mmproj.gguf")]]


def check_features_of_pixels():
    """Pictures of the towers' own size: the rows are the reference's, in both containers."""
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("vision-glimmer", "vision-spark"):
            eps = load_json(name, "config.json")["text_config"]["rms_norm_eps"]
            for case in load_json(name, "vision.json")["cases"]:
                files = [os.path.join(tmp, frame + ".png") for frame in case["frames"]]
                for frame, file in zip(case["frames"], files):
                    write_png(file, *npy(os.path.join(DATA, name, frame + ".image.npy")))
                shape, want = npy(os.path.join(DATA, name, case["rows"]))
                want = normed(want, shape[1], eps)
                pair = len(files) > 1
                for model in tower_models(name)[:1 if pair else 2]:    # a projector cannot tell the frames of a pair apart
                    found, got_shape, got = features(tmp, model, *(["--frames"] if pair else ["--image"]), *files)
                    off = largest_difference(got, want)
                    print(f"   {os.path.basename(model[0]):<16} {case['name']:<14} rows off by {off:.2g}")
                    expect(got_shape == shape and found["tokens"] == shape[0] + 2, name, case["name"], found)
                    expect(off <= 3e-4, name, case["name"], "is off by", off)


def check_features_of_files():
    """Pictures that are resized, laid over white, limited; videos of even and odd length."""
    with tempfile.TemporaryDirectory() as tmp:
        for case in load_json("features", "cases.json"):
            shape, want = npy(os.path.join(DATA, "features", case["name"] + ".rows.npy"))
            files = [next(p for p in (os.path.join(DATA, "features", f), media(f)) if os.path.exists(p)) for f in case["files"]]
            options = ["--max-tokens", str(case["max_tokens"])] if "max_tokens" in case else []
            options += ["--alpha", case["alpha"]] if "alpha" in case else []
            found, got_shape, got = features(tmp, [os.path.join(DATA, case["model"])], "--frames" if len(files) > 1 else "--image", *files, *options)
            pairs = (len(files) + 1) // 2
            least = least_cosine(got, want, shape[1])
            print(f"   {case['name']:<14} cosine of all {cosine(got, want):.7f}, of the worst row {least:.6f}")
            expect(got_shape == shape and found["tokens"] == shape[0] + 1 + pairs, case["name"], found, shape)
            expect(cosine(got, want) > 0.9999 and least > 0.999, case["name"], "is another picture")
            if case["name"] == "drop":
                _, _, unsaid = features(tmp, [os.path.join(DATA, case["model"])], "--image", *files)
                expect(unsaid == got, "a file's alpha is not dropped unless it is said")


def check_features_of_sounds():
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("audio-spark", "audio-spark-bf16"):
            eps, about = load_json(name, "config.json")["text_config"]["rms_norm_eps"], load_json(name, "audio.json")
            _, wave = npy(os.path.join(DATA, name, about["wave"]))
            wav = os.path.join(tmp, "wave.wav")
            for case in about["cases"]:
                if case.get("backwards") or case.get("divided", 1) != 1:
                    continue
                write_wav(wav, wave[case["from"]:case["from"] + case["n"]])
                shape, want = npy(os.path.join(DATA, name, case["rows"]))
                for model in tower_models(name)[:2 if name == "audio-spark" else 1]:
                    found, got_shape, got = features(tmp, model, "--audio", wav)
                    off = largest_difference(got, normed(want, shape[1], eps))
                    print(f"   {os.path.basename(model[0]):<18} {case['name']:<10} rows off by {off:.2g}")
                    expect(got_shape == shape and found["tokens"] == shape[0] + 2 and off <= 3e-4, name, case["name"], found, off)
        shape, want = npy(os.path.join(DATA, "audio-spark", "file.rows.npy"))
        _, got_shape, got = features(tmp, [os.path.join(DATA, "audio-spark")], "--audio", os.path.join(DATA, "audio-spark", "file.wav"))
        expect(got_shape == shape and least_cosine(got, want, shape[1]) > 0.999, "a resampled file is another sound")


def check_features_of_more_than_the_context():
    """The model was made for 512 tokens, or 2048: rows are rows."""
    with tempfile.TemporaryDirectory() as tmp:
        wav = os.path.join(tmp, "long.wav")
        write_wav(wav, [0.1 * math.sin(i / 20) for i in range(1920 * 3000)])
        found, _, _ = features(tmp, [os.path.join(DATA, "seed0")], "--audio", wav)
        expect(found == {"rows": 3000, "width": 128, "tokens": 3002}, found)
        found, _, _ = features(tmp, [os.path.join(DATA, "seed0")], "--frames", *[media(f"frame{i}.png") for i in range(5)])
        expect(found["rows"] == 18 and found["tokens"] > 18 + 4, "a video's times are not counted:", found)


def check_bad_media():
    """One line and status 1, whatever is wrong."""
    folder, llama = os.path.join(DATA, "seed0"), os.path.join(DATA, "llama")
    with tempfile.TemporaryDirectory() as tmp:
        out, cut, empty = (os.path.join(tmp, name) for name in ("out.npy", "cut", "empty"))
        open(empty, "wb").close()
        with open(media("left.png"), "rb") as f, open(cut, "wb") as g:
            g.write(f.read()[:-30])
        for file in (cut, empty, tmp, os.path.join(tmp, "none"), media("short.wav")):
            for option in ("--image", "--frames"):
                line = error_line(1, "features", folder, option, file, "--npy", out)
                expect(line.startswith("ponder: " + file), line)
            error_line(1, "ask", folder, "--image", file, "--quiet", "Hi")
            error_line(1, "see", folder, file, "--quiet")
            error_line(1, "see", file, "--boxes", '{"x_min":0,"y_min":0,"x_max":9,"y_max":9}')
            error_line(1, "chat", folder, "--quiet", "--template", "muse", text=f"/image {file}\n".encode())
        for file in (media("left.png"), empty, tmp, os.path.join(tmp, "none")):
            error_line(1, "features", folder, "--audio", file, "--npy", out)
            error_line(1, "ask", folder, "--audio", file, "--quiet", "Hi")
        picture, sound = ["--image", media("left.png")], ["--audio", media("short.wav")]
        for options in (picture, sound):
            expect("PONDER_E_UNSUPPORTED" in error_line(1, "features", llama, *options, "--npy", out), "a text model sees or hears")
            expect("PONDER_E_UNSUPPORTED" in error_line(1, "ask", llama, *options, "--quiet", "Hi"), "a text model sees or hears")
        expect("PONDER_E_ARGUMENT" in error_line(1, "features", folder, "--frames", media("wide.png"), media("tall.png"), "--npy", out),
               "frames of two sizes")
        error_line(1, "features", folder, *picture, "--npy", os.path.join(tmp, "none", "out.npy"))
        error_line(1, "features", os.path.join(DATA, "vision-glimmer", "model.gguf"), *picture, "--npy", out)
        expect(not os.path.exists(out), "rows of nothing were written")
    for arguments in (picture, ["--npy", "x"], picture + sound + ["--npy", "x"], picture + ["--npy", "x", "--alpha", "black"],
                      ["--npy", "x", "--frames"], picture + ["--npy", "x", "--fps", "0"], picture + ["--npy", "x", "--fps", "nan"],
                      picture + ["--npy", "x", "--max-tokens", "-1"]):
        error_line(2, "features", folder, *arguments)


def golden_lines(events):
    """Events as the golden streams have them, in the program's form: neighbouring text is one line."""
    lines = []
    for kind, *rest in events:
        if kind == "end":
            continue
        if kind == "call":
            lines.append({"event": "tool_call", "name": rest[0], "arguments": json.loads(rest[1]) if isinstance(rest[1], str) else rest[1]})
        elif kind in ("thought", "commentary", "answer") and lines and lines[-1]["event"] == kind:
            lines[-1]["text"] += rest[0]
        else:
            lines.append({"event": "done" if kind == "turn" else kind, "text": rest[0] if rest else ""})
    if not lines or lines[-1]["event"] != "done":
        lines.append({"event": "done", "text": ""})
    return lines


def parse_pieces(arguments, text, piece):
    """A process that is given a few bytes at a time."""
    p = subprocess.Popen([PROGRAM, "parse", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    for at in range(0, len(text), piece):
        p.stdin.write(text[at:at + piece])
    out = p.communicate(timeout=60)[0]
    expect(p.returncode == 0, "gave", p.returncode)
    return out


def check_parse():
    seen = 0
    with tempfile.TemporaryDirectory() as tmp:
        for case in load_json("chat", "streams.json"):
            if "in" not in case or "start" in case or not case.get("template", "muse"):
                continue
            seen += 1
            arguments = ["--template", case.get("template", "muse")]
            if "tools" in case:
                arguments += ["--tools", os.path.join(tmp, "tools.json")]
                with open(arguments[-1], "w", encoding="utf-8") as f:
                    json.dump(case["tools"], f)
            text = case["in"].encode("utf-8", "surrogatepass")
            whole = output("parse", *arguments, text=text)
            found = [json.loads(line) for line in whole.decode().splitlines()]
            expect(found == golden_lines(case["out"]), case["name"], "gave", found)
            for piece in (1, 7):
                expect(parse_pieces(arguments, text, piece) == whole, case["name"], "in pieces of", piece, "is another")
    expect(seen > 80, "only", seen, "streams")


def check_parse_as_it_comes():
    p = subprocess.Popen([PROGRAM, "parse", "--template", "muse"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    p.stdin.write(b" to=self<|message|>Hm\0.<|eom|><|start|>assistant to=user<|message|>Y")
    expect(select.select([p.stdout], [], [], 30)[0], "a thought that ended is not told")
    expect(p.stdout.readline() == b'{"event":"thought","text":"Hm\\u0000."}\n', "another thought")
    p.stdin.write(b"es<|eot|>")
    expect(p.stdout.readline() == b'{"event":"answer","text":"Yes"}\n' and p.stdout.readline() == b'{"event":"done","text":""}\n', "no answer")
    expect(p.communicate(timeout=60)[0] == b"" and p.returncode == 0, "more than that")


def check_parse_errors():
    error_line(2, "parse")
    error_line(2, "parse", "--template", "muse", "word")
    expect("PONDER_E_UNKNOWN" in error_line(1, "parse", "--template", "nonsense"), "nonsense is known")
    expect("PONDER_E_IO" in error_line(1, "parse", "--template", "muse", "--tools", os.path.join(DATA, "none")), "no file, no error")
    expect("PONDER_E_FORMAT" in error_line(1, "parse", "--template", "muse", "--tools", media("left.png")), "a picture is no tools")
    expect(output("parse", "--template", "muse") == b'{"event":"done","text":""}\n', "nothing is something")


SEED_OPTIONS = ["--template", "muse", "--temperature", "0", "--max-tokens", "60"]


def prompt_tokens(done):
    return [int(n) for n in re.findall(rb"prompt: (\d+) tokens", done.stderr)]


def check_ask_with_media():
    """The prompt has as many tokens as the reference's, whose parts stand in the same order."""
    folder = os.path.join(DATA, "seed0")
    options = {"image": lambda v: ["--image", media(v + ".png")], "sound": lambda v: ["--audio", media(v + ".wav")],
               "video": lambda v: ["--frames", *[media(f"frame{i}.png") for i in range(5)]]}
    seen = 0
    for case in load_json("media", "cases.json")["cases"]:
        kinds = [kind for kind, _ in case["parts"]]
        if "text" not in kinds or kinds.index("text") != len(kinds) - 1:
            continue    # text between parts is not to be had on the command line
        seen += 1
        given = [word for kind, value in case["parts"][:-1] for word in options[kind](value)]
        done = run("ask", folder, *SEED_OPTIONS, *given, "--", case["parts"][-1][1])
        expect(done.returncode == 0 and prompt_tokens(done) == [len(case["ids"])], case["name"], "wants", len(case["ids"]), done)
    expect(seen > 8, "only", seen, "prompts")
    tokens = [prompt_tokens(run("ask", folder, *SEED_OPTIONS, "--frames", media("frame0.png"), *[media("frame1.png")] * 3, "--fps", fps, "--", "Hi"))
              for fps in ("2", "0.001")]
    expect(tokens[0] and tokens[1][0] > tokens[0][0], "frames' times are not told:", tokens)
    picture, sound = ["--image", media("left.png")], ["--audio", media("short.wav")]
    with tempfile.TemporaryDirectory() as tmp:
        rows = [features(tmp, [folder], *given)[0]["rows"] for given in (picture, sound)]
    raw = ["--quiet", *SEED_OPTIONS, "--raw", "<|patch|>" * rows[0] + "<|audio|>" * rows[1] + "Hi"]
    output("ask", folder, *picture, *sound, *raw)
    expect("PONDER_E_ARGUMENT" in error_line(1, "ask", folder, *sound, *picture, *raw), "the order of parts is lost")
    lengths = {c["name"]: len(c["ids"]) for c in load_json("media", "cases.json")["cases"]}
    script = f"/image {media('wide.png')}\nFrom 3 do 1p2t\n/new\n/audio  {media('short.wav')} \nFrom 3 do 1p2t\n".encode()
    done = run("chat", folder, *SEED_OPTIONS, text=script)
    expect(done.returncode == 0 and prompt_tokens(done) == [lengths["image wide"], lengths["sound"]], done)
    expect(error_line(1, "chat", folder, "--quiet", *SEED_OPTIONS, text=b"/image\n") == "ponder: /image: wants a FILE\n", "no file, no error")


def check_ask_bound():
    """A schema and a pattern bind the answer, with and without a thought before it."""
    folder = os.path.join(DATA, "seed0")
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
              "required": ["n", "ok"], "additionalProperties": False}
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "schema.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(schema, f)
        hot = ["--template", "muse", "--temperature", "1", "--quiet", "--no-thoughts"]
        for seed in range(10):
            options = [*hot, "--seed", str(seed), "--effort", "low" if seed % 2 else "high", "--image", media("red.png")]
            found = json.loads(output("ask", folder, *options, "--json", path, "Add 1+2"))
            expect(sorted(found) == ["n", "ok"] and type(found["n"]) is int and 0 <= found["n"] <= 99 and type(found["ok"]) is bool, found)
            found = output("ask", folder, *options, "--regex", "[a-d]{2}(x|yz)", "Add 1+2")
            expect(re.fullmatch(rb"[a-d]{2}(x|yz)\n?", found), "no match:", found)
        for bad in ("{", '{"type":"objec"}', ""):
            with open(path, "w", encoding="utf-8") as f:
                f.write(bad)
            error_line(1, "ask", folder, *hot, "--json", path, "Hi")
        error_line(1, "ask", folder, *hot, "--json", os.path.join(tmp, "none"), "Hi")
        error_line(1, "ask", folder, *hot, "--regex", "(", "Hi")


def check_ask_with_tools():
    """The model is made to begin a call; it is told as `parse` tells it, and what is bound is as its schema says."""
    folder = os.path.join(DATA, "seed0")
    tools = [{"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}},
                                            "required": ["x"], "additionalProperties": False}}]
    turn = ('<|start|>user<|message|>Add 1+2<|eot|><|start|>assistant to=add<|message|><atem:function_calls>\n<atem:invoke name="add">\n')
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "tools.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(tools, f)
        options = ["--template", "muse", "--max-tokens", "100", "--set", "strict_tools=1", "--raw", turn]
        done = run("ask", folder, "--tools", path, *options)
        expect(done.returncode == 0 and done.stdout, done)
        call = json.loads(done.stdout.splitlines()[0])    # the model may go on
        expect(call["event"] == "tool_call" and call["name"] == "add" and 0 <= call["arguments"]["x"] <= 99, call)
        error_line(1, "ask", folder, "--quiet", "--tools", media("left.png"), "Hi")
        error_line(1, "ask", folder, "--quiet", "--tools", os.path.join(tmp, "none"), "Hi")


def changed_pixels(before, after):
    """First and last column and row of what differs, and how many pixels do."""
    (width, height, a), (other_width, other_height, b) = read_png(before), read_png(after)
    expect((width, height) == (other_width, other_height), "another size")
    places = [(i % width, i // width) for i in range(width * height) if a[3 * i:3 * i + 3] != b[3 * i:3 * i + 3]]
    xs, ys = [x for x, _ in places] or [0], [y for _, y in places] or [0]
    return (min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(places)


def check_see():
    """An outline is on the edges of its box, to the pixel; text round the objects does not matter."""
    table = media("table.png")    # 196 x 112
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out.png")
        for text, want in (
            ('{"x_min":125,"y_min":125,"x_max":333,"y_max":333}', (25, 14, 65, 37)),
            ('I see {"box": {"label": "a } \\" b", "y_max": 1000, "x_max":5e2,"y_min" : 500 , "x_min": 250.0}}, don\'t I?', (49, 56, 98, 112)),
            ('[{"x_min":0,"y_min":0,"x_max":9},{"a":[{"x_min":-50,"y_min":0,"x_max":1200,"y_max":1000}]}]', (0, 0, 196, 112)),
            ('A 5" stick.\n{"label":"5" stick"\n,"x_min":500,"y_min":500,"x_max":250,"y_max":1000}', (49, 56, 98, 112)),
            ('{' * 100 + '"x_min":500,"y_min":500,"x_max":250,"y_max":1000}', (49, 56, 98, 112)),
        ):
            for how in (text, "-"):
                expect(output("see", table, "--boxes", how, "-o", out, text=text.encode()) == b"", "something is said")
                box, n = changed_pixels(table, out)
                expect(box == want and 0 < n < 2 * (196 + 112), text, "is drawn at", box, n)
                os.remove(out)
        for text in ("", "[]", '{"x_min":1,"y_min":1,"x_max":1}', '{"x_min":"1","y_min":1,"x_max":1,"y_max":1}', "{\"x_min\":1}" * 4):
            error_line(1, "see", table, "--boxes", text, "-o", out)
        expect(not os.path.exists(out), "nothing was drawn")
    for arguments in (["see"], ["see", table], ["see", table, "x", "--boxes", "{}"]):
        error_line(2, *arguments)


def check_see_with_a_model():
    """Without a question the answer is a list of boxes; with one it is an answer."""
    folder = os.path.join(DATA, "seed0")
    boxes = 0
    with tempfile.TemporaryDirectory() as tmp:
        picture = os.path.join(tmp, "a.b.png")
        with open(media("table.png"), "rb") as f, open(picture, "wb") as g:
            g.write(f.read())
        usual = os.path.join(tmp, "a.b-boxes.png")
        for seed in range(6):
            done = run("see", folder, picture, "--template", "muse", "--effort", "low", "--temperature", "1", "--seed", str(seed),
                       "--no-thoughts", "--context", "8192")
            expect(done.returncode == 0, done)
            found = json.loads(done.stdout)
            for box in found:
                expect(sorted(box) == ["label", "x_max", "x_min", "y_max", "y_min"] and isinstance(box["label"], str), box)
                expect(all(type(v) is int and 0 <= v <= 1000 for k, v in box.items() if k != "label"), box)
            expect(os.path.exists(usual) == bool(found), "boxes and no picture, or the other way round:", found)
            if found:
                expect(changed_pixels(picture, usual)[1] > 0 and str(len(found)).encode() in done.stderr, "nothing is drawn")
                os.remove(usual)
            boxes += len(found)
        expect(boxes, "no seed gave a box")
        out = os.path.join(tmp, "out.png")
        done = run("see", folder, picture, "-o", out, *SEED_OPTIONS, "From 3 do 1p2t")
        expect(done.returncode == 0 and done.stdout and changed_pixels(picture, out)[1] == 0, done)


def check_ask():
    folder = os.path.join(DATA, "seed0")
    with open(os.path.join(folder, "reference.json"), encoding="utf-8") as f:
        case = next(c for c in json.load(f) if c["expected"] == c["greedy_text"].split("<|message|>")[-1].split("<|")[0])
    question = case["messages"][-1]["content"]
    options = ["--template", "muse", "--temperature", "0", "--max-tokens", "100", "--effort", case["reasoning_strength"]]
    done = run("ask", folder, *options, question)
    expect(done.returncode == 0 and done.stdout.decode() == case["expected"] + "\n", done)
    thought = re.search(r"to=self<\|message\|>(.*?)<\|", case["greedy_text"], re.S)
    expect(thought and thought.group(1).encode() in done.stderr, "the thought is not on standard error:", case["greedy_text"], done)
    expect(b"tokens/s" in done.stderr and b"\033" not in done.stdout + done.stderr, "no rates, or colours:", done.stderr)
    script = (question + "\n" + "/new\n" + question + "\n").encode()
    done = run("chat", folder, "--quiet", *options, text=script)
    expect(done.returncode == 0 and done.stdout.decode().count(case["expected"]) >= 2, done)


def check_contemplate():
    question = "Which 3 of 91462 sum to 11?"
    with tempfile.TemporaryDirectory() as tmp:
        report, svg = os.path.join(tmp, "r.json"), os.path.join(tmp, "r.svg")
        options = ["-n", "6", "--effort", "high", "--temperature", "1", "--seed", "3", "--context", "512"]
        done = run("contemplate", os.path.join(DATA, "seed0"), *options, "--report", report, "--svg", svg, *question.split())
        expect(done.returncode == 0, done.stderr.decode())
        answer = done.stdout.decode()
        expect(re.fullmatch(r"[1-9]{1,3}\n", answer), "printed", repr(answer))
        expect(done.stderr.count(b"agent ") >= 6 and b"decided by" in done.stderr, done.stderr.decode())
        with open(report, encoding="utf-8") as f:
            r = json.load(f)
        expect(r["answer"] + "\n" == answer and r["ms"] > 0 and len(r["agents"]) == 6, r)
        expect(r["decided_by"] in ("all", "decided"), r["decided_by"])
        for a in r["agents"]:
            expect(set(a) >= {"answer", "thought", "tokens", "ms", "confidence", "end"} and a["end"] in ("eos", "cancelled"), a)
            expect(0 <= a["confidence"] <= 1 and a["tokens"] > 0, a)
        votes = [a["answer"] for a in r["agents"] if a["end"] == "eos"]
        expect(max(votes.count(v) for v in votes) == votes.count(r["answer"]), votes, r["answer"])
        picture = xml.dom.minidom.parse(svg)
        expect(len(picture.getElementsByTagName("rect")) > 6, "a picture without bars")
        expect(answer.strip() in picture.documentElement.getElementsByTagName("text")[0].firstChild.data, "and without the answer")
        # No thought, by the limit: every agent says so itself.
        output("contemplate", os.path.join(DATA, "seed0"), *options, "--max-thought", "0", "--report", report, "--quiet", question)
        with open(report, encoding="utf-8") as f:
            expect(all(a["thought"] == "" for a in json.load(f)["agents"]), "thoughts beside --max-thought 0")
        quiet = run("contemplate", os.path.join(DATA, "seed0"), *options, "--quiet", question)
        expect(quiet.returncode == 0 and not quiet.stderr and quiet.stdout == done.stdout, quiet.stdout, quiet.stderr)
    line = error_line(1, "contemplate", os.path.join(DATA, "seed0"), "-n", "2", "--quiet", "x")
    expect("plain vote" in line, line)
    line = error_line(1, "contemplate", os.path.join(DATA, "seed0"), "-n", "4", "--temperature", "0", "--quiet", "x")
    expect("temperature" in line, line)


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
