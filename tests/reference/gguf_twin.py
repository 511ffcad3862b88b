"""Write the GGUF twin of a checkpoint, in the layout llama.cpp's converter gives it.

Only hyperparameters and tensors: these files have no tokenizer, the tests feed token ids.
Two things differ from a converted file, both on purpose and both legal to readers:
`<arch>.vocab_size` is written (no token list to count), and Gemma's query_pre_attn_scalar, for
which GGUF has no key, is folded into attn_q_norm.
"""
import math

import gguf
import numpy as np
import torch

F32 = gguf.GGMLQuantizationType.F32
BF16 = gguf.GGMLQuantizationType.BF16


def to_pairs(w, head_dim):
    """Rows of each head from split halves (i, i + half) to neighbours (2i, 2i + 1)."""
    rows = w.reshape(-1, 2, head_dim // 2, *w.shape[1:])
    return np.ascontiguousarray(np.swapaxes(rows, 1, 2)).reshape(w.shape)


def from_pairs(w, head_dim):
    rows = w.reshape(-1, head_dim // 2, 2, *w.shape[1:])
    return np.ascontiguousarray(np.swapaxes(rows, 1, 2)).reshape(w.shape)


class Twin:
    def __init__(self, path, arch, raws=None):
        self.arch = arch
        self.raws = raws or {}      # tensor name: (bytes already in blocks, type)
        self.w = gguf.GGUFWriter(path, arch)

    def u32(self, **keys):
        for k, v in keys.items():
            self.w.add_uint32(f"{self.arch}.{k.replace('__', '.')}", int(v))

    def f32(self, **keys):
        for k, v in keys.items():
            self.w.add_float32(f"{self.arch}.{k.replace('__', '.')}", float(v))

    def bool(self, **keys):
        for k, v in keys.items():
            self.w.add_bool(f"{self.arch}.{k.replace('__', '.')}", bool(v))

    def bools(self, key, values):
        self.w.add_array(f"{self.arch}.{key}", [bool(v) for v in values])

    def put(self, name, a, kind=F32):
        a = np.ascontiguousarray(a, dtype=np.float32)
        if name in self.raws:
            raw, kind = self.raws[name]
            self.w.add_tensor(name, raw, raw_dtype=kind)
        elif kind == F32:
            self.w.add_tensor(name, a)
        else:
            self.w.add_tensor(name, gguf.quants.quantize(a, kind), raw_dtype=kind)

    def close(self):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()


def common_keys(t, c, ff=True):
    t.u32(block_count=c.num_hidden_layers, context_length=c.max_position_embeddings,
          embedding_length=c.hidden_size, attention__head_count=c.num_attention_heads,
          attention__head_count_kv=c.num_key_value_heads, vocab_size=c.vocab_size)
    if hasattr(c, "head_dim"):  # Qwen2 has none, and the converter then writes no length
        t.u32(attention__key_length=c.head_dim, attention__value_length=c.head_dim)
    if ff:
        t.u32(feed_forward_length=c.intermediate_size)
    t.f32(attention__layer_norm_rms_epsilon=c.rms_norm_eps)


def numpy_state_of(model):
    """Weights as float32 by their checkpoint name."""
    return {n: p.detach().to(torch.float32).numpy() for n, p in model.state_dict().items()}


def numpy_state(model):
    """The same; tied heads are left out as in the file."""
    tied = model.config.get_text_config().tie_word_embeddings
    return {n: a for n, a in numpy_state_of(model).items() if not (tied and n == "lm_head.weight")}


def llama3_factors(c):
    """rope_freqs: what each base frequency is divided by. The converter stores this vector in
    place of the scaling keys, so a reader needs no llama3 formula of its own for GGUF."""
    r = c.rope_parameters
    low = r["original_max_position_embeddings"] / r["low_freq_factor"]
    high = r["original_max_position_embeddings"] / r["high_freq_factor"]
    out = []
    for i in range(0, c.head_dim, 2):
        wavelen = 2 * math.pi * r["rope_theta"] ** (i / c.head_dim)
        if wavelen < high:
            out.append(1.0)
        elif wavelen > low:
            out.append(r["factor"])
        else:
            smooth = (r["original_max_position_embeddings"] / wavelen - r["low_freq_factor"]) \
                / (r["high_freq_factor"] - r["low_freq_factor"])
            out.append(1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(out, dtype=np.float32)


LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.gate_proj.weight": "attn_gate.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
}


def top_name(n):
    return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}.get(n)


def walk(model):
    """(layer or None, name inside the layer, array), prefixes removed."""
    for n, a in numpy_state(model).items():
        n = n.removeprefix("model.").removeprefix("language_model.")
        if n.startswith(("vision_", "audio_")):
            continue
        if n.startswith("layers."):
            _, i, rest = n.split(".", 2)
            yield int(i), rest, a
        else:
            yield None, n, a


def kind_of(name, a, kind):
    """Norms and biases stay F32 whatever the matrices are, as the converter does."""
    return kind if a.ndim > 1 and "norm" not in name else F32


def write_llama_like(model, path, arch, kind=F32, raws=None):
    """llama, qwen2, qwen3, gemma3."""
    c = model.config
    t = Twin(path, arch, raws)
    common_keys(t, c)
    gemma = arch == "gemma3"
    if gemma:
        t.f32(rope__freq_base=c.rope_parameters["full_attention"]["rope_theta"],
              rope__freq_base_swa=c.rope_parameters["sliding_attention"]["rope_theta"])
        t.u32(attention__sliding_window=c.sliding_window)
    else:
        t.f32(rope__freq_base=c.rope_parameters["rope_theta"])
    if arch == "llama":
        t.u32(rope__dimension_count=c.head_dim)
    names = dict(LAYER)
    # The same Hugging Face name means the norm before the MLP in Llama, after attention in Gemma.
    names["post_attention_layernorm.weight"] = \
        "post_attention_norm.weight" if gemma else "ffn_norm.weight"
    for layer, n, a in walk(model):
        if gemma and "norm" in n:
            a = 1 + a
            if n == "self_attn.q_norm.weight":
                a = a * math.sqrt(c.head_dim / c.query_pre_attn_scalar)
        if arch == "llama" and n in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
            a = to_pairs(a, c.head_dim)
        out = top_name(n) if layer is None else f"blk.{layer}.{names[n]}"
        t.put(out, a, kind_of(out, a, kind))
    if c.rope_parameters.get("rope_type") == "llama3":
        t.put("rope_freqs.weight", llama3_factors(c))
    t.close()


def write_muse(model, path, arch, kind=F32, raws=None):
    """muse-glimmer and (all layers sparse) muse-spark."""
    c = model.config.text_config
    spark = arch == "muse-spark"
    t = Twin(path, arch, raws)
    common_keys(t, c, ff=not spark)
    t.u32(attention__sliding_window=c.sliding_window)
    t.bools("attention.sliding_window_pattern", [k == "sliding_attention" for k in c.layer_types])
    t.f32(rope__freq_base=c.rope_parameters["rope_theta"], logit_scale=c.output_multiplier,
          final_logit_softcapping=c.final_logit_softcapping)
    if spark:
        assert set(c.mlp_layer_types) == {"sparse"}, "dense layers cannot be stored"
        t.f32(post_norm_epsilon=c.post_norm_eps,
              rope__freq_base_swa=c.rope_parameters["rope_theta"],
              expert_weights_scale=c.routed_scaling_factor)
        t.u32(moe_latent_size=c.moe_hidden_size, expert_count=c.num_local_experts,
              expert_used_count=c.num_experts_per_tok,
              expert_feed_forward_length=c.moe_intermediate_size, expert_gating_func=2)
        t.bool(expert_weights_norm=True)
    names = dict(LAYER)
    names["post_attention_layernorm.weight"] = "post_attention_norm.weight"
    for layer, n, a in walk(model):
        if layer is None:
            out = top_name(n)
            t.put(out, a, kind_of(out, a, kind))
            continue
        if n.endswith("residual_gate.gate"):
            half = "attn" if "attention" in n else "ffn"
            s = torch.from_numpy(a) / c.residual_gate_temperature
            beta = torch.sigmoid(s)
            alpha = torch.sqrt(torch.clamp(torch.sigmoid(-s) * (1 + beta), min=1e-3))
            t.put(f"blk.{layer}.{half}_resid_alpha.weight", alpha.numpy())
            t.put(f"blk.{layer}.{half}_resid_beta.weight", beta.numpy())
            continue
        if n.startswith("mlp.") and spark:
            put_spark_mlp(t, c, f"blk.{layer}.", n, a, kind)
            continue
        if "norm" in n:
            a = 1 + a
        if n in ("self_attn.q_proj.weight", "self_attn.k_proj.weight"):
            a = to_pairs(a, c.head_dim)
        t.put(f"blk.{layer}.{names[n]}", a, kind_of(n, a, kind))
    for i in range(c.num_hidden_layers):
        t.put(f"blk.{i}.attn_q_norm.weight", np.full(c.head_dim, c.qk_scale_factor))
        t.put(f"blk.{i}.attn_k_norm.weight", np.ones(c.head_dim))
    t.close()


def put_spark_mlp(t, c, blk, n, a, kind):
    if n == "mlp.gate.weight":
        t.put(blk + "ffn_gate_inp.weight", a * np.float32(c.output_multiplier))
    elif n == "mlp.gate.e_score_correction_bias":
        t.put(blk + "exp_probs_b.bias", a)
    elif n == "mlp.pre_expert_proj.weight":
        t.put(blk + "ffn_latent_down.weight", a, kind)
    elif n == "mlp.post_expert_proj.weight":
        t.put(blk + "ffn_latent_up.weight", a, kind)
    elif n == "mlp.pre_expert_norm.weight":
        t.put(blk + "ffn_pre_exp_norm.weight", 1 + a)
    elif n == "mlp.experts.post_expert_norm.weight":
        t.put(blk + "ffn_post_exp_norm.weight", 1 + a)
    elif n == "mlp.experts.gate_up_proj":
        f = c.moe_intermediate_size
        t.put(blk + "ffn_gate_exps.weight", a[:, :f], kind)
        t.put(blk + "ffn_up_exps.weight", a[:, f:], kind)
    elif n == "mlp.experts.down_proj":
        t.put(blk + "ffn_down_exps.weight", a, kind)
    else:
        raise KeyError(n)


VISION_BLOCK = {"norm1": "ln1", "norm2": "ln2", "attn.q_proj": "attn_q", "attn.k_proj": "attn_k", "attn.v_proj": "attn_v",
                "attn.proj": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}
VISION = {"vision_tower.patch_embedder.position_embedding_table.weight": "v.position_embd.weight",
          "vision_tower.ln_pre.weight": "v.pre_ln.weight", "vision_tower.ln_pre.bias": "v.pre_ln.bias",
          "vision_tower.ln_post.weight": "v.post_ln.weight", "vision_tower.ln_post.bias": "v.post_ln.bias",
          "vision_adapter.fc1.weight": "mm.0.weight", "vision_adapter.fc2.weight": "mm.1.weight",
          "vision_projection.weight": "mm.2.weight"}


AUDIO = {"norm.weight": "a.pre_ln.weight", "proj.weight": "mm.a.fc.weight", "proj.bias": "mm.a.fc.bias",
         "post_proj_norm.weight": "a.post_ln.weight"}
AUDIO_STAGE = {"patch_embedder.proj": "a.patch.{}", "patch_embedder.norm": "a.patch.{}.norm"}
AUDIO_BLOCK = {"conv": "a.conv1d.{}", "norm": "a.conv1d.{}.norm", "mlp.fc1": "a.blk.{}.ffn_up", "mlp.fc2": "a.blk.{}.ffn_down"}


def put_audio(t, model, kind):
    """Nothing is re-ordered; blocks are numbered across stages."""
    c, a = model.config, model.config.audio_config
    t.arch = "clip.audio"
    t.u32(conv_kernel_size=a.conv_kernel_size, block_count=sum(a.depths), embedding_length=a.hidden_sizes[-1],
          feed_forward_length=int(a.hidden_sizes[-1] * a.mlp_ratio), projection_dim=c.text_config.hidden_size,
          attention__head_count=1, num_mel_bins=1)
    t.f32(attention__layer_norm_epsilon=a.rms_norm_eps)
    for key in ("hidden_sizes", "patch_sizes", "depths"):
        t.w.add_array(f"clip.audio.{key}", [int(v) for v in getattr(a, key)])
    for n, x in numpy_state(model).items():
        n = n.removeprefix("model.")
        if not n.startswith("audio_tower."):
            continue
        n = n.removeprefix("audio_tower.")
        if n in AUDIO:
            t.put(AUDIO[n], x, kind_of(n, x, kind))
            continue
        _, stage, rest = n.split(".", 2)
        rest, end = rest.rsplit(".", 1)
        if rest in AUDIO_STAGE:
            name = AUDIO_STAGE[rest].format(stage)
        else:
            _, block, rest = rest.split(".", 2)
            name = AUDIO_BLOCK[rest].format(sum(a.depths[:int(stage)]) + int(block))
        t.put(f"{name}.{end}", x, kind_of(n, x, kind))


def write_audio(model, path, kind=F32):
    """The audio tower alone, with the key of a file that holds one tower."""
    t = Twin(path, "clip")
    t.w.add_string("general.type", "mmproj")
    t.w.add_string("clip.projector_type", "muse-spark-audio")
    t.bool(has_audio_encoder=True)
    put_audio(t, model, kind)
    t.close()


def write_mmproj(model, path, spark=False, kind=F32, audio=False):
    """The vision tower as the converter stores it: q and k, weights and biases, re-ordered to pairs; the two frames of the patch
    embedding summed. `spark`: the projector's type by the key of a file that may hold two towers; `audio`: it does."""
    c, v = model.config, model.config.vision_config
    t = Twin(path, "clip")
    t.w.add_string("general.type", "mmproj")
    t.w.add_string("clip.vision.projector_type" if spark else "clip.projector_type", "muse-glimmer")
    t.bool(has_vision_encoder=True)
    t.arch = "clip.vision"
    t.u32(patch_size=v.patch_size, embedding_length=v.hidden_size, feed_forward_length=v.intermediate_size,
          block_count=v.num_hidden_layers, projection_dim=c.text_config.hidden_size, spatial_merge_size=v.merge_size,
          image_size=v.pos_emb_height * v.patch_size * v.merge_size, attention__head_count=v.num_attention_heads)
    t.f32(attention__layer_norm_epsilon=v.layer_norm_eps)
    for key in ("image_mean", "image_std"):
        t.w.add_array(f"clip.vision.{key}", [0.5, 0.5, 0.5])
    head = v.hidden_size // v.num_attention_heads
    for n, a in numpy_state(model).items():
        n = n.removeprefix("model.")
        if not n.startswith("vision_"):
            continue
        if n == "vision_tower.patch_embedder.patch_embedding.weight":
            t.put("v.patch_embd.weight", a.reshape(len(a), 2, 3, v.patch_size, v.patch_size).sum(1))    # a sum of two is no BF16
        elif n in VISION:
            t.put(VISION[n], a, kind if a.ndim > 1 and "table" not in n else F32)
        else:
            _, _, i, rest = n.split(".", 3)
            rest, end = rest.rsplit(".", 1)
            if rest in ("attn.q_proj", "attn.k_proj"):
                a = to_pairs(a, head)
            t.put(f"v.blk.{i}.{VISION_BLOCK[rest]}.{end}", a, kind_of(rest, a, kind))
    if audio:
        t.w.add_string("clip.audio.projector_type", "muse-spark-audio")
        t.w.add_bool("clip.has_audio_encoder", True)
        put_audio(t, model, kind)
    t.close()
