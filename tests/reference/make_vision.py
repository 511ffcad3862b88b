"""Tiny random checkpoints with a vision tower, and what transformers computes with it: rows of pictures and of pairs of video
frames, and logits of prompts that hold them.

    python make_vision.py OUT [name ...]

Pictures are stored as bytes, already of the size that the tower takes (the processor's resampling then changes nothing); their
pixel values are (v - 127.5) / 127.5.
"""
import json
import pathlib
import sys
import zlib

import numpy as np
import torch
import transformers as tf

import gguf_twin
import make_checkpoints as mc

IMAGE, VIDEO = 159, 158
IMAGE_START, IMAGE_END, VIDEO_START, VIDEO_SEP, VIDEO_END = 150, 151, 152, 153, 154
TOLERANCE = 3e-5


# ---- the models ---------------------------------------------------------------------------------

def with_tower(config, vision, **kw):
    """Another tower in a configuration of make_checkpoints."""
    c = config.to_dict()
    c["vision_config"] = dict(hidden_act="gelu", patch_temporal=2, merge_size=2) | vision
    c |= dict(out_hidden_size=4 * vision["hidden_size"], projector_hidden_size=40) | kw
    return type(config)(**c)


# Full layers: 3 (the fourth) and 4 (the last); the first three are windowed. The epsilon belongs to the norms before and
# after the blocks alone, the 1e-5 inside them is fixed.
GLIMMER = dict(patch_size=6, pos_emb_height=8, pos_emb_width=8, max_position_embeddings=64, num_hidden_layers=5,
               hidden_size=48, num_attention_heads=4, intermediate_size=72, layer_norm_eps=3e-3)
# Windows of 576 keys, more than one span of 512.
SPARK = dict(patch_size=4, pos_emb_height=24, pos_emb_width=24, max_position_embeddings=576, num_hidden_layers=6,
             hidden_size=32, num_attention_heads=2, intermediate_size=56, layer_norm_eps=1e-5)
TEXT = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=3, sliding_window=24)

MODELS = {
    "vision-glimmer": (lambda: with_tower(mc.glimmer(**TEXT), GLIMMER), tf.MuseGlimmerForConditionalGeneration, "muse-glimmer"),
    "vision-spark": (lambda: with_tower(mc.spark(**TEXT | dict(moe_intermediate_size=32, num_local_experts=4)), SPARK),
                     tf.MuseSparkForConditionalGeneration, "muse-spark"),
}


def weight(model, name, p, c):
    """The text model's weights are make_checkpoints' own; the tower's are scaled so that what is easily got wrong shows: a
    small stream inside the blocks (the epsilon), wide inputs of the GELUs, rows of size 1."""
    if "vision_" not in name:
        return mc.weight(model, name, p, c)
    x = mc.draw(model, name, tuple(p.shape))
    if "norm" in name or "ln_p" in name:
        x = x * 0.3 + (1.0 if name.endswith("weight") else 0.0)
        if "ln_pre" in name:
            x *= 0.06
    elif name.endswith("mlp.fc1.bias"):
        x *= 0.5
        x[1::2] = x[1::2] - 2.3
    elif name.endswith("bias"):
        x *= 0.5 if "attn" in name else 0.05
    elif "position_embedding_table" in name:
        x *= 0.5
    elif "patch_embedding" in name:
        x *= 1.0 / np.sqrt(p.shape[-1])
    else:
        x *= 1.4 / np.sqrt(p.shape[-1])
        if name.endswith("fc1.weight"):
            x *= 2
        if name.endswith("mlp.fc1.weight"):
            x[1::2] *= 0.17
        elif name.endswith("mlp.fc2.weight"):
            x *= np.where(np.arange(x.shape[1]) % 2, 2.5, 0.06)
        elif name.endswith("attn.proj.weight"):
            x *= 0.06
        elif name.endswith("vision_projection.weight"):
            x *= 0.3
    return torch.from_numpy(x.astype(np.float32))


def build(name):
    make_config, cls, _ = MODELS[name]
    config = make_config()
    model = cls(config).float().eval()
    with torch.no_grad():
        for n, p in model.state_dict().items():
            p.copy_(weight(name, n, p, config))
        # The adapter has no bias: every other unit gets one through that of the norm before it.
        inner = model.model
        bias = inner.vision_tower.ln_post.bias.repeat_interleave(config.vision_config.merge_size ** 2)
        fc1, fc2 = inner.vision_adapter.fc1.weight, inner.vision_adapter.fc2.weight
        fc1[1::2] = fc1[1::2] * 0.17 - 2.3 * bias / (bias @ bias)
        fc2[:, 1::2] *= 12
    return model


# ---- pictures -----------------------------------------------------------------------------------

