"""Makes tests/data/tokenizer: small tokenizers trained here and the ids Hugging Face `tokenizers` and `tiktoken` give.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 tiktoken==0.14.0
    venv/bin/python tests/reference/make_tokenizers.py

With PONDER_TEST_MODELS naming a folder that holds smollm2.gguf, gemma3.gguf or muse.tiktoken (see tests/tokenizer), the ids
of those are made too (`pip install gguf`); their files are never stored here.
"""
import json
import os
import pydoc_data.topics
import random

import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "tokenizer")

APOSTROPHE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LINES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = APOSTROPHE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + LINES
QWEN2 = APOSTROPHE + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + LINES
LLAMA4 = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + APOSTROPHE + "?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + APOSTROPHE + "?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + LINES
)
DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3"
    "ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
CJK = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*""" + LINES
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


def sequence(*stages):
    return pre_tokenizers.Sequence(list(stages))


PRE = {  # by tokenizer.ggml.pre
    "gpt-2": byte_level(True),
    "smollm": sequence(digits(), byte_level(True)),
    "llama-bpe": sequence(split(LLAMA3), byte_level()),
    "llama4": sequence(split(LLAMA4), byte_level()),
    "qwen2": sequence(split(QWEN2), byte_level()),
    "deepseek-llm": sequence(split("[\r\n]"), split(r"\s?[" + DEEPSEEK_LETTERS + "]+"),
                             split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split(CJK), digits(), byte_level()),
    "deepseek-coder": sequence(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), digits(), byte_level()),
    "deepseek-v3": sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level()),
}
WHOLE_FIRST = {"llama-bpe", "llama4"}

SENTENCES = """The quick brown fox doesn't jump; it'll think it's 3.14159 miles, and they've 1,234,567 reasons I'd know.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, Übermut, 1. Mai 2024!
Portez ce vieux whisky au juge blond qui fume; l'été dernier, ça coûtait 12,50 €. À bientôt…
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío, ¿añoraba a su querido cachorro?
Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак щиро ґвалтує.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Γειά σου Κόσμε, τι κάνεις;
我能吞下玻璃而不伤身体。今天天气很好，我们去公园吧！２０２４年１月
色は匂へど散りぬるを 我が世誰ぞ常ならむ。カタカナとひらがな、ｶﾅ。
다람쥐 헌 쳇바퀴에 타고파. 안녕하세요 세계! 키스의 고유조건은
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق ٠١٢٣٤٥٦٧٨٩
דג סקרן שט בים מאוכזב ולפתע מצא לו חברה. שָׁלוֹם
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम। १२३
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
Tiếng Việt: Con sói quắp lấy cừu non. Pijamalı hasta yağız şoföre çabucak güvendi İIıi.
ქართული ანბანი მხედრული ᲐᲑᲒ; Հայերեն այբուբեն; አማርኛ ፊደል; ᎣᏏᏲ; ⴰⵣⵓⵍ; བོད་སྐད། ភាសាខ្មែរ ၁၂၃ မြန်မာ
def main(argc: int, *argv) -> None:\n\tif argc != 0x1F:\n\t\treturn {"key": [1, 2.5e-3, null]}\n\n# comment\r\n
<html><body class="x">&nbsp;</body></html> https://example.org/a/b?c=d&e=%20#frag user@example.com $100 C++ a_b_c x**2
👩‍👩‍👧‍👦👨🏽‍💻🏳️‍🌈🇩🇪🇫🇷❤️🔥😀😃😄 ☃️ ✈️ 1️⃣ #️⃣ ©® 🫠🫨🪿
"""

NASTY = [
    "", " ", "  ", "   ", "\n", "\r\n", "\n\n", "\r\n\r\n", "\t", "\t\t ", " \n ", "  \n\n  \n", "a\n\n b", "a \n b", "a  b", "a   b",
    " a", "  a", "a ", "a  ", "\n a", "\r", "a\rb", " \r\n \r\n", "x\u00a0y", "\u00a0", "\u00a0\u00a0x", "\u3000x", "\u3000\u3000", "\u2003\u2009a",
    "\u180e", "a\u180eb", " \u180e ", "\u200b", "a\u200bb", "\ufeffa", "\u0085", "a\u0085\u0085b", "\u2028\u2029", "\u2028x", "\x0b\x0c", "a\x0bb",
    "\x00", "a\x00b", "\x01\x1f\x7f", "\x80\x9f", "\x1c\x1d\x1e\x1f", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000\uf8ff",
    "1", "12", "123", "1234", "12345", "1234567890", "1 2", "1.5", "-1e-10", "٣٤٥٦", "１２３４", "²³¹", "½¼¾", "ⅣⅫ", "①②③④", "𝟘𝟙𝟚𝟛", "一二三四", "a1b2", "1a", "০১২৩",
    "abc123def456", "3rd 4th", "0x1F600", "1,000,000.00", "2024-01-31T23:59:59Z",
    "'s", "it's", "IT'S", "It'S", "I'LL'd've", "'", "''s", "'ſ", "can't", "'T'T", "d'été", "o'clock 's", "’s it’s", "x'RE y'Ve", "'stop", "'S'", "don''t",
    "HelloWorld", "helloWORLD", "HELLOworld", "aBcDeF", "McDonald", "iPhone15Pro", "XMLHttpRequest", "ΑΒΓαβγ", "ǅǈǋ", "ǅabc", "ʰʲ", "ªº", "ßẞ", "İi̇Iı", "ﬁﬂﬆ",
    "e\u0301", "\u0301", "\u0301a", "a\u0301\u0302\u0303", " \u0301", "\u0301\u0301", "A\u0301B", "É\u0301", "\u0344", "q\u0323\u0307 q\u0307\u0323", "ḍ̇ ḍ̇",
    "\u1100\u1161\u11a8", "각가", "가\u11a8", "\u212b \u00c5 A\u030a", "\u2126", "\u0958 \u0915\u093c", "\u1e9b\u0323", "\ufb1d", "\u2adc", "\U0001d15e",
    "क्षि", "नमस्ते", "ந்தமிழ்", "ไทย", "ກຂຄ", "ကျွန်", "សួស្តី", "བོད", "ሰላም", "שָׁלוֹם", "اَلسَّلَامُ", "ܫܠܡܐ", "ދިވެހި", "ߒߞߏ",
    "👩‍👩‍👧‍👦", "👨🏽‍💻", "🏳️‍🌈", "🇩🇪🇫🇷🇯🇵", "❤️", "❤", "☺️☺", "1️⃣2️⃣", "👍🏿👍", "🫨🪿🩷", "🧑‍🧑‍🧒‍🧒", "😀😀😀😀😀😀😀😀", "a😀b", " 😀", "😀 ", "😀\n", "😀/", "🏴\U000e0067\U000e0062\U000e007f", "\u200d", "\ufe0f\ufe0f",
    "//", "a//b", "https://x.y/z/\n", "...", "…", "?!?!", "!!\n\n", "!!\r\nx", "--flag=1", "$€£¥", "<|>", "((()))", "/*c*/\n", "x/\n/y", "a.b.c", "#!/bin/sh\n", "\\n\\t", "\"q\"", "`c`", "~^_", "a_b __init__ __", "+-*/=", "@#$%", "¿¡", "«»", "„“”‘’", "、。，！", "–—", "·•", "§¶†‡",
    "\ta\n\t\tb\n", "    if x:\n        y()\n\n\n    z", "for(i=0;i<10;i++){\r\n\tx[i]=i;\r\n}", "a\t b \tc", "\n\n\n\n\n\n\n\n", "                x", "\t\t\t\tx", "x                ",
    # assigned in Unicode 15, 15.1, 16
    "\U0001e030\U0001e04c", "\U00011f04\U00011f12\U00011f33", "\U0001e4d0\U0001e4ea", "\U0001e4f0\U0001e4f5", "\U00031350\U000323af", "\U0002ebf0\U0002ee5d", "\U00013460\U000143fa",
    "\u1c89\u1c8a", "\ua7cb\ua7cd\ua7da\ua7db", "\U00010d50\U00010d70\U00010d65", "\U00010d40\U00010d49", "\U00016d40\U00016d70\U00016d79", "\U000105c0\U000105f3", "\U00011380\U000113b8\U000113d4", "\U0001ccf0\U0001ccf9", "\U0001cc00\U0001ceb3", "a\U00010d6e", "\u0897 \u0cf3", "x\U00011f50y", "\U00016100\U0001611e", "\U0001fae8\U0001fa75",
    "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ", "<|endoftext|><|im_start|>user\nhi<|im_end|>", "<|im_start|", "<|im_start|><|", "<tool_call>{}</tool_call>", "x<tool_call>y", "< |endoftext|>", "<|endoftext", "<|<|endoftext|>|>",
    "<s>", "</s>", "<unk>", "<bos>a<eos>", "<0x0A>", "▁", "▁▁a", "a▁b", " ▁ ", "<start_of_turn>user\n", "\u2581hello", "hello <bos> world",
    "a" * 100, "ab" * 60, " " * 100, "\n" * 70, "😀" * 40, "é" * 80, "的" * 60, "A" * 90 + "a", "1" * 50, "-" * 77, " a" * 30, "aA" * 40, "'s" * 20, "\u0301" * 60, "hello" * 25, "x\n" * 30, "  x" * 25,
]


def random_texts(count, seed):
    rng = random.Random(seed)
    pools = [
        [chr(c) for c in range(0x20, 0x7F)], list(" \t\r\n\u00a0\u3000\u2003\u0085"), [chr(c) for c in range(0xA1, 0x250)],
        [chr(c) for c in range(0x300, 0x370)], [chr(c) for c in range(0x370, 0x590)], [chr(c) for c in range(0x590, 0x700)],
        [chr(c) for c in range(0x900, 0xE00)], [chr(c) for c in range(0x4E00, 0x4F00)] + [chr(c) for c in range(0x3040, 0x3100)],
        [chr(c) for c in range(0xAC00, 0xAC80)], [chr(c) for c in range(0x1F300, 0x1F700)] + ["\u200d", "\ufe0f", "🏽"],
        list("0123456789٠१１½"), list("'sStTdDmMlLrReEvV "), [chr(c) for c in range(0x10000, 0x11000)],
        [chr(c) for c in range(0, 0x110000, 97) if not 0xD800 <= c < 0xE000],
    ]
    words = SENTENCES.split()
    out = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(1, 12)):
            if rng.random() < 0.4:
                text += rng.choice(words) + rng.choice(["", " ", "  ", "\n"])
            else:
                pool = rng.choice(pools)
                text += "".join(rng.choice(pool) for _ in range(rng.randint(1, 6)))
        out.append(text)
    return out


def corpus():
    lines = SENTENCES.split("\n") * 20
    for key in sorted(pydoc_data.topics.topics)[:25]:
        lines += pydoc_data.topics.topics[key].split("\n")
    return [line + "\n" for line in lines]


def ids_of(tok, texts, plain):
    tok.encode_special_tokens = plain
    return [tok.encode(t, add_special_tokens=False).ids for t in texts]


def train_byte_level(pre, name):
    tok = Tokenizer(models.BPE(ignore_merges=name in WHOLE_FIRST))
    if name == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=1200, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    if name == "llama-bpe":
        tok.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tok.token_to_id("<|endoftext|>"))])
    return tok


def all_splits(vocab, score):
    """Every way to make a piece from two, best piece first: how Hugging Face turns a SentencePiece model into merges."""
    merges = []
    for piece in vocab:
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(*m, score[piece]) for m in sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))]
    return [(l, r) for l, r, _ in sorted(merges, key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)]


def train_spm():
    """vocab and merges of a SentencePiece-like model: control tokens, bytes, characters, pieces."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre_tokenizers.Split(Regex("(?<=[^▁])(?=▁)|(?<=\n)"), "isolated")
    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=2000, show_progress=False, limit_alphabet=5000,
                            special_tokens=control + ["<0x%02X>" % i for i in range(256)]))
    vocab = tok.get_vocab()
    pieces = {k: v for k, v in vocab.items() if v >= len(control) + 256}
    return control, vocab, all_splits(pieces, {k: -v for k, v in vocab.items()})


