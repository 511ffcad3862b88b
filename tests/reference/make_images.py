"""Reference vectors of the picture side: python make_images.py ../data/vision [pictures] [resize] [grids] [video]

Needs transformers, torch, torchvision, torchcodec (which the reference decodes files with), Pillow.
Without names all are made; `grids` takes about a quarter of an hour (every size to 8192 x 8192, twice).
"""
import io
import multiprocessing
import pathlib
import struct
import sys
import warnings
import zlib

import numpy as np
import torch
import transformers
from PIL import Image, ImageOps
from torchcodec.decoders import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize
from transformers.image_transforms import convert_to_rgb
from transformers.models.muse_glimmer.image_processing_muse_glimmer import (MuseGlimmerImageProcessor,
                                                                           smart_resize)
from transformers.models.muse_glimmer.video_processing_muse_glimmer import MuseGlimmerVideoProcessor
from transformers.video_utils import VideoMetadata

CELL = 28


# ---- pictures: files of all kinds, and their pixels as the reference sees them ------------------------
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values, depth):
    if depth >= 8:
        return values.astype(">u2" if depth == 16 else np.uint8).tobytes()
    bits = "".join(format(int(v), f"0{depth}b") for v in values.ravel())
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def paeth(a, b, c):
    pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filtered(rows, step):
    """Each row by another of PNG's five filters."""
    out, above = bytearray(), None
    for i, row in enumerate(rows):
        above = above or bytes(len(row))
        out.append(i % 5)
        for k, v in enumerate(row):
            a, b, c = row[k - step] if k >= step else 0, above[k], above[k - step] if k >= step else 0
            out.append((v - (0, a, b, (a + b) // 2, paeth(a, b, c))[i % 5]) & 255)
        above = row
    return bytes(out)


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(values, depth, colour, interlaced=False, extra=()):
    h, w, channels = values.shape
    parts = [values[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [values]
    step = max(1, channels * depth // 8)
    data = zlib.compress(b"".join(filtered([packed(r, depth) for r in p], step) for p in parts if p.size), 9)
    half = len(data) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced))
            + b"".join(chunk(*e) for e in extra) + chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:])
            + chunk(b"IEND", b""))


def black(w, h):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes((w + 7) // 8 + 1) * h, 9)) + chunk(b"IEND", b""))


def exif(orientation, big=False, long=False):
    e = ">" if big else "<"
    value = struct.pack(e + "HIHH", 3, 1, orientation, 0)
    if long:
        value = struct.pack(e + "HII", 4, 1, orientation)
    return (b"MM\0*" if big else b"II*\0") + struct.pack(e + "IHH", 8, 1, 0x112) + value + bytes(4)


def smooth(rng, h, w, channels):
    coarse = rng.integers(0, 256, (max(2, h // 6), max(2, w // 6), 4), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((w, h), Image.BICUBIC))[:, :, :channels]


def jpeg(values, mode, **options):
    f = io.BytesIO()
    Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes()).save(f, "JPEG", **options)
    return f.getvalue()


def png_kinds(rng):
    names = {0: "grey", 2: "rgb", 3: "palette", 4: "greyalpha", 6: "rgba"}
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for colour, channels in ((0, 1), (2, 3), (3, 1), (4, 2), (6, 4)):
        for depth in depths[colour]:
            for interlaced in (False, True):
                values = rng.integers(0, 1 << depth, (11, 13, channels))
                extra = [(b"gAMA", struct.pack(">I", 100000)), (b"tEXt", b"Comment\0hello")]
                if colour == 3:
                    extra.append((b"PLTE", rng.integers(0, 256, 3 << depth).astype(np.uint8).tobytes()))
                yield f"{names[colour]}{depth}{'-laced' if interlaced else ''}.png", png(values, depth, colour, interlaced, extra), {}
                if colour in (4, 6) or interlaced:
                    continue
                if colour == 3:
                    clear = rng.integers(0, 256, (1 << depth) - 1).astype(np.uint8).tobytes()
                else:
                    clear = struct.pack(f">{channels}H", *map(int, values[0, 0]))
                yield f"{names[colour]}{depth}-clear.png", png(values, depth, colour, False, extra + [(b"tRNS", clear)]), {
                    "white": by_standard(values, depth) if (colour, depth) in ((0, 2), (0, 4), (0, 16), (2, 16)) else None}
    for orientation in range(1, 9):
        values = rng.integers(0, 256, (3, 5, 3))
        yield f"turned{orientation}.png", png(values, 8, 2, orientation % 2 == 0, [(b"eXIf", exif(orientation, orientation > 4))]), {}


def by_standard(values, depth):
    """Where Pillow is no judge: it compares tRNS with samples that it has scaled already (2, 4 and 16 bits)."""
    grey = values >> 8 if depth == 16 else values * (255 // ((1 << depth) - 1))
    clear = (values == values[0, 0]).all(-1, keepdims=True)
    return np.broadcast_to(np.where(clear, 255, grey), values.shape[:2] + (3,)).astype(np.uint8)


def jpeg_kinds(rng):
    rgb = smooth(rng, 29, 37, 3)
    for i, sub in enumerate(("444", "422", "420")):
        yield f"{sub}.jpg", jpeg(rgb, "RGB", subsampling=i, quality=60), {}
        yield f"{sub}-progressive.jpg", jpeg(rgb, "RGB", subsampling=i, quality=60, progressive=True), {}
    yield "restart.jpg", jpeg(rgb, "RGB", quality=40, restart_marker_blocks=2), {}
    yield "stored-rgb.jpg", jpeg(rgb, "RGB", quality=40, keep_rgb=True), {}
    yield "grey.jpg", jpeg(smooth(rng, 19, 23, 1)[:, :, 0], "L"), {}
    yield "grey-progressive.jpg", jpeg(smooth(rng, 19, 23, 1)[:, :, 0], "L", progressive=True), {}
    yield "one.jpg", jpeg(smooth(rng, 1, 1, 3), "RGB"), {}
    yield "thin.jpg", jpeg(smooth(rng, 2, 130, 3), "RGB"), {}
    inks = jpeg(smooth(rng, 21, 18, 4), "CMYK", quality=50)
    mark = inks.find(b"Adobe")
    length = struct.unpack(">H", inks[mark - 2:mark])[0]
    yield "cmyk.jpg", inks, {}
    yield "ycck.jpg", inks[:mark + 11] + b"\2" + inks[mark + 12:], {}
    yield "cmyk-unmarked.jpg", inks[:mark - 4] + inks[mark - 2 + length:], {}
    for orientation in range(1, 9):
        small = smooth(rng, 19, 21, 3)
        yield f"turned{orientation}.jpg", jpeg(small, "RGB", quality=40, exif=b"Exif\0\0" + exif(orientation, orientation > 4, orientation == 3)), {}
    yield "tall-progressive.jpg", jpeg(smooth(rng, 400, 9, 3), "RGB", quality=20, progressive=True), {}


def as_white(data):
    return convert_to_rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), return_numpy=True)


def as_drop(data):
    return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()


def make_pictures(out):
    """pictures/NAME, and pictures.txt: NAME MODE WIDTH HEIGHT OFFSET of the pixels in pictures.rgb."""
    rng = np.random.default_rng(4)
    (out / "pictures").mkdir(exist_ok=True)
    lines, pixels = [], bytearray()
    for name, data, given in [*png_kinds(rng), *jpeg_kinds(rng)]:
        (out / "pictures" / name).write_bytes(data)
        views = {"white": given.get("white"), "drop": as_drop(data)}
        if views["white"] is None:
            views["white"] = as_white(data)
        if name in ("grey16.png", "grey16-laced.png"):  # Pillow makes all above 255 white; its other 16 bits are cut
            views["white"] = np.asarray(Image.open(io.BytesIO(data))).astype(np.uint16)[..., None].repeat(3, -1) >> 8
        for mode, view in views.items():
            lines.append(f"{name} {mode} {view.shape[1]} {view.shape[0]} {len(pixels)}")
            pixels += np.ascontiguousarray(view, dtype=np.uint8).tobytes()
    (out / "large.png").write_bytes(black(8192, 8192))
    (out / "pictures.txt").write_text("\n".join(lines) + "\n")
    (out / "pictures.rgb").write_bytes(pixels)


# ---- resizing: the reference's own processor, on pixels that the tests can make ------------------------
def made(kind, w, h):
    """The same arithmetic is in tests/vision/made.h."""
    y, x, c = np.meshgrid(np.arange(h, dtype=np.uint32), np.arange(w, dtype=np.uint32), np.arange(3, dtype=np.uint32), indexing="ij")
    n = x * np.uint32(2654435761) + y * np.uint32(2246822519) + c * np.uint32(3266489917)
    n ^= n >> np.uint32(15)
    n *= np.uint32(2246822519)
    n ^= n >> np.uint32(13)
    noise = n & np.uint32(255)
    if kind == 0:
        return noise.astype(np.uint8)
    if kind == 1:                            # waves with a little noise, like a photograph
        wave = (x * np.uint32(2) + y + c * np.uint32(60)) & np.uint32(511)
        wave = np.where(wave > 255, np.uint32(511) - wave, wave)
        return ((wave * np.uint32(7) + noise) >> np.uint32(3)).astype(np.uint8)
    return (((x // np.uint32(3) + y // np.uint32(5)) & np.uint32(1)) * np.uint32(255)).astype(np.uint8)  # hard edges


RESIZED = [(1, 1), (1, 300), (300, 1), (2, 2), (3, 2), (13, 14), (14, 14), (28, 28), (29, 27), (27, 29), (56, 28), (100, 37), (37, 100),
           (55, 57), (84, 85), (150, 200), (200, 150), (333, 50), (224, 224), (225, 223), (448, 448), (449, 447), (640, 480),
           (480, 640), (1000, 1000), (37, 5000), (5600, 28), (28, 5600), (1920, 1080), (2500, 1900), (3000, 4000)]
DIRECT = [(20000, 3, 28, 28), (3, 20000, 28, 28), (65535, 2, 7, 1), (2, 65535, 1, 7), (9000, 4, 31, 2), (1, 1, 1, 1), (5, 5, 1, 1), (1, 1, 999, 3),
          (2, 3, 500, 400), (640, 480, 1, 1), (7, 9, 8, 9), (9, 7, 9, 8), (40000, 1, 2, 1)]
DIRECT += [(1 + i * 7919 % 97, 1 + i * 6271 % 61, 1 + i * 4127 % 83, 1 + i * 3989 % 71) for i in range(100)]
RAW = [(1, 300), (29, 27), (100, 37), (55, 57), (84, 85)]


def make_resize(out):
    """resize.txt: LIMIT KIND WIDTH HEIGHT, then width and height it becomes, CRC-32 of its pixels, CRC-32 of its patches
    (float32), offset in resize.rgb or -1. LIMIT 0: no grid, no patches."""
    lines, raw = [], bytearray()
    for limit in (4096, 144):
        processor = MuseGlimmerImageProcessor(max_image_tokens=limit)
        for i, (w, h) in enumerate(RESIZED):
            for kind in (0, 1, 2) if w * h < 100000 else (i % 3,):
                values = torch.from_numpy(made(kind, w, h)).permute(2, 0, 1).contiguous()
                got = processor(images=[values], input_data_format="channels_first", return_tensors="pt")
                rows, cols = got["image_grid_thw"][0, 1:].tolist()
                patches = got["pixel_values"].reshape(rows, cols, 2, 3, 14, 14)
                assert torch.equal(patches[:, :, 0], patches[:, :, 1])
                back = patches[:, :, 0].permute(0, 3, 1, 4, 2).reshape(rows * 14, cols * 14, 3)
                pixels = torch.round(back * 127.5 + 127.5).to(torch.uint8).numpy().tobytes()
                at = -1
                if limit == 4096 and (w, h) in RAW:
                    at = len(raw)
                    raw += pixels
                floats = zlib.crc32(got["pixel_values"].contiguous().numpy().tobytes())
                lines.append(f"{limit} {kind} {w} {h} {cols * 14} {rows * 14} {zlib.crc32(pixels)} {floats} {at}")
    for i, (w, h, to_w, to_h) in enumerate(DIRECT):     # sizes that no grid gives: the reference's resampling alone
        values = torch.from_numpy(made(i % 3, w, h)).permute(2, 0, 1).contiguous()
        try:
            got = resize(values, (to_h, to_w), interpolation=InterpolationMode.LANCZOS, antialias=True)
        except RuntimeError:                            # torch 2.15 trips over a result of one pixel
            print("no reference for", w, h, to_w, to_h)
            continue
        lines.append(f"0 {i % 3} {w} {h} {to_w} {to_h} {zlib.crc32(got.permute(1, 2, 0).contiguous().numpy().tobytes())} 0 -1")
    (out / "resize.txt").write_text("\n".join(lines) + "\n")
    (out / "resize.rgb").write_bytes(raw)


# ---- grids -----------------------------------------------------------------------------------------------
def grid(w, h, limit, cell=CELL):
    a, b = smart_resize(h, w, cell, limit)
    return a // cell, b // cell


def grid_row(task):
    h, limit = task
    return zlib.crc32(b"".join(struct.pack("<HH", *grid(w, h, limit)) for w in range(1, 8193)))


def make_grids(out):
    """grids.bin: for the limits 4096 and 144, for each height 1..8192, the CRC-32 of (rows, cols) as u16 of all widths
    1..8192. grids.txt: CELL LIMIT WIDTH HEIGHT ROWS COLS of other rules, squares, and pictures that no grid fits."""
    with multiprocessing.Pool() as pool:
        rows = pool.map(grid_row, [(h, limit) for limit in (4096, 144) for h in range(1, 8193)], chunksize=16)
    (out / "grids.bin").write_bytes(struct.pack(f"<{len(rows)}I", *rows))
    rng, lines = np.random.default_rng(7), []
    sizes = [(1000, 1000), (8192, 8192), (1, 1), (8192, 41), (41, 8192), (20000, 1), (1, 65535), (65535, 65535), (200000, 3), (1048576, 1)]
    sizes += [tuple(map(int, np.exp(rng.uniform(0, 11, 2)))) for _ in range(60)]
    for cell, limit in ((28, 4096), (28, 144), (32, 256), (14, 64), (1, 7), (28, 1), (56, 5000)):
        for w, h in [*sizes, *((n, n) for n in rng.integers(1, 4000, 20).tolist())]:
            lines.append("%d %d %d %d %d %d" % (cell, limit, w, h, *grid(w, h, limit, cell)))
    (out / "grids.txt").write_text("\n".join(lines) + "\n")


# ---- video -----------------------------------------------------------------------------------------------
def bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def make_video(out):
    """video.txt: `frames TOTAL FPS COUNT CRC` (FPS as the bits of a double, CRC-32 of the indices as u32), `text SECONDS TEXT`
    and `patches COUNT WIDTH HEIGHT CRC`: frame i being made(1, ...) with i added to each byte."""
    processor, rng, lines = MuseGlimmerVideoProcessor(), np.random.default_rng(9), []
    rates = [24.0, 25.0, 30.0, 30000 / 1001, 24000 / 1001, 60.0, 1.0, 2.0, 0.5, 12.5, 240.0, 0.001]
    totals = [*range(1, 120), *rng.integers(120, 20000, 200).tolist(), *rng.integers(20000, 1 << 24, 60).tolist(), 1 << 24]
    for total in totals:
        fps = rates[int(rng.integers(len(rates)))]
        indices = processor.sample_frames(VideoMetadata(total_num_frames=total, fps=fps), temporal_patch_size=2).tolist()
        lines.append(f"frames {total} {bits(fps)} {len(indices)} {zlib.crc32(struct.pack(f'<{len(indices)}I', *indices))}")
    times = [0.0, 0.05, 0.25, 0.75, 0.95, 9.95, 99.95, 1e15, 5e-324, 0.049999999999999996, 123456789.25, 2 ** 49 + 0.25]
    times += [i / rates[i % len(rates)] for i in range(150)] + [i / 20 for i in range(60)] + (10 ** rng.uniform(-8, 15, 60)).tolist()
    for seconds in times:
        text = processor.frame_timestamp_format.format(timestamp=seconds)
        lines.append(f"text {bits(seconds)} {text}")
    for count, w, h in ((1, 60, 40), (2, 60, 40), (3, 500, 300), (5, 90, 200)):
        frames = torch.stack([torch.from_numpy(made(1, w, h) + np.uint8(i)).permute(2, 0, 1) for i in range(count)])
        got = processor(videos=[frames], do_sample_frames=False, return_tensors="pt")
        lines.append(f"patches {count} {w} {h} {zlib.crc32(got['pixel_values_videos'].contiguous().numpy().tobytes())}")
    (out / "video.txt").write_text("\n".join(lines) + "\n")


def main():
    warnings.simplefilter("ignore")
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    print("transformers", transformers.__version__, "torch", torch.__version__)
    makers = {"pictures": make_pictures, "resize": make_resize, "grids": make_grids, "video": make_video}
    for name in sys.argv[2:] or makers:
        makers[name](out)


if __name__ == "__main__":
    main()
