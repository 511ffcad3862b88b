"""Run the GGUF twins with numpy, from the file alone, and compare with logits.npy.

    python check_gguf.py DATA

Written from the layout's description, not from gguf_twin.py: a tensor permuted wrongly by both
would need the same mistake twice.
"""
import json
import pathlib
import sys

import gguf
import numpy as np


def load(path):
    r = gguf.GGUFReader(path)
    kv = {k: f.contents() for k, f in r.fields.items()}
    w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
         .reshape(tuple(int(d) for d in reversed(t.shape))) for t in r.tensors}
    return kv, w


def rms(x, eps, w=1.0):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def rope(x, base, neighbours, factors):
    t, _, d = x.shape
    ang = np.arange(t)[:, None] * base ** (-np.arange(0, d, 2) / d) / factors
    c, s = np.cos(ang)[:, None], np.sin(ang)[:, None]
    a, b = (x[..., 0::2], x[..., 1::2]) if neighbours else (x[..., :d // 2], x[..., d // 2:])
    out = np.empty_like(x)
    ra, rb = a * c - b * s, a * s + b * c
    if neighbours:
        out[..., 0::2], out[..., 1::2] = ra, rb
    else:
        out[..., :d // 2], out[..., d // 2:] = ra, rb
    return out


def attend(q, k, v, scale, window):
    t, h, _ = q.shape
    g = h // k.shape[1]
    k, v = np.repeat(k, g, 1), np.repeat(v, g, 1)
    s = np.einsum("ihd,jhd->hij", q, k) * scale
    i, j = np.arange(t)[:, None], np.arange(t)[None]
    see = (j <= i) & (j > i - window if window else True)
    s = np.where(see, s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", p, v)


def experts(h, w, b, key, act):
    p = sigmoid(h @ w[b + "ffn_gate_inp.weight"].T)
    u = rms(h @ w[b + "ffn_latent_down.weight"].T, key("attention.layer_norm_rms_epsilon"),
            w[b + "ffn_pre_exp_norm.weight"])
    out = np.zeros_like(u)
    for t in range(len(h)):
        top = np.argsort(-(p[t] + w[b + "exp_probs_b.bias"]))[:key("expert_used_count")]
        for e in top:
            d = w[b + "ffn_down_exps.weight"][e] @ (
                act(w[b + "ffn_gate_exps.weight"][e] @ u[t]) * (w[b + "ffn_up_exps.weight"][e] @ u[t]))
            out[t] += p[t, e] / p[t, top].sum() * rms(d * w[b + "ffn_post_exp_norm.weight"],
                                                      key("post_norm_epsilon"))
    return out @ w[b + "ffn_latent_up.weight"].T


def run(path, ids):
    kv, w = load(path)
    arch = kv["general.architecture"]
    key = lambda k, *d: kv.get(f"{arch}.{k}", *d) if d else kv[f"{arch}.{k}"]
    muse, spark, gemma = arch.startswith("muse"), arch == "muse-spark", arch == "gemma3"
    eps = key("attention.layer_norm_rms_epsilon")
    post_eps = 1e-8 if muse else eps
    nh, nkv = key("attention.head_count"), key("attention.head_count_kv")
    dim = key("attention.key_length", key("embedding_length") // nh)
    factors = w.get("rope_freqs.weight", 1.0)
    act = gelu_tanh if gemma else silu
    x = w["token_embd.weight"][ids]
    x = rms(x, eps) if muse else x * np.sqrt(x.shape[-1]) if gemma else x
    for i in range(key("block_count")):
        b = f"blk.{i}."
        slides = key("attention.sliding_window_pattern")[i] if muse else gemma and (i + 1) % 6 != 0
        window = key("attention.sliding_window") if slides else None
        base = key("rope.freq_base_swa", key("rope.freq_base")) if slides else key("rope.freq_base")
        lin = lambda n, y: y @ w[b + n + ".weight"].T + w.get(b + n + ".bias", 0.0)
        h = rms(x, eps, w[b + "attn_norm.weight"])
        q, k, v = (lin("attn_" + n, h).reshape(len(ids), -1, dim) for n in "qkv")
        if b + "attn_q_norm.weight" in w:
            q, k = rms(q, eps, w[b + "attn_q_norm.weight"]), rms(k, eps, w[b + "attn_k_norm.weight"])
        if slides or not muse:
            q, k = (rope(y, base, muse or arch == "llama", factors) for y in (q, k))
        o = attend(q, k, v, dim ** -0.5, window)
        o = (rms(o, eps) if spark else o).reshape(len(ids), -1)
        if muse:
            o = o * sigmoid(lin("attn_gate", h))
        o = lin("attn_output", o)
        if spark:
            o = rms(o, post_eps)
            x = w[b + "attn_resid_alpha.weight"] * x + w[b + "attn_resid_beta.weight"] * o
        else:
            x = x + (rms(o, post_eps, w[b + "post_attention_norm.weight"]) if muse or gemma else o)
        h = rms(x, eps, w[b + "ffn_norm.weight"])
        if spark:
            y = rms(experts(h, w, b, key, act) * w[b + "post_ffw_norm.weight"], post_eps)
            x = w[b + "ffn_resid_alpha.weight"] * x + w[b + "ffn_resid_beta.weight"] * y
            continue
        y = lin("ffn_down", act(lin("ffn_gate", h)) * lin("ffn_up", h))
        x = x + (rms(y, post_eps, w[b + "post_ffw_norm.weight"]) if muse or gemma else y)
    z = rms(x, eps, w["output_norm.weight"]) @ w.get("output.weight", w["token_embd.weight"]).T
    if muse:
        cap = key("final_logit_softcapping")
        z = cap * np.tanh(z * key("logit_scale") / cap)
    return z


if __name__ == "__main__":
    bad = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*.gguf")):
        info = json.loads((path.parent / "ids.json").read_text())
        ref = np.load(path.parent / ("logits.npy" if path.stem == "model" else f"{path.stem}.npy"))
        off = abs(run(path, info["ids"]) - ref).max()
        bad += off > info["tolerance"]
        print(f"{path.parent.name + '/' + path.name:40s} {off:.1e}")
    sys.exit(int(bad > 0))
