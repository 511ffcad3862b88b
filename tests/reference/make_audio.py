"""Tiny random checkpoints with an audio tower, and what transformers computes with them: rows of sounds of several lengths,
logits of prompts that hold sounds, and a file at another rate.

    python make_audio.py OUT [name ...]      (needs soundfile and soxr besides)
    python make_audio.py --traps OUT         how far each silent mistake moves the stored rows

All sounds of a checkpoint are pieces of one wave, stored as floats that are 16-bit integers / 32768.
"""
import json
import pathlib
import sys
import zlib

import numpy as np
import soundfile
import torch
import transformers as tf
from transformers.audio_utils import load_audio

import gguf_twin
import make_checkpoints as mc
from make_vision import gap, text

AUDIO, AUDIO_START, AUDIO_END = 157, 155, 156
TOLERANCE = 5e-5
TEXT = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, sliding_window=24, moe_intermediate_size=32,
            num_local_experts=4)


# ---- the models ---------------------------------------------------------------------------------

def with_ears(audio):
    """Another audio tower in a configuration of make_checkpoints."""
    c = mc.spark(**TEXT).to_dict()
    c["audio_config"] = dict(hidden_act="gelu", out_hidden_size=TEXT["hidden_size"], num_hidden_layers=len(audio["depths"])) | audio
    return tf.MuseSparkConfig(**c)


# The release's patches and kernel; widths, depths and the ratio fit no pattern. The second: three stages, another kernel, a
# row of 120 samples, so that many rows are few samples.
MODELS = {
    "audio-spark": dict(patch_sizes=[16, 6, 5, 4], hidden_sizes=[16, 24, 32, 40], depths=[2, 1, 2, 2], mlp_ratio=2.6,
                        conv_kernel_size=7, rms_norm_eps=1e-6),
    "audio-spark-bf16": dict(patch_sizes=[4, 6, 5], hidden_sizes=[8, 20, 32], depths=[1, 0, 3], mlp_ratio=1.3, conv_kernel_size=4,
                             rms_norm_eps=1e-4),
}


def weight(model, name, p, c):
    """The text model's weights are make_checkpoints' own; the tower's are scaled so that what is easily got wrong shows: small
    sums in front of the norms (the epsilon), wide inputs of the GELUs, blocks as large as the stream."""
    if "audio_tower" not in name:
        return mc.weight(model, name, p, c)
    x = mc.draw(model, name, tuple(p.shape))
    if "norm" in name:
        x = x * 0.3 + 1.0
    elif name.endswith("bias"):
        x *= 0.001 if "layers.0.patch_embedder" in name else \
            0.02 if "patch_embedder" in name or "conv.bias" in name or "tower.proj" in name else 0.3
    elif name.endswith("conv.weight"):
        x *= 0.04 / np.sqrt(p.shape[-1])
    elif "patch_embedder" in name:
        x *= 0.05 / np.sqrt(p.shape[-1])
    elif name.endswith("tower.proj.weight"):
        x *= 0.03 / np.sqrt(p.shape[-1])
    else:
        x *= (2.5 if "fc1" in name else 1.2) / np.sqrt(p.shape[-1])
    return torch.from_numpy(x.astype(np.float32))


def build(name):
    config = with_ears(MODELS[name])
    model = tf.MuseSparkForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for n, p in model.state_dict().items():
            p.copy_(weight(name, n, p, config))
    return model


# ---- sounds -------------------------------------------------------------------------------------

def wave(name, n, rate=24000):
    """Chirps that come and go, hiss, and an offset; 16-bit steps."""
    r = np.random.RandomState(zlib.crc32(f"wave/{name}".encode()))
    t = np.arange(n) / rate
    x = 0.07 + 0.02 * r.standard_normal(n)
    for _ in range(6):
        low, high, phase, beat = r.uniform(80, 1500), r.uniform(200, 6000), r.uniform(0, 6.28), r.uniform(2, 60)
        x += 0.09 * np.sin(6.2832 * (low * t + (high - low) * t * t * rate / n / 2) + phase) * np.sin(beat * t + phase) ** 2
    return (np.clip(np.rint(x * 32768), -32768, 32767) / 32768).astype(np.float32)


