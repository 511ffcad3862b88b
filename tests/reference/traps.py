"""How far each silent mistake moves the stored logits: python traps.py DATA [name ...]

A trap that moves them by less than ten tolerances is marked '<': that checkpoint does not test it.
"""
import json
import pathlib
import sys
from unittest import mock

import numpy as np
import torch
import transformers as tf

from make_checkpoints import LOAD, MODELS, forward

M = tf.models
CODE = {"llama": M.llama.modeling_llama, "qwen2": M.qwen2.modeling_qwen2,
        "qwen3": M.qwen3.modeling_qwen3, "gemma3_text": M.gemma3.modeling_gemma3,
        "muse_glimmer_text": M.muse_glimmer.modeling_muse_glimmer,
        "muse_spark_text": M.muse_spark.modeling_muse_spark}


def kinds(model, word):
    return [m for m in model.modules() if type(m).__name__.endswith(word)]


def text_layers(model):
    inner = model.model
    return inner.language_model.layers if hasattr(inner, "language_model") else inner.layers


def config(**kw):
    """Change the config before the model is built."""
    def f(model, again):
        c = again.config
        for k, v in kw.items():
            setattr(c.get_text_config(), k, v(c.get_text_config()) if callable(v) else v)
        return again.rebuild(c)
    return f


def edit(fn):
    """Change modules of the loaded model in place."""
    def f(model, again):
        fn(model)
        return model
    return f


def state(match, fn):
    def change(model):
        with torch.no_grad():
            for n, p in model.state_dict().items():
                if match(n):
                    p.copy_(fn(p))
    return edit(change)


def patched(word, method, new):
    """Give every module whose class name ends in `word` another method."""
    def change(model):
        for m in kinds(model, word):
            setattr(m, method, new.__get__(m))
    return edit(change)


def theta_of(c):
    return c.rope_parameters["rope_theta"]


def rotate_neighbours(q, k, cos, sin, unsqueeze_dim=1):
    h = cos.shape[-1] // 2
    c, s = (x[..., :h].repeat_interleave(2, -1).unsqueeze(unsqueeze_dim) for x in (cos, sin))

    def turn(x):
        return torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
    return q * c + turn(q) * s, k * c + turn(k) * s


def front(c, full, part):
    return [full if (i + 1) % 4 == 0 else part for i in range(c.num_hidden_layers)]


def zero_bias(model):
    for n, p in model.named_parameters():
        if n.endswith("bias"):
            p.data.zero_()


def drop(name):
    def change(model):
        for l in text_layers(model):
            for holder in (l, l.self_attn):
                if hasattr(holder, name):
                    setattr(holder, name, torch.nn.Identity())
    return edit(change)


def bf16(p):
    return p.to(torch.bfloat16).float()


def plain_norm(self, x):
    return self._norm(x) * self.weight


def centred(self, x):
    return self._norm(x) * (1 + self.weight)


def no_gate(model):
    for l in text_layers(model):
        l.self_attn.gate_proj.register_forward_hook(lambda m, a, o: torch.full_like(o, 30.0))


def both_scaled(model):
    for a in kinds(model, "TextAttention"):
        a.qk_norm.register_forward_hook(lambda m, i, o, f=a.qk_scale_factor ** .5: o * f)


def gate_form(beta_fn=None, alpha_fn=None):
    def fwd(self, residual, y):
        w = self.gate / self.temperature
        b = torch.sigmoid(w)
        a = torch.sqrt(torch.clamp(torch.sigmoid(-w) * (1 + b), min=self.eps))
        b, a = (beta_fn(b) if beta_fn else b), (alpha_fn(self, w, b) if alpha_fn else a)
        return a * residual + b * y
    return fwd


def router(score=torch.sigmoid, mult=True, choose=True, weigh=False):
    def fwd(self, h):
        h = h.view(-1, self.hidden_dim)
        z = h @ self.weight.T * (self.output_multiplier if mult else 1)
        p = score(z)
        s = p + self.e_score_correction_bias
        idx = (s if choose else p).topk(self.top_k, -1)[1]
        w = (s if weigh else p).gather(1, idx)
        return z, w / (w.sum(-1, keepdim=True) + 1e-15), idx
    return fwd


