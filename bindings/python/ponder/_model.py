"""Models and tokenizers."""
from ctypes import POINTER, byref, c_char, c_int32, c_int64, c_size_t, c_uint8, c_void_p, cast

from . import _api
from ._base import ErrorText, Handle, address, check, config_of, fs_path, id_array, sized, unsigned, utf8
from ._lib import lib


class Model(Handle):
    """A GGUF file or a folder with safetensors. `data` opens a GGUF in memory instead (it is kept, not copied)."""

    _free = lib.ponder_model_free

    def __init__(self, path=None, config=None, *, data=None, **options):
        super().__init__()
        config = config_of(config, options)
        handle = POINTER(_api.ponder_model)()
        self._keep = [config._keep, data]
        if data is not None:
            pointer = address(data) if isinstance(data, bytes) else \
                cast((c_uint8 * len(data)).from_buffer(data), c_void_p)
            status = lib.ponder_model_open_memory(byref(handle), pointer, len(data), config._get())
        else:
            status = lib.ponder_model_open(byref(handle), fs_path(path), config._get())
        check(status, config._error)
        self._h = handle

    @classmethod
    def remote(cls, url, config=None, **options):
        """A model on servers that speak OpenAI's protocol: "http://host:port" or a whole base "https://host/v1", or a list of
        several that serve the same model. remote_key, remote_model, remote_retries and others are options."""
        config = config_of(config, options)
        handle = POINTER(_api.ponder_model)()
        url = utf8(url if isinstance(url, (str, bytes)) else " ".join(url))
        if b"\0" in url:
            raise ValueError("a NUL inside the address")
        check(lib.ponder_model_open_remote(byref(handle), url, config._get()), config._error)
        model = cls._own(handle)
        model._keep = [config._keep]
        return model

    def session(self, config=None, **options):
        from ._session import Session
        return Session(self, config, **options)

    def tokenizer(self):
        handle, error = POINTER(_api.ponder_tokenizer)(), ErrorText()
        check(lib.ponder_model_tokenizer(byref(handle), self._get(), byref(error.c)), error)
        return Tokenizer._own(handle)

    def share(self, config=None, **options):
        """A second engine, with its own threads and caps, over the same weights."""
        config = config_of(config, options)
        handle = POINTER(_api.ponder_model)()
        check(lib.ponder_model_share(byref(handle), self._get(), config._get()), config._error)
        other = Model.__new__(Model)
        other._h, other._keep = handle, [self._keep, config._keep]
        return other

    def info(self, id):
        """The value of an INFO_ constant: an int or a str."""
        number = c_int64()
        if lib.ponder_model_info_i64(self._get(), id, byref(number)) == _api.OK:
            return number.value
        text = sized(c_char, lambda b, cap, n: lib.ponder_model_info_str(self._get(), id, b, cap, n), check)
        return text.raw.decode("utf-8", "replace")

    def image_tokens(self, width, height):
        """Tokens that a picture of this size takes, its marks included; a frame of a video takes no more."""
        return self._tokens(lib.ponder_model_image_tokens, unsigned(width), unsigned(height))

    def sound_tokens(self, frames, rate):
        """Tokens that so many frames at this rate take, marks included."""
        return self._tokens(lib.ponder_model_sound_tokens, unsigned(frames, 64), unsigned(rate))

    def _tokens(self, function, *arguments):
        n, error = c_size_t(), ErrorText()
        check(function(self._get(), *arguments, byref(n), byref(error.c)), error)
        return n.value

    @property
    def vocab(self):
        return self.info(_api.INFO_VOCAB)

    @property
    def width(self):
        return self.info(_api.INFO_WIDTH)


class Tokenizer(Handle):
    _free = lib.ponder_tokenizer_free

    def __init__(self, path, config=None, **options):
        super().__init__()
        config = config_of(config, options)
        handle = POINTER(_api.ponder_tokenizer)()
        check(lib.ponder_tokenizer_open(byref(handle), fs_path(path), config._get()), config._error)
        self._h = handle

    def encode(self, text, special=False, bos=False):
        data, error = utf8(text), ErrorText()
        flags = (_api.TOKENIZE_SPECIAL if special else 0) | (_api.TOKENIZE_BOS if bos else 0)
        return list(sized(c_int32, lambda b, cap, n: lib.ponder_tokenize(
            self._get(), data, len(data), flags, b, cap, n, byref(error.c)), lambda s: check(s, error)))

    def decode(self, ids, special=False):
        (array, count), error = id_array(ids), ErrorText()
        text = sized(c_char, lambda b, cap, n: lib.ponder_detokenize(
            self._get(), array, count, 1 if special else 0, b, cap, n, byref(error.c)), lambda s: check(s, error))
        return text.raw.decode("utf-8")
