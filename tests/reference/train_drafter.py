"""A drafter for the trained test model: python train_drafter.py DATA/seed0 DATA/seed0-drafter

A small DFlash drafter learns what seed0 writes: sampled conversations of its own, the residual streams of each position, and at random
places a block of what followed. Unlike the random drafters its guesses are often right, so that tests meet accepted ones. Weights are
data: another torch trains others.
"""
import json
import pathlib
import random
import sys
import time

import numpy as np
import tokenizers
import torch
import transformers as tf

import make_checkpoints as mk
import make_drafters as md

BLOCK, CONVERSATIONS, MORE, STEPS, BATCH, ANCHORS = 8, 1000, 80, 1200, 12, 12


def question(r):
    kind = r.randrange(3)
    if kind == 0:
        return f"From {r.choice('ABCDEFGH')} do " + "".join(f"{i + 1}{r.choice('pqrstu')}" for i in range(r.randint(3, 6)))
    if kind == 1:
        digits = r.sample(range(1, 10), 5)
        return f"Which 3 of {''.join(map(str, digits))} sum to {sum(r.sample(digits, 3))}?"
    return f"Add {r.randint(10, 999)}+{r.randint(10, 999)}"


def prompts(folder, n, r):
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    refs = json.loads((folder / "reference.json").read_text())
    made = []
    for _ in range(n):
        ref = r.choice(refs)
        text = tok.decode(ref["prompt_ids"], skip_special_tokens=False)
        made.append(tok.encode(text.replace(ref["messages"][0]["content"], question(r)), add_special_tokens=False).ids)
    return made


def converse(target, some):
    """One length after another in batches, half of them greedy."""
    out = []
    by_length = {}
    for p in some:
        by_length.setdefault(len(p), []).append(p)
    for group in by_length.values():
        for at in range(0, len(group), 64):
            ids, past, feed = torch.tensor(group[at:at + 64]), None, None
            feed = ids
            hot = torch.arange(len(ids)) % 2 == 1
            with torch.no_grad():
                for _ in range(MORE):
                    o = target(input_ids=feed, past_key_values=past, use_cache=True)
                    past, logits = o.past_key_values, o.logits[:, -1]
                    drawn = torch.multinomial(logits.softmax(-1), 1)[:, 0]
                    feed = torch.where(hot, drawn, logits.argmax(-1))[:, None]
                    ids = torch.cat([ids, feed], dim=1)
            out += list(ids)
    return out


def forward(model, target, streams, ids, anchors):
    """Raw products of blocks at `anchors` [b][a] of sequences [b][n], each seeing the context before it: one pass for all of them."""
    c, code = model.config, md.M.modeling_muse_glimmer_assistant
    b, n = ids.shape
    a = anchors.shape[1]
    context = model.encoder(streams)
    at = anchors[..., None] + torch.arange(c.block_size)
    token = torch.full((b, a, c.block_size), c.mask_token_id)
    token[..., 0] = ids.gather(1, anchors)
    x = torch.nn.functional.embedding(token.reshape(b, -1), target.get_input_embeddings().weight)
    positions = torch.cat([torch.arange(n).expand(b, n), at.reshape(b, -1)], dim=1)
    cos, sin = model.rotary_emb(x, positions)
    owner = torch.arange(a).repeat_interleave(c.block_size)
    q_at, k_at = at.reshape(b, -1), positions
    seen = torch.zeros(b, a * c.block_size, n + a * c.block_size, dtype=torch.bool)
    seen[:, :, :n] = torch.arange(n)[None, None] < anchors.repeat_interleave(c.block_size, dim=1)[..., None]
    seen[:, :, n:] = owner[None, :, None] == owner[None, None]
    seen &= (q_at[..., None] - k_at[:, None]).abs() <= c.sliding_window
    mask = torch.where(seen, 0.0, -1e9)[:, None]
    for layer in model.layers:
        x = layer(x, context_hidden_states=context, position_embeddings=(cos, sin), attention_mask=mask)
    return target.lm_head(model.norm(x)).reshape(b, a, c.block_size, -1), at


def main(folder, out):
    r = random.Random(5)
    torch.manual_seed(5)
    target = tf.MuseSparkForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **mk.LOAD).eval().requires_grad_(False)
    t = target.config.get_text_config()
    c = md.config(target, num_hidden_layers=2, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=32, block_size=BLOCK,
                  sliding_window=64, target_layer_ids=[0, 2], mask_token_id=t.vocab_size - 1)
    model = md.M.MuseGlimmerAssistantModel(c).float()
    model.set_attn_implementation("eager")
    began = time.time()
    texts = sorted(converse(target, prompts(folder, CONVERSATIONS, r)), key=len)
    print(f"{len(texts)} conversations of {sum(map(len, texts))} tokens, {time.time() - began:.0f} s", flush=True)
    batches = [torch.stack([x for x in texts[i:i + BATCH] if len(x) == len(texts[i])]) for i in range(0, len(texts), BATCH)]
    held = [r.randrange(len(batches)) for _ in range(4)]
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, 2e-3, total_steps=STEPS)

    known = {}

    def streams_of(i):
        if i in known:
            return known[i]
        got, hooks = {}, []
        for j, layer in enumerate(target.model.language_model.layers):
            hooks.append(layer.register_forward_hook(lambda _m, _a, o, j=j: got.__setitem__(j, o[0] if isinstance(o, tuple) else o)))
        with torch.no_grad():
            target.model(input_ids=batches[i], use_cache=False)
        for h in hooks:
            h.remove()
        known[i] = torch.cat([got[j] for j in c.target_layer_ids], dim=-1)
        return known[i]

    def one(i):
        ids, streams = batches[i], streams_of(i)
        anchors = torch.randint(ids.shape[1] - MORE, ids.shape[1] - BLOCK, (len(ids), ANCHORS))
        logits, at = forward(model, target, streams, ids, anchors)
        wanted = ids.gather(1, at.reshape(len(ids), -1)).reshape(at.shape)
        return logits[:, :, 1:], wanted[:, :, 1:]

    for step in range(STEPS):
        i = r.randrange(len(batches))
        if i in held:
            continue
        logits, wanted = one(i)
        near = 0.85 ** torch.arange(BLOCK - 1)
        loss = (torch.nn.functional.cross_entropy(logits.transpose(1, -1).transpose(2, 3), wanted, reduction="none") * near).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        opt.step()
        plan.step()
        if step % 100 == 99:
            with torch.no_grad():
                right = [(x.argmax(-1) == w).cumprod(-1).sum(-1).float().mean().item() for x, w in map(one, held)]
            print(f"step {step + 1}: loss {loss.item():.3f}, {np.mean(right):.2f} of {BLOCK - 1} guesses right, {time.time() - began:.0f} s", flush=True)
            out.mkdir(exist_ok=True)
            md.write_gguf(model.eval(), out / "model.gguf", md.gguf_twin.gguf.GGMLQuantizationType.Q8_0)
            model.train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.utils.logging.disable_progress_bar()
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