# name: (model, first sample, samples): whole rows, one sample less or more, a beginning of a row, more rows than a chunk.
CASES = {
    "audio-spark": {"sample": (500, 1), "part": (300, 101), "almost": (0, 1919), "row": (0, 1920), "more": (0, 1921), "five": (1920, 9600),
                    "nine": (0, 17200), "other": (11000, 6000)},
    "audio-spark-bf16": {"sample": (500, 1), "almost": (0, 119), "row": (0, 120), "more": (0, 121), "seven": (100, 833), "long": (0, 8455),
                         "other": (4000, 833)},
}


def sounds_of(name):
    w = wave(name, max(a + n for a, n in CASES[name].values()))
    s = {k: w[a:a + n] for k, (a, n) in CASES[name].items()}
    loud = "five" if name == "audio-spark" else "seven"
    s["backwards"] = np.ascontiguousarray(s[loud][::-1])
    s["quiet"] = s[loud] / np.float32(64)      # where an epsilon tells
    return w, s


# ---- what transformers computes -----------------------------------------------------------------

def features(model, sounds):
    per = model.config.audio_config.samples_per_token
    extract = tf.models.muse_spark.MuseSparkFeatureExtractor(samples_per_token=per)
    return extract([np.asarray(s) for s in sounds], sampling_rate=24000, return_tensors="pt")


def rows_of(model, sound, dtype=torch.float32):
    """The tower's rows, before the weightless norm."""
    with torch.no_grad():
        x = features(model, [sound])["input_values"].to(dtype)
        return model.model.audio_tower(input_values=x).last_hidden_state[0]


def forward(model, ids, sounds):
    kw = dict(features(model, sounds)) if sounds else {}
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False, **kw).logits[0]


# ---- prompts ------------------------------------------------------------------------------------

# Opposites differ in the sound alone: the same words round it.
PROMPTS = {
    "audio-spark": {"none": ("one", [4, 9]), "forwards": ("one", [4, "five", 9]), "backwards": ("one", [4, "backwards", 9]),
                    "quiet": ("one", [4, "quiet", 9]), "other": ("two", [3, "other", 7]),
                    "several": ("three", [3, "more", 4, "sample", "other", 6]), "several swapped": ("three", [3, "other", 4, "sample", "more", 6])},
    "audio-spark-bf16": {"long": ("four", [5, "long", 8]), "forwards": ("five", [4, "seven", 9]), "other": ("five", [4, "other", 9])},
}
LAST = 4    # positions whose logits are stored


def prompt(r, parts, sounds, per):
    """parts: numbers (so many text tokens) or names of sounds. Placeholders are written out."""
    ids, heard = [1], []
    for part in parts:
        if isinstance(part, int):
            ids += text(r, part)
        else:
            ids += [AUDIO_START] + [AUDIO] * -(-len(sounds[part]) // per) + [AUDIO_END]
            heard.append(part)
    return ids, heard


def make_prompts(name, model, sounds, out):
    per = model.config.audio_config.samples_per_token
    stored, seen = [], {}
    for key, (words, _) in PROMPTS[name].items():
        for attempt in range(100):
            same = {k: prompt(np.random.RandomState(zlib.crc32(f"{name}/{words}/{attempt}".encode())), parts, sounds, per)
                    for k, (w, parts) in PROMPTS[name].items() if w == words}
            if all(gap(model, lambda p=p: forward(model, p[0], [sounds[s] for s in p[1]]))[1] > 2e-4 for p in same.values()):
                break
        else:
            raise SystemExit(f"{name}, {key}: no prompt without near ties")
        ids, heard = same[key]
        clips = [sounds[s] for s in heard]
        logits = forward(model, ids, clips)
        greedy, margin = list(ids), 1e9
        for _ in range(4):
            top = forward(model, greedy, clips)[-1].topk(2)
            margin = min(margin, (top.values[0] - top.values[1]).item())
            greedy.append(top.indices[0].item())
        file = key.replace(" ", "-") + ".logits.npy"
        np.save(out / file, logits[-LAST:].numpy())
        stored.append({"name": key, "ids": ids, "sounds": heard, "positions": LAST, "logits": file, "greedy": greedy[len(ids):],
                       "greedy_margin": round(margin, 4)})
        for other, (w, last) in seen.items():
            if w == words:
                moved = (last - logits[-1]).abs().max().item()
                print(f"    {key} against {other}: {moved:.2f}")
                assert moved > 0.3
        seen[key] = words, logits[-1]
    return stored


# ---- a file at another rate ----------------------------------------------------------------------

def make_file(model, out):
    """Two channels at 44,100, read as the reference reads files: what its resampler makes, and the rows of that."""
    n = 15001
    both = np.stack([wave("left", n, 44100), wave("right", n, 44100)], axis=1)
    fade = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / 400)[:, None]
    both = np.rint(both * fade * 32768) / 32768
    soundfile.write(out / "file.wav", both, 44100, subtype="PCM_16")
    heard = load_audio(str(out / "file.wav"), sampling_rate=24000, backend="soundfile")
    np.save(out / "file.samples.npy", heard)
    np.save(out / "file.rows.npy", rows_of(model, heard).numpy())
    return {"file": "file.wav", "samples": "file.samples.npy", "rows": "file.rows.npy"}


