#!/usr/bin/env python3
"""Conversations with pictures, a video and sounds, as the reference processes them with the seed0 checkpoint.

    make_media.py [OUT]      writes OUT (default ../data/media): small PNG and WAV files, and cases.json with the expanded ids of each
                             prompt and the logits after it (F32, all of the vocabulary)

The prompt texts are written here in the template's form (Glimmer's template drops sounds, see the specification), so that ids do not
depend on the template engine. Needs torch, torchvision, transformers, numpy, pillow.
"""
import json
import os
import struct
import sys

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, MuseSparkForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.muse_glimmer.image_processing_muse_glimmer import MuseGlimmerImageProcessor
from transformers.models.muse_glimmer.video_processing_muse_glimmer import MuseGlimmerVideoProcessor
from transformers.models.muse_spark.feature_extraction_muse_spark import MuseSparkFeatureExtractor
from transformers.models.muse_spark.processing_muse_spark import MuseSparkProcessor
from transformers.video_utils import VideoMetadata

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = os.path.join(HERE, "..", "data", "seed0")
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "data", "media")


# ---- media: arithmetic, so that they are the same every time ---------------------------------------------------

def ramp(width, height, flip=False, swap=False):
    """Red grows to the right, green downwards, with a blue square near the upper left."""
    x = np.arange(width)[None, :] * 255 // max(width - 1, 1)
    y = np.arange(height)[:, None] * 255 // max(height - 1, 1)
    a = np.zeros((height, width, 3), np.uint8)
    a[..., 0], a[..., 1] = x, y
    a[height // 8:height // 3, width // 8:width // 3] = (10, 20, 250)
    a = a[:, ::-1] if flip else a
    return np.ascontiguousarray(a[..., ::-1] if swap else a)


PICTURES = {
    "wide": ramp(140, 70), "tall": ramp(70, 140), "left": ramp(84, 84), "right": ramp(84, 84, flip=True),
    "red": ramp(84, 84), "blue": ramp(84, 84, swap=True), "odd": ramp(101, 67), "table": ramp(196, 112),
}
FRAMES = [ramp(64, 48, flip=i % 2 == 1, swap=i >= 2) for i in range(5)]


def wave(samples, rate=24000):
    t = np.arange(samples) / rate
    return (0.5 * np.sin(2 * np.pi * (220 + 200 * t) * t) * (1 - t / (samples / rate) / 2)).astype(np.float32)


def write_wav(path, x, rate=24000):
    pcm = np.round(x * 32767).astype("<i2")
    data = pcm.tobytes()
    with open(path, "wb") as f:
        f.write(b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16))
        f.write(b"data" + struct.pack("<I", len(data)) + data)
    return pcm.astype(np.float32) / 32768


# ---- prompts ------------------------------------------------------------------------------------------------------

SYSTEM = ("<|begin_of_text|><|start|>system<|message|>You are a helpful AI assistant.\nKnowledge cutoff: 2026-01-04."
          "\n\nReasoning strength: high.\n\n# Valid recipients: \"self\", \"user\".<|eot|>")
IMAGE, VIDEO, AUDIO = "<|patch|>", "<|video|>", "<|audio|>"


def prompt(*parts):
    return SYSTEM + "<|start|>user<|message|>" + "".join(parts) + "<|eot|><|start|>assistant"


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.set_num_threads(2)
    model = MuseSparkForConditionalGeneration.from_pretrained(SEED, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(SEED, "tokenizer.json"))
    processor = MuseSparkProcessor(image_processor=MuseGlimmerImageProcessor(), video_processor=MuseGlimmerVideoProcessor(),
                                   feature_extractor=MuseSparkFeatureExtractor(), tokenizer=tokenizer)
    for name, a in PICTURES.items():
        Image.fromarray(a).save(os.path.join(OUT, name + ".png"), optimize=True)
    for i, a in enumerate(FRAMES):
        Image.fromarray(a).save(os.path.join(OUT, "frame%d.png" % i), optimize=True)
    sounds = {"short": write_wav(os.path.join(OUT, "short.wav"), wave(5000)), "long": write_wav(os.path.join(OUT, "long.wav"), wave(24000))}

    cases = []

    def case(name, parts, images=(), video=False, audio=()):
        text = prompt(*[{"image": IMAGE, "video": VIDEO, "sound": AUDIO}.get(k, v) if k != "text" else v for k, v in parts])
        kw = {}
        if images:
            kw["images"] = [Image.fromarray(PICTURES[i]) for i in images]
        if video:
            kw["videos"] = [[np.asarray(f) for f in FRAMES]]
            kw["videos_kwargs"] = {"do_sample_frames": False, "return_metadata": True,
                                   "video_metadata": [VideoMetadata(total_num_frames=len(FRAMES), fps=2.0, frames_indices=list(range(len(FRAMES))))]}
        if audio:
            kw["audio"] = [sounds[a] for a in audio]
        batch = processor(text=[text], return_tensors="pt", add_special_tokens=False, **kw)
        with torch.no_grad():
            logits = model(**{k: v for k, v in batch.items() if k != "mm_token_type_ids"}).logits[0, -1]
        cases.append({"name": name, "parts": [[k, v] for k, v in parts], "ids": batch["input_ids"][0].tolist(),
                      "logits": [float(np.float32(v)) for v in logits]})
        print(name, len(cases[-1]["ids"]), [k for k in batch])

    ask = ("text", "From 3 do 1p2t")
    for name in PICTURES:
        case("image " + name, [("image", name), ask], images=[name])
    case("two images", [("image", "left"), ("text", "and "), ("image", "wide"), ask], images=["left", "wide"])
    case("image after text", [("text", "Add 1+2 "), ("image", "odd")], images=["odd"])
    case("video", [("video", "frames"), ask], video=True)
    case("sound", [("sound", "short"), ask], audio=["short"])
    case("long sound", [("sound", "long")], audio=["long"])
    case("image and sound", [("image", "tall"), ("sound", "short"), ask], images=["tall"], audio=["short"])
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        json.dump({"frame_seconds": [i / 2.0 for i in range(len(FRAMES))], "cases": cases}, f)


if __name__ == "__main__":
    main()
