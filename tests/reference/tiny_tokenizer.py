#!/usr/bin/env python3
"""tiny_tokenizer.py FILE [think]: a byte-level tokenizer.json of 160 tokens for the random checkpoints of tests/data (llama, qwen3, ...):
ChatML's control tokens, printable ASCII, a few pairs of letters, the bytes of one three-byte character. `think`: <think> and its like are
special tokens; without it they are spelt in letters."""
import json
import sys

VOCAB = 160


def byte_letters():
    """GPT-2's letters for bytes."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in letters):
        letters[b] = chr(256 + n)
    return letters


def main():
    think = "think" in sys.argv[2:]
    letter = byte_letters()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special += ["<think>", "</think>", "<tool_call>", "</tool_call>"] if think else []
    pieces = [letter[b] for b in list(range(32, 127)) + [10] + list("中".encode())]
    merges = []
    consonants, vowels = "thnsrlcdm", "aeiou"
    for a in consonants:
        for b in vowels:
            merges.append((a, b))
    merges += [(letter[32], c) for c in "tasiwc"] + [(letter[46], letter[10])] + [(letter[10], letter[10])]
    pieces += [a + b for a, b in merges]
    pieces += [letter[b] for b in range(128, 256) if letter[b] not in pieces]
    pieces = pieces[:VOCAB - len(special)]
    known = set(pieces)
    merges = [m for m in merges if m[0] + m[1] in known]
    vocab = {p: len(special) + i for i, p in enumerate(pieces)}
    assert len(vocab) + len(special) == VOCAB, len(vocab) + len(special)
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                         for i, s in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": [" ".join(m) for m in merges]},
    }
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump(tokenizer, f, ensure_ascii=False, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()
