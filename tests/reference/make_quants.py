"""Quantised test data: python make_quants.py OUT

OUT/quants/<type>.bin, .npy: a few blocks of bytes and the floats they mean.
OUT/<arch>-mixed/model.gguf: a model whose every matrix has another type, and the reference on the
dequantised weights.

The PyPI package has no encoder for the K and IQ types. None is needed: any bytes with a sane scale
are a valid block, so random blocks are random weights.
"""
import json
import pathlib
import sys
import zlib

import gguf
import numpy as np
import torch
import transformers as tf

import gguf_twin as gt
import make_checkpoints as mk

T = gguf.GGMLQuantizationType
TYPES = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K,
         T.Q6_K, T.IQ4_NL, T.IQ4_XS]
# Byte offset of the half-precision scale and, where there is one, of the minimum; and the minimum
# (as a multiple of the scale) that makes random weights average to nothing.
SCALE = {T.Q4_0: (0, None, 0), T.Q4_1: (0, 2, -7.5), T.Q5_0: (0, None, 0), T.Q5_1: (0, 2, -15.5),
         T.Q8_0: (0, None, 0), T.Q2_K: (80, 82, 1.5), T.Q3_K: (108, None, 0), T.Q4_K: (0, 2, 7.5),
         T.Q5_K: (0, 2, 15.5), T.Q6_K: (208, None, 0), T.IQ4_NL: (0, None, 0),
         T.IQ4_XS: (0, None, 0)}


def rng(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def set_scales(blocks, kind, d):
    """d: one scale a block. Blocks are uint8 [n][bytes]."""
    at, min_at, ratio = SCALE[kind]
    blocks[:, at:at + 2] = np.float16(d)[:, None].view(np.uint8)
    if min_at is not None:
        blocks[:, min_at:min_at + 2] = np.float16(d * ratio)[:, None].view(np.uint8)


def random_blocks(name, kind, n):
    per, size = gguf.GGML_QUANT_SIZES[kind]
    return rng(name).randint(0, 256, (n, size)).astype(np.uint8), per


def vector(kind):
    """24 blocks (96 numbers for F16 and BF16) that touch the corners of the format."""
    if kind in (T.F16, T.BF16):
        # All finite bit patterns are fair: subnormals, zeros of both signs, the largest.
        exponent = 0x7C00 if kind == T.F16 else 0x7F80
        bits = rng(kind.name).randint(0, 65536, 96).astype(np.uint16)
        bits[:6] = 0, 0x8000, 1, 0x8001, exponent - 1, exponent - 1 | 0x8000
        bits[(bits & exponent) == exponent] &= 0xBFFF
        return bits.view(np.uint8)
    blocks, _ = random_blocks(kind.name, kind, 24)
    d = rng(kind.name + "/d").uniform(-0.05, 0.05, 24)
    d[:5] = 0, 6e-8, 5e-6, 1, -3            # zero, two subnormal halves, large ones
    set_scales(blocks, kind, d)
    return blocks.reshape(-1)


def vectors(out):
    out.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        raw = vector(kind)
        y = gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(-1)
        assert np.isfinite(y).all()
        raw.tofile(out / f"{kind.name}.bin")
        np.save(out / f"{kind.name}.npy", y)
        print(f"{kind.name:8s} {raw.size:5d} bytes {y.size:5d} values  {abs(y).max():.3g}")


def encode(name, a, kind):
    """Bytes [rows][row bytes] of `kind` near `a`, or, without an encoder, as wide as `a`."""
    if kind == T.F16:
        return a.astype(np.float16).view(np.uint8)
    try:
        return gguf.quants.quantize(a, kind)
    except NotImplementedError:
        pass
    blocks, per = random_blocks(name, kind, a.size // gguf.GGML_QUANT_SIZES[kind][0])
    d = rng(name + "/d").uniform(0.5, 1.5, len(blocks))
    for _ in range(2):                      # the second time to the rounded scale's spread
        set_scales(blocks, kind, d)
        d = d * a.std() / gguf.quants.dequantize(blocks, kind).std()
    set_scales(blocks, kind, d)
    return blocks.reshape(a.shape[0], -1)


def decode(raw, kind):
    if kind == T.F16:
        return raw.view(np.float16).astype(np.float32)
    return gguf.quants.dequantize(raw, kind)


K = ["Q4_K", "Q5_K", "Q6_K", "Q3_K", "Q2_K", "IQ4_XS", "IQ4_NL"]
OLD = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"]
MIXED = {
    "llama-mixed": (mk.llama(hidden_size=256, intermediate_size=512, num_attention_heads=8,
                             head_dim=32, tie_word_embeddings=False),
                    tf.LlamaForCausalLM, "llama", {"embed": "Q6_K", "head": "Q8_0"}),
    "muse-glimmer-mixed": (mk.glimmer(hidden_size=256, intermediate_size=256, head_dim=64,
                                      num_hidden_layers=2),
                           tf.MuseGlimmerForConditionalGeneration, "muse-glimmer",
                           {"embed": "Q4_K", "head": "Q6_K"}),
}


def kind_for(layer, n, special):
    if layer is None:
        return {"embed_tokens.weight": special["embed"], "lm_head.weight": special["head"]}.get(n)
    order = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    if n == "self_attn.gate_proj.weight":
        return "Q8_0"                       # as the peer's tool keeps it
    stem = n.removesuffix(".weight")
    return (K if layer == 0 else OLD)[order.index(stem)] if stem in order else None


def mixed(root, name):
    config, cls, arch, special = MIXED[name]
    out = root / name
    out.mkdir(parents=True, exist_ok=True)
    mk.MODELS[name] = (config, cls, arch, {})
    model, raws = mk.build(name), {}
    model.set_attn_implementation("eager")
    params = dict(model.state_dict())
    text = config.get_text_config()
    for full, p in params.items():
        n = full.removeprefix("model.").removeprefix("language_model.")
        layer = None
        if n.startswith("layers."):
            _, i, n = n.split(".", 2)
            layer = int(i)
        kind = kind_for(layer, n, special)
        if kind is None or "tower" in full:
            continue
        kind = T[kind]
        swap = n in ("self_attn.q_proj.weight", "self_attn.k_proj.weight")
        a = p.numpy()
        raw = encode(f"{name}/{full}", gt.to_pairs(a, text.head_dim) if swap else a, kind)
        b = decode(raw, kind).reshape(a.shape)
        p.copy_(torch.from_numpy(gt.from_pairs(b, text.head_dim) if swap else b))
        key = gt.top_name(n) if layer is None else f"blk.{layer}.{gt.LAYER[n]}"
        raws[key] = raw, kind
    write = gt.write_muse if arch.startswith("muse") else gt.write_llama_like
    write(model, out / "model.gguf", arch, raws=raws)
    mk.reference(name, model, out, 40)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    root = pathlib.Path(sys.argv[1])
    vectors(root / "quants")
    for name in MIXED:
        mixed(root, name)
