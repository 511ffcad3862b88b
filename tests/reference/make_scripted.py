"""A Muse Glimmer checkpoint that follows a script: small, untrained, and what it says has known odds.

    python make_scripted.py TEMPLATE.jinja ../data/seed0 OUT       (the template: muse_glimmer.jinja from the package trl)

For trying servers: a thought, an answer and a call as the Muse format has them. Embeddings are one-hot; one sliding layer attends
evenly over four tokens and so tells which of a few tokens came lately (features); the head turns "this token, these features" into
log probabilities; everything else is zero. After <|start|>assistant:
  thought  " to=self<|message|>", then letters, blanks and full stops, each as likely as the others; each token of it is followed by
           the end of the thought with probability 1/64. Greedy it never ends by itself.
  answer   " to=user<|message|>", one digit (7 with 0.6, the others alike), the end of the turn.
  call     " to=add<|message|>" and always the same call of add with a = 7, b = 5, the end of the turn.
  At first 0.8 thought, 0.1 answer, 0.1 call; after a thought 0.05, 0.9, 0.05.
Its tokenizer is seed0's and four tokens more."""
import json
import math
import pathlib
import shutil
import sys

import torch
import transformers as tf

WIDTH, VOCAB, CAP, MULTIPLIER, END = 448, 424, 20.0, 0.25, 1 / 64
CALL = ['<atem:function_calls>\n<atem:invoke name="add">\n<atem:parameter name="a">', '7</atem:parameter>\n<atem:parameter name="b">',
        "5</atem:parameter>\n</atem:invoke>\n</atem:function_calls>"]


