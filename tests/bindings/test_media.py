"""Pictures, videos and sounds in Python. Run by check.sh with numpy and without; expected values come from tests/data/media
(transformers)."""
import array
import io
import json
import os
import pathlib
import struct
import sys
import tempfile
import unittest

if os.environ.get("PONDER_TEST_NUMPY") == "no":
    sys.modules["numpy"] = sys.modules["PIL"] = None  # importing them fails
    numpy = None
else:
    import numpy
    import PIL.Image

import ponder

DATA = os.environ["PONDER_TEST_DATA"]
MEDIA = os.path.join(DATA, "media")
with open(os.path.join(MEDIA, "cases.json"), encoding="utf-8") as file:
    STORED = json.load(file)
CASES = {case["name"]: case for case in STORED["cases"]}
ASK = "From 3 do 1p2t"
with_numpy = unittest.skipUnless(numpy, "this run has no numpy")


def path(name):
    return os.path.join(MEDIA, name)


def contents(name):
    with open(path(name), "rb") as file:
        return file.read()


def has_png():
    try:
        ponder.Image(path("left.png")).close()
        return True
    except ponder.Error as error:
        if error.status != ponder.E_UNSUPPORTED:
            raise
        return False


HAS_PNG = has_png()  # a refusal of another kind has failed already


