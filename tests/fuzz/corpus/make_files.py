"""Seeds for the targets gguf, safetensors, tower, wav, ears and parse: python make_files.py

Tiny models (width 8, zero weights) of each architecture with every kind of key and tensor that the readers look at.
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
U32, I32, F32, BOOL, STR, ARRAY, U64, F64 = 4, 5, 6, 7, 8, 9, 10, 12
PACK = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q", F64: "<d"}


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STR:
        return text(v)
    return struct.pack(PACK[kind], v)


def key(name, kind, v):
    if isinstance(v, list):
        return text(name) + struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(value(kind, x) for x in v)
    return text(name) + struct.pack("<I", kind) + value(kind, v)


def gguf(name, keys, tensors, align=32, folder="gguf"):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    out += b"".join(key(*k) for k in keys)
    offset = 0
    for tensor, shape in tensors:
        n = 4
        for s in shape:
            n *= s
        out += text(tensor) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        out += struct.pack("<IQ", 0, offset)
        offset += -(-n // align) * align
    out += bytes(-len(out) % align) + bytes(offset)
    (HERE / folder).mkdir(exist_ok=True)
    (HERE / folder / name).write_bytes(out)


def sizes(arch, layers):
    return [("general.architecture", STR, arch), ("general.name", STR, "seed"), (f"{arch}.block_count", U32, layers),
            (f"{arch}.context_length", U32, 64), (f"{arch}.embedding_length", U32, 8), (f"{arch}.feed_forward_length", U32, 8),
            (f"{arch}.attention.head_count", U32, 2), (f"{arch}.attention.head_count_kv", U32, 1),
            (f"{arch}.attention.key_length", U32, 4), (f"{arch}.attention.value_length", U32, 4),
            (f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5)]


def tokens(kind):
    return [("tokenizer.ggml.model", STR, kind), ("tokenizer.ggml.pre", STR, "llama4"),
            ("tokenizer.ggml.tokens", STR, ["<s>", "a", "b", "ab"]), ("tokenizer.ggml.token_type", I32, [3, 1, 1, 1]),
            ("tokenizer.ggml.scores", F32, [0, -1, -2, -3]), ("tokenizer.ggml.merges", STR, ["a b"]),
            ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.eos_token_id", U32, 3),
            ("tokenizer.ggml.eot_token_id", U32, 2), ("tokenizer.ggml.add_bos_token", BOOL, True),
            ("tokenizer.chat_template", STR, "{{ messages }}")]


ENDS = [("token_embd.weight", [4, 8]), ("output_norm.weight", [8])]
ATTENTION = [("attn_norm.weight", [8]), ("attn_q.weight", [8, 8]), ("attn_k.weight", [4, 8]), ("attn_v.weight", [4, 8]),
             ("attn_output.weight", [8, 8]), ("ffn_norm.weight", [8])]
DENSE = [("ffn_gate.weight", [8, 8]), ("ffn_up.weight", [8, 8]), ("ffn_down.weight", [8, 8])]
QK = [("attn_q_norm.weight", [4]), ("attn_k_norm.weight", [4])]
POST = [("post_attention_norm.weight", [8]), ("post_ffw_norm.weight", [8])]
SPARSE = [("ffn_gate_inp.weight", [3, 8]), ("exp_probs_b.bias", [3]), ("ffn_latent_down.weight", [4, 8]),
          ("ffn_latent_up.weight", [8, 4]), ("ffn_pre_exp_norm.weight", [4]), ("ffn_post_exp_norm.weight", [4]),
          ("ffn_gate_exps.weight", [3, 2, 4]), ("ffn_up_exps.weight", [3, 2, 4]), ("ffn_down_exps.weight", [3, 4, 2]),
          ("post_ffw_norm.weight", [8])] + [(f"{a}_resid_{b}.weight", [8]) for a in ("attn", "ffn") for b in ("alpha", "beta")]


def blocks(layers, *lists):
    return ENDS + [(f"blk.{i}.{n}", s) for i in range(layers) for part in lists for n, s in part]


def muse(arch):
    return [(f"{arch}.logit_scale", F32, 0.5), (f"{arch}.final_logit_softcapping", F32, 20),
            (f"{arch}.attention.sliding_window", U32, 4)]


def make_gguf():
    gguf("llama", sizes("llama", 1) + [("llama.rope.scaling.type", STR, "linear"), ("llama.rope.scaling.factor", F32, 2)]
         + tokens("gpt2"), blocks(1, ATTENTION, DENSE) + [("rope_freqs.weight", [2]), ("output.weight", [4, 8])])
    gguf("qwen2", sizes("qwen2", 1), blocks(1, ATTENTION, DENSE, [("attn_q.bias", [8]), ("attn_k.bias", [4]), ("attn_v.bias", [4])]))
    gguf("gemma3", sizes("gemma3", 2) + tokens("llama") + [("gemma3.attention.sliding_window", U32, 4), ("general.alignment", U32, 64)],
         blocks(2, ATTENTION, DENSE, QK, POST), 64)
    gguf("muse-glimmer", sizes("muse-glimmer", 2) + muse("muse-glimmer")
         + [("muse-glimmer.attention.sliding_window_pattern", BOOL, [True, False])],
         blocks(2, ATTENTION, DENSE, QK, POST, [("attn_gate.weight", [8, 8])]) + [("output.weight", [4, 8])])
    a = "muse-spark"
    gguf(a, sizes(a, 2) + muse(a) + [(f"{a}.attention.sliding_window_pattern", I32, [1, 0]), (f"{a}.post_norm_epsilon", F32, 1e-8),
         (f"{a}.rope.freq_base_swa", F32, 5e5), (f"{a}.moe_latent_size", U32, 4), (f"{a}.expert_count", U32, 3),
         (f"{a}.expert_used_count", U32, 2), (f"{a}.expert_feed_forward_length", U32, 2), (f"{a}.expert_gating_func", U32, 2),
         (f"{a}.expert_weights_norm", BOOL, True), (f"{a}.expert_weights_scale", F64, 1.0)],
         blocks(2, ATTENTION, QK, SPARSE, [("attn_gate.weight", [8, 8])]) + [("output.weight", [4, 8])])


def safetensors(name, config, tensors, folder="safetensors"):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for i, (tensor, shape) in enumerate(tensors):
        n = 2 if i % 2 else 4
        for s in shape:
            n *= s
        header[tensor] = {"dtype": "BF16" if i % 2 else "F32", "shape": shape, "data_offsets": [offset, offset + n]}
        offset += n
    head = json.dumps(header).encode()
    (HERE / folder).mkdir(exist_ok=True)
    (HERE / folder / name).write_bytes(json.dumps(config).encode() + b"\0" + struct.pack("<Q", len(head)) + head + bytes(offset))


BASE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "intermediate_size": 8, "vocab_size": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "eos_token_id": [1, 2]}


def hf(prefix, *parts):
    return [(prefix + "embed_tokens.weight", [4, 8]), (prefix + "norm.weight", [8])] \
        + [(f"{prefix}layers.0.{n}", s) for p in parts for n, s in p]


def make_safetensors():
    attention = [("input_layernorm.weight", [8])] + [(f"self_attn.{n}_proj.weight", s) for n, s in
                                                     (("q", [8, 8]), ("k", [4, 8]), ("v", [4, 8]), ("o", [8, 8]))]
    dense = [(f"mlp.{n}_proj.weight", [8, 8]) for n in ("gate", "up", "down")]
    four = [(f"{n}_layernorm.weight", [8]) for n in ("post_attention", "pre_feedforward", "post_feedforward")]
    qk = [("self_attn.q_norm.weight", [4]), ("self_attn.k_norm.weight", [4])]
    safetensors("llama", dict(BASE, model_type="llama", tie_word_embeddings=True, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
        hf("model.", attention, dense, [("post_attention_layernorm.weight", [8])]))
    safetensors("gemma3", {"model_type": "gemma3", "text_config": dict(BASE, sliding_window=4, layer_types=["full_attention"],
                rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_theta": 1e4}})},
                hf("language_model.model.", attention, dense, four, qk))
    gates = [(f"post_{n}_residual_gate.gate", [8]) for n in ("attention", "feedforward")]
    sparse = [("mlp.gate.weight", [3, 8]), ("mlp.gate.e_score_correction_bias", [3]), ("mlp.pre_expert_proj.weight", [4, 8]),
              ("mlp.post_expert_proj.weight", [8, 4]), ("mlp.pre_expert_norm.weight", [4]), ("mlp.experts.gate_up_proj", [3, 4, 4]),
              ("mlp.experts.down_proj", [3, 4, 2]), ("mlp.experts.post_expert_norm.weight", [4])]
    safetensors("muse-spark", {"model_type": "muse_spark", "text_config": dict(
        BASE, sliding_window=4, layer_types=["sliding_attention"], layer_rope_theta=[5e5], mlp_layer_types=["sparse"],
        num_local_experts=3, num_experts_per_tok=2, moe_hidden_size=4, moe_intermediate_size=2)},
        hf("model.language_model.", attention, four[1:], gates, sparse, [("self_attn.gate_proj.weight", [8, 8])]) + [("lm_head.weight", [4, 8])])


def make_tower():
    """A vision tower of two blocks, width 8, patches of one pixel, in both containers."""
    norms = [(f"{n}.{end}", [8]) for n in ("norm1", "norm2") for end in ("weight", "bias")]
    linear = [("attn.q_proj", 8, 8), ("attn.k_proj", 8, 8), ("attn.v_proj", 8, 8), ("attn.proj", 8, 8), ("mlp.fc1", 4, 8), ("mlp.fc2", 8, 4)]
    block = norms + [x for n, rows, cols in linear for x in ((f"{n}.weight", [rows, cols]), (f"{n}.bias", [rows]))]
    t = "model.vision_tower."
    ends = [(f"{t}{n}.{end}", [8]) for n in ("ln_pre", "ln_post") for end in ("weight", "bias")]
    adapter = [("model.vision_adapter.fc1.weight", [4, 32]), ("model.vision_adapter.fc2.weight", [4, 4]), ("model.vision_projection.weight", [8, 4])]
    safetensors("folder", {"model_type": "muse_glimmer", "out_hidden_size": 32, "projector_hidden_size": 4, "vision_config": {
        "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 4, "patch_size": 1, "patch_temporal": 2,
        "merge_size": 2, "pos_emb_height": 2, "pos_emb_width": 2, "layer_norm_eps": 1e-5, "layer_types": ["window_attention", "full_attention"],
        "rope_parameters": {"rope_type": "axial", "rope_theta": 1e4}, "hidden_act": "gelu"}},
        [(t + "patch_embedder.patch_embedding.weight", [8, 6]), (t + "patch_embedder.position_embedding_table.weight", [4, 8])] + ends
        + [(f"{t}layers.{i}.{n}", shape) for i in range(2) for n, shape in block] + adapter, "tower")
    names = {"norm1": "ln1", "norm2": "ln2", "attn.q_proj": "attn_q", "attn.k_proj": "attn_k", "attn.v_proj": "attn_v", "attn.proj": "attn_out",
             "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}
    v = "clip.vision."
    gguf("gguf", [("general.architecture", STR, "clip"), ("clip.has_vision_encoder", BOOL, True), ("clip.projector_type", STR, "muse-glimmer"),
                  (v + "patch_size", U32, 1), (v + "embedding_length", U32, 8), (v + "feed_forward_length", U32, 4), (v + "block_count", U32, 2),
                  (v + "projection_dim", U32, 8), (v + "spatial_merge_size", U32, 2), (v + "attention.head_count", U32, 2),
                  (v + "attention.layer_norm_epsilon", F32, 1e-5), (v + "image_mean", F32, [0.5] * 3), (v + "image_std", F32, [0.5] * 3)],
         [("v.patch_embd.weight", [8, 3, 1, 1]), ("v.position_embd.weight", [4, 8]), ("mm.0.weight", [4, 32]), ("mm.1.weight", [4, 4]),
          ("mm.2.weight", [8, 4])] + [(f"v.{n}.{end}", [8]) for n in ("pre_ln", "post_ln") for end in ("weight", "bias")]
         + [(f"v.blk.{i}.{names[n.rsplit('.', 1)[0]]}.{n.rsplit('.', 1)[1]}", shape) for i in range(2) for n, shape in block], folder="tower")


def wav(name, tag, channels, rate, bits, data, extra=b"", ident=b"RIFF", size=None, tail=b"", before=b""):
    """A sound of a few hundred bytes. `extra`: of the format chunk, `before`: chunks in front of it."""
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits) + extra
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data + tail
    (HERE / "wav").mkdir(exist_ok=True)
    (HERE / "wav" / name).write_bytes(ident + struct.pack("<I", len(body) if ident == b"RIFF" else 0xffffffff) + body)


def make_parse():
    """The golden streams, as text and as tokens, with and without tools; definitions of tools; a host's calls."""
    families = {"muse": 0, "qwen3": 1, "qwen2.5": 1, "llama3.1": 2, "llama3": 2, "gemma": 3, "": 3}
    streams = json.loads((HERE / "../../data/chat/streams.json").read_text())
    inputs = []
    for i, c in enumerate(c for c in streams if "in" in c):
        how = families[c.get("template", "muse")] | {"thought": 4, "answer": 8}.get(c.get("start"), 0) | (16 if "tools" in c else 0)
        inputs.append(bytes([how | (32 if i % 2 else 0), i % 40]) + c["in"].encode())
    for c in (c for c in streams if "tools" in c):
        inputs.append(bytes([64, 0]) + json.dumps(c["tools"]).encode())
    inputs.append(bytes([64, 0]) + b'[{"id": "1", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}, {"name": "g", "arguments": {"y": [1.5, null]}}]')
    (HERE / "parse").mkdir(exist_ok=True)
    for i, data in enumerate(inputs):
        (HERE / "parse" / f"stream-{i:03d}").write_bytes(data)


