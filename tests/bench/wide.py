"""A model with a wide vocabulary from a folder with tied embeddings, which are repeated: python wide.py ../data/llama OUT [202048]

For bench-slices: an output head and a sampler of the largest vocabularies over next to no other work."""
import json
import pathlib
import struct
import sys


def main(source, out, vocab=202048):
    source, out, vocab = pathlib.Path(source), pathlib.Path(out), int(vocab)
    config = json.loads((source / "config.json").read_text())
    data = (source / "model.safetensors").read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    embedding = header["model.embed_tokens.weight"]
    begin, stop = embedding["data_offsets"]
    rows = data[end + begin:end + stop]
    wide = (rows * (vocab * len(rows) // config["vocab_size"] // len(rows) + 1))[:vocab * len(rows) // config["vocab_size"]]
    for tensor in header.values():
        if "data_offsets" in tensor and tensor["data_offsets"][0] >= stop:
            tensor["data_offsets"] = [at + len(wide) - len(rows) for at in tensor["data_offsets"]]
    embedding |= {"shape": [vocab, embedding["shape"][1]], "data_offsets": [begin, begin + len(wide)]}
    text = json.dumps(header).encode()
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config | {"vocab_size": vocab}))
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[end:end + begin] + wide + data[end + stop:])


main(*sys.argv[1:])
