#!/usr/bin/env python3
"""Rows of pictures and videos as the reference makes them from files: its own resampling, its own towers.

    make_features.py [OUT]   writes OUT (default ../data/features): a picture with transparency, cases.json, and for each case the
                             rows that replace its placeholder tokens, after the last norm

Other pictures are those of ../data/media, the checkpoints those of make_vision.py. Needs torch, torchvision, transformers, numpy,
pillow.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from transformers import MuseGlimmerForConditionalGeneration, MuseSparkForConditionalGeneration
from transformers.models.muse_glimmer.image_processing_muse_glimmer import MuseGlimmerImageProcessor
from transformers.models.muse_glimmer.video_processing_muse_glimmer import MuseGlimmerVideoProcessor

DATA = pathlib.Path(__file__).resolve().parent / ".." / "data"
FRAMES = [f"frame{i}.png" for i in range(4)]

# model, files, options of the program
CASES = {
    "odd": ("vision-glimmer", ["odd.png"], {}),
    "small": ("vision-glimmer", ["table.png"], {"max_tokens": 40}),
    "white": ("vision-glimmer", ["veil.png"], {"alpha": "white"}),
    "drop": ("vision-glimmer", ["veil.png"], {"alpha": "drop"}),
    "film": ("vision-glimmer", FRAMES, {}),
    "film-of-three": ("vision-glimmer", FRAMES[:3], {}),
    "spark-odd": ("vision-spark", ["odd.png"], {"max_tokens": 60}),
    "spark-tall": ("vision-spark", ["tall.png"], {"max_tokens": 50}),
}


def veil():
    """Colours everywhere, from clear on the left to solid on the right, with steps in between."""
    y, x = np.mgrid[0:60, 0:90]
    a = np.zeros((60, 90, 4), np.uint8)
    a[..., 0], a[..., 1], a[..., 2] = x * 255 // 89, y * 255 // 59, (x + y) * 255 // 148
    a[..., 3] = np.minimum(255, x // 9 * 28 + y // 20)
    return a


def load(name, out):
    path = out / name if (out / name).exists() else DATA / "media" / name
    return Image.open(path)


def rows_of(model, config, pictures, max_tokens, alpha):
    sizes = dict(patch_size=config.patch_size, merge_size=config.merge_size)
    if alpha == "drop":
        pictures = [Image.fromarray(np.ascontiguousarray(np.asarray(p)[..., :3])) for p in pictures]
    if len(pictures) > 1:
        p = MuseGlimmerVideoProcessor(temporal_patch_size=config.patch_temporal, **sizes)
        batch = p([[np.asarray(f.convert("RGB")) for f in pictures]], do_sample_frames=False, return_tensors="pt")
        pixels, grid = batch["pixel_values_videos"], batch["video_grid_thw"]
        with torch.no_grad():
            return torch.cat(list(model.model.get_video_features(pixels, grid).pooler_output)).numpy()
    p = MuseGlimmerImageProcessor(temporal_patch_size=config.patch_temporal, **sizes)
    batch = p(images=pictures, return_tensors="pt", **({"max_image_tokens": max_tokens} if max_tokens else {}))
    with torch.no_grad():
        return torch.cat(list(model.model.get_image_features(batch["pixel_values"], batch["image_grid_thw"]).pooler_output)).numpy()


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "features"
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(veil()).save(out / "veil.png", optimize=True)
    models = {name: cls.from_pretrained(DATA / name, dtype=torch.float32).eval() for name, cls in
              (("vision-glimmer", MuseGlimmerForConditionalGeneration), ("vision-spark", MuseSparkForConditionalGeneration))}
    cases = []
    for name, (model, files, options) in CASES.items():
        rows = rows_of(models[model], models[model].config.vision_config, [load(f, out) for f in files], options.get("max_tokens"),
                       options.get("alpha"))
        np.save(out / f"{name}.rows.npy", rows.astype(np.float32))
        cases.append({"name": name, "model": model, "files": files, **options})
        print(name, rows.shape)
    (out / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
