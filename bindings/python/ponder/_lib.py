"""Finds libponder, and refuses one that this package was not made for before anything is called through it."""
import ctypes
import ctypes.util
import os

from . import _api


class LibraryMismatch(ImportError):
    """The library that was found is not the one this package was generated for."""


def _candidates():
    if os.environ.get("PONDER_LIBRARY"):
        return [os.environ["PONDER_LIBRARY"]]
    return ["libponder.so.%d" % _api.ABI, "libponder.dylib"]


def _open():
    errors = []
    for name in _candidates():
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            errors.append(str(error))
    raise ImportError("libponder was not found (PONDER_LIBRARY may name it): " + "; ".join(errors))


def _prototypes(lib):
    for name, result, arguments in _api.FUNCTIONS:
        try:
            function = getattr(lib, name)
        except AttributeError:
            raise LibraryMismatch("libponder has no %s" % name) from None
        function.restype = result
        function.argtypes = arguments
        function.__doc__ = _api.DOCS.get(name)


def _check_abi(lib):
    try:
        abi, version = lib.ponder_abi(), lib.ponder_version()
    except AttributeError as error:
        raise LibraryMismatch("this is no libponder: %s" % error) from None
    if abi != _api.ABI:
        raise LibraryMismatch("libponder has ABI %d, this package needs %d" % (abi, _api.ABI))
    major, minor = version // 1000000, version // 1000 % 1000
    # Below 1.0 a minor version may change anything; from 1.0 on an older library may lack what we call.
    if major != _api.VERSION_MAJOR or (major == 0 and minor != _api.VERSION_MINOR) or minor < _api.VERSION_MINOR:
        raise LibraryMismatch("libponder is version %d.%d, this package was made for %d.%d"
                              % (major, minor, _api.VERSION_MAJOR, _api.VERSION_MINOR))


def _check_sizes(lib):
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        for struct, size in _api.SIZES.items():
            if ctypes.sizeof(struct) != size:
                raise LibraryMismatch("%s has %d bytes here, not %d" % (struct.__name__, ctypes.sizeof(struct), size))
    # The library refuses a struct that is smaller than its own first version: ask with ours.
    info = _api.ponder_param_info(size=ctypes.sizeof(_api.ponder_param_info))
    status = lib.ponder_param_at(0, ctypes.byref(info))
    if status != _api.OK:
        raise LibraryMismatch("libponder refuses our structs: %s" % _api.STATUS_NAMES.get(status, status))


def load():
    lib = _open()
    for name in ("ponder_abi", "ponder_version"):
        if hasattr(lib, name):
            getattr(lib, name).restype = ctypes.c_uint32
    _check_abi(lib)
    _prototypes(lib)
    _check_sizes(lib)
    return lib


lib = load()