def spm_variant(base, name):
    control, vocab, merges = base
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    replace = normalizers.Replace(" ", "▁")
    if name == "gemma":
        tok.normalizer = replace
        tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif name == "llama2":
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=name == "metaspace-split")
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    tok.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])])
    return tok


MUSE_NAMES = {0: "begin_of_text", 1: "end_of_text", 7: "eom", 8: "eot", 18: "finetune_right_pad", 22: "start", 23: "message",
              80: "image_start", 81: "image_end", 82: "vid_start", 83: "vid_end", 87: "vid_frame_separator", 90: "image",
              91: "video", 92: "patch"}


def muse_encoding(ranks):
    names, reserved = {}, 0
    for i in range(2048):
        name = MUSE_NAMES.get(i)
        if name is None:
            name, reserved = "reserved_special_token_%d" % reserved, reserved + 1
        names["<|%s|>" % name] = len(ranks) + i
    return tiktoken.Encoding("muse", pat_str=LLAMA4, mergeable_ranks=ranks, special_tokens=names)


def byte_text(token):
    table = {}
    n = 0
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255:
            table[chr(b)] = b
        else:
            table[chr(256 + n)] = b
            n += 1
    return bytes(table[c] for c in token)


def write(name, value):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def tiktoken_vectors(tok, texts):
    import base64

    special = set(tok.get_added_tokens_decoder())
    tokens = [tok.id_to_token(i) for i in range(tok.get_vocab_size()) if i not in special]
    ranks = {byte_text(t): i for i, t in enumerate(tokens)}
    with open(os.path.join(OUT, "muse.tiktoken"), "w") as f:
        for t, i in ranks.items():
            f.write("%s %d\n" % (base64.b64encode(t).decode(), i))
    enc = muse_encoding(ranks)
    return {"special": [enc.encode(t, allowed_special="all") for t in texts], "plain": [enc.encode_ordinary(t) for t in texts]}


