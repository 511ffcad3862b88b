"""Speed of the tokenizer beside Hugging Face's `tokenizers`: one thread, one big string, best of 5.

    python3 -m venv venv && venv/bin/pip install tokenizers tiktoken gguf
    venv/bin/python tests/bench/tokenizer.py BUILD/tests/tokenizer/bench-tokenizer MODELS

MODELS holds smollm2.gguf, gemma3.gguf, muse.tiktoken (those that are there are measured). First the mixed text, then one
letter, spaces and emoji at 256 KB and 1 MB: their times should stand as 1 to 4 or a little more (n log n)."""
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import make_tokenizers as reference


def mixed(size):
    """Source code, prose, and sentences in many scripts; generated, so that it is the same everywhere."""
    import pydoc_data.topics
    parts = list(pydoc_data.topics.topics.values()) + [reference.SENTENCES] * 30 + reference.random_texts(2000, 3)
    import random
    random.Random(5).shuffle(parts)
    text = "\n".join(parts)
    while len(text.encode()) < size:
        text += text
    return text.encode()[:size].decode("utf-8", "ignore")


def ours(program, model, text, rounds=5):
    with tempfile.NamedTemporaryFile("wb", suffix=".txt") as f:
        f.write(text.encode())
        f.flush()
        return json.loads(subprocess.run([program, model, f.name, str(rounds)], check=True, capture_output=True).stdout)


def theirs(tok, text):
    best, ids = 1e9, []
    for _ in range(5):
        start = time.perf_counter()
        ids = tok(text)
        best = min(best, time.perf_counter() - start)
    return best, ids


def reference_of(model):
    if model.endswith(".tiktoken"):
        from tiktoken.load import load_tiktoken_bpe
        return reference.muse_encoding(load_tiktoken_bpe(model)).encode_ordinary
    tok = reference.from_gguf(model)
    tok.encode_special_tokens = True
    return lambda text: tok.encode(text, add_special_tokens=False).ids


def main():
    program, folder = sys.argv[1:3]
    text = mixed(1 << 20)
    for name in ["smollm2.gguf", "gemma3.gguf", "muse.tiktoken"]:
        model = os.path.join(folder, name)
        if not os.path.exists(model):
            print("SKIPPED: no", name)
            continue
        r = ours(program, model, text)
        best, ids = theirs(reference_of(model), text)
        mb = r["bytes"] / 1e6
        check = 0
        for i in ids:
            check = (check * 31 + i) & 0xFFFFFFFF
        print("%-14s mixed 1 MB: %.1f MB/s, reference %.1f MB/s, ratio %.2f; %d ids, %s; load %.0f ms" % (
            name, mb / (r["us"] / 1e6), mb / best, best / (r["us"] / 1e6), len(ids), "the same" if check == r["sum"] else "NOT the same", r["load_us"] / 1e3))
        for what, unit in [("letter", "a"), ("spaces", " "), ("emoji", "\U0001f600")]:
            times = [ours(program, model, unit * (n // len(unit.encode())), 3)["us"] / 1e3 for n in (1 << 18, 1 << 20)]
            print("    %-7s 256 KB %.1f ms, 1 MB %.1f ms: %.1f times" % (what, *times, times[1] / times[0]))


if __name__ == "__main__":
    main()