def wave(name):
    data = contents(name + ".wav")[44:]
    return [v / 32768 for v in struct.unpack("<%dh" % (len(data) // 2), data)]


def part(kind, value):
    if kind == "image":
        return ponder.Image(path(value + ".png"))
    if kind == "sound":
        return ponder.Sound(path(value + ".wav"))
    if kind == "video":
        return ponder.Video([ponder.Image(path("frame%d.png" % i)) for i in range(5)], STORED["frame_seconds"])
    return value


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = ponder.Model(os.path.join(DATA, "seed0"), threads=1, kv_type="f32")

    def session(self, **more):
        return self.model.session(context=512, temperature=0, **more)

    def as_reference(self, session, case):
        logits = session.logits()
        self.assertEqual(session.tokens(), case["ids"])
        self.assertEqual(len(logits), len(case["logits"]))
        self.assertLess(max(abs(float(a) - b) for a, b in zip(logits, case["logits"])), 3e-4)

    def pixels(self, image):
        """As a list of rows of lists of colours, whatever pixels() gives."""
        return image.pixels().tolist()


@unittest.skipUnless(HAS_PNG, "this library has no PNG")
class Messages(Case):
    def test_every_case_is_the_references(self):
        for case in STORED["cases"]:
            with self.subTest(case["name"]), self.session() as s:
                s.add("user", *[part(*p) for p in case["parts"]])
                self.as_reference(s, case)

    def test_streams_the_same_turn_as_the_tokens_say(self):
        """A turn with a picture, event by event, and the answer by ask."""
        with self.session(max_tokens=40) as s, self.session(max_tokens=40) as t:
            s.add("user", part("image", "odd"), ASK)
            events = list(s.events())
            done = events[-1]
            self.assertEqual(done.kind, ponder.EVENT_DONE)
            self.assertEqual(done.prompt_tokens, len(CASES["image odd"]["ids"]))
            self.assertEqual(len(s.tokens()), done.prompt_tokens + done.output_tokens)
            answer = "".join(e.text for e in events if e.kind == ponder.EVENT_ANSWER)
            self.assertEqual("".join(t.ask(part("image", "odd"), ASK)), answer)
            self.assertEqual(s.tokens(), t.tokens())

    def test_a_picture_from_whatever_holds_it(self):
        sources = [path("odd.png"), pathlib.Path(path("odd.png")), contents("odd.png"),
                   bytearray(contents("odd.png")), memoryview(contents("odd.png")), io.BytesIO(contents("odd.png"))]
        if numpy:
            picture = PIL.Image.open(path("odd.png"))
            pixels = numpy.array(picture.convert("RGB"))
            around = numpy.zeros((pixels.shape[0] + 4, pixels.shape[1] + 6, 3), numpy.uint8)
            around[2:-2, 3:-3] = pixels
            clear = numpy.dstack([pixels, numpy.full(pixels.shape[:2], 255, numpy.uint8)])
            fixed = pixels.copy()
            fixed.flags.writeable = False
            sources += [picture, picture.convert("RGBA"), pixels, around[2:-2, 3:-3], clear, fixed, pixels[::-1].copy()[::-1],
                        pixels.transpose(1, 0, 2).copy().transpose(1, 0, 2)]
        with self.model.share(threads=1, kv_type="f32") as model:
            before = model.info(ponder.INFO_ENCODED)
            for source in sources:
                with self.subTest(type(source).__name__), model.session(context=512) as s:
                    s.add("user", ponder.Image(source), ASK)
                    self.as_reference(s, CASES["image odd"])
            self.assertLessEqual(model.info(ponder.INFO_ENCODED) - before, 1)  # the same pixels each time

    def test_features_and_costs(self):
        with self.session() as s:
            self.assertEqual(len(s.features()), 0)
            s.attach("Look: ", part("image", "wide"))
            rows = s.features()
            self.assertEqual((len(rows), len(rows[0])), (self.model.image_tokens(140, 70) - 2, self.model.width))
            self.assertEqual(self.model.sound_tokens(5000, 24000), 3 + 2)
            self.assertEqual(self.model.info(ponder.INFO_SAMPLE_RATE), 24000)
        self.assertRaises(OverflowError, self.model.image_tokens, -1, 5)
        self.assertRaises(OverflowError, self.model.sound_tokens, 1, 2**32 + 24000)

    def test_prefill(self):
        case = CASES["image and sound"]
        with self.session() as s, self.session() as t:
            for session in (s, t):
                session.add("user", *[part(*p) for p in case["parts"]])
            slices = 1
            while not s.prefill(0):
                slices += 1
            self.assertGreater(slices, 3)
            self.assertTrue(t.prefill())
            for session in (s, t):
                self.assertEqual(session.tokens(), case["ids"][:-2])  # all but "<|start|>assistant"
                self.as_reference(session, case)

    def test_what_the_model_cannot_take_leaves_nothing_behind(self):
        with ponder.Model(os.path.join(DATA, "seed0"), threads=1, towers=0) as deaf, deaf.session(context=512) as s, \
                deaf.session(context=512) as plain:
            for bad in (part("image", "left"), part("sound", "short"), part("video", "frames")):
                with self.assertRaises(ponder.Error) as caught:
                    s.add("user", "Look: ", bad, ASK)
                self.assertEqual(caught.exception.status, ponder.E_UNSUPPORTED)
            self.assertRaises(TypeError, s.add, "user", "Look: ", 5)
            for session in (s, plain):
                session.add("user", ASK)
                session.prefill()
            self.assertEqual(s.tokens(), plain.tokens())

    def test_forks_and_closed_parts(self):
        with self.session() as s:
            image = part("image", "red")
            s.add("user", image, ASK)
            image.close()
            with s.fork() as f:
                self.as_reference(f, CASES["image red"])
            self.as_reference(s, CASES["image red"])
            self.assertRaises(ValueError, s.add, "user", image)
            self.assertRaises(ValueError, image.pixels)

    def test_video_times(self):
        frames = [path("frame%d.png" % i) for i in range(5)]
        with self.session() as s:
            s.add("user", ponder.Video(frames), ASK)  # two a second, as stored
            self.as_reference(s, CASES["video"])
        self.assertEqual(ponder.Video(frames[:2], fps=4).seconds, [0, 0.25])
        self.assertRaises(ValueError, ponder.Video, frames, [1.0])


@unittest.skipUnless(HAS_PNG, "this library has no PNG")
class Pictures(Case):
    def test_pixels_size_and_crop(self):
        with ponder.Image(path("wide.png")) as image:  # red grows to the right, green downwards
            self.assertEqual(image.size, (140, 70))
            rows = self.pixels(image)
            self.assertEqual((len(rows), len(rows[0])), (70, 140))
            self.assertEqual(rows[60][100][:2], [100 * 255 // 139, 60 * 255 // 69])
            part = image.crop(100, 60, 40, 10)
            self.assertEqual(part.size, (40, 10))
            self.assertEqual(self.pixels(part), [row[100:] for row in rows[60:]])
            for bad in ((101, 60, 40, 10), (0, 0, 0, 1)):
                with self.assertRaises(ponder.Error) as caught:
                    image.crop(*bad)
                self.assertEqual(caught.exception.status, ponder.E_RANGE)
            self.assertRaises(OverflowError, image.crop, -1, 0, 5, 5)

    def test_places(self):
        image = ponder.Image(path("odd.png"))
        for x, y in ((0, 0), (101, 67), (33.25, 12.5)):
            back = image.from_model(*image.to_model(x, y))
            self.assertAlmostEqual(back[0], x)
            self.assertAlmostEqual(back[1], y)
        self.assertEqual(image.to_model(101, 67), (1000, 1000))

    def test_outline_and_save(self):
        image = ponder.Image(path("table.png"))
        marked = image.outline([(250, 250, 750, 750), [0, 0, 10, 10]])
        with tempfile.TemporaryDirectory() as folder:
            name = os.path.join(folder, "marked.png")
            marked.save(name)
            self.assertEqual(self.pixels(ponder.Image(name)), self.pixels(marked))
            with self.assertRaises(ponder.Error) as caught:
                marked.save(os.path.join(folder, "none", "x.png"))
            self.assertEqual(caught.exception.status, ponder.E_IO)
            self.assertIn("none", caught.exception.text)
        changed = sum(a != b for p, q in zip(self.pixels(image), self.pixels(marked)) for a, b in zip(p, q))
        self.assertTrue(0 < changed < 196 * 112 / 2, changed)
        self.assertEqual(self.pixels(image.outline([])), self.pixels(image))
        self.assertRaises(ValueError, image.outline, [(1, 2, 3)])

    @with_numpy
    def test_alpha(self):
        pixels = numpy.array([[[200, 100, 0, 0], [200, 100, 0, 255]]], numpy.uint8)
        self.assertEqual(self.pixels(ponder.Image(pixels)), [[[255, 255, 255], [200, 100, 0]]])
        self.assertEqual(self.pixels(ponder.Image(pixels, alpha="drop")), [[[200, 100, 0], [200, 100, 0]]])
        self.assertEqual(self.pixels(ponder.Image(PIL.Image.fromarray(pixels))), [[[255, 255, 255], [200, 100, 0]]])
        self.assertRaises(ponder.Error, ponder.Image, pixels, alpha="grey")

    @with_numpy
    def test_arrays_that_are_no_pictures(self):
        for bad in (numpy.zeros((4, 4), numpy.uint8), numpy.zeros((4, 4, 2), numpy.uint8), numpy.zeros((4, 4, 3), numpy.float32),
                    numpy.zeros((0,), numpy.uint8)):
            self.assertRaises(ValueError, ponder.Image, bad)
        self.assertRaises(ponder.Error, ponder.Image, numpy.zeros((0, 4, 3), numpy.uint8))
        self.assertRaises(ponder.Error, ponder.Image, numpy.zeros((100, 100, 3), numpy.uint8), max_pixels=9999)


class Refusals(Case):
    def test_what_is_no_picture_or_sound(self):
        for kind in (ponder.Image, ponder.Sound):
            with self.assertRaises(ponder.Error) as caught:
                kind(path("no such file"))
            self.assertEqual(caught.exception.status, ponder.E_IO)
            self.assertIn("no such file", caught.exception.text)
            for bad in (b"", b"neither", contents("short.wav" if kind is ponder.Image else "left.png")):
                with self.assertRaises(ponder.Error) as caught:
                    kind(bad)
                self.assertIn(caught.exception.status, (ponder.E_FORMAT, ponder.E_UNSUPPORTED))
            self.assertRaises(TypeError, kind, 5)
            self.assertRaises(TypeError, kind, io.StringIO("text"))
            self.assertRaises(ValueError, kind, "a\0b")

    @unittest.skipIf(HAS_PNG, "this library has PNG")
    def test_without_libpng(self):
        with self.assertRaises(ponder.Error) as caught:
            ponder.Image(contents("left.png"))
        self.assertEqual(caught.exception.status, ponder.E_UNSUPPORTED)
        self.assertIn("png", caught.exception.text.lower())


class Sounds(Case):
    def test_a_sound_from_whatever_holds_it(self):
        case, samples = CASES["long sound"], wave("long")
        twice = [v for v in samples for _ in range(2)]
        sounds = [ponder.Sound(path("long.wav")), ponder.Sound(contents("long.wav")),
                  ponder.Sound(io.BytesIO(contents("long.wav"))), ponder.Sound(samples, rate=24000),
                  ponder.Sound(array.array("f", samples), rate=24000), ponder.Sound(array.array("d", samples), rate=24000),
                  ponder.Sound(twice, rate=24000, channels=2)]
        if numpy:
            sounds += [ponder.Sound(numpy.array(samples), rate=24000), ponder.Sound(numpy.array(samples, "f4"), rate=24000),
                       ponder.Sound(numpy.array(twice).reshape(-1, 2), rate=24000),
                       ponder.Sound(numpy.array(twice)[::2], rate=24000)]
        for i, sound in enumerate(sounds):
            with self.subTest(i), self.session() as s:
                s.add("user", sound)
                self.as_reference(s, case)

    def test_while_it_is_recorded(self):
        case, samples = CASES["long sound"], wave("long")
        for piece in (700, 5000, len(samples)):
            with self.subTest(piece), self.session() as s:
                for at in range(0, len(samples), piece):
                    s.listen(samples[at:at + piece], 24000)
                    s.prefill()
                self.assertGreater(len(s.tokens()), len(case["ids"]) - 10)
                s.add("user")
                self.as_reference(s, case)

    def test_samples_that_are_none(self):
        self.assertRaises(TypeError, ponder.Sound, [0.0, 0.5])
        self.assertRaises(TypeError, ponder.Sound, b"RIFF", rate=24000)
        self.assertRaises(ValueError, ponder.Sound, [0.0] * 3, rate=24000, channels=2)
        self.assertRaises(ValueError, ponder.Sound, [0.0] * 3, rate=24000, channels=0)
        self.assertRaises(ponder.Error, ponder.Sound, [0.0] * 3, rate=0)
        self.assertRaises(OverflowError, ponder.Sound, [0.0] * 3, rate=2**32 + 24000)
        self.assertRaises(ponder.Error, ponder.Sound, [0.0] * 48000, rate=24000, max_seconds=1)
        with self.session() as s:
            self.assertRaises(TypeError, s.listen, b"\0" * 8, 24000)
            if numpy:
                self.assertRaises(TypeError, s.listen, numpy.zeros(8, numpy.int16), 24000)
                self.assertRaises(ValueError, s.listen, numpy.zeros((4, 2), "f4"), 24000, 1)


if __name__ == "__main__":
    unittest.main()