def make_wav():
    codes = bytes((i * 37 + i // 7 * 11) % 256 for i in range(384))
    for bits in 8, 16, 24, 32:
        wav(f"pcm{bits}", 1, 2, 24000, bits, codes)
    floats = [((i * 29) % 64 - 32) / 40 for i in range(40)]
    wav("float32", 3, 1, 24000, 32, struct.pack("<40f", *floats), b"\0\0")
    wav("float64", 3, 1, 48000, 64, struct.pack("<40d", *floats))
    guid = bytes.fromhex("000000001000800000aa00389b71")
    wav("extensible", 0xfffe, 2, 44100, 24, codes, struct.pack("<HHIH", 22, 20, 3, 1) + guid, tail=b"LIST\4\0\0\0tail")
    wav("stream", 1, 1, 16000, 16, codes, size=0xffffffff, before=b"JUNK\3\0\0\0abc\0")
    wav("rf64", 1, 6, 96000, 16, codes, ident=b"RF64", size=0xffffffff, before=b"ds64" + struct.pack("<IQQQI", 28, 500, 384, 32, 0))
    wav("up", 1, 1, 8000, 8, codes)


def lines(name, documents):
    (HERE / "json").mkdir(exist_ok=True)
    (HERE / "json" / name).write_bytes(b"\n".join(d if isinstance(d, bytes) else d.encode() for d in documents))


def make_json():
    """One document a line: those that JSON allows, and near misses."""
    lines("numbers", """0|-0|-0.0|0e0|0E-0|1|-1|10|1.5|-1.5e-3|1E+2|1e22|1e23|0.1|0.30000000000000004|123456789012345678|9007199254740993.0
9223372036854775807|9223372036854775808|-9223372036854775808|-9223372036854775809|18446744073709551616|1e308|1.7976931348623157e308
1.7976931348623159e308|1e309|-1e309|1e999|5e-324|2.4703282292062327e-324|2.4703282292062328e-324|2.2250738585072011e-308|1e-400
0e999999999999999999999|1e-99999999999999999999|1e99999999999999999999|9007199254740992.5|0.500000000000000166533453693773481063544750213623046875
01|-01|00|1.|.5|-.5|+1|-|--1|1e|1e+|1e-|1.e1|1ee1|1e1.5|0x10|1_0|1,5|Infinity|-Infinity|NaN|1f|1 2|1a""".replace("\n", "|").split("|") + [
        "1" * 4300, "1" * 4301, "-" + "1" * 4300, "9007199254740993." + "0" * 900 + "1", "0." + "0" * 400 + "1", "1" * 400 + ".5e-399",
        "[" + "1e1," * 50 + "1]"])
    lines("strings", [
        '""', '"a"', '" "', '"\\""', '"\\\\"', '"\\/\\b\\f\\n\\r\\t"', '"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00"', '"\\u0000"', '"a\\u0000b"', '"\\uffff\\ufffe\\ufdd0"',
        '"\u00e9 \u20ac \U0001f600 \u2028 \ufeff \uffff \U0010ffff"', '"\x7f"', '"twelve bytes and more \\u00fc than a word holds \u4e2d\u6587"',
        '"', '"a', '"\\', '"\\"', '"\\u', '"\\u1', '"\\u12"', '"\\u123"', '"\\u12G4"', '"\\U0041"', '"\\x41"', '"\\a"', '"\\\x00"', "'a'", '"a"b', '"a" "b"', 'a', '"a\tb"', '"a\rb"', '"\x00"', '"\x1f"',
        '"\\ud800"', '"\\udc00"', '"\\ud800\\ud800"', '"\\udc00\\ud800"', '"\\ud83dx\\ude00"', '"\\ud83d\\u0041"', '"\\ud83d\\ude0"', '"\\ud83d\\"', '"\\ud83d"',
        b'"\xff"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"', b'"\xed\xa0\x80"', b'"\xed\xbf\xbf"', b'"\xef\xbf\xbf"', b'"\xf0\x80\x80\x80"', b'"\xf4\x8f\xbf\xbf"',
        b'"\xf4\x90\x80\x80"', b'"\xf8\x88\x80\x80\x80"', b'"\xe2\x82"', b'"\xe2\x82', b'"\xe2', b'"\x80"', b'\xef\xbb\xbf"a"', b'"abcdefg\xc3\xa9hijklmno\xc3"'])
    lines("structure", """{}|[]|{"a":1}|[1,2]|[[],{}]|{"":0}|{"a":{"b":[1,{"c":null}]},"d":[true,false]}|  [ 1 , 2 ]\t|\r[\r]|{"a":1,"a":2}|{"a":[1],"b":0,"a":{"c":[2]}}
{"a":{"x":1,"y":2},"a":{"y":3}}|{"a":1,"\\u0061":2}|{"a":{"a":{"a":0}},"a":{"a":1}}|null|true|false|tru|nul|True|None|nulll|truefalse|[true false]
[1,]|[,1]|[,]|[1 2]|[1|[|]|{|}|{"a"}|{"a":}|{"a":1,}|{,}|{:1}|{1:2}|{a:1}|{"a" 1}|{"a"::1}|{"a":1 "b":2}|{"a":1]|[1}|[}|{]|[[]|[]]|{}{}|[] []|//x|/*x*/1|[1]x|{"a":1;}||   |#|[1,,2]
{"a\\u0000b":1}|{"a\\u0000b":1,"a\\u0000c":2}|\v1|\f1|\u00a01""".replace("\n", "|").split("|"))
    lines("deep", ["[" * n + "]" * n for n in (1, 32, 33, 64, 65, 511, 512, 513)] + ["[" * 5000, "[[" * 300 + "{" * 5,
        '{"a":' * 512 + "1" + "}" * 512, '{"a":[' * 256 + "]}" * 256, '{"a":[' * 257 + "]}" * 257, '{"a":' * 3000, "[{}," * 200 + "0" + "]" * 200, '["' + "[" * 3000 + '"]'])
    lines("files", [json.dumps(d) for d in (
        {"model": {"type": "BPE", "vocab": {"a": 0, "b\n": 1, "\u0120c": 2, "\u00e9": 3}, "merges": ["a b", ["a", "b"], [["a"], {"b": []}]]}, "added_tokens": [{"id": 4, "content": "<s>"}]},
        {"vocab": {}, "merges": [], "x": {"vocab": [1, [2, [3]]], "merges": "a"}},
        {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}},
        {"model_type": "llama", "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "eos_token_id": [1, 2], "model_max_length": 10 ** 30})])


def make_ears():
    """An audio tower of two stages, one block each, in both containers."""
    def part(name, shape, bias=True):
        return [(name + ".weight", shape)] + ([(name + ".bias", shape[:1])] if bias else [])
    keys = [("general.architecture", STR, "clip"), ("clip.has_audio_encoder", BOOL, True),
            ("clip.audio.projector_type", STR, "muse-spark-audio"), ("clip.audio.hidden_sizes", I32, [4, 6]),
            ("clip.audio.patch_sizes", I32, [3, 2]), ("clip.audio.depths", I32, [1, 1])] \
        + [(f"clip.audio.{k}", U32, v) for k, v in (("conv_kernel_size", 3), ("block_count", 2), ("embedding_length", 6),
           ("feed_forward_length", 12), ("projection_dim", 8))] + [("clip.audio.attention.layer_norm_epsilon", F32, 1e-6)]
    g, h, last = [], [], 1
    for s, (w, p) in enumerate(((4, 3), (6, 2))):
        g += part(f"a.patch.{s}", [w, last * p]) + part(f"a.patch.{s}.norm", [w], False) + part(f"a.conv1d.{s}", [w, 1, 3]) \
            + part(f"a.conv1d.{s}.norm", [w], False) + part(f"a.blk.{s}.ffn_up", [2 * w, w]) + part(f"a.blk.{s}.ffn_down", [w, 2 * w])
        t = f"model.audio_tower.layers.{s}."
        h += part(t + "patch_embedder.proj", [w, last * p]) + part(t + "patch_embedder.norm", [w], False)
        t += "conv_blocks.0."
        h += part(t + "conv", [w, 1, 3]) + part(t + "norm", [w], False) + part(t + "mlp.fc1", [2 * w, w]) + part(t + "mlp.fc2", [w, 2 * w])
        last = w
    g += part("a.pre_ln", [6], False) + part("mm.a.fc", [8, 6]) + part("a.post_ln", [8], False)
    t = "model.audio_tower."
    h += part(t + "norm", [6], False) + part(t + "proj", [8, 6]) + part(t + "post_proj_norm", [8], False)
    gguf("projector", keys, g, folder="ears")
    safetensors("folder", {"model_type": "muse_spark", "audio_config": {
        "hidden_sizes": [4, 6], "patch_sizes": [3, 2], "depths": [1, 1], "num_hidden_layers": 2, "mlp_ratio": 2.0, "conv_kernel_size": 3,
        "out_hidden_size": 8, "rms_norm_eps": 1e-6, "hidden_act": "gelu"}}, h, folder="ears")


def make_drafter():
    """A drafter of one layer for a target of width 8, 4 tokens and 3 layers, in both containers."""
    keys = [("general.architecture", STR, "dflash"), ("dflash.attention.layer_norm_rms_epsilon", F32, 1e-5), ("dflash.rope.freq_base", F32, 5e5),
            ("dflash.attention.sliding_window_pattern", BOOL, [True]), ("dflash.target_layers", I32, [1, 2]), ("tokenizer.ggml.mask_token_id", U32, 3)] \
        + [(f"dflash.{k}", U32, v) for k, v in (("block_count", 1), ("context_length", 64), ("embedding_length", 8), ("feed_forward_length", 8),
           ("attention.head_count", 2), ("attention.head_count_kv", 1), ("attention.key_length", 4), ("attention.value_length", 4),
           ("attention.sliding_window", 6), ("block_size", 4))]
    layer = {"attn_norm": ("input_layernorm", [8]), "attn_q": ("self_attn.q_proj", [8, 8]), "attn_k": ("self_attn.k_proj", [4, 8]),
             "attn_v": ("self_attn.v_proj", [4, 8]), "attn_output": ("self_attn.o_proj", [8, 8]), "attn_q_norm": ("self_attn.q_norm", [4]),
             "attn_k_norm": ("self_attn.k_norm", [4]), "ffn_norm": ("post_attention_layernorm", [8]), "ffn_gate": ("mlp.gate_proj", [8, 8]),
             "ffn_up": ("mlp.up_proj", [8, 8]), "ffn_down": ("mlp.down_proj", [8, 8])}
    ends = {"fc": ("encoder.fc", [8, 16]), "enc.output_norm": ("encoder.output_norm_enc", [8]), "output_norm": ("norm", [8])}
    gguf("drafter", keys, [(n + ".weight", s) for n, (_, s) in ends.items()] + [(f"blk.0.{n}.weight", s) for n, (_, s) in layer.items()], folder="drafter")
    safetensors("folder", {"model_type": "muse_glimmer_assistant", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                           "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "sliding_window": 6, "block_size": 4, "mask_token_id": 3,
                           "target_layer_ids": [0, 1], "max_position_embeddings": 64, "layer_types": ["sliding_attention"],
                           "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
                [(n + ".weight", s) for n, s in ends.values()] + [(f"layers.0.{n}.weight", s) for n, s in layer.values()], folder="drafter")


make_gguf()
make_safetensors()
make_json()
make_wav()
make_tower()
make_ears()
make_drafter()
make_parse()
