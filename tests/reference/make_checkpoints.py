"""Tiny random checkpoints and what transformers computes with them, for tests/data.

    python make_checkpoints.py OUT [name ...]

Every weight is a function of (model name, tensor name) through numpy's frozen RandomState, so the
checkpoints are the same on every run. Norms and biases are far from identity: a forgotten norm
weight, a wrong order or a wrong offset must move the logits, not hide.
"""
import copy
import json
import pathlib
import shutil
import sys
import tempfile
import zlib

import numpy as np
import torch
import transformers as tf

import gguf_twin
from gguf_twin import BF16

LOAD = {"attn_implementation": "eager", "experts_implementation": "eager"}


# ---- the models ---------------------------------------------------------------------------------

def llama(**kw):
    base = dict(vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
                tie_word_embeddings=True)
    return tf.LlamaConfig(**(base | kw))


def qwen(cls, **kw):
    base = dict(vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
                rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                tie_word_embeddings=False)
    return cls(**(base | kw))


def gemma(**kw):
    # Width 96: its root is not exact in bfloat16, so rounding the embedding scale shows.
    # Seven layers: one full layer inside (5), and the last is sliding.
    return tf.Gemma3TextConfig(**(dict(
        vocab_size=160, hidden_size=96, intermediate_size=64, num_hidden_layers=7,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=24,
        sliding_window=8, max_position_embeddings=512, bos_token_id=2, eos_token_id=1,
        pad_token_id=0, hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                         "full_attention": {"rope_type": "default",
                                            "rope_theta": 1000000.0}}) | kw))


VISION = dict(patch_size=4, pos_emb_height=4, pos_emb_width=4, num_attention_heads=2,
              num_hidden_layers=2, hidden_size=16, intermediate_size=24, patch_temporal=2,
              merge_size=2, max_position_embeddings=16)