def real_models(texts):
    folder = os.environ.get("PONDER_TEST_MODELS")
    out = {}
    if not folder:
        return out
    path = lambda name: os.path.join(folder, name)
    if os.path.exists(path("muse.tiktoken")):
        from tiktoken.load import load_tiktoken_bpe
        enc = muse_encoding(load_tiktoken_bpe(path("muse.tiktoken")))
        out["muse"] = {"special": [enc.encode(t, allowed_special="all") for t in texts], "plain": [enc.encode_ordinary(t) for t in texts]}
    for name in ["smollm2", "gemma3"]:
        if os.path.exists(path(name + ".gguf")):
            tok = from_gguf(path(name + ".gguf"))
            out[name] = {"special": ids_of(tok, texts, False), "plain": ids_of(tok, texts, True)}
    return out


def from_gguf(path):
    """Hugging Face's tokenizer of a GGUF's arrays, as transformers would build it from the original files."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    get = lambda key: fields[key].contents() if key in fields else None
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    vocab = {t: i for i, t in enumerate(tokens)}
    if get("tokenizer.ggml.model") == "gpt2":
        tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in get("tokenizer.ggml.merges")]))
        tok.pre_tokenizer = PRE[get("tokenizer.ggml.pre")]
    else:
        # As in the original files: runs of spaces are runs of U+2581, and what is added scores 0, above every piece.
        tokens = [t.replace(" ", "▁") if k == 4 else t for t, k in zip(tokens, types)]
        vocab = {t: i for i, t in enumerate(tokens)}
        pieces = {t: i for i, t in enumerate(tokens) if types[i] in (1, 4)}
        score = get("tokenizer.ggml.scores")
        merges = all_splits(pieces, {t: 0 if types[i] == 4 else score[i] for t, i in pieces.items()})
        tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        tok.normalizer = normalizers.Replace(" ", "▁")
    user = [AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == 4]
    tok.add_tokens(user)
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, types) if k in (2, 3)])
    return tok


def main():
    texts = NASTY + random_texts(250, 7)
    expected = {}
    for name, pre in PRE.items():
        tok = train_byte_level(pre, name)
        tok.save(os.path.join(OUT, name + ".json"), pretty=False)
        expected[name] = {"special": ids_of(tok, texts, False), "plain": ids_of(tok, texts, True)}
        if name == "llama4":
            expected["muse"] = tiktoken_vectors(tok, texts)
        if name == "gpt-2":
            tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            expected["gpt-2 prefix"] = {"special": ids_of(tok, texts, False), "plain": ids_of(tok, texts, True)}
    base = train_spm()
    for name in ["gemma", "llama2", "metaspace", "metaspace-split"]:
        tok = spm_variant(base, name)
        tok.save(os.path.join(OUT, name + ".json"), pretty=False)
        expected[name] = {"special": ids_of(tok, texts, False), "plain": ids_of(tok, texts, True)}
    write("vectors.json", {"texts": texts, "expected": expected})
    real = real_models(texts)
    if real:
        write("real.json", real)


if __name__ == "__main__":
    main()