def picture(name, rows, cols, unit):
    """Waves of colour under noise: no two places are alike."""
    h, w = rows * unit, cols * unit
    r = np.random.RandomState(zlib.crc32(f"picture/{name}".encode()))
    y, x = np.mgrid[0:h, 0:w]
    out = np.zeros((h, w, 3))
    for channel in range(3):
        for _ in range(3):
            fy, fx, phase = r.uniform(0.5, 3, 2).tolist() + [r.uniform(0, 6.28)]
            out[:, :, channel] += np.sin(6.28 * (fy * y / h + fx * x / w) + phase)
    out = 127.5 + 36 * out + 12 * r.standard_normal(out.shape)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def patches(frames, patch):
    """As the processors lay them out: [rows * columns][frame][channel][row][column]; one picture fills both frames."""
    frames = list(frames) * (2 // len(frames))
    f = np.stack([(a.astype(np.float32) - np.float32(127.5)) / np.float32(127.5) for a in frames])
    n, h, w, _ = f.shape
    f = f.reshape(n, h // patch, patch, w // patch, patch, 3).transpose(1, 3, 0, 5, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(f.reshape(h // patch * (w // patch), -1)))


def grid_of(a, patch):
    return a.shape[0] // patch, a.shape[1] // patch


# ---- what transformers computes -----------------------------------------------------------------

def rows_of(model, frames, dtype=torch.float32):
    """The projector's rows, before the weightless norm."""
    patch = model.config.vision_config.patch_size
    got = []
    hook = model.model.vision_projection.register_forward_hook(lambda m, a, o: got.append(o))
    with torch.no_grad():
        model.model.get_image_features(patches(frames, patch).to(dtype), torch.tensor([[1, *grid_of(frames[0], patch)]]))
    hook.remove()
    return got[0]


def forward(model, ids, images, videos):
    """images: one frame each; videos: lists of frames, two a pair."""
    patch = model.config.vision_config.patch_size
    kw = {}
    if images:
        kw["pixel_values"] = torch.cat([patches([a], patch) for a in images])
        kw["image_grid_thw"] = torch.tensor([[1, *grid_of(a, patch)] for a in images])
    if videos:
        kw["pixel_values_videos"] = torch.cat([patches(v[i:i + 2], patch) for v in videos for i in range(0, len(v), 2)])
        kw["video_grid_thw"] = torch.tensor([[len(v) // 2, *grid_of(v[0], patch)] for v in videos])
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **kw).logits[0]


def gap(model, run):
    """What run() computes, and the smallest distance between the last expert chosen and the first that is not."""
    gaps, hooks = [1.0], []

    def hook(m, args, out):
        s = (torch.sigmoid(out[0]) + m.e_score_correction_bias).sort(dim=-1, descending=True)[0]
        gaps.append((s[:, m.top_k - 1] - s[:, m.top_k]).min().item())

    for m in model.modules():
        if type(m).__name__ == "MuseSparkTopkRouter":
            hooks.append(m.register_forward_hook(hook))
    out = run()
    for h in hooks:
        h.remove()
    return out, min(gaps)


# ---- prompts ------------------------------------------------------------------------------------

def text(r, n):
    return [int(i) for i in r.randint(3, 150, n)]


def prompt(r, parts, pictures, merge_unit):
    """parts: numbers (so many text tokens), picture names, or lists of names (a video). Placeholders are written out."""
    def cells(a):
        return a.shape[0] // merge_unit * (a.shape[1] // merge_unit)
    ids, images, videos = [1], [], []
    for part in parts:
        if isinstance(part, int):
            ids += text(r, part)
        elif isinstance(part, str):
            ids += [IMAGE_START] + [IMAGE] * cells(pictures[part]) + [IMAGE_END]
            images.append(part)
        else:
            ids.append(VIDEO_START)
            for i in range(0, len(part), 2):
                ids += ([VIDEO_SEP] if i else []) + text(r, 2) + [VIDEO] * cells(pictures[part[0]])
            ids.append(VIDEO_END)
            videos.append(part)
    return ids, images, videos


# Opposites differ in the picture alone: the same words round it.
PROMPTS = {
    "none": ("one", [4, 9]), "left": ("one", [4, "left", 9]), "right": ("one", [4, "right", 9]),
    "red": ("two", [3, "red", 7]), "blue": ("two", [3, "blue", 7]),
    "wide": ("three", [5, "wide", 8]), "tall": ("three", [5, "tall", 8]),
    "several": ("four", [3, "square", 4, "tall", "one", 6]), "several swapped": ("four", [3, "tall", 4, "square", "one", 6]),
    "film": ("five", [3, ["film0", "film1", "film2", "film3"], 6]),
    "film backwards": ("five", [3, ["film3", "film2", "film1", "film0"], 6]),
    "film and picture": ("six", [2, ["film0", "film1"], 3, "left", 5]),
}
LAST = 4    # positions whose logits are stored


def make_prompts(name, model, pictures, out):
    unit = model.config.vision_config.patch_size * model.config.vision_config.merge_size
    stored, seen = [], {}
    for key, (words, parts) in PROMPTS.items():
        for attempt in range(100):
            r = np.random.RandomState(zlib.crc32(f"{name}/{words}/{attempt}".encode()))
            ids, images, videos = prompt(r, parts, pictures, unit)
            frames = [pictures[i] for i in images], [[pictures[i] for i in v] for v in videos]
            # The same words for opposites: near ties are looked at for each, but only the first attempt that suits all is taken.
            if all(gap(model, lambda p=p: forward(model, *p))[1] > 2e-4 for p in siblings(name, words, attempt, pictures, unit)):
                break
        else:
            raise SystemExit(f"{name}, {key}: no prompt without near ties")
        logits = forward(model, ids, *frames)
        greedy, margin = list(ids), 1e9
        for _ in range(4):
            top = forward(model, greedy, *frames)[-1].topk(2)
            if top.indices[0] >= 150:       # a placeholder would ask for rows of its own
                break
            margin = min(margin, (top.values[0] - top.values[1]).item())
            greedy.append(top.indices[0].item())
        file = key.replace(" ", "-") + ".logits.npy"
        np.save(out / file, logits[-LAST:].numpy())
        stored.append({"name": key, "ids": ids, "images": images, "videos": videos, "positions": LAST, "logits": file,
                       "greedy": greedy[len(ids):], "greedy_margin": round(margin, 4)})
        for other, (w, last) in seen.items():
            if w == words:
                moved = (last - logits[-1]).abs().max().item()
                print(f"    {key} against {other}: {moved:.2f}")
                assert moved > 0.1
        seen[key] = words, logits[-1]
    return stored


def siblings(name, words, attempt, pictures, unit):
    for w, parts in PROMPTS.values():
        if w == words:
            r = np.random.RandomState(zlib.crc32(f"{name}/{words}/{attempt}".encode()))
            ids, images, videos = prompt(r, parts, pictures, unit)
            yield ids, [pictures[i] for i in images], [[pictures[i] for i in v] for v in videos]


# ---- the whole ----------------------------------------------------------------------------------

# name: cells (rows, columns)
GRIDS = {
    "vision-glimmer": {"one": (1, 1), "square": (3, 3), "table": (4, 4), "beyond": (7, 7), "wide": (2, 7), "tall": (7, 2),
                       "thin": (1, 11), "edges": (13, 11), "large": (17, 16), "left": (3, 4), "red": (3, 3), "film0": (2, 3),
                       "film1": (2, 3), "film2": (2, 3), "film3": (2, 3)},
    "vision-spark": {"one": (1, 1), "square": (3, 3), "wide": (2, 7), "tall": (7, 2), "large": (13, 15), "deep": (16, 5),
                     "left": (3, 4), "red": (3, 3), "film0": (2, 3), "film1": (2, 3), "film2": (2, 3), "film3": (2, 3)},
}
PAIRS = {"pair": ("film0", "film1"), "pair swapped": ("film1", "film0")}


def make_pictures(name, unit):
    p = {k: picture(k, *cells, unit) for k, cells in GRIDS[name].items()}
    p["left"][:, :p["left"].shape[1] // 2] //= 4           # dark on the left
    p["right"] = np.ascontiguousarray(p["left"][:, ::-1])
    p["red"] = p["red"] // np.array([1, 3, 6], dtype=np.uint8)
    p["blue"] = np.ascontiguousarray(p["red"][:, :, ::-1])
    p["tall"] = np.ascontiguousarray(p["wide"].transpose(1, 0, 2))
    return p


def make(name, root):
    out = root / name
    out.mkdir(parents=True, exist_ok=True)
    for f in out.iterdir():
        f.unlink()
    spark = name == "vision-spark"          # stored in BF16, for both element types
    kind = gguf_twin.BF16 if spark else gguf_twin.F32
    model = mc.save(build(name), out, {"bf16": spark})
    gguf_twin.write_muse(model, out / "model.gguf", MODELS[name][2], kind)
    gguf_twin.write_mmproj(model, out / "mmproj.gguf", spark, kind)
    v = model.config.vision_config
    pictures = make_pictures(name, v.patch_size * v.merge_size)
    double = type(model).from_pretrained(out, dtype=torch.float64, **mc.LOAD).eval()
    cases, noise = [], 0
    for key, frames in ({k: (k,) for k in pictures} | PAIRS).items():
        rows = rows_of(model, [pictures[f] for f in frames])
        exact = rows_of(double, [pictures[f] for f in frames], torch.float64)
        noise = max(noise, (rows - exact).abs().max().item())
        file = key.replace(" ", "-") + ".rows.npy"
        np.save(out / file, rows.numpy())
        h, w = grid_of(pictures[frames[0]], v.patch_size * v.merge_size)
        cases.append({"name": key, "grid": [h, w], "frames": list(frames), "rows": file})
        print(f"  {key:13s} {h:2d} x {w:2d}  std {rows.std():.2f} max {rows.abs().max():.1f}")
    for key, a in pictures.items():
        np.save(out / f"{key}.image.npy", a)
    prompts = make_prompts(name, model, pictures, out)
    info = {"tolerance": TOLERANCE, "float64_delta": float(f"{noise:.2g}"), "logits_tolerance": mc.TOLERANCE["mus"], "cases": cases,
            "prompts": prompts}
    (out / "vision.json").write_text(json.dumps(info) + "\n")
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{name:20s} {size/1e6:5.2f} MB  noise {noise:.1e}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    root = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        make(name, root)
