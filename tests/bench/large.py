"""Large files for the benches: Muse Glimmer and Muse Spark in their released shapes, or with fewer layers, and Glimmer's vision
tower, with random weights. Only the standard library is needed.

    python3 tests/bench/large.py glimmer OUT.gguf [--layers 52] [--type q4_k_m] [--tokenizer tokenizer.model]
    python3 tests/bench/large.py spark OUT.gguf --layers 3 [--vocab 32000] [--seed 1]
    python3 tests/bench/large.py tower OUT.gguf [--layers 50] [--type q8_0] [--width-out 6656]
    python3 tests/bench/large.py drafter OUT.gguf [--layers 5] [--type q4_k] [--target-layers 52]

Weights come from one random block of 64 MB a format, at varying places, with scales that keep each product of normed inputs near
one: activations neither vanish nor overflow. q4_k_m: Q4_K, with Q6_K for the head and for half of the layers' ffn_down and attn_v.
--tokenizer: the rank file that the PyPI package `llama-models` carries for Llama 4 (the same 200,000 tokens); without it tokens are
made up and only ids mean anything.
"""
import argparse
import base64
import math
import random
import struct

BLOCK = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q4_k": (256, 144), "q6_k": (256, 210)}
NUMBER = {"f32": 0, "f16": 1, "q8_0": 8, "q4_k": 12, "q6_k": 14, "bf16": 30}
ALIGN, POOL = 32, 64 << 20


def column(blocks, at, size, values):
    """Byte `at` of every block of `size` bytes."""
    blocks[at::size] = values


class Weights:
    """Random blocks of each format; the scale is written in anew when it changes."""
    def __init__(self, seed):
        self.r, self.pools, self.scale = random.Random(seed), {}, {}

    def pool(self, kind):
        if kind not in self.pools:
            size = BLOCK[kind][1]
            n = POOL // size
            p = bytearray(self.r.randbytes(n * size))
            if kind == "q4_k":      # scales and minima of a sub-block are the same number, so that the mean is zero
                for j in range(4):
                    high = self.r.randbytes(n).translate(bytes(b | 32 for b in range(256)))
                    column(p, 4 + j, size, high)
                    column(p, 8 + j, size, high)
                    column(p, 12 + j, size, self.r.randbytes(n).translate(bytes((b & 15) * 17 for b in range(256))))
            if kind == "q6_k":
                for j in range(16):
                    column(p, 192 + j, size, self.r.randbytes(n).translate(bytes(64 + b % 64 for b in range(256))))
            if kind in ("f16", "bf16", "f32"):
                top = {"f16": lambda b: b & 0x80 | 0x24, "bf16": lambda b: b & 0x80 | 0x3c, "f32": lambda b: b & 0x80 | 0x3c}[kind]
                column(p, size - 1, size, self.r.randbytes(n).translate(bytes(top(b) for b in range(256))))
            self.pools[kind] = p
        return self.pools[kind]

    def set_scale(self, kind, std):
        p, size = self.pool(kind), BLOCK[kind][1]
        if self.scale.get(kind) == std or kind in ("f16", "bf16", "f32"):
            return
        n = len(p) // size
        at, d = {"q8_0": (0, std / 73.9), "q4_k": (0, std / 197.6), "q6_k": (208, std / (18.5 * 97.2))}[kind]
        for offset, value in ((at, d), (at + 2, 7.5 * d)) if kind == "q4_k" else ((at, d),):
            low, high = struct.pack("<e", value)
            column(p, offset, size, bytes([low]) * n)
            column(p, offset + 1, size, bytes([high]) * n)
        self.scale[kind] = std

    def write(self, f, kind, nbytes, std):
        self.set_scale(kind, std)
        p, size = memoryview(self.pool(kind)), BLOCK[kind][1]
        while nbytes:
            at = self.r.randrange(len(p) // size // 2) * size
            n = min(nbytes, len(p) - at)
            f.write(p[at:at + n])
            nbytes -= n


class File:
    def __init__(self, path, arch, seed):
        self.f, self.keys, self.tensors, self.arch = open(path, "wb"), [], [], arch
        self.weights, self.at = Weights(seed), 0
        self.key("general.architecture", 8, arch)

    def value(self, kind, v):
        if kind == 8:
            b = v if isinstance(v, bytes) else v.encode()
            return struct.pack("<Q", len(b)) + b
        return struct.pack({4: "<I", 5: "<i", 6: "<f", 7: "<?"}[kind], v)

    def key(self, name, kind, v):
        self.keys.append(self.value(8, name) + struct.pack("<I", kind) + self.value(kind, v))

    def keys_of(self, prefix, kind, **values):
        for name, v in values.items():
            self.key(f"{prefix}.{name.replace('__', '.')}", kind, v)

    def array(self, name, kind, values):
        self.keys.append(self.value(8, name) + struct.pack("<IIQ", 9, kind, len(values)) + b"".join(self.value(kind, v) for v in values))

    def matrix(self, name, kind, *ne, gain=1.0):
        """ne: the row first. A product of a normed input has about `gain`."""
        self.add(name, kind, ne, ("matrix", gain / math.sqrt(ne[0])))

    def vector(self, name, n, value=1.0, spread=0.0):
        self.add(name, "f32", (n,), ("vector", value, spread))

    def add(self, name, kind, ne, how):
        values, size = BLOCK[kind]
        assert ne[0] % values == 0, name
        nbytes = math.prod(ne) // values * size
        self.tensors.append((name, kind, ne, how, self.at, nbytes))
        self.at += (nbytes + ALIGN - 1) // ALIGN * ALIGN

    def close(self):
        f = self.f
        f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys))
        for name, kind, ne, _, at, _ in self.tensors:
            f.write(self.value(8, name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne) + struct.pack("<IQ", NUMBER[kind], at))
        f.write(bytes(-f.tell() % ALIGN))
        for _, kind, ne, how, _, nbytes in self.tensors:
            if how[0] == "matrix":
                self.weights.write(f, kind, nbytes, how[1])
            else:
                f.write(b"".join(struct.pack("<f", self.weights.r.gauss(how[1], how[2]) if how[2] else how[1]) for _ in range(ne[0])))
            f.write(bytes(-nbytes % ALIGN))
        print(f"{f.tell() / 1e9:.2f} GB")
        f.close()


