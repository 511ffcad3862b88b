"""NULL and out-of-range arguments for every function of the header, from the generated prototypes: a status, never a
crash. Run by check.sh. The calls are made in a child, so that a crash is reported with the call that caused it."""
import ctypes
import mmap
import os
import sys
import unittest
from ctypes import POINTER, byref, c_char_p, c_void_p, cast, sizeof

import ponder
from ponder import _api
from ponder._lib import lib

SEED = os.path.join(os.environ["PONDER_TEST_DATA"], "seed0").encode()
MEDIA = os.path.join(os.environ["PONDER_TEST_DATA"], "media", "").encode()
CHAT = b'{"messages": [{"role": "user", "content": "x"}]}'
STRUCTS = {POINTER(s): s for s in _api.SIZES}
HANDLES = (_api.ponder_config, _api.ponder_model, _api.ponder_tokenizer, _api.ponder_session, _api.ponder_image,
           _api.ponder_sound, _api.ponder_parser, _api.ponder_agent, _api.ponder_contemplation)
# Of structs that have grown: what the first version had.
FIRST = {_api.ponder_event: _api.ponder_event.name.offset, _api.ponder_plan: _api.ponder_plan.tower_bytes.offset}

# Where the header says that NULL is allowed: (function, number of the argument).
OPTIONAL = {
    ("ponder_config_new", 1), ("ponder_config_set_runner", 1), ("ponder_config_set_progress", 1),
    ("ponder_config_set_progress", 2), ("ponder_config_set_log", 1), ("ponder_config_set_log", 2),
    ("ponder_model_open", 2), ("ponder_model_open_memory", 3), ("ponder_model_open_fd", 4),
    ("ponder_model_open_source", 2), ("ponder_model_open_remote", 2), ("ponder_model_share", 2), ("ponder_model_plan", 2), ("ponder_tokenizer_open", 2),
    ("ponder_model_tokenizer", 2), ("ponder_tokenize", 7), ("ponder_detokenize", 7), ("ponder_render", 6),
    ("ponder_session_new", 2), ("ponder_session_fork", 2), ("ponder_session_rewind", 2),
    ("ponder_session_generate", 1), ("ponder_session_generate", 2), ("ponder_session_run", 1), ("ponder_session_run", 2),
    ("ponder_session_run", 3), ("ponder_parser_new", 4), ("ponder_image_open", 2), ("ponder_image_open_memory", 3),
    ("ponder_image_open_view", 2), ("ponder_image_crop", 6), ("ponder_image_save_png", 2), ("ponder_image_outline", 4),
    ("ponder_model_image_tokens", 4), ("ponder_sound_open", 2), ("ponder_sound_open_memory", 3),
    ("ponder_sound_open_samples", 2), ("ponder_model_sound_tokens", 4), ("ponder_agent_spawn", 2), ("ponder_agent_wait", 4),
    ("ponder_agent_wait", 5), ("ponder_contemplation_new", 2), ("ponder_contemplate", 0), ("ponder_contemplate", 2),
    ("ponder_contemplate", 3), ("ponder_contemplate", 4),
}
# Without a status there is nothing to say; these must simply come back.
QUIET = {f[0] for f in _api.FUNCTIONS if f[1] is not _api.ponder_status}

LAST = mmap.mmap(-1, 256)  # shared with the parent: the call under way


def call(what, name, arguments):
    LAST[:] = what.encode()[:255].ljust(256, b"\0")
    return getattr(lib, name)(*arguments)


