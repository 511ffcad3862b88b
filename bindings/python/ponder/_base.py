"""What every part of the layer stands on: errors, handles, buffers, options."""
import ctypes
import json
import os
from ctypes import POINTER, byref, c_int32, c_size_t, c_void_p, cast, sizeof

from . import _api
from ._lib import lib


class Error(Exception):
    """status: the number; name: such as "PONDER_E_IO"; text: what the library says about it."""

    def __init__(self, status, text=""):
        self.status = status
        self.name = lib.ponder_status_name(status).decode()
        self.text = text
        super().__init__("%s: %s" % (self.name, text) if text else self.name)


def check(status, text=""):
    if status < 0:
        raise Error(status, text() if callable(text) else text)
    return status


class ErrorText:
    """The optional ponder_error of calls on shared objects."""

    def __init__(self):
        self.c = _api.ponder_error(size=sizeof(_api.ponder_error))

    def __call__(self):
        return self.c.text.decode("utf-8", "replace")


# ---- values ---------------------------------------------------------------------------------------------

def utf8(text):
    return text.encode("utf-8") if isinstance(text, str) else bytes(text)


def fs_path(path):
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError("a NUL inside the path")
    return data


def as_json(value):
    """JSON text of what is no text yet; an object with model_json_schema() (pydantic's models) stands for its schema."""
    def schema(other):
        if hasattr(other, "model_json_schema"):
            return other.model_json_schema()
        raise TypeError("%r has no form in JSON" % (other,))
    return value if isinstance(value, (str, bytes)) else json.dumps(value, default=schema, ensure_ascii=False)


def sized(element, call, check):
    """Asks how much there is, then for it. call(buffer, cap, n) -> status."""
    n = c_size_t()
    status = call(None, 0, byref(n))
    if status != _api.E_SPACE:
        check(status)
    buffer = (element * n.value)()
    if n.value:
        check(call(buffer, n.value, byref(n)))
    return buffer


def unsigned(value, bits=32):
    """ctypes would cut it silently."""
    if not 0 <= value < 1 << bits:
        raise OverflowError("%d is outside 0..2**%d-1" % (value, bits))
    return value


def id_array(ids):
    ids = list(ids)
    return (c_int32 * len(ids))(*ids), len(ids)


def floats(buffer, *shape):
    """A numpy array where numpy is installed, otherwise a memoryview (of a matrix: one a row); no copy either way."""
    try:
        import numpy
    except ImportError:
        view = memoryview(buffer).cast("B").cast("f")
        return [view[i * shape[1]:(i + 1) * shape[1]] for i in range(shape[0])] if shape else view
    array = numpy.frombuffer(buffer, dtype=numpy.float32)
    return array.reshape(shape) if shape else array


def address(data):
    """Bytes as a const void *; they must be kept by the caller."""
    return cast(ctypes.c_char_p(data), c_void_p)


def names(prefix):
    """Of constants {number: name}: {7: "time"} of END_TIME."""
    return {value: name[len(prefix):].lower() for name, value in vars(_api).items()
            if name.startswith(prefix) and isinstance(value, int)}


# ---- handles --------------------------------------------------------------------------------------------

class Handle:
    """Owns one C handle; children keep their parents alive inside the library, so order of closing is free."""

    _free = None

    def __init__(self):
        self._h = None

    @classmethod
    def _own(cls, handle):
        self = cls.__new__(cls)
        self._h = handle
        return self

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


class Config(Handle, _api.ConfigSetters):
    """Options; one set_NAME method each, or keyword arguments: Config(threads=2, temperature=0.7). Of an option that adds
    texts a list gives several: Config(stop=["\\n\\n", "User:"])."""

    _free = lib.ponder_config_free

    def __init__(self, **options):
        super().__init__()
        self._keep = {}  # callbacks that C still holds
        self._said = []  # (setter, id, value) of what was set, in order
        handle = POINTER(_api.ponder_config)()
        check(lib.ponder_config_new(byref(handle), None))
        self._h = handle
        for name, value in options.items():
            setter = getattr(self, "set_" + name, None)
            if setter is None:
                raise TypeError("no option named %r" % name)
            for each in value if isinstance(value, (list, tuple)) else [value]:
                setter(each)

    def _error(self):
        return lib.ponder_config_error(self._h).decode("utf-8", "replace")

    def _i64(self, param, value):
        if not -2**63 <= value < 2**63:
            raise OverflowError("%d does not fit 64 bits" % value)
        check(lib.ponder_config_set_i64(self._get(), param, value), self._error)
        self._said.append(("_i64", param, value))

    def _f64(self, param, value):
        check(lib.ponder_config_set_f64(self._get(), param, value), self._error)
        self._said.append(("_f64", param, value))

    def _str(self, param, value):
        value = utf8(value)
        if b"\0" in value:
            raise ValueError("a NUL inside the text")
        check(lib.ponder_config_set_str(self._get(), param, value), self._error)
        self._said.append(("_str", param, value))

    def set_schema(self, value):
        """JSON Schema that binds the answer: its text, a dict, or a class with model_json_schema(); None or "": none."""
        if value is None:
            value = ""
        elif hasattr(value, "model_json_schema"):
            value = value.model_json_schema()
        super().set_schema(as_json(value))

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
        check(setter(self._get(), pointer, None), self._error)
        self._keep[name] = pointer


def config_of(config, options):
    if config is not None and options:
        raise TypeError("a config or options, not both")
    return config if config is not None else Config(**options)


def changed(settings, options):
    """A config with what was said before (Config._said), and these options in the place of what it said of them."""
    new = Config(**options)
    named = {param for _, param, _ in new._said}
    config = Config()
    for setter, param, value in [said for said in settings if said[1] not in named] + new._said:
        getattr(config, setter)(param, value)
    return config


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


def create(kind, config, function, *arguments):
    """function(&handle, arguments..., config): the handle that it makes."""
    handle = POINTER(kind)()
    check(function(byref(handle), *arguments, config._get()), config._error)
    return handle

