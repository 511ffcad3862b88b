"""Writes unicode_new.h: characters that Hugging Face's tokenizers (Oniguruma, Unicode 16) put into a general category
and Unicode 14 (PCRE2 10.40 to 10.42) had not assigned. Run with Python 3.11 (unicodedata 14.0) and `tokenizers` 0.23.3."""
import os
import unicodedata
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

assert unicodedata.unidata_version == "14.0.0"
new = [c for c in range(0x110000) if unicodedata.category(chr(c)) == "Cn"]
category = {}
for name in "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No P S".split():
    split = Split(Regex(r"\p{%s}" % name), "removed", invert=True)
    for i in range(0, len(new), 4096):
        for piece, _ in split.pre_tokenize_str("".join(map(chr, new[i : i + 4096]))):
            for c in piece:
                category[ord(c)] = name
ranges = []
for c in sorted(category):
    if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == category[c]:
        ranges[-1][1] = c
    else:
        ranges.append([c, c, category[c]])
with open(os.path.join(os.path.dirname(__file__), "unicode_new.h"), "w") as f:
    f.write("/* Written by make_unicode_new.py: characters assigned after Unicode 14, up to 16. */\n")
    f.write("static const struct { uint32_t lo, hi; char category[3]; } unicode_new[] = {\n")
    for i in range(0, len(ranges), 4):
        f.write("    " + " ".join('{0x%x, 0x%x, "%s"},' % tuple(r) for r in ranges[i : i + 4]) + "\n")
    f.write("};\n")