# ---- the whole ----------------------------------------------------------------------------------

def make(name, root):
    out = root / name
    out.mkdir(parents=True, exist_ok=True)
    for f in out.iterdir():
        f.unlink()
    bf16 = name.endswith("bf16")
    kind = gguf_twin.BF16 if bf16 else gguf_twin.F32
    model = mc.save(build(name), out, {"bf16": bf16})
    if bf16:
        gguf_twin.write_audio(model, out / "mmproj.gguf", kind)
    else:
        gguf_twin.write_muse(model, out / "model.gguf", "muse-spark", kind)
        gguf_twin.write_mmproj(model, out / "mmproj.gguf", True, kind, audio=True)
    w, sounds = sounds_of(name)
    np.save(out / "wave.npy", w)
    double = type(model).from_pretrained(out, dtype=torch.float64, **mc.LOAD).eval()
    cases, noise = [], 0
    for key, x in sounds.items():
        rows, exact = rows_of(model, x), rows_of(double, x, torch.float64)
        noise = max(noise, (rows - exact).abs().max().item())
        np.save(out / f"{key}.rows.npy", rows.numpy())
        at = CASES[name].get(key, [None])[0]
        case = {"name": key, "rows": f"{key}.rows.npy", "n": len(x), "from": at}
        if at is None:      # made of another case
            loud = "five" if name == "audio-spark" else "seven"
            case |= {"from": CASES[name][loud][0], "backwards": key == "backwards", "divided": 64 if key == "quiet" else 1}
        cases.append(case)
        print(f"  {key:10s} {len(x):6d} samples {len(rows):3d} rows  std {rows.std():.2f} max {rows.abs().max():.1f}")
    info = {"tolerance": TOLERANCE, "float64_delta": float(f"{noise:.2g}"), "logits_tolerance": mc.TOLERANCE["mus"],
            "wave": "wave.npy", "cases": cases, "prompts": make_prompts(name, model, sounds, out)}
    if not bf16:
        info["resampled"] = make_file(model, out)
    (out / "audio.json").write_text(json.dumps(info) + "\n")
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{name:20s} {size/1e6:5.2f} MB  noise {noise:.1e}", flush=True)


# ---- traps --------------------------------------------------------------------------------------

def convolution(change):
    """Another convolution in every block: change(module, x [1, C, T]) -> [1, C, T]."""
    def f(model):
        for m in model.modules():
            if type(m).__name__ == "MuseSparkAudioCausalConv1d":
                m.forward = lambda x, cache=None, m=m: change(m, x)
    return f


def conv1d(m, x, left, w=None):
    x = torch.nn.functional.pad(x, (left, m.kernel_size[0] - 1 - left))
    return torch.nn.functional.conv1d(x, m.weight if w is None else w, m.bias, groups=m.groups)


