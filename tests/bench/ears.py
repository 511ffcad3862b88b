"""Speed of the audio tower of the released size beside transformers, on the same sound and weights, in rounds that take turns.

    python3 -m venv venv && venv/bin/pip install torch "transformers==5.23.*" numpy
    venv/bin/python tests/bench/ears.py BUILD/tests/audio/bench-ears [--threads 2] [--rounds 3] [--rows 64] [--at-a-time 64,1]
        [--type F32|BF16]

Weights are random; `off` is the largest difference of a row. transformers computes in float32 whatever the stored type, as we do."""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import torch
import transformers as tf

RATE = 24000


def build(folder, dtype):
    """The release's tower, which is what an empty audio_config means, under a text model of its width and little else."""
    text = dict(vocab_size=256, hidden_size=8192, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                head_dim=16, moe_hidden_size=32, moe_intermediate_size=32, num_local_experts=2, num_experts_per_tok=1, bos_token_id=1,
                eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    vision = dict(num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=24, patch_size=4, pos_emb_height=4, pos_emb_width=4)
    config = tf.MuseSparkConfig(text_config=text, vision_config=vision, audio_config={}, out_hidden_size=64, projector_hidden_size=24,
                                image_token_id=255, video_token_id=254, audio_token_id=253)
    torch.manual_seed(1)
    model = tf.MuseSparkForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for n, p in model.model.audio_tower.named_parameters():
            if p.ndim > 1:
                p.normal_(0, 1.2 / p.shape[-1] ** 0.5)
            elif n.endswith("bias"):
                p.normal_(0, 0.1)
    model.to(getattr(torch, {"F32": "float32", "BF16": "bfloat16"}[dtype])).save_pretrained(folder)
    return model.float().model.audio_tower


def rows_of(tower, x, at_a_time):
    cache = tf.models.muse_spark.modeling_muse_spark.MuseSparkAudioConv1dPaddingCache()
    per = tower.config.samples_per_token * at_a_time
    with torch.no_grad():
        start, cpu = time.perf_counter(), time.process_time()
        got = [tower(input_values=torch.from_numpy(x[None, i:i + per]), padding_cache=cache).last_hidden_state[0] for i in range(0, len(x), per)]
        took = time.perf_counter() - start, time.process_time() - cpu
    return took, torch.cat(got)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("program")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--rows", type=int, default=64)
    a.add_argument("--at-a-time", default="64,1")
    a.add_argument("--type", default="BF16", choices=("F32", "BF16"))
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as folder:
        tower = build(folder, a.type)
        x = np.random.RandomState(5).uniform(-0.5, 0.5, a.rows * tower.config.samples_per_token).astype(np.float32)
        pathlib.Path(folder, "samples").write_bytes(x.tobytes())
        length = len(x) / RATE
        for at_a_time in map(int, a.at_a_time.split(",")):
            ours, theirs, last = [], [], None
            for _ in range(a.rounds):
                took, want = rows_of(tower, x, at_a_time)
                theirs.append(took)
                pathlib.Path(folder, "rows").write_bytes(want.numpy().tobytes())
                out = subprocess.run([a.program, folder, str(a.rows), str(a.threads), str(at_a_time), "2"], check=True, capture_output=True)
                last = json.loads(out.stdout)
                ours.append((last["seconds"], last["processor"]))
            (wall, cpu), (their_wall, their_cpu) = map(min, zip(*ours)), map(min, zip(*theirs))
            share = {r: f"{100 * last[r] / cpu:.1f} %" for r in ("44100", "48000", "16000")}
            print(f"{a.type}, {length:.2f} s of sound, {at_a_time} rows at a time, {a.threads} threads: {wall:.2f} s ({length / wall:.1f} x real time), "
                  f"transformers {their_wall:.2f} s, ratio {their_wall / wall:.2f}; processor time {cpu:.2f}, {their_cpu:.2f}, ratio {their_cpu / cpu:.2f}; "
                  f"rows off {last['off']:.1e} of std {want.std():.2f}; {last['bytes'] / 1e6:.1f} MB; resampling beside it {share}")
            print("   ", {k: v for k, v in last.items() if isinstance(v, list)}, flush=True)


main()