class World:
    """A fresh handle of each kind, and a fitting value for every argument."""

    def __init__(self):
        self.config = ponder.Config(threads=1, context=256, max_tokens=2, temperature=0, template="muse")
        self.model = ponder.Model(SEED, self.config)
        self.tokenizer = self.model.tokenizer()
        self.session = self.model.session(self.config)
        self.session.prompt_ids([389, 394, 287])
        self.image = ponder.Image._own(self.picture())
        self.sound = ponder.Sound([0.0] * 4800, rate=24000)
        self.parser = ponder.Parser("muse")
        self.agent = self.session.spawn()
        asked = self.model.session(self.config)
        asked.prompt_ids([389, 394, 287])
        self.contemplation = asked.contemplation(agents=1)
        self.keep = []

    def picture(self):
        """64 x 64 pixels, without a file's format: builds without libpng have them too."""
        pixels = bytes(64 * 64 * 3)
        return ponder.Image._view(self.config, cast(c_char_p(pixels), c_void_p), 64, 64, 192, 3)

    def handle(self, kind):
        return {_api.ponder_config: self.config, _api.ponder_model: self.model, _api.ponder_tokenizer: self.tokenizer,
                _api.ponder_session: self.session, _api.ponder_image: self.image, _api.ponder_sound: self.sound,
                _api.ponder_parser: self.parser, _api.ponder_agent: self.agent, _api.ponder_contemplation: self.contemplation}[kind]._h

    def value(self, name, index, kind):
        """Something that fits; buffers are large enough for what the lengths here say."""
        if kind is c_char_p:
            return {"ponder_model_open": SEED, "ponder_model_open_remote": b"http://127.0.0.1:9", "ponder_model_plan": SEED, "ponder_render": b"muse" if index == 0 else CHAT,
                    "ponder_tokenizer_open": SEED + b"/tokenizer.json", "ponder_session_save_file": b"/dev/null",
                    "ponder_session_load_file": b"/dev/null", "ponder_config_set_str": b"muse", "ponder_parser_new": b"muse" if index == 1 else b"",
                    "ponder_image_open": MEDIA + b"left.png", "ponder_sound_open": MEDIA + b"short.wav",
                    "ponder_image_save_png": b"/dev/null", "ponder_session_tools": b"["}.get(name, b"user")
        if kind in STRUCTS:
            struct = STRUCTS[kind]()
            if hasattr(struct, "size"):
                struct.size = sizeof(struct)
            for name, more in self.members(STRUCTS[kind]).items():
                setattr(struct, name, more)
            self.keep.append(struct)
            return ctypes.pointer(struct)
        for handle in HANDLES:
            if kind is POINTER(handle):
                return self.handle(handle)
            if kind is POINTER(POINTER(handle)):
                listed = name in ("ponder_session_attach_video", "ponder_agent_wait")
                return ctypes.pointer(self.handle(handle) if listed else POINTER(handle)())
        if kind is c_void_p:
            return cast(ctypes.create_string_buffer(64), c_void_p)
        if hasattr(kind, "contents"):
            buffer = (kind._type_ * 4096)()
            self.keep.append(buffer)
            return cast(buffer, kind)
        if hasattr(kind, "_restype_"):
            return kind()
        if kind is _api.ponder_param:
            return {"ponder_config_set_f64": _api.P_TOP_P, "ponder_config_set_str": _api.P_TEMPLATE,
                    "ponder_agent_read": _api.EVENT_ANSWER}.get(name, _api.P_THREADS)
        return len(CHAT) if name == "ponder_render" else 1

    def members(self, struct):
        """Of structs that are read: what a right one holds."""
        if struct is _api.ponder_view:
            self.keep.append((ctypes.c_uint8 * (64 * 64 * 3))())
            return {"pixels": self.keep[-1], "width": 64, "height": 64, "stride": 192, "format": _api.RGB}
        if struct is _api.ponder_samples:
            self.keep.append((ctypes.c_float * 480)())
            return {"samples": self.keep[-1], "frames": 480, "rate": 24000, "channels": 1}
        return {}

    def arguments(self, name, kinds):
        return [self.value(name, i, kind) for i, kind in enumerate(kinds)]


def pointer_like(kind):
    return kind in (c_char_p, c_void_p) or hasattr(kind, "contents") or hasattr(kind, "_restype_")


def null(kind):
    return kind() if hasattr(kind, "_restype_") else None


