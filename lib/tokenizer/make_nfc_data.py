"""Writes nfc_data.h: what Hugging Face's NFC does (`pip install unicodedata2 tokenizers`). Its tables are those of an older
Unicode, and ids must be the same, so newer facts are left out: those characters keep their order and their bytes."""
import os
import unicodedata2 as ud
from tokenizers import normalizers

chars = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and not 0xAC00 <= c < 0xAC00 + 11172]
split, ccc = {}, {}
nfc, nfd = normalizers.NFC(), normalizers.NFD()
late = []
for c in chars:
    d = ud.decomposition(chr(c))
    if d and not d.startswith("<"):
        parts = [int(x, 16) for x in d.split()]
        split[c] = (parts[0], parts[1] if len(parts) > 1 else 0)
    k = ud.combining(chr(c))
    if k:  # does it change places with a mark of another class?
        text = chr(c) + "\u0334" if k > 1 else "\u0301" + chr(c)
        if nfd.normalize_str("a" + text) != "a" + text:
            ccc[c] = k
for c in list(split):
    if nfd.normalize_str(chr(c)) == chr(c):
        late.append(c)
        del split[c]
join = {ab: c for c, ab in split.items() if ab[1] and nfc.normalize_str(chr(c)) == chr(c)}
second = {b for _, b in join} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
stirs = sorted(set(ccc) | second | {c for c in split if nfc.normalize_str(chr(c)) != chr(c)})


def ranges(items):
    out = []
    for c, v in items:
        if out and out[-1][1] == c - 1 and out[-1][2] == v:
            out[-1][1] = c
        else:
            out.append([c, c, v])
    return out


print("Unicode", ud.unidata_version, "has later decompositions of", [hex(c) for c in late])


def table(f, head, rows, per_line):
    f.write(head + " = {\n")
    for i in range(0, len(rows), per_line):
        f.write("    " + " ".join("{" + ", ".join(map(hex, r)) + "}," for r in rows[i : i + per_line]) + "\n")
    f.write("};\n")


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "nfc_data.h"), "w") as f:
    f.write("/* Written by make_nfc_data.py. */\n")
    f.write("/* Canonical decompositions, one step; second 0: a single character. */\n")
    table(f, "static const struct { uint32_t c, first, second; } nfc_split[]", [(c, *split[c]) for c in sorted(split)], 6)
    f.write("/* What composes again. */\n")
    table(f, "static const struct { uint32_t first, second, c; } nfc_join[]", sorted((*ab, c) for ab, c in join.items()), 6)
    f.write("/* Canonical combining classes other than 0. */\n")
    table(f, "static const struct { uint32_t lo, hi, value; } nfc_class[]", ranges(sorted(ccc.items())), 6)
    f.write("/* Where one of these stands, a text may not be in form C. */\n")
    table(f, "static const struct { uint32_t lo, hi; } nfc_stirs[]", [r[:2] for r in ranges([(c, 0) for c in stirs])], 8)