def glimmer(**kw):
    # Five layers: full ones at 0 and 4, counted from the last; counted from the first it would be
    # 3. head_dim 16 is not 96 / 4, and q and k/v differ in width.
    base = dict(vocab_size=160, hidden_size=96, intermediate_size=64, num_hidden_layers=5,
                num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=10,
                max_position_embeddings=512, qk_scale_factor=1.87, output_multiplier=0.25,
                bos_token_id=1, eos_token_id=2,
                rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    return tf.MuseGlimmerConfig(
        text_config=tf.MuseGlimmerTextConfig(**(base | kw)),
        vision_config=tf.models.muse_glimmer.MuseGlimmerVisionConfig(**VISION),
        image_token_id=159, video_token_id=158, out_hidden_size=64, projector_hidden_size=24)


def spark(**kw):
    base = dict(vocab_size=160, hidden_size=96, intermediate_size=64, num_hidden_layers=5,
                num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=10,
                max_position_embeddings=512, qk_scale_factor=1.73, output_multiplier=0.25,
                moe_hidden_size=32, moe_intermediate_size=64, num_local_experts=6,
                num_experts_per_tok=2, routed_scaling_factor=1.0, bos_token_id=1, eos_token_id=2,
                rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    c = base | kw
    m = tf.models.muse_spark
    return tf.MuseSparkConfig(
        text_config=tf.MuseSparkTextConfig(**c), vision_config=m.MuseSparkVisionConfig(**VISION),
        audio_config=m.MuseSparkAudioConfig(
            patch_sizes=[16, 6, 5, 4], hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1],
            mlp_ratio=1.0, conv_kernel_size=3, out_hidden_size=c["hidden_size"]),
        image_token_id=159, video_token_id=158, audio_token_id=157, out_hidden_size=64,
        projector_hidden_size=24)


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
# 8 to 30 times what float32 itself loses (float64_delta). Gemma's is tight because the two GELUs
# differ so little.
TOLERANCE = {"mus": 3e-4, "gem": 1e-4}
MIXED = ["dense", "sparse", "sparse", "dense", "sparse"]

# name: (config, class, gguf architecture or None, options)
MODELS = {
    "llama": (llama(), tf.LlamaForCausalLM, "llama", {}),
    "llama-rope3": (llama(rope_parameters=LLAMA3, tie_word_embeddings=False, head_dim=32,
                          num_key_value_heads=1), tf.LlamaForCausalLM, "llama",
                    {"positions": 96}),
    "llama-k256": (llama(hidden_size=256, intermediate_size=512, num_hidden_layers=1,
                         num_attention_heads=8, head_dim=32, vocab_size=160),
                   tf.LlamaForCausalLM, None, {"bf16": True}),
    "qwen2": (qwen(tf.Qwen2Config), tf.Qwen2ForCausalLM, "qwen2", {}),
    "qwen3": (qwen(tf.Qwen3Config, head_dim=32), tf.Qwen3ForCausalLM, "qwen3", {}),
    "qwen3-sharded": (qwen(tf.Qwen3Config, head_dim=32, num_hidden_layers=3),
                      tf.Qwen3ForCausalLM, None, {"shard": "280KB"}),
    "gemma3": (gemma(), tf.Gemma3ForCausalLM, "gemma3", {}),
    "muse-glimmer": (glimmer(), tf.MuseGlimmerForConditionalGeneration, "muse-glimmer", {}),
    "muse-glimmer-bf16": (glimmer(num_hidden_layers=6, intermediate_size=96, hidden_size=64,
                                  head_dim=32),
                          tf.MuseGlimmerForConditionalGeneration, "muse-glimmer", {"bf16": True}),
    "muse-spark": (spark(mlp_layer_types=MIXED), tf.MuseSparkForConditionalGeneration, None, {}),
    # Here the mask and the rotation disagree on three layers, and odd bases must not be used.
    "muse-spark-bf16": (spark(mlp_layer_types=MIXED,
                              layer_rope_theta=[12345.0, 0, 500000.0, 3.0, 0]), tf.MuseSparkForConditionalGeneration, None,
                        {"bf16": True}),
    "muse-spark-sparse": (spark(num_hidden_layers=3, moe_intermediate_size=32),
                          tf.MuseSparkForConditionalGeneration, "muse-spark", {}),
}


# ---- weights ------------------------------------------------------------------------------------

def draw(model, name, shape):
    seed = zlib.crc32(f"{model}/{name}".encode())
    return np.random.RandomState(seed).standard_normal(shape)


def weight(model, name, p, c):
    """Scales chosen so that attention is neither flat nor one-hot and the soft cap bends."""
    x = draw(model, name, tuple(p.shape))
    text = c.get_text_config()
    muse = text.model_type.startswith("muse")
    if name.endswith(".gate"):                  # residual gates; from 2.3 up alpha is floored
        x = x * 0.35 - 0.3
        x[[1, 5, 17]] = 2.35, 2.8, 4.0
    elif name.endswith("e_score_correction_bias"):
        x *= 0.15
    elif "norm" in name or "ln_p" in name:
        plain = not (text.model_type.startswith("gemma") or muse and "language_model.layers" in name)
        x = x * 0.3 + (1.0 if plain and name.endswith("weight") else 0.0)
        if text.model_type.startswith("gemma") and name == "model.norm.weight":
            # Mixed signs of 1 + w, or the tied head just repeats the input token.
            x = x / 0.3 - 1
    elif name.endswith("bias"):
        x *= 0.3
    elif name.endswith("embed_tokens.weight"):
        # Gemma multiplies by sqrt(width) and ties the head.
        x *= 3 / np.sqrt(text.hidden_size) if text.tie_word_embeddings \
            else 0.05 if muse else 0.7      # small before Muse's embedding norm, again for epsilon
    elif name.endswith("lm_head.weight"):
        x *= (5 / text.output_multiplier if muse else 3) / np.sqrt(text.hidden_size)
    elif name.endswith("position_embedding_table.weight"):
        x *= 0.5
    else:
        fan_in = p.shape[-1]
        x *= 1.2 / np.sqrt(fan_in)
        if name.endswith("mlp.gate.weight"):
            x *= 0.9 / text.output_multiplier
        if name.endswith(("q_proj.weight", "k_proj.weight")) and not muse:
            x *= 1.3
        if name.endswith(("o_proj.weight", "down_proj.weight", "post_expert_proj.weight",
                          "experts.down_proj")):
            # What a norm follows is small, so that the norm's epsilon (1e-8 or 1e-5) shows.
            x *= {"mus": 0.01, "gem": 0.02}.get(text.model_type[:3], 1)
        if text.model_type.startswith("gemma") and name.endswith("gate_proj.weight"):
            x *= 2      # the two GELUs differ most at 2 to 3
        if name.endswith("v_proj.weight") and muse and "language_model" in name:
            # Heads of unlike size: one norm over all heads must differ from one for each.
            heads = x.reshape(text.num_key_value_heads, -1)
            heads *= np.geomspace(0.3, 3, len(heads))[:, None]
    return torch.from_numpy(x.astype(np.float32))


def build(name):
    config, cls, _, opt = MODELS[name]
    torch.manual_seed(0)
    model = cls(config).float().eval()
    with torch.no_grad():
        for n, p in model.state_dict().items():
            if n == "lm_head.weight" and config.get_text_config().tie_word_embeddings:
                continue
            p.copy_(weight(name, n, p, config))
    return model


def save(model, out, opt):
    """save_pretrained, going through a bf16 load so that transformers itself decides which
    tensors stay F32."""
    cls = type(model)
    if opt.get("bf16"):
        with tempfile.TemporaryDirectory() as d:
            model.save_pretrained(d)
            model = cls.from_pretrained(d, dtype=torch.bfloat16, **LOAD)
    kw = {"max_shard_size": opt["shard"]} if "shard" in opt else {}
    model.save_pretrained(out, **kw)
    (out / "generation_config.json").unlink(missing_ok=True)
    for f in out.glob("*.safetensors"):
        f.chmod(0o644)
    return cls.from_pretrained(out, dtype=torch.float32, **LOAD).eval()


# ---- reference ----------------------------------------------------------------------------------

def forward(model, ids, want_hidden=False):
    """Logits [positions][vocab] and, layer by layer, the residual that leaves each layer."""
    inner = model.model
    layers = inner.language_model.layers if hasattr(inner, "language_model") else inner.layers
    got, hooks = {}, []
    if want_hidden:
        for i, l in enumerate(layers):
            hooks.append(l.register_forward_hook(
                lambda _m, _a, o, i=i: got.__setitem__(i, (o[0] if isinstance(o, tuple) else o)[0])))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    for h in hooks:
        h.remove()
    return (logits, got) if want_hidden else logits


def router_gap(model, ids):
    """Smallest distance between the last chosen and the first rejected expert: a near tie would
    make the reference depend on summation order."""
    gaps, hooks = [], []

    def hook(m, args, out):
        s = torch.sigmoid(out[0]) + m.e_score_correction_bias
        top = s.sort(dim=-1, descending=True)[0]
        gaps.append((top[:, m.top_k - 1] - top[:, m.top_k]).min().item())

    for m in model.modules():
        if type(m).__name__ == "MuseSparkTopkRouter":
            hooks.append(m.register_forward_hook(hook))
    forward(model, ids)
    for h in hooks:
        h.remove()
    return min(gaps, default=1.0)


def greedy(model, prompt, n):
    """By full passes, checked against the key-value cache; also the smallest winning margin."""
    ids, margin = list(prompt), 1e9
    for _ in range(n):
        top = forward(model, ids)[-1].topk(2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        ids.append(top.indices[0].item())
    past, cached, feed = None, [], list(prompt)
    with torch.no_grad():
        for _ in range(n):
            o = model(input_ids=torch.tensor([feed]), past_key_values=past, use_cache=True)
            past, feed = o.past_key_values, [o.logits[0, -1].argmax().item()]
            cached += feed
    assert cached == ids[len(prompt):], "cached and uncached greedy disagree"
    return cached, margin


def pick_ids(name, model, positions, n_greedy):
    """The first of a fixed sequence of prompts without near ties (router or arg max)."""
    t = model.config.get_text_config()
    for k in range(200):
        r = np.random.RandomState(zlib.crc32(f"{name}/ids/{k}".encode()))
        ids = [int(i) for i in r.randint(3, t.vocab_size - 3, positions)]
        if router_gap(model, ids) < 5e-4:
            continue
        prompt = ids[:12]
        gen, margin = greedy(model, prompt, n_greedy)
        if margin > 0.02 and max(gen) < t.vocab_size - 3 and len(set(gen)) > 4 \
                and router_gap(model, prompt + gen) > 5e-4:
            return ids, prompt, gen, margin
    raise SystemExit(f"{name}: no prompt without near ties")


def old_config(out):
    """The same model as transformers 4 wrote its config: most published checkpoints look so."""
    c = json.loads((out / "config.json").read_text())
    r = c.pop("rope_parameters")
    c["torch_dtype"] = c.pop("dtype")
    c["transformers_version"] = "4.51.0"
    if c["model_type"] == "gemma3_text":
        c.pop("layer_types")
        c.pop("_sliding_window_pattern", None)
        c |= {"rope_theta": r["full_attention"]["rope_theta"], "rope_scaling": None,
              "rope_local_base_freq": r["sliding_attention"]["rope_theta"],
              "sliding_window_pattern": 6}
        return c
    c["rope_theta"] = r.pop("rope_theta")
    c["rope_scaling"] = r if r["rope_type"] != "default" else None
    return c


def short_config(out):
    """Muse without the lists that have defaults: the pattern must come from the last layer."""
    c = json.loads((out / "config.json").read_text())
    del c["text_config"]["layer_types"], c["text_config"]["layer_rope_theta"]
    return c


def write_config(model, out, name, c, ids, logits):
    """A second description of the same model, checked to be that."""
    (out / name).write_text(json.dumps(c, indent=2, sort_keys=True) + "\n")
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(out / name, pathlib.Path(d) / "config.json")
        shutil.copy(out / "model.safetensors", d)
        again = type(model).from_pretrained(d, dtype=torch.float32, **LOAD).eval()
    assert torch.equal(forward(again, ids), logits), f"{name} means another model"


def reference(name, model, out, positions):
    """Everything the tests compare with, for a model already in float32."""
    ids, prompt, gen, margin = pick_ids(name, model, positions, 24)
    return ids, write_reference(name, model, out, ids, prompt, gen, margin)


def write_reference(name, model, out, ids, prompt, gen, margin):
    t = model.config.get_text_config()
    logits, hidden = forward(model, ids, want_hidden=True)
    noise = (forward(copy.deepcopy(model).double(), ids) - logits).abs().max().item()
    layers = sorted({0, t.num_hidden_layers - 1})
    np.save(out / "logits.npy", logits.numpy())
    np.save(out / "hidden.npy", np.stack([hidden[i].numpy() for i in layers]))
    slides = "sliding_attention" in (getattr(t, "layer_types", None) or [])
    info = {"ids": ids, "greedy_prompt": prompt, "greedy": gen,
            "window": t.sliding_window if slides else None,
            "tolerance": TOLERANCE.get(t.model_type[:3], 2e-4), "hidden_layers": layers,
            "greedy_margin": round(margin, 4), "float64_delta": float(f"{noise:.2g}")}
    (out / "ids.json").write_text(json.dumps(info) + "\n")
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{name:20s} {size/1e6:5.2f} MB  noise {noise:.1e}  margin {margin:.3f}  "
          f"logits std {logits.std():.2f} max {logits.abs().max():.1f}", flush=True)
    return logits


def make(name, root):
    config, cls, arch, opt = MODELS[name]
    out = root / name
    out.mkdir(parents=True, exist_ok=True)
    for f in out.iterdir():
        f.unlink()
    model = save(build(name), out, opt)
    if arch:
        kind = BF16 if opt.get("bf16") else gguf_twin.F32
        write = gguf_twin.write_muse if arch.startswith("muse") else gguf_twin.write_llama_like
        write(model, out / "model.gguf", arch, kind)
    ids, logits = reference(name, model, out, opt.get("positions", 40))
    if not name.startswith("muse") and "shard" not in opt:
        write_config(model, out, "config.v4.json", old_config(out), ids, logits)
    if name in ("muse-glimmer", "muse-spark"):
        write_config(model, out, "config.short.json", short_config(out), ids, logits)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    root = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        make(name, root)
