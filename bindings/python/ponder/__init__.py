"""ponder: a thinking model inside your program.

    import ponder

    with ponder.Model("model.gguf") as model, model.session() as session:
        for piece in session.ask("Why is the sky blue?"):
            print(piece, end="", flush=True)

Importing fails with LibraryMismatch when libponder is not the one this package was generated for. Every failure of a
call is a ponder.Error with the status, its name and the library's text. A Model may be used by many threads; a Config
and a Session by one at a time, but for Session.cancel.
"""
import ctypes
from ctypes import POINTER, byref, c_char, c_float, c_int32, c_int64, c_size_t, c_uint8, c_void_p, cast, sizeof

from . import _api
from ._lib import LibraryMismatch, lib

__all__ = ["Config", "Error", "Event", "LibraryMismatch", "Model", "Session", "Tokenizer", "params", "plan", "render",
           "version"]

# The constants, without their PONDER_ prefix: ponder.EVENT_ANSWER.
globals().update({name: value for name, value in vars(_api).items() if name.isupper() and isinstance(value, int)})


class Error(Exception):
    """status: the number; name: such as "PONDER_E_IO"; text: what the library says about it."""

    def __init__(self, status, text=""):
        self.status = status
        self.name = lib.ponder_status_name(status).decode()
        self.text = text
        super().__init__("%s: %s" % (self.name, text) if text else self.name)


def _check(status, text=""):
    if status < 0:
        raise Error(status, text() if callable(text) else text)
    return status


def _utf8(text):
    return text.encode("utf-8") if isinstance(text, str) else bytes(text)


def _path(path):
    import os
    return os.fsencode(path)


def _sized(element, call, check):
    """Asks how much there is, then for it. call(buffer, cap, n) -> status."""
    n = c_size_t()
    status = call(None, 0, byref(n))
    if status != _api.E_SPACE:
        check(status)
    buffer = (element * n.value)()
    if n.value:
        check(call(buffer, n.value, byref(n)))
    return buffer


def _ids(ids):
    ids = list(ids)
    return (c_int32 * len(ids))(*ids), len(ids)


def _floats(buffer, *shape):
    """A numpy array where numpy is installed, otherwise a memoryview (of a matrix: one a row); no copy either way."""
    try:
        import numpy
    except ImportError:
        view = memoryview(buffer).cast("B").cast("f")
        return [view[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])] if shape else view
    array = numpy.frombuffer(buffer, dtype=numpy.float32)
    return array.reshape(shape) if shape else array


class _ErrorText:
    """The optional ponder_error of calls on shared objects."""

    def __init__(self):
        self.c = _api.ponder_error(size=sizeof(_api.ponder_error))

    def __call__(self):
        return self.c.text.decode("utf-8", "replace")