def make_tokenizer(template, source, out):
    """Writes the tokenizer's files; {text: id}."""
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    ids = dict(tokenizer["model"]["vocab"]) | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    for text in ["=add", *CALL]:
        ids[text] = len(ids)
        tokenizer["added_tokens"].append({"id": ids[text], "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                                          "normalized": False, "special": False})
    assert sorted(ids.values()) == list(range(len(ids))) and len(ids) <= VOCAB
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    shutil.copy(source / "tokenizer_config.json", out)
    shutil.copy(template, out / "chat_template.jinja")
    return ids


def make_config(ids):
    text = tf.MuseGlimmerTextConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, sliding_window=4, max_position_embeddings=4096, qk_scale_factor=1.0, output_multiplier=MULTIPLIER,
        final_logit_softcapping=CAP, bos_token_id=ids["<|begin_of_text|>"], eos_token_id=[ids["<|end_of_text|>"], ids["<|eot|>"]],
        pad_token_id=ids["<|finetune_right_pad|>"], rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    vision = tf.models.muse_glimmer.MuseGlimmerVisionConfig(
        pos_emb_height=8, pos_emb_width=8, num_attention_heads=2, num_hidden_layers=2, hidden_size=64, intermediate_size=96)
    return tf.MuseGlimmerConfig(text_config=text, vision_config=vision, image_token_id=ids["<|patch|>"], video_token_id=ids["<|video|>"],
                                out_hidden_size=256, projector_hidden_size=64)


def make_script(ids):
    """({token: {next: probability}}, {(token, feature): {next: probability}}, {feature: token that switches it on})."""
    letters, digits = [ids[c] for c in "abcdefghijklmnopqrstuvwxyz.Ġ"], [ids[c] for c in "0123456789"]
    start, assistant, to, message, eom, eot = (ids[t] for t in ("<|start|>", "assistant", "Ġto", "<|message|>", "<|eom|>", "<|eot|>"))
    self_, user, add = ids["=self"], ids["=user"], ids["=add"]
    call = [ids[t] for t in CALL]
    alone = {c: {d: (1 - END) / len(letters) for d in letters} | {eom: END} for c in letters} | {d: {eot: 1.0} for d in digits}
    for a, b in [(eom, start), (start, assistant), (assistant, to), (self_, message), (user, message), (add, message), *zip(call, [*call[1:], eot])]:
        alone[a] = {b: 1.0}
    alone[to] = {self_: 0.8, user: 0.1, add: 0.1}
    beside = {(to, "closed"): {self_: 0.05, user: 0.9, add: 0.05},
              (message, "self"): {c: 1 / len(letters) for c in letters},
              (message, "user"): {d: 0.6 if d == ids["7"] else 0.4 / 9 for d in digits},
              (message, "add"): {call[0]: 1.0}}
    return alone, beside, {"self": self_, "user": user, "add": add, "closed": eom}


def uncapped(logit):
    return CAP * math.atanh(logit / CAP)


def spread(chances):
    """What the head adds up to: log probabilities, moved so that the listed ones are far above the others and below the cap."""
    row = torch.full((VOCAB,), uncapped(-18.0))
    for token, p in chances.items():
        row[token] = uncapped(10.0 + math.log(p))
    return row


def certain(chances):
    """So loud that no feature beside it matters, which may be on by chance: the window is four tokens long."""
    row = torch.full((VOCAB,), -500.0)
    row[next(iter(chances))] = 500.0
    return row


def write_weights(model, alone, beside, features):
    state = model.state_dict()
    text = {k: v for k, v in state.items() if "language_model" in k or "lm_head" in k}
    find = lambda end: next(v for k, v in text.items() if k.endswith(end))
    for v in text.values():
        v.zero_()
    find("language_model.norm.weight").fill_(1.0)
    find("embed_tokens.weight")[:, :VOCAB] = 100 * torch.eye(VOCAB)   # far above what norms add to their squares
    columns = {f: VOCAB + i for i, f in enumerate(features)}
    for i, (f, token) in enumerate(features.items()):
        find("layers.0.self_attn.v_proj.weight")[i, token] = 1.0
        find("layers.0.self_attn.o_proj.weight")[columns[f], i] = 1.0
    # The head sees sqrt(WIDTH) for a token alone; where one feature is on, that over sqrt(2) for each of the two.
    head, unit = find("lm_head.weight"), 1 / (math.sqrt(WIDTH) * MULTIPLIER)
    for token, chances in alone.items():
        head[:, token] = (certain if len(chances) == 1 else spread)(chances) * unit
    for (token, f), chances in beside.items():      # the token's own part is taken back, the rest is the feature's
        head[:, columns[f]] += spread(chances) * unit * math.sqrt(2) - head[:, token]
    model.load_state_dict(state)


def check(model, tokenizer, alone, beside):
    """What the model says at every place of the script is what the script says."""
    def probabilities(text):
        with torch.no_grad():
            return model(input_ids=torch.tensor([tokenizer.encode(text, add_special_tokens=False)])).logits[0, -1].softmax(-1)

    begin, ids = "<|start|>assistant", tokenizer.convert_tokens_to_ids
    closed = begin + " to=self<|message|>to be or not<|eom|>" + begin
    to, message = ids("Ġto"), ids("<|message|>")
    cases = {begin: alone[ids("assistant")], begin + " to": alone[to], begin + " to=self<|message|>": beside[message, "self"],
             begin + " to=self<|message|>a": alone[ids("a")], begin + " to=self<|message|>abcd": alone[ids("d")],
             closed: alone[ids("assistant")], closed + " to": beside[to, "closed"], closed + " to=user": alone[ids("=user")],
             begin + " to=user<|message|>": beside[message, "user"], closed + " to=user<|message|>": beside[message, "user"],
             begin + " to=user<|message|>7": alone[ids("7")], begin + " to=add<|message|>": beside[message, "add"],
             closed + " to=add<|message|>" + CALL[0]: alone[ids(CALL[0])], begin + " to=add<|message|>" + "".join(CALL): alone[ids(CALL[2])]}
    for text, chances in cases.items():
        p = probabilities(text)
        # A thought's first two tokens still have the header in the window: its end is a little rarer there.
        slack = 0.02 if text.endswith("<|message|>a") else 1e-4
        off = max(abs(p[t].item() - q) for t, q in chances.items())
        assert off < slack and 1 - p[list(chances)].sum() < 1e-4, (text, off)
    print(f"{len(cases)} places of the script hold")


def main():
    template, source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)                            # the towers, which are not part of the script
    ids = make_tokenizer(template, source, out)
    alone, beside, features = make_script(ids)
    config = make_config(ids)
    model = tf.MuseGlimmerForConditionalGeneration(config).float().eval()
    write_weights(model, alone, beside, features)
    model.save_pretrained(out)
    saved = json.loads((out / "config.json").read_text())
    saved["vision_config"] |= {"output_dim": 256, "adapter_dim": 64}    # what vLLM calls them
    (out / "config.json").write_text(json.dumps(saved, indent=1))
    check(model, tf.PreTrainedTokenizerFast.from_pretrained(out), alone, beside)


if __name__ == "__main__":
    main()
