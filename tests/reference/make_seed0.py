"""Reference vectors for the trained test model: python make_seed0.py DATA/seed0

Its own reference.json has one row of logits a prompt, on prompts barely longer than the window
(64). Here: every position of a conversation of two turns, more than two windows long.
"""
import json
import pathlib
import sys

import torch
import transformers as tf

import make_checkpoints as mk


def main(out):
    model = tf.MuseSparkForConditionalGeneration.from_pretrained(
        out, dtype=torch.float32, **mk.LOAD).eval()
    refs = {r["id"]: r for r in json.loads((out / "reference.json").read_text())}
    for r in refs.values():
        row = mk.forward(model, r["prompt_ids"])[-1]
        off = (row - torch.tensor(r["logits_after_prompt"])).abs().max().item()
        assert off < 1e-4, (r["id"], off)
        gen, _ = mk.greedy(model, r["prompt_ids"], len(r["greedy_ids"]))
        assert gen == r["greedy_ids"], r["id"]
        print(f"{r['id']:12s} agrees with reference.json, logits off by {off:.1e}")

    def user_turn(r):                       # all after the system turn's <|eot|>
        return r["prompt_ids"][r["prompt_ids"].index(392) + 1:]

    first, second = refs["compose-03"], refs["search-02"]
    ids = first["prompt_ids"] + first["greedy_ids"] + user_turn(second) + second["greedy_ids"]
    prompt = first["prompt_ids"] + first["greedy_ids"] + user_turn(refs["add-02"])
    gap = mk.router_gap(model, ids)
    assert gap > 2e-4, f"router nearly tied: {gap:.1e}"
    gen, margin = mk.greedy(model, prompt, 32)
    mk.write_reference("seed0", model, out, ids, prompt, gen, margin)
    print(f"{len(ids)} positions, router gap {gap:.1e}, greedy margin {margin:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    main(pathlib.Path(sys.argv[1]))