# ---- tokens ---------------------------------------------------------------------------------------------------------

def byte_letters():
    """Byte-level BPE writes each byte as a printable letter."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {b: chr(b if b in shown else 256 + sum(c not in shown for c in range(b))) for b in range(256)}


def merge_of(token, ranks):
    """The last merge that makes the token: merges of lower rank applied first, as a tokenizer would."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], math.inf))
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


SPECIAL = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 7: "<|eom|>", 8: "<|eot|>", 18: "<|finetune_right_pad|>", 22: "<|start|>",
           23: "<|message|>", 80: "<|image_start|>", 81: "<|image_end|>", 82: "<|vid_start|>", 83: "<|vid_end|>",
           87: "<|vid_frame_separator|>", 90: "<|image|>", 91: "<|video|>", 92: "<|patch|>"}


def add_tokens(out, path, vocab):
    letters = byte_letters()
    if path:
        with open(path, "rb") as f:
            ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in f if line.strip())}
        ordered = sorted(ranks, key=ranks.get)
        text = {t: "".join(letters[b] for b in t) for t in ordered}
        merges = [" ".join(text[p] for p in merge_of(t, ranks)) for t in ordered if len(t) > 1]
        tokens = [text[t] for t in ordered]
    else:
        tokens = [letters[b] for b in range(256)]
        merges = []
        tokens += [f"token{i}" for i in range(256, vocab - 2048)]
    base = len(tokens)
    tokens += [SPECIAL.get(i, f"<|reserved_special_token_{i}|>") for i in range(vocab - base)]
    out.key("tokenizer.ggml.model", 8, "gpt2")
    out.key("tokenizer.ggml.pre", 8, "llama4")
    out.array("tokenizer.ggml.tokens", 8, tokens)
    out.array("tokenizer.ggml.token_type", 5, [1] * base + [3] * (vocab - base))
    out.array("tokenizer.ggml.merges", 8, merges)
    for name, i in (("bos", 0), ("eos", 1), ("eot", 8), ("padding", 18)):
        out.key(f"tokenizer.ggml.{name}_token_id", 4, base + i)


# ---- the models -----------------------------------------------------------------------------------------------------

def kinds(a, i):
    """Of most weights, and of those that q4_k_m keeps better in layer i."""
    if a.type != "q4_k_m":
        return a.type, a.type
    return "q4_k", "q6_k" if i % 2 == 0 else "q4_k"