class Arguments(unittest.TestCase):
    def test_all_null(self):
        for name, result, kinds in _api.FUNCTIONS:
            with self.subTest(name):
                got = call(name + ", all NULL", name, [null(k) if pointer_like(k) else 0 for k in kinds])
                if name not in QUIET:
                    self.assertEqual(got, _api.E_ARGUMENT)

    def test_each_pointer_null(self):
        for name, result, kinds in _api.FUNCTIONS:
            if name.endswith("_free") or name.endswith("_cancel"):
                continue
            for i, kind in enumerate(kinds):
                if not pointer_like(kind):
                    continue
                what = "%s, argument %d NULL" % (name, i)
                with self.subTest(what):
                    world = World()
                    arguments = world.arguments(name, kinds)
                    arguments[i] = null(kind)
                    status = call(what, name, arguments)
                    if name in QUIET:
                        continue
                    self.assertIn(status, _api.STATUS_NAMES)
                    if (name, i) not in OPTIONAL:
                        self.assertEqual(status, _api.E_ARGUMENT)

    def test_numbers_out_of_range(self):
        """Lengths of what is read are the caller's word and not tried; every other number is."""
        lengths = {"ponder_model_open_memory": {2}, "ponder_tokenize": {2, 5}, "ponder_detokenize": {2, 5},
                   "ponder_render": {2, 4}, "ponder_session_add": {3}, "ponder_session_prompt": {2},
                   "ponder_session_prompt_ids": {2}, "ponder_session_eval": {2}, "ponder_session_score": {2},
                   "ponder_session_embed": {2, 4}, "ponder_session_load": {2}, "ponder_session_save": {2},
                   "ponder_session_tokens": {2}, "ponder_session_logits": {2}, "ponder_model_info_str": {3},
                   "ponder_parser_new": {3}, "ponder_parser_feed": {2}, "ponder_image_open_memory": {2},
                   "ponder_image_pixels": {2}, "ponder_image_outline": {3}, "ponder_sound_open_memory": {2},
                   "ponder_session_attach_text": {2}, "ponder_session_attach_video": {3}, "ponder_session_features": {2},
                   "ponder_session_tools": {2}, "ponder_session_add_result": {3}, "ponder_agent_send": {2},
                   "ponder_agent_wait": {1}, "ponder_agent_read": {3}, "ponder_contemplation_answer": {2}}
        for name, result, kinds in _api.FUNCTIONS:
            for i, kind in enumerate(kinds):
                if pointer_like(kind) or i in lengths.get(name, ()):
                    continue
                world = World()
                for value in (-2**63, -2**31, -1, 0, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1):
                    if kind in (ctypes.c_float, ctypes.c_double):
                        value = [float("nan"), float("inf"), float("-inf"), 1e308][value % 4]
                    else:
                        value = kind(value).value
                    what = "%s, argument %d = %r" % (name, i, value)
                    with self.subTest(what):
                        arguments = world.arguments(name, kinds)
                        arguments[i] = value
                        got = call(what, name, arguments)
                        if name not in QUIET:
                            self.assertIn(got, _api.STATUS_NAMES)

    def test_struct_sizes(self):
        """Smaller than the first version is refused; of one between that and ours, not a byte more is written."""
        for name, result, kinds in _api.FUNCTIONS:
            for i, kind in enumerate(kinds):
                if kind not in STRUCTS or not hasattr(STRUCTS[kind], "size") or STRUCTS[kind] is _api.ponder_error:
                    continue
                world = World()
                first = FIRST.get(STRUCTS[kind], sizeof(STRUCTS[kind]))
                for size in (0, 1, 8, first - 1):
                    what = "%s, size %d" % (name, size)
                    with self.subTest(what):
                        arguments = world.arguments(name, kinds)
                        arguments[i].contents.size = size
                        self.assertEqual(call(what, name, arguments), _api.E_ARGUMENT)
                if first == sizeof(STRUCTS[kind]):
                    continue
                what = "%s, size %d" % (name, first)
                with self.subTest(what):
                    arguments = world.arguments(name, kinds)
                    struct = arguments[i].contents
                    ctypes.memset(ctypes.addressof(struct), 0xa5, sizeof(struct))
                    struct.size = first
                    self.assertGreaterEqual(call(what, name, arguments), _api.OK)
                    self.assertEqual(struct.size, first)
                    self.assertEqual(ctypes.string_at(ctypes.addressof(struct) + first, sizeof(struct) - first),
                                     b"\xa5" * (sizeof(struct) - first))

    def test_parameter_bounds(self):
        config = ponder.Config()
        for row in ponder.params():
            if row["type"] == _api.TYPE_STR:
                continue
            setter = {_api.TYPE_I64: lib.ponder_config_set_i64, _api.TYPE_F64: lib.ponder_config_set_f64}[row["type"]]
            for value in ("min", "max", "default"):
                self.assertEqual(setter(config._h, row["id"], row[value]), _api.OK, row["name"])
            below, above = row["min"] - 1, row["max"] + 1
            for value in (below, above):
                if row["type"] == _api.TYPE_F64 or -2**63 <= value < 2**63:
                    if row["type"] == _api.TYPE_F64 and value in (row["min"], row["max"]):
                        continue
                    self.assertEqual(setter(config._h, row["id"], value), _api.E_RANGE, row["name"])
                    self.assertIn(row["name"], config._error())
            wrong = lib.ponder_config_set_str(config._h, row["id"], b"1")
            self.assertEqual(wrong, _api.E_ARGUMENT, row["name"])
        self.assertEqual(lib.ponder_config_set_f64(config._h, _api.P_TEMPERATURE, float("nan")), _api.E_RANGE)
        for id in (-1, 0, 99, 999, 2**31 - 1):
            self.assertEqual(lib.ponder_config_set_i64(config._h, id, 1), _api.E_UNKNOWN)

    def test_tokens_out_of_range(self):
        world = World()
        vocab = world.model.vocab
        for bad in (-1, vocab, 2**31 - 1, -2**31):
            for function in (world.session.prompt_ids, world.session.eval, world.session.score):
                with self.assertRaises(ponder.Error) as caught:
                    function([5, bad])
                self.assertEqual(caught.exception.status, _api.E_RANGE)
            with self.assertRaises(ponder.Error) as caught:
                world.tokenizer.decode([bad])
            self.assertEqual(caught.exception.status, _api.E_RANGE)
        self.assertRaises(ponder.Error, world.session.rewind, 10**6)


if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        unittest.main()
    _, how = os.waitpid(child, 0)
    if os.WIFSIGNALED(how):
        sys.exit("signal %d in: %s" % (os.WTERMSIG(how), LAST[:].rstrip(b"\0").decode()))
    sys.exit(os.WEXITSTATUS(how))
