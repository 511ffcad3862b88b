"""Pictures, videos and sounds: the parts of a message beside its text."""
import array
import sys
from ctypes import POINTER, byref, c_double, c_float, c_uint8, c_uint32, c_void_p, cast, sizeof

from . import _api
from ._base import Handle, address, check, config_of, create, fs_path, sized, unsigned
from ._lib import lib


def _encoded(source):
    """The bytes of a file that was given as such, as something to read from, or as an array of them; None: it was not."""
    if hasattr(source, "read"):
        source = source.read()
        if not isinstance(source, (bytes, bytearray, memoryview)):
            raise TypeError("the file must be opened in binary mode")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    return None


def _from_pil(source):
    """A PIL.Image as (bytes, width, height, channels); None: it is none. Its pixels are taken as they stand."""
    pil = sys.modules.get("PIL.Image")
    if pil is None or not isinstance(source, pil.Image):
        return None
    clear = source.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in source.info
    picture = source.convert("RGBA" if clear else "RGB")
    return picture.tobytes(), picture.width, picture.height, 4 if clear else 3


class Image(Handle):
    """A picture: 8-bit RGB, upright, immutable; any thread.

    source: the path of a PNG or JPEG, its bytes, a file opened in binary mode, an array of uint8 [height][width][3 or 4], or
    a PIL.Image (taken as it stands: its EXIF orientation is not applied). Options: alpha ("white", "drop"), max_pixels."""

    _free = lib.ponder_image_free

    def __init__(self, source, config=None, **options):
        super().__init__()
        config = config_of(config, options)
        pil, encoded = _from_pil(source), None
        if pil is None:
            encoded = _encoded(source)
        if pil is not None:
            data, width, height, channels = pil
            self._h = self._view(config, address(data), width, height, width * channels, channels)
        elif encoded is not None:
            self._h = create(_api.ponder_image, config, lib.ponder_image_open_memory, address(encoded), len(encoded))
        elif hasattr(source, "__array_interface__"):
            self._h = self._array(config, source)
        else:
            self._h = create(_api.ponder_image, config, lib.ponder_image_open, fs_path(source))

    @staticmethod
    def _view(config, pixels, width, height, stride, channels):
        view = _api.ponder_view(size=sizeof(_api.ponder_view), pixels=cast(pixels, POINTER(c_uint8)), width=width,
                                height=height, stride=stride, format=_api.RGB if channels == 3 else _api.RGBA)
        return create(_api.ponder_image, config, lib.ponder_image_open_view, byref(view))

    def _array(self, config, source):
        about = source.__array_interface__
        shape, strides = about["shape"], about.get("strides")
        if about["typestr"] != "|u1" or len(shape) != 3 or shape[2] not in (3, 4):
            raise ValueError("a picture is an array of uint8 with the shape (height, width, 3 or 4), not %s %r"
                             % (about["typestr"], shape))
        height, width, channels = shape
        if strides is None:
            strides = (width * channels, channels, 1)
        if tuple(strides[1:]) == (channels, 1) and strides[0] >= width * channels:
            return self._view(config, c_void_p(about["data"][0]), width, height, strides[0], channels)
        data = source.tobytes()  # mirrored, transposed, every second pixel...: in order, once
        return self._view(config, address(data), width, height, width * channels, channels)

    @property
    def size(self):
        """(width, height) in pixels."""
        width, height = c_uint32(), c_uint32()
        check(lib.ponder_image_size(self._get(), byref(width), byref(height)))
        return width.value, height.value

    def crop(self, x, y, width, height):
        """A part at full resolution, to look closer."""
        return self._made(lib.ponder_image_crop, *map(unsigned, (x, y, width, height)))

    def outline(self, boxes):
        """A copy with an outline round each box (x_min, y_min, x_max, y_max) in 0..1000, as models write them."""
        boxes = [float(edge) for box in boxes for edge in _four(box)]
        return self._made(lib.ponder_image_outline, (c_double * len(boxes))(*boxes), len(boxes) // 4)

    def _made(self, function, *arguments):
        return Image._own(create(_api.ponder_image, config_of(None, {}), function, self._get(), *arguments))

    def pixels(self):
        """[height][width][3]: a numpy array where numpy is installed, otherwise a memoryview."""
        width, height = self.size
        data = sized(c_uint8, lambda *a: lib.ponder_image_pixels(self._get(), *a), check)
        try:
            import numpy
        except ImportError:
            return memoryview(data).cast("B").cast("B", (height, width, 3))
        return numpy.frombuffer(data, dtype=numpy.uint8).reshape(height, width, 3)

    def save(self, path):
        """Writes a PNG."""
        config = config_of(None, {})
        check(lib.ponder_image_save_png(self._get(), fs_path(path), config._get()), config._error)

    def to_model(self, x, y):
        """A place in pixels as models name it: 0..1000 across and down."""
        return self._place(lib.ponder_image_to_model, x, y)

    def from_model(self, x, y):
        """A place that a model named, in pixels."""
        return self._place(lib.ponder_image_from_model, x, y)

    def _place(self, function, x, y):
        to_x, to_y = c_double(), c_double()
        check(function(self._get(), x, y, byref(to_x), byref(to_y)))
        return to_x.value, to_y.value

    def __repr__(self):
        return "Image(%dx%d)" % self.size if self._h else "Image(closed)"


def _four(box):
    box = tuple(box)
    if len(box) != 4:
        raise ValueError("a box is x_min, y_min, x_max, y_max, not %r" % (box,))
    return box


class Video:
    """Frames in order, all of one size: Images, or whatever Image takes. `seconds` says when each is shown; without it `fps`
    of them are shown a second (models are used to two)."""

    def __init__(self, frames, seconds=None, fps=2.0):
        self.frames = [frame if isinstance(frame, Image) else Image(frame) for frame in frames]
        self.seconds = [i / fps for i in range(len(self.frames))] if seconds is None else [float(s) for s in seconds]
        if len(self.seconds) != len(self.frames):
            raise ValueError("%d frames, but %d times" % (len(self.frames), len(self.seconds)))


def samples(source, rate, channels=None):
    """(ponder_samples, what it points into): floats in -1..1, [frames] or [frames][channels], of numpy and its like, or
    any sequence of them, interleaved."""
    if isinstance(source, (bytes, bytearray, str)):
        raise TypeError("samples are floats; the bytes of a WAV file make a Sound")
    if hasattr(source, "__array__"):
        import numpy
        flat = numpy.asarray(source)
        if flat.dtype.kind != "f" or flat.ndim not in (1, 2):
            raise TypeError("samples are floats in -1..1, [frames] or [frames][channels], not %s %r" % (flat.dtype, flat.shape))
        if flat.ndim == 2 and channels not in (None, flat.shape[1]):
            raise ValueError("%d channels in the array, not %d" % (flat.shape[1], channels))
        channels = flat.shape[1] if flat.ndim == 2 else channels
        flat = numpy.ascontiguousarray(flat, dtype=numpy.float32)
        pointer, n = flat.ctypes.data_as(POINTER(c_float)), flat.size
    else:
        flat = source if isinstance(source, array.array) and source.typecode == "f" else array.array("f", source)
        pointer, n = cast(flat.buffer_info()[0], POINTER(c_float)), len(flat)
    channels = unsigned(1 if channels is None else channels)
    if channels == 0 or n % channels:
        raise ValueError("%d samples are no whole frames of %d channels" % (n, channels))
    return _api.ponder_samples(size=sizeof(_api.ponder_samples), samples=pointer, frames=n // channels, rate=unsigned(rate),
                               channels=channels), flat


class Sound(Handle):
    """A sound: one channel at the rate that models hear, immutable; any thread.

    source: the path of a WAV file, its bytes, or a file opened in binary mode; with `rate`: floats in -1..1, [frames] or
    [frames][channels] (a numpy array), or any sequence of them, interleaved if there are `channels`. Option: max_seconds."""

    _free = lib.ponder_sound_free

    def __init__(self, source, config=None, *, rate=None, channels=None, **options):
        super().__init__()
        config = config_of(config, options)
        if rate is not None:
            view, keep = samples(source, rate, channels)
            self._h = create(_api.ponder_sound, config, lib.ponder_sound_open_samples, byref(view))
            return
        if channels is not None or hasattr(source, "__array__") or isinstance(source, (array.array, list, tuple)):
            raise TypeError("samples need a rate")
        encoded = _encoded(source)
        if encoded is not None:
            self._h = create(_api.ponder_sound, config, lib.ponder_sound_open_memory, address(encoded), len(encoded))
        else:
            self._h = create(_api.ponder_sound, config, lib.ponder_sound_open, fs_path(source))