def text_keys(out, a, width, heads, kv_heads, head_dim, context, logit_scale):
    pre = out.arch
    out.keys_of(pre, 4, block_count=a.layers, context_length=context, embedding_length=width, attention__head_count=heads,
                attention__head_count_kv=kv_heads, attention__key_length=head_dim, attention__value_length=head_dim,
                attention__sliding_window=2048)
    out.keys_of(pre, 6, attention__layer_norm_rms_epsilon=1e-5, rope__freq_base=5e5, logit_scale=logit_scale, final_logit_softcapping=20.0)
    out.array(f"{pre}.attention.sliding_window_pattern", 7, [(a.layers - 1 - i) % 4 != 0 for i in range(a.layers)])
    add_tokens(out, a.tokenizer, a.vocab)
    most, _ = kinds(a, 0)
    out.matrix("token_embd.weight", most, width, a.vocab)
    out.vector("output_norm.weight", width)
    out.matrix("output.weight", "q6_k" if a.type == "q4_k_m" else most, width, a.vocab, gain=20)     # a clear first choice


def attention(out, a, blk, i, width, heads, kv_heads, head_dim, scale):
    most, better = kinds(a, i)
    out.vector(blk + "attn_norm.weight", width)
    out.matrix(blk + "attn_q.weight", most, width, heads * head_dim)
    out.matrix(blk + "attn_k.weight", most, width, kv_heads * head_dim)
    out.matrix(blk + "attn_v.weight", better, width, kv_heads * head_dim)
    out.matrix(blk + "attn_gate.weight", most, width, heads * head_dim)
    out.matrix(blk + "attn_output.weight", most, heads * head_dim, width)
    out.vector(blk + "attn_q_norm.weight", head_dim, scale)
    out.vector(blk + "attn_k_norm.weight", head_dim)
    out.vector(blk + "ffn_norm.weight", width)
    out.vector(blk + "post_ffw_norm.weight", width)


def glimmer(out, a):
    width, ff = 6656, 19968
    text_keys(out, a, width, 32, 2, 128, 131072, 0.19611613513818404)
    out.keys_of(out.arch, 4, feed_forward_length=ff)
    for i in range(a.layers):
        blk = f"blk.{i}."
        most, better = kinds(a, i)
        attention(out, a, blk, i, width, 32, 2, 128, 3.87)
        out.vector(blk + "post_attention_norm.weight", width)
        out.matrix(blk + "ffn_gate.weight", most, width, ff)
        out.matrix(blk + "ffn_up.weight", most, width, ff)
        out.matrix(blk + "ffn_down.weight", better, ff, width)


def spark(out, a):
    width, latent, ff, experts = 8192, 4096, 4096, a.experts
    text_keys(out, a, width, 128, 16, 64, 1048576, 0.1767766952966369)
    pre = out.arch
    out.keys_of(pre, 4, moe_latent_size=latent, expert_count=experts, expert_used_count=8, expert_feed_forward_length=ff, expert_gating_func=2)
    out.keys_of(pre, 6, post_norm_epsilon=1e-8, rope__freq_base_swa=5e5, expert_weights_scale=1.0)
    out.keys_of(pre, 7, expert_weights_norm=True)
    for i in range(a.layers):
        blk = f"blk.{i}."
        most, better = kinds(a, i)
        attention(out, a, blk, i, width, 128, 16, 64, 5.4730064863875)
        for half in ("attn", "ffn"):
            out.vector(f"{blk}{half}_resid_alpha.weight", width, math.sqrt(1 - 0.4 ** 2))
            out.vector(f"{blk}{half}_resid_beta.weight", width, 0.4)
        out.matrix(blk + "ffn_gate_inp.weight", "f32", width, experts)
        out.vector(blk + "exp_probs_b.bias", experts, 0.0, 0.02)
        out.matrix(blk + "ffn_latent_down.weight", most, width, latent)
        out.matrix(blk + "ffn_latent_up.weight", most, latent, width)
        out.vector(blk + "ffn_pre_exp_norm.weight", latent)
        out.vector(blk + "ffn_post_exp_norm.weight", latent)
        out.matrix(blk + "ffn_gate_exps.weight", most, latent, ff, experts)
        out.matrix(blk + "ffn_up_exps.weight", most, latent, ff, experts)
        out.matrix(blk + "ffn_down_exps.weight", better, ff, latent, experts)


