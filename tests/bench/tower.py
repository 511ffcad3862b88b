"""Speed of the vision tower beside transformers, on the same picture and weights, in rounds that take turns.

    python3 -m venv venv && venv/bin/pip install torch "transformers==5.23.*" numpy
    venv/bin/python tests/bench/tower.py BUILD/tests/vision/bench-tower [--size small|middle|large] [--threads 2] [--rounds 3]
        [--cells 16x16,48x32] [--type F32|BF16] [--peer PEER_TOWER] [--keep FOLDER]

--peer: the peer's tower too (peer_tower.cpp), on an mmproj of the same weights that both read (needs the package gguf). --keep: where
the model is to stay, for again.c.

Weights are random; `off` is the largest difference of a row. transformers computes in float32 whatever the stored type, as we do."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers as tf

SIZES = {  # layers, width, heads, feed-forward, adapter
    "small": (4, 384, 6, 1536, 512), "middle": (12, 768, 12, 3072, 1024), "large": (8, 1536, 16, 8960, 4096)}


def build(size, folder, dtype):
    layers, width, heads, ff, adapter = SIZES[size]
    text = dict(vocab_size=256, hidden_size=512, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                num_key_value_heads=2, head_dim=16, bos_token_id=1, eos_token_id=2,
                rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    vision = dict(num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=ff)
    config = tf.MuseGlimmerConfig(text_config=text, vision_config=vision, out_hidden_size=4 * width, projector_hidden_size=adapter,
                                  image_token_id=255, video_token_id=254)
    torch.manual_seed(1)
    model = tf.MuseGlimmerForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.ndim > 1 and "vision" in n:
                p.normal_(0, 0.5 if "table" in n else 1.2 / p.shape[-1] ** 0.5)
    model.to(getattr(torch, {"F32": "float32", "BF16": "bfloat16"}[dtype])).save_pretrained(folder)
    return model.float()


def features(model, pixels):
    p = 14
    f = (torch.from_numpy(pixels).float() - 127.5) / 127.5
    h, w = f.shape[0] // p, f.shape[1] // p
    f = f.view(h, p, w, p, 3).permute(0, 2, 4, 1, 3)[:, :, None].expand(-1, -1, 2, -1, -1, -1).reshape(h * w, -1)
    got = []
    hook = model.model.vision_projection.register_forward_hook(lambda m, a, o: got.append(o))
    with torch.no_grad():
        start, cpu = time.perf_counter(), time.process_time()
        model.model.get_image_features(f, torch.tensor([[1, h, w]]))
        took = time.perf_counter() - start, time.process_time() - cpu
    hook.remove()
    return took, got[0]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("--size", default="middle", choices=SIZES)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--cells", default="16x16,32x48")
    a.add_argument("--type", default="F32", choices=("F32", "BF16"))
    a.add_argument("--peer")
    a.add_argument("--keep")
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.keep or temporary
        model = build(a.size, folder, a.type)
        mmproj = pathlib.Path(folder, "mmproj.gguf")
        if a.peer:
            sys.path.append(str(pathlib.Path(__file__).parent.parent / "reference"))
            import gguf_twin
            gguf_twin.write_mmproj(model, mmproj, kind=getattr(gguf_twin, a.type))
        for cells in a.cells.split(","):
            rows, cols = map(int, cells.split("x"))
            pixels = np.random.RandomState(5).randint(0, 256, (rows * 28, cols * 28, 3)).astype(np.uint8)
            pathlib.Path(folder, "pixels").write_bytes(pixels.tobytes())
            ours, theirs, peers, last = [], [], [], None
            for _ in range(a.rounds):
                took, want = features(model, pixels)
                theirs.append(took)
                pathlib.Path(folder, "rows").write_bytes(want.numpy().tobytes())
                if a.peer:
                    out = subprocess.run([a.peer, mmproj, pathlib.Path(folder, "pixels"), str(cols * 28), str(rows * 28), str(a.threads), pathlib.Path(folder, "rows")],
                                         check=True, capture_output=True)
                    peers.append(json.loads(out.stdout.splitlines()[-1]))
                out = subprocess.run([a.program, folder, str(rows), str(cols), str(a.threads), "1"], check=True, capture_output=True)
                last = json.loads(out.stdout)
                ours.append((last["seconds"], last["processor"]))
            (wall, cpu), (their_wall, their_cpu) = map(min, zip(*ours)), map(min, zip(*theirs))
            print(f"{a.size} {a.type}, {cols * 28} x {rows * 28}, {a.threads} threads: {wall:.2f} s, transformers {their_wall:.2f} s, "
                  f"ratio {their_wall / wall:.2f}; processor time {cpu:.2f}, {their_cpu:.2f}, ratio {their_cpu / cpu:.2f}; rows off {last['off']:.1e} of std {want.std():.2f}; {last['bytes'] / 1e6:.0f} MB")
            if peers:
                best = {k: min(p[k] for p in peers) for k in peers[0]}
                print(f"    the peer {best['seconds']:.2f} s, ratio {best['seconds'] / wall:.2f}; processor time {best['processor']:.2f}, "
                      f"ratio {best['processor'] / cpu:.2f}; its rows off {best['off']:.1e}")
            print("   ", {k: v for k, v in last.items() if isinstance(v, list)}, flush=True)


main()
