"""Tiny random drafters (DFlash, muse_glimmer_assistant) for checkpoints of tests/data, and what transformers computes with the two.

    python make_drafters.py OUT [--traps]

OUT has the target's folder already (make_checkpoints.py). Weights are a function of (name, tensor name), as there.
"""
import contextlib
import json
import pathlib
import sys

import numpy as np
import torch
import transformers as tf
from transformers.cache_utils import DFlashCache

import gguf_twin
from make_checkpoints import LOAD, draw

M = tf.models.muse_glimmer_assistant

# name: (target, configuration, context lengths). The window is shorter than the contexts, in the second shorter than the block too.
MODELS = {
    "drafter-glimmer": ("muse-glimmer", dict(num_hidden_layers=2, block_size=16, sliding_window=12, target_layer_ids=[0, 2, 3]),
                        [1, 5, 12, 13, 37, 64]),
    "drafter-glimmer-short": ("muse-glimmer", dict(num_hidden_layers=3, block_size=7, sliding_window=5, target_layer_ids=[3, 1],
                                                   num_key_value_heads=1, head_dim=32), [1, 6, 33]),
}
POSITIONS = 80
TOLERANCE = 3e-4


def config(target, **kw):
    t = target.config.get_text_config()
    base = dict(hidden_size=t.hidden_size, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                rope_parameters={"rope_type": "default", "rope_theta": 20000.0}, max_position_embeddings=t.max_position_embeddings,
                mask_token_id=t.vocab_size - 4, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return tf.MuseGlimmerAssistantConfig(**(base | kw))


def weight(model, name, p):
    x = draw(model, name, tuple(p.shape))
    if "norm" in name:
        return torch.from_numpy((1 + 0.3 * x).astype(np.float32))
    x *= 1.2 / np.sqrt(p.shape[-1])
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        x *= 1.3
    return torch.from_numpy(x.astype(np.float32))


def build(name, target, kw):
    model = M.MuseGlimmerAssistantModel(config(target, **kw)).float().eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for n, p in model.state_dict().items():
            p.copy_(weight(name, n, p))
    return model


# ---- the reference: as DFlashTokenCandidateGenerator feeds it -----------------------------------------------------------------

def taps(target, ids):
    """[positions][layers * width]: the residuals that leave the target's layers, before any norm."""
    got, hooks = {}, []
    for i, layer in enumerate(target.model.language_model.layers):
        hooks.append(layer.register_forward_hook(lambda _m, _a, o, i=i: got.__setitem__(i, (o[0] if isinstance(o, tuple) else o)[0])))
    with torch.no_grad():
        target(input_ids=torch.tensor([ids]), use_cache=False)
    for h in hooks:
        h.remove()
    return got


def noise(target, model, token, normed=False):
    ids = torch.tensor([token] + [model.config.mask_token_id] * (model.config.block_size - 1))
    table = target.get_input_embeddings()
    return table(ids)[None] if normed else torch.nn.functional.embedding(ids, table.weight)[None]


def draft(target, model, streams, ids, n, parts=1, normed=False, shift=0):
    """Raw products of the head, rows 1..block-1, after n tokens of context and the newest one, ids[n]. parts: passes in which the
    context comes; what a block left behind is dropped between them."""
    cache = DFlashCache(config=model.config)
    cache.activate_past_recording()
    ends = [max(1, n * (i + 1) // parts) for i in range(parts)]
    at = 0
    with torch.no_grad():
        for end in sorted(set(ends)):
            if at:
                cache.crop(-model.config.block_size)
            context = torch.cat([streams[i][at:end] for i in model.config.target_layer_ids], dim=-1)[None]
            cache.set_previous_accepted_tokens(end - at)
            block = torch.arange(end, end + model.config.block_size) + shift
            positions = torch.cat([torch.arange(at, end), block])[None]
            out = model(noise_embeds=noise(target, model, ids[end], normed), context_hidden_states=context, position_ids=positions,
                        attention_mask=None, past_key_values=cache)
            at = end
        return target.lm_head(out.last_hidden_state[0, 1:])


# ---- files ---------------------------------------------------------------------------------------------------------------------

NAMES = {"encoder.fc.weight": "fc.weight", "encoder.output_norm_enc.weight": "enc.output_norm.weight", "norm.weight": "output_norm.weight"}


def write_gguf(model, path, kind=gguf_twin.F32):
    c = model.config
    t = gguf_twin.Twin(path, "dflash")
    t.u32(block_count=c.num_hidden_layers, context_length=c.max_position_embeddings, embedding_length=c.hidden_size,
          feed_forward_length=c.intermediate_size, attention__head_count=c.num_attention_heads,
          attention__head_count_kv=c.num_key_value_heads, attention__key_length=c.head_dim, attention__value_length=c.head_dim,
          attention__sliding_window=c.sliding_window, block_size=c.block_size)
    t.bools("attention.sliding_window_pattern", [True] * c.num_hidden_layers)
    t.f32(rope__freq_base=c.rope_parameters["rope_theta"], attention__layer_norm_rms_epsilon=c.rms_norm_eps)
    t.w.add_array("dflash.target_layers", [i + 1 for i in c.target_layer_ids])
    t.w.add_uint32("tokenizer.ggml.mask_token_id", c.mask_token_id)
    names = dict(gguf_twin.LAYER) | {"post_attention_layernorm.weight": "ffn_norm.weight"}
    for n, a in gguf_twin.numpy_state_of(model).items():
        if n.startswith("layers."):
            _, i, rest = n.split(".", 2)
            t.put(f"blk.{i}.{names[rest]}", a, gguf_twin.kind_of(n, a, kind))
        else:
            t.put(NAMES[n], a, gguf_twin.kind_of(n, a, kind))
    t.close()


def make(name, root):
    of, kw, lengths = MODELS[name]
    target = tf.MuseGlimmerForConditionalGeneration.from_pretrained(root / of, dtype=torch.float32, **LOAD).eval()
    model = build(name, target, kw)
    out = root / name
    out.mkdir(exist_ok=True)
    if name == "drafter-glimmer":       # once is enough
        model.save_pretrained(out)
        (out / "model.safetensors").chmod(0o644)
    write_gguf(model, out / "model.gguf")
    r = np.random.RandomState(7)
    ids = [int(i) for i in r.randint(3, target.config.get_text_config().vocab_size - 5, POSITIONS)]
    streams = taps(target, ids)
    rows = [draft(target, model, streams, ids, n) for n in lengths]
    for n, want in zip(lengths, rows):
        got = draft(target, model, streams, ids, n, parts=3)
        assert (got - want).abs().max() < 1e-4, "the cache changes the drafts"
    np.save(out / "drafts.npy", np.stack([x.numpy() for x in rows]))
    exact = [draft(target.double(), model.double(), {i: x.double() for i, x in streams.items()}, ids, n) for n in lengths]
    off = max((a - b).abs().max().item() for a, b in zip(exact, rows))
    info = {"target": of, "ids": ids, "lengths": lengths, "tolerance": TOLERANCE, "float64_delta": float(f"{off:.2g}")}
    (out / "drafts.json").write_text(json.dumps(info) + "\n")
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{name:22s} {size / 1e6:5.2f} MB  noise {off:.1e}  logits std {torch.cat(rows).std():.2f} max {torch.cat(rows).abs().max():.1f}")


# ---- traps: each mistake on purpose; how far the logits move ---------------------------------------------------------------------

@contextlib.contextmanager
def replaced(o, key, v):
    old = getattr(o, key)
    setattr(o, key, v)
    yield
    setattr(o, key, old)


def normed_context(layer):
    forward = layer.self_attn.forward
    return lambda hidden_states, context_hidden_states, **kw: forward(
        hidden_states=hidden_states, context_hidden_states=layer.input_layernorm(context_hidden_states), **kw)


def traps(name, root):
    of, kw, lengths = MODELS[name]
    target = tf.MuseGlimmerForConditionalGeneration.from_pretrained(root / of, dtype=torch.float32, **LOAD).eval()
    model = build(name, target, kw)
    ids = json.loads((root / name / "drafts.json").read_text())["ids"]
    streams = taps(target, ids)
    want = [draft(target, model, streams, ids, n) for n in lengths]
    code = M.modeling_muse_glimmer_assistant

    def show(what, **other):
        got = [draft(target, model, other.get("streams", streams), ids, n, normed=other.get("normed", False), shift=other.get("shift", 0)) for n in lengths]
        print(f"| {what} | {max((a - b).abs().max().item() for a, b in zip(got, want)):.2g} |")

    with contextlib.ExitStack() as all_layers:
        for layer in model.layers:
            all_layers.enter_context(replaced(layer.self_attn, "forward", normed_context(layer)))
        show("context through the layer's input norm")
    for by in (-1, 1):
        with replaced(model.config, "sliding_window", model.config.sliding_window + by):
            show(f"window {by:+d}")
    with replaced(code, "create_bidirectional_sliding_window_mask", code.create_bidirectional_mask):
        show("window off")
    with replaced(code, "create_bidirectional_sliding_window_mask", lambda create=code.create_bidirectional_sliding_window_mask, **kw: create(
            and_mask_function=lambda b, h, q, k: k <= q, **kw)):
        show("causal block")
    show("embedding with its norm", normed=True)
    show("block one position further", shift=1)
    with replaced(model.config, "mask_token_id", model.config.mask_token_id + 1):
        show("another mask token")
    show("streams of the layers before", streams={i: streams[max(i - 1, 0)] for i in streams})
    with replaced(model.config, "target_layer_ids", model.config.target_layer_ids[::-1]):
        show("streams in another order")
    with replaced(model.encoder, "output_norm_enc", torch.nn.Identity()):
        show("no norm of the context")
    for norm in ("q_norm", "k_norm"):
        with contextlib.ExitStack() as all_layers:
            for layer in model.layers:
                all_layers.enter_context(replaced(layer.self_attn, norm, torch.nn.Identity()))
            show(f"no {norm}")
    with replaced(code, "rotate_half", lambda x: torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)):
        show("neighbours rotated")


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    root = pathlib.Path(sys.argv[1])
    for name in MODELS:
        if "--traps" in sys.argv:
            print(f"\n| {name} | logits move by |\n|---|---|")
            traps(name, root)
        else:
            make(name, root)