def norm_after_sum(model):
    for m in kinds(model, "MoE"):
        norm, m.experts.post_expert_norm = m.experts.post_expert_norm, torch.nn.Identity()
        m.experts.register_forward_hook(lambda _m, _i, o, n=norm: n(o))


def one_head_norm(self, x):
    y = x.flatten(-2)
    return (y * (y.pow(2).mean(-1, keepdim=True) + self.eps) ** -.5).view_as(x)


def over_all_heads(model):
    for l in text_layers(model):
        l.self_attn.o_norm.forward = one_head_norm.__get__(l.self_attn.o_norm)


def swap_halves(p):
    return torch.cat(p.chunk(2, 1)[::-1], 1)


def embed_scale(f):
    def change(model):
        e = model.model.embed_tokens
        e.embed_scale = torch.tensor(f(float(e.embed_scale)))
    return edit(change)


ATTENTION = {
    "heads grouped h % kv": ("repeat_kv", lambda x, n: x.repeat(1, n, 1, 1)),
    "neighbours rotated": ("apply_rotary_pos_emb", rotate_neighbours),
}
WINDOW = {
    "window off": config(sliding_window=9999),
    "window + 1": config(sliding_window=lambda c: c.sliding_window + 1),
    "window - 1": config(sliding_window=lambda c: c.sliding_window - 1),
}
MUSE = WINDOW | {
    "mask pattern from the first": config(
        layer_types=lambda c: front(c, "full_attention", "sliding_attention")),
    "rope pattern from the first": config(layer_rope_theta=lambda c: front(c, 0, 1.0)),
    "rope on every layer": config(layer_rope_theta=lambda c: [1.0] * c.num_hidden_layers),
    "rope nowhere": config(layer_rope_theta=lambda c: [0] * c.num_hidden_layers),
    "rope chosen by the mask": config(layer_rope_theta=lambda c: [
        float(k == "sliding_attention") for k in c.layer_types]),
    "theta 10000": config(rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "no q scale": config(qk_scale_factor=1.0),
    "q scale on k too": edit(both_scaled),
    "qk norm missing": drop("qk_norm"),
    "layer norms not centred": patched("CenteredRMSNorm", "forward", plain_norm),
    "final norm centred": state(lambda n: n.endswith("language_model.norm.weight"),
                                lambda p: 1 + p),
    "no embedding norm": edit(lambda m: setattr(
        m.model.language_model.embed_tokens, "embed_norm", torch.nn.Identity())),
    "no output gate": edit(no_gate),
    "no soft cap": config(final_logit_softcapping=1e6),
    "no multiplier": config(output_multiplier=1.0),
    "post norms missing": drop("post_attention_layernorm"),
    "post norms with 1e-5": config(post_norm_eps=1e-5),
    "post norms with 1e-6": config(post_norm_eps=1e-6),
    "pre norms with 1e-6": config(rms_norm_eps=1e-6),
}
SPARK = MUSE | {
    "input-scaled norms as centred": patched("InputScaledRMSNorm", "forward", centred),
    "x += y": patched("ResidualGate", "forward", lambda self, r, y: r + y),
    "temperature 1": config(residual_gate_temperature=1.0),
    "no floor": patched("ResidualGate", "forward", gate_form(
        alpha_fn=lambda s, w, b: torch.sqrt(torch.sigmoid(-w) * (1 + b)))),
    "alpha = 1 - beta": patched("ResidualGate", "forward", gate_form(
        alpha_fn=lambda s, w, b: 1 - b)),
    "no head norm": drop("o_norm"),
    "one norm over all heads": edit(over_all_heads),
    "correction bias ignored": patched("TopkRouter", "forward", router(choose=False)),
    "correction bias in weights": patched("TopkRouter", "forward", router(weigh=True)),
    "softmax router": patched("TopkRouter", "forward", router(score=lambda z: z.softmax(-1))),
    "router multiplier missing": patched("TopkRouter", "forward", router(mult=False)),
    "router in bf16": state(lambda n: n.endswith("mlp.gate.weight"), bf16),
    "residual gates in bf16": state(lambda n: n.endswith("residual_gate.gate"), bf16),
    "gate and up swapped": state(lambda n: n.endswith("gate_up_proj"), swap_halves),
    "expert norm after the sum": edit(norm_after_sum),
}
QWEN3 = {"q norm missing": drop("q_norm"), "k norm missing": drop("k_norm")}
EPS = {"eps 1e-4": config(rms_norm_eps=1e-4)}
GEMMA = WINDOW | QWEN3 | EPS | {
    "scale from head_dim": config(query_pre_attn_scalar=lambda c: c.head_dim),
    "thetas swapped": config(rope_parameters=lambda c: {
        "sliding_attention": c.rope_parameters["full_attention"],
        "full_attention": c.rope_parameters["sliding_attention"]}),
    "pattern from the last": config(layer_types=lambda c: [
        "full_attention" if (c.num_hidden_layers - 1 - i) % 6 == 0 else "sliding_attention"
        for i in range(c.num_hidden_layers)]),
    "norms not centred": patched("Gemma3RMSNorm", "forward", plain_norm),
    "no embedding scale": embed_scale(lambda s: 1.0),
    "embedding scale in bf16": embed_scale(lambda s: float(bf16(torch.tensor(s)))),
    "exact gelu": config(hidden_activation="gelu"),
    "silu": config(hidden_activation="silu"),
    "post norms missing": drop("post_attention_layernorm"),
}
ROPE3 = {
    "no llama3 scaling": config(rope_parameters=lambda c: {
        "rope_type": "default", "rope_theta": theta_of(c)}),
    "linear scaling": config(rope_parameters=lambda c: {
        "rope_type": "linear", "factor": 8.0, "rope_theta": theta_of(c)}),
    "no smooth band": config(rope_parameters=lambda c: c.rope_parameters | {
        "high_freq_factor": 1.001}),
}
TRAPS = {"llama": EPS, "llama-rope3": ROPE3 | EPS, "llama-k256": EPS,
         "qwen2": EPS | {"no qkv bias": edit(zero_bias)},
         "qwen3": EPS | QWEN3, "qwen3-sharded": QWEN3, "gemma3": GEMMA,
         "muse-glimmer": MUSE, "muse-glimmer-bf16": MUSE, "muse-spark": SPARK,
         "muse-spark-bf16": SPARK, "muse-spark-sparse": SPARK}


class Again:
    def __init__(self, cls, path):
        self.cls, self.path = cls, path
        self.config = cls.config_class.from_pretrained(path)
        self.config.get_text_config()

    def rebuild(self, c):
        return self.cls.from_pretrained(self.path, config=c, dtype=torch.float32, **LOAD).eval()


def main(root, names):
    for name in names:
        cls, path = MODELS[name][1], root / name
        info, ref = json.loads((path / "ids.json").read_text()), np.load(path / "logits.npy")

        def show(trap, model):
            d = abs(forward(model, info["ids"]).numpy() - ref)
            weak = "<" if d.max() < 10 * info["tolerance"] else " "
            print(f"{name:18s} {weak} {trap:32s} {d.max():8.1e}  in "
                  f"{(d.max(1) > info['tolerance']).mean():4.0%} of rows", flush=True)

        def load():
            return cls.from_pretrained(path, dtype=torch.float32, **LOAD).eval()

        show("(none)", load())
        for trap, f in TRAPS[name].items():
            show(trap, f(load(), Again(cls, path)))
        text = load().config.get_text_config()
        for trap, (fn, new) in ATTENTION.items():
            with mock.patch.object(CODE[text.model_type], fn, new):
                model = load()
                show(trap, model)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    main(pathlib.Path(sys.argv[1]), sys.argv[2:] or list(TRAPS))