class _Handle:
    """Owns one C handle; children keep their parents alive inside the library, so order of closing is free."""

    _free = None

    def __init__(self):
        self._h = None

    def _get(self):
        if not self._h:
            raise ValueError("%s is closed" % type(self).__name__)
        return self._h

    def close(self):
        if getattr(self, "_h", None):
            handle, self._h = self._h, None
            self._free(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()


class Config(_Handle, _api.ConfigSetters):
    """Options; one set_NAME method each, or keyword arguments: Config(threads=2, temperature=0.7)."""

    _free = lib.ponder_config_free

    def __init__(self, **options):
        super().__init__()
        self._keep = {}  # callbacks that C still holds
        handle = POINTER(_api.ponder_config)()
        _check(lib.ponder_config_new(byref(handle), None))
        self._h = handle
        for name, value in options.items():
            setter = getattr(self, "set_" + name, None)
            if setter is None:
                raise TypeError("no option named %r" % name)
            setter(value)

    def _error(self):
        return lib.ponder_config_error(self._h).decode("utf-8", "replace")

    def _i64(self, param, value):
        if not -2**63 <= value < 2**63:
            raise OverflowError("%d does not fit 64 bits" % value)
        _check(lib.ponder_config_set_i64(self._get(), param, value), self._error)

    def _f64(self, param, value):
        _check(lib.ponder_config_set_f64(self._get(), param, value), self._error)

    def _str(self, param, value):
        value = _utf8(value)
        if b"\0" in value:
            raise ValueError("a NUL inside the text")
        _check(lib.ponder_config_set_str(self._get(), param, value), self._error)

    def on_progress(self, function):
        """function(done, total) while a model loads; a true result cancels. None takes it back."""
        def call(_, done, total):
            return 1 if function(done, total) else 0
        self._callback("progress", lib.ponder_config_set_progress, call if function else None)

    def on_log(self, function):
        """function(level, line) for each log line of what is opened with this config."""
        def call(_, level, line):
            function(level, line.decode("utf-8", "replace"))
        self._callback("log", lib.ponder_config_set_log, call if function else None)

    def _callback(self, name, setter, call):
        kind = setter.argtypes[1]
        pointer = kind(call) if call else kind()
        _check(setter(self._get(), pointer, None), self._error)
        self._keep[name] = pointer


def _config(config, options):
    if config is not None and options:
        raise TypeError("a config or options, not both")
    return config if config is not None else Config(**options)


class Model(_Handle):
    """A GGUF file or a folder with safetensors. `data` opens a GGUF in memory instead (it is kept, not copied)."""

    _free = lib.ponder_model_free

    def __init__(self, path=None, config=None, *, data=None, **options):
        super().__init__()
        config = _config(config, options)
        handle = POINTER(_api.ponder_model)()
        self._keep = [config._keep, data]
        if data is not None:
            pointer = cast(ctypes.c_char_p(data), c_void_p) if isinstance(data, bytes) else \
                cast((c_uint8 * len(data)).from_buffer(data), c_void_p)
            status = lib.ponder_model_open_memory(byref(handle), pointer, len(data), config._get())
        else:
            status = lib.ponder_model_open(byref(handle), _path(path), config._get())
        _check(status, config._error)
        self._h = handle

    def session(self, config=None, **options):
        return Session(self, config, **options)

    def tokenizer(self):
        handle, error = POINTER(_api.ponder_tokenizer)(), _ErrorText()
        _check(lib.ponder_model_tokenizer(byref(handle), self._get(), byref(error.c)), error)
        return Tokenizer._own(handle)

    def share(self, config=None, **options):
        """A second engine, with its own threads and caps, over the same weights."""
        config = _config(config, options)
        handle = POINTER(_api.ponder_model)()
        _check(lib.ponder_model_share(byref(handle), self._get(), config._get()), config._error)
        other = Model.__new__(Model)
        other._h, other._keep = handle, [self._keep, config._keep]
        return other

    def info(self, id):
        """The value of an INFO_ constant: an int or a str."""
        number = c_int64()
        if lib.ponder_model_info_i64(self._get(), id, byref(number)) == _api.OK:
            return number.value
        text = _sized(c_char, lambda b, cap, n: lib.ponder_model_info_str(self._get(), id, b, cap, n), _check)
        return text.raw.decode("utf-8", "replace")

    @property
    def vocab(self):
        return self.info(_api.INFO_VOCAB)

    @property
    def width(self):
        return self.info(_api.INFO_WIDTH)


class Tokenizer(_Handle):
    _free = lib.ponder_tokenizer_free

    def __init__(self, path, config=None, **options):
        super().__init__()
        config = _config(config, options)
        handle = POINTER(_api.ponder_tokenizer)()
        _check(lib.ponder_tokenizer_open(byref(handle), _path(path), config._get()), config._error)
        self._h = handle

    @classmethod
    def _own(cls, handle):
        self = cls.__new__(cls)
        self._h = handle
        return self

    def encode(self, text, special=False, bos=False):
        data, error = _utf8(text), _ErrorText()
        flags = (_api.TOKENIZE_SPECIAL if special else 0) | (_api.TOKENIZE_BOS if bos else 0)
        return list(_sized(c_int32, lambda b, cap, n: lib.ponder_tokenize(
            self._get(), data, len(data), flags, b, cap, n, byref(error.c)), lambda s: _check(s, error)))

    def decode(self, ids, special=False):
        (array, count), error = _ids(ids), _ErrorText()
        text = _sized(c_char, lambda b, cap, n: lib.ponder_detokenize(
            self._get(), array, count, 1 if special else 0, b, cap, n, byref(error.c)), lambda s: _check(s, error))
        return text.raw.decode("utf-8")


class Event:
    """kind: EVENT_*; text; token (-1: none); logprob and top [(token, logprob)] when asked for; of the DONE event also
    end (END_*), prompt_tokens, reused_tokens, output_tokens, prefill_us, decode_us."""

    __slots__ = ("kind", "end", "text", "token", "logprob", "top", "prompt_tokens", "reused_tokens", "output_tokens",
                 "prefill_us", "decode_us")

    def __init__(self, c):
        self.text = ctypes.string_at(c.text, c.text_bytes).decode("utf-8", "replace") if c.text_bytes else ""
        self.top = [(c.top[i].token, c.top[i].logprob) for i in range(c.n_top)]
        for name in self.__slots__:
            if name not in ("text", "top"):
                setattr(self, name, getattr(c, name))

    def __repr__(self):
        return "Event(kind=%d, text=%r)" % (self.kind, self.text)


class Session(_Handle):
    """A conversation."""

    _free = lib.ponder_session_free
    SLICE_US = 20000  # between two slices Python may act on signals

    def __init__(self, model, config=None, **options):
        super().__init__()
        config = _config(config, options)
        handle = POINTER(_api.ponder_session)()
        _check(lib.ponder_session_new(byref(handle), model._get(), config._get()), config._error)
        self._h, self._keep = handle, [model._keep, config._keep]

    def _error(self):
        return lib.ponder_session_error(self._h).decode("utf-8", "replace")

    def _call(self, function, *arguments):
        return _check(function(self._get(), *arguments), self._error)

    def configure(self, config=None, **options):
        self._call(lib.ponder_session_configure, _config(config, options)._get())

    def bias(self, token, bias):
        self._call(lib.ponder_session_bias, token, bias)

    def add(self, role, text):
        data = _utf8(text)
        self._call(lib.ponder_session_add, _utf8(role), data, len(data))

    def prompt(self, text, special=False, bos=False):
        data = _utf8(text)
        flags = (_api.TOKENIZE_SPECIAL if special else 0) | (_api.TOKENIZE_BOS if bos else 0)
        self._call(lib.ponder_session_prompt, data, len(data), flags)

    def prompt_ids(self, ids):
        self._call(lib.ponder_session_prompt_ids, *_ids(ids))

    def events(self):
        """Generates a turn: an Event for each piece, the DONE event last. Leaving the loop early cancels the turn."""
        c = _api.ponder_event(size=sizeof(_api.ponder_event))
        running = True
        try:
            while running:
                try:
                    status = self._call(lib.ponder_session_step, self.SLICE_US, byref(c))
                except Error:
                    running = False
                    raise
                if status == _api.OK:
                    running = c.kind != _api.EVENT_DONE
                    yield Event(c)
        finally:
            if running and self._h:
                self._abandon(c)

    def _abandon(self, c):
        """A turn that nobody reads any more: cancelled, and read to its end so that the session can be used again."""
        self.cancel()
        while True:
            status = lib.ponder_session_step(self._h, self.SLICE_US, byref(c))
            if status < 0 or (status == _api.OK and c.kind == _api.EVENT_DONE):
                return

    def ask(self, text, role="user"):
        """Adds a message and yields the answer in pieces of text."""
        self.add(role, text)
        for event in self.events():
            if event.kind == _api.EVENT_ANSWER and event.text:
                yield event.text

    def generate(self, on_event=None):
        """Generates a turn in one call; on_event(Event) may return True to end it. Returns the DONE event."""
        last, failure = [], []

        def call(_, c):
            try:
                event = Event(c.contents)
                if event.kind == _api.EVENT_DONE:
                    last.append(event)
                return 1 if on_event and on_event(event) else 0
            except BaseException as error:  # an exception cannot cross C: stop there, raise here
                failure.append(error)
                return 1

        status = lib.ponder_session_generate(self._get(), _api.ponder_on_event(call), None)
        if failure:
            raise failure[0]
        _check(status, self._error)
        return last[0]

    def cancel(self):
        """Ends the running turn soon. From any thread."""
        if self._h:
            lib.ponder_session_cancel(self._h)

    def fork(self, config=None, **options):
        """Another session with the same tokens; nothing is computed again."""
        config = _config(config, options) if config is not None or options else None
        handle = POINTER(_api.ponder_session)()
        self._call_out(lib.ponder_session_fork, handle, config)
        other = Session.__new__(Session)
        other._h, other._keep = handle, [self._keep, config and config._keep]
        return other

    def _call_out(self, function, handle, config):
        status = function(byref(handle), self._get(), config._get() if config else None)
        _check(status, lambda: (config._error() if config else "") or self._error())

    def rewind(self, tokens):
        """Forgets the tokens from that position on; returns how many of the others will be computed again."""
        recompute = c_size_t()
        self._call(lib.ponder_session_rewind, tokens, byref(recompute))
        return recompute.value

    def tokens(self):
        return list(_sized(c_int32, lambda *a: lib.ponder_session_tokens(self._get(), *a),
                           lambda s: _check(s, self._error)))

    @property
    def bytes(self):
        return lib.ponder_session_bytes(self._get())

    def logits(self):
        """[vocab] floats after the last token."""
        return _floats(_sized(c_float, lambda *a: lib.ponder_session_logits(self._get(), *a),
                              lambda s: _check(s, self._error)))

    def eval(self, ids, vocab=0, width=0, layer=0):
        """Appends ids. Returns (logits [n][vocab] or None, hidden [n][width] of `layer` or None): give Model.vocab
        or Model.width for what is wanted."""
        array, n = _ids(ids)
        logits = (c_float * (n * vocab))() if vocab else None
        hidden = (c_float * (n * width))() if width else None
        eval = _api.ponder_eval(size=sizeof(_api.ponder_eval), layer=layer)
        if vocab:
            eval.logits = cast(logits, POINTER(c_float))
        if width:
            eval.hidden = cast(hidden, POINTER(c_float))
        self._call(lib.ponder_session_eval, array, n, byref(eval))
        return (_floats(logits, n, vocab) if vocab else None, _floats(hidden, n, width) if width else None)

    def score(self, ids):
        """Log-probability of each id, each given what stands before it."""
        array, n = _ids(ids)
        out = (c_float * n)()
        self._call(lib.ponder_session_score, array, n, out)
        return list(out)

    def embed(self, text):
        data = _utf8(text)
        return _floats(_sized(c_float, lambda *a: lib.ponder_session_embed(self._get(), data, len(data), *a),
                              lambda s: _check(s, self._error)))

    def save(self, path=None):
        """The state as bytes, or into a file."""
        if path is not None:
            self._call(lib.ponder_session_save_file, _path(path))
            return None
        return bytes(_sized(c_uint8, lambda *a: lib.ponder_session_save(self._get(), *a),
                            lambda s: _check(s, self._error)))

    def load(self, state=None, path=None):
        if path is not None:
            self._call(lib.ponder_session_load_file, _path(path))
        else:
            self._call(lib.ponder_session_load, cast(ctypes.c_char_p(bytes(state)), c_void_p), len(state))


def version():
    """(major, minor, patch) of the library that runs."""
    v = lib.ponder_version()
    return v // 1000000, v // 1000 % 1000, v % 1000


def params():
    """The library's table of options, as dictionaries."""
    table = []
    info = _api.ponder_param_info(size=sizeof(_api.ponder_param_info))
    while lib.ponder_param_at(len(table), byref(info)) == _api.OK:
        row = {"id": info.id, "type": info.type, "since": info.since, "live": bool(info.live)}
        for name in ("name", "help", "str_default"):
            pointer = getattr(info, name)
            row[name] = ctypes.string_at(pointer).decode() if pointer else None
        kind = {_api.TYPE_I64: "i64", _api.TYPE_F64: "f64"}.get(info.type)
        if kind:
            row.update({key: getattr(info, kind + "_" + key) for key in ("default", "min", "max")})
        else:
            row["default"] = row["str_default"]
        del row["str_default"]
        table.append(row)
    return table


def plan(path, config=None, **options):
    """What opening `path` would take, in bytes, by name of ponder_plan's members."""
    config = _config(config, options)
    out = _api.ponder_plan(size=sizeof(_api.ponder_plan))
    _check(lib.ponder_model_plan(byref(out), _path(path), config._get()), config._error)
    return {name: getattr(out, name) for name, _ in _api.ponder_plan._fields_ if name != "size"}


def render(template, conversation):
    """What a template makes of {"messages": ..., "tools": ..., "kwargs": ...} (a dict or its JSON)."""
    import json
    data = _utf8(conversation if isinstance(conversation, (str, bytes)) else json.dumps(conversation))
    error = _ErrorText()
    text = _sized(c_char, lambda b, cap, n: lib.ponder_render(_utf8(template), data, len(data), b, cap, n, byref(error.c)),
                  lambda s: _check(s, error))
    return text.raw.decode("utf-8")