def drafter(out, a):
    """Glimmer's, for a target of so many layers."""
    width, ff, heads, kv_heads, head_dim = 6656, 19968, 32, 8, 128
    taps = [2 + i * (a.target_layers - 4) // 4 for i in range(5)]
    out.keys_of("dflash", 4, block_count=a.layers, context_length=131072, embedding_length=width, feed_forward_length=ff, attention__head_count=heads,
                attention__head_count_kv=kv_heads, attention__key_length=head_dim, attention__value_length=head_dim, attention__sliding_window=2048,
                block_size=16)
    out.keys_of("dflash", 6, attention__layer_norm_rms_epsilon=1e-5, rope__freq_base=5e5)
    out.array("dflash.attention.sliding_window_pattern", 7, [True] * a.layers)
    out.array("dflash.target_layers", 5, taps)
    out.key("tokenizer.ggml.mask_token_id", 4, 201818)
    out.matrix("fc.weight", a.type, 5 * width, width)
    out.vector("enc.output_norm.weight", width)
    out.vector("output_norm.weight", width)
    for i in range(a.layers):
        blk = f"blk.{i}."
        for name in ("attn_norm", "ffn_norm"):
            out.vector(f"{blk}{name}.weight", width)
        for name in ("attn_q_norm", "attn_k_norm"):
            out.vector(f"{blk}{name}.weight", head_dim)
        out.matrix(blk + "attn_q.weight", a.type, width, heads * head_dim)
        out.matrix(blk + "attn_k.weight", a.type, width, kv_heads * head_dim)
        out.matrix(blk + "attn_v.weight", a.type, width, kv_heads * head_dim)
        out.matrix(blk + "attn_output.weight", a.type, heads * head_dim, width)
        out.matrix(blk + "ffn_gate.weight", a.type, width, ff)
        out.matrix(blk + "ffn_up.weight", a.type, width, ff)
        out.matrix(blk + "ffn_down.weight", a.type, ff, width)


def tower(out, a):
    width, ff, side, adapter = 1536, 8960, 32, 4096
    out.key("general.type", 8, "mmproj")
    out.key("clip.projector_type", 8, "muse-glimmer")
    out.key("clip.has_vision_encoder", 7, True)
    out.keys_of("clip.vision", 4, patch_size=14, embedding_length=width, feed_forward_length=ff, block_count=a.layers,
                projection_dim=a.width_out, image_size=side * 28, spatial_merge_size=2, attention__head_count=16)
    out.keys_of("clip.vision", 6, attention__layer_norm_epsilon=1e-5)
    for key in ("image_mean", "image_std"):
        out.array(f"clip.vision.{key}", 6, [0.5] * 3)
    out.matrix("v.patch_embd.weight", "f32", 14, 14, 3, width)
    out.matrix("v.position_embd.weight", "f32", width, side * side)
    for name in ("v.pre_ln", "v.post_ln"):
        out.vector(f"{name}.weight", width)
        out.vector(f"{name}.bias", width, 0)
    out.matrix("mm.0.weight", a.type, 4 * width, adapter)
    out.matrix("mm.1.weight", a.type, adapter, adapter)
    out.matrix("mm.2.weight", a.type, adapter, a.width_out)
    for i in range(a.layers):
        blk = f"v.blk.{i}."
        for name, rows, cols in (("attn_q", width, width), ("attn_k", width, width), ("attn_v", width, width), ("attn_out", width, width),
                                 ("ffn_up", ff, width), ("ffn_down", width, ff)):
            out.matrix(f"{blk}{name}.weight", a.type, cols, rows)
            out.vector(f"{blk}{name}.bias", rows, 0)
        for name in ("ln1", "ln2"):
            out.vector(f"{blk}{name}.weight", width)
            out.vector(f"{blk}{name}.bias", width, 0)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", choices=["glimmer", "spark", "tower", "drafter"])
    p.add_argument("out")
    p.add_argument("--layers", type=int, help="fewer than the released model's")
    p.add_argument("--type", choices=["q4_k_m", *BLOCK], help="q4_k_m; the tower: q8_0, the drafter: q4_k")
    p.add_argument("--vocab", type=int, default=202048)
    p.add_argument("--experts", type=int, default=256)
    p.add_argument("--width-out", type=int, default=6656, help="of the tower's rows: the text model's")
    p.add_argument("--target-layers", type=int, default=52, help="of the model that a drafter is for")
    p.add_argument("--tokenizer")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.layers = a.layers or {"glimmer": 52, "spark": 62, "tower": 50, "drafter": 5}[a.model]
    a.type = a.type or {"tower": "q8_0", "drafter": "q4_k"}.get(a.model, "q4_k_m")
    out = File(a.out, {"glimmer": "muse-glimmer", "spark": "muse-spark", "tower": "clip", "drafter": "dflash"}[a.model], a.seed)
    {"glimmer": glimmer, "spark": spark, "tower": tower, "drafter": drafter}[a.model](out, a)
    out.close()


main()