def each(word, fn):
    def f(model):
        for m in model.model.audio_tower.modules():
            if type(m).__name__ == word:
                fn(m)
    return f


def fold_forward(change):
    def fn(m):
        def forward(x):
            b, n, c = x.shape
            return change(m, x.reshape(b, n // m.patch_size, m.patch_size, c))
        m.forward = forward
    return each("MuseSparkAudioPatchEmbedding", fn)


def block_forward(change):
    def fn(m):
        m.forward = lambda x, cache=None: change(m, x)
    return each("MuseSparkAudioConvBlock", fn)


def conv_of(m, x):
    return m.conv(x.transpose(1, 2)).transpose(1, 2)


def residual_fold(m, x):
    y = m.norm(m.proj(x.flatten(2)))
    y[..., :x.shape[-1]] += x.mean(2)
    return y


def set_all(**kw):
    def fn(m):
        for k, v in kw.items():
            setattr(m, k, v)
    return fn


def forget(name):
    def f(model):
        setattr(model.model.audio_tower, name, torch.nn.Identity())
    return f


def weightless(model):
    model.model.audio_tower.post_proj_norm.weight.data.fill_(1)


M = tf.models.muse_spark.modeling_muse_spark
TRAPS = {
    "fold channel-major": fold_forward(lambda m, x: m.norm(m.proj(x.transpose(2, 3).flatten(2)))),
    "fold backwards": fold_forward(lambda m, x: m.norm(m.proj(x.flip(2).flatten(2)))),
    "no norm after the fold": fold_forward(lambda m, x: m.proj(x.flatten(2))),
    "residual round the fold": fold_forward(residual_fold),
    "kernel reversed": convolution(lambda m, x: conv1d(m, x, m.kernel_size[0] - 1, m.weight.flip(-1))),
    "symmetric padding": convolution(lambda m, x: conv1d(m, x, m.kernel_size[0] // 2)),
    "no convolution bias": convolution(lambda m, x: conv1d(m, x, m.kernel_size[0] - 1) - m.bias[:, None]),
    "norm before the convolution": block_forward(lambda m, x: x + m.mlp(conv_of(m, m.norm(x)))),
    "no norm in the block": block_forward(lambda m, x: x + m.mlp(conv_of(m, x))),
    "no residual round the block": block_forward(lambda m, x: m.mlp(m.norm(conv_of(m, x)))),
    "tanh gelu": each("MuseSparkAudioMLP", set_all(activation_fn=torch.nn.GELU("tanh"))),
    "epsilon 1e-5": each("MuseSparkRMSNorm", set_all(variance_epsilon=1e-5, eps=1e-5)),
    "epsilon 1e-8": each("MuseSparkRMSNorm", set_all(variance_epsilon=1e-8, eps=1e-8)),
    "no last norm": forget("norm"),
    "no norm of the rows": forget("post_proj_norm"),
    "norm of the rows without weights": weightless,
    "a mean of zero": None,
    "level normalised": None,
}


def traps(root):
    for name in MODELS:
        _, sounds = sounds_of(name)
        print(name)
        for trap, change in TRAPS.items():
            model = tf.MuseSparkForConditionalGeneration.from_pretrained(root / name, dtype=torch.float32, **mc.LOAD).eval()
            if change:
                change(model)
            moved = 0
            for key, x in sounds.items():
                want = torch.from_numpy(np.load(root / name / f"{key}.rows.npy"))
                if trap == "a mean of zero":
                    x = x - x.mean()
                if trap == "level normalised":
                    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
                moved = max(moved, (rows_of(model, x) - want).abs().max().item())
            print(f"| {trap} | {moved:.2g} |{' <' if moved < 10 * TOLERANCE else ''}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    if sys.argv[1] == "--traps":
        traps(pathlib.Path(sys.argv[2]))
        sys.exit()
    for name in sys.argv[2:] or MODELS:
        make(name, pathlib.Path(sys.argv[1]))
