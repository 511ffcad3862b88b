package ponder

/*
#include <stdlib.h>
#include <ponder.h>

// Structs are built on the C side: Go memory that holds Go pointers must not be passed.
static ponder_status open_view(ponder_image **out, const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride,
                               int32_t format, ponder_config *config)
{
    ponder_view v = {sizeof v, pixels, width, height, stride, format, 0};
    return ponder_image_open_view(out, &v, config);
}

static ponder_status open_samples(ponder_sound **out, const float *samples, size_t frames, uint32_t rate, uint32_t channels,
                                  ponder_config *config)
{
    ponder_samples s = {sizeof s, samples, frames, rate, channels};
    return ponder_sound_open_samples(out, &s, config);
}
*/
import "C"

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"runtime"
	"unsafe"
)

// Image is a picture: 8-bit RGB, upright, immutable. Any number of goroutines may use one.
type Image struct{ c *C.ponder_image }

// OpenImage reads a PNG or a JPEG. Of config, SetAlpha and SetMaxPixels count.
func OpenImage(path string, config *Config) (*Image, error) {
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	return newImage(config, func(out **C.ponder_image, c *C.ponder_config) Status { return cImageOpen(out, text, c) })
}

// ImageFromBytes reads a PNG or a JPEG in memory.
func ImageFromBytes(file []byte, config *Config) (*Image, error) {
	p, n := bytePointer(file), len(file)
	return newImage(config, func(out **C.ponder_image, c *C.ponder_config) Status {
		return cImageOpenMemory(out, unsafe.Pointer(p), n, c)
	})
}

// ImageFrom takes the pixels of any image of Go's; *image.NRGBA and opaque *image.RGBA without another copy.
func ImageFrom(picture image.Image, config *Config) (*Image, error) {
	if picture == nil {
		return nil, &Error{ErrArgument, "picture: nil"}
	}
	pix, stride, size := straight(picture)
	format := FormatRGBA
	if size.X <= 0 || size.Y <= 0 || len(pix) < (size.Y-1)*stride+size.X*4 {
		return nil, &Error{ErrFormat, fmt.Sprintf("a picture of %d x %d pixels in %d bytes", size.X, size.Y, len(pix))}
	}
	return newImage(config, func(out **C.ponder_image, c *C.ponder_config) Status {
		return Status(C.open_view(out, (*C.uint8_t)(bytePointer(pix)), C.uint32_t(size.X), C.uint32_t(size.Y),
			C.size_t(stride), C.int32_t(format), c))
	})
}

// straight gives four bytes a pixel whose colours are not multiplied by alpha.
func straight(picture image.Image) (pix []byte, stride int, size image.Point) {
	r := picture.Bounds()
	switch p := picture.(type) {
	case *image.NRGBA:
		return p.Pix[min(len(p.Pix), p.PixOffset(r.Min.X, r.Min.Y)):], p.Stride, r.Size()
	case *image.RGBA:
		if p.Opaque() {
			return p.Pix[min(len(p.Pix), p.PixOffset(r.Min.X, r.Min.Y)):], p.Stride, r.Size()
		}
	}
	flat := image.NewNRGBA(image.Rectangle{Max: r.Size()})
	draw.Draw(flat, flat.Rect, picture, r.Min, draw.Src)
	return flat.Pix, flat.Stride, r.Size()
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func newImage(config *Config, open func(**C.ponder_image, *C.ponder_config) Status) (*Image, error) {
	config, err := config.orDefault()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(config)
	i := &Image{}
	if s := open(&i.c, config.c); s != OK {
		return nil, failure(s, cConfigError(config.c))
	}
	runtime.SetFinalizer(i, (*Image).Close)
	return i, nil
}

// Close frees the picture; sessions keep what they were given.
func (i *Image) Close() {
	cImageFree(i.c)
	i.c = nil
	runtime.SetFinalizer(i, nil)
}

func (i *Image) do(call func() Status) error {
	if i.c == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(i)
	return failure(call(), nil)
}

// made is a picture from this one.
func (i *Image) made(call func(**C.ponder_image, *C.ponder_config) Status) (*Image, error) {
	if i.c == nil {
		return nil, ErrClosed
	}
	defer runtime.KeepAlive(i)
	return newImage(nil, call)
}

// Size in pixels.
func (i *Image) Size() (width, height int, err error) {
	var w, h C.uint32_t
	err = i.do(func() Status { return cImageSize(i.c, &w, &h) })
	return int(w), int(h), err
}

// Crop is a part at full resolution, to look closer.
func (i *Image) Crop(part image.Rectangle) (*Image, error) {
	x, y, size := part.Min.X, part.Min.Y, part.Size()
	for _, v := range []int{x, y, size.X, size.Y} {
		if v < 0 || int64(v) > 1<<31 {
			return nil, &Error{ErrRange, fmt.Sprintf("%v is not inside the picture", part)}
		}
	}
	return i.made(func(out **C.ponder_image, c *C.ponder_config) Status {
		return cImageCrop(out, i.c, uint32(x), uint32(y), uint32(size.X), uint32(size.Y), c)
	})
}

// Outline is a copy with an outline round each box: x_min, y_min, x_max, y_max in 0..1000, as models write them.
func (i *Image) Outline(boxes [][4]float64) (*Image, error) {
	var p *C.double
	if len(boxes) > 0 {
		p = (*C.double)(unsafe.Pointer(&boxes[0]))
	}
	return i.made(func(out **C.ponder_image, c *C.ponder_config) Status {
		return cImageOutline(out, i.c, p, len(boxes), c)
	})
}

// Pixels as a picture of Go's.
func (i *Image) Pixels() (*image.NRGBA, error) {
	w, h, err := i.Size()
	if err != nil {
		return nil, err
	}
	var rgb []byte
	err = i.do(func() Status {
		var s Status
		rgb, s = sized(func(p unsafe.Pointer, cap int, n *C.size_t) Status {
			return cImagePixels(i.c, (*C.uint8_t)(p), cap, n)
		}, 1)
		return s
	})
	if err != nil {
		return nil, err
	}
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	for k := 0; k < w*h; k++ {
		out.SetNRGBA(k%w, k/w, color.NRGBA{R: rgb[3*k], G: rgb[3*k+1], B: rgb[3*k+2], A: 255})
	}
	return out, nil
}

// SavePNG writes a PNG.
func (i *Image) SavePNG(path string) error {
	config, err := NewConfig()
	if err != nil {
		return err
	}
	defer config.Close()
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	if i.c == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(i)
	return failure(cImageSavePng(i.c, text, config.c), cConfigError(config.c))
}

// ToModel gives a place in pixels as models name it: 0..1000 across and down.
func (i *Image) ToModel(x, y float64) (modelX, modelY float64, err error) {
	var mx, my C.double
	err = i.do(func() Status { return cImageToModel(i.c, x, y, &mx, &my) })
	return float64(mx), float64(my), err
}

// FromModel gives a place that a model named in pixels.
func (i *Image) FromModel(modelX, modelY float64) (x, y float64, err error) {
	var px, py C.double
	err = i.do(func() Status { return cImageFromModel(i.c, modelX, modelY, &px, &py) })
	return float64(px), float64(py), err
}

// ImageTokens that a picture of this size takes, its marks included; nothing is encoded.
func (m *Model) ImageTokens(width, height int) (int, error) {
	if width < 0 || height < 0 || int64(width) > 1<<31 || int64(height) > 1<<31 {
		return 0, &Error{ErrRange, fmt.Sprintf("a picture of %d x %d pixels", width, height)}
	}
	return m.tokens(func(n *C.size_t, e *C.ponder_error) Status {
		return cModelImageTokens(m.c, uint32(width), uint32(height), n, e)
	})
}

// SoundTokens that so many frames at this rate take, marks included.
func (m *Model) SoundTokens(frames uint64, rate int) (int, error) {
	return m.tokens(func(n *C.size_t, e *C.ponder_error) Status {
		return cModelSoundTokens(m.c, frames, unsigned(rate), n, e)
	})
}

func (m *Model) tokens(call func(*C.size_t, *C.ponder_error) Status) (int, error) {
	if m.c == nil {
		return 0, ErrClosed
	}
	defer runtime.KeepAlive(m)
	var n C.size_t
	e := newErrorText()
	s := call(&n, e)
	return int(n), failure(s, &e.text[0])
}

// unsigned is 0, which the library refuses, for what does not fit.
func unsigned(v int) uint32 {
	if v < 0 || int64(v) > 1<<31 {
		return 0
	}
	return uint32(v)
}

// Video is frames in order, all of one size, with the second at which each is shown; nil Seconds: two a second.
type Video struct {
	Frames  []*Image
	Seconds []float64
}

// Sound is one channel at the rate that models hear, immutable. Any number of goroutines may use one.
type Sound struct{ c *C.ponder_sound }

// OpenSound reads a WAV file. Of config, SetMaxSeconds counts.
func OpenSound(path string, config *Config) (*Sound, error) {
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	return newSound(config, func(out **C.ponder_sound, c *C.ponder_config) Status { return cSoundOpen(out, text, c) })
}

// SoundFromBytes reads a WAV file in memory.
func SoundFromBytes(wav []byte, config *Config) (*Sound, error) {
	p, n := bytePointer(wav), len(wav)
	return newSound(config, func(out **C.ponder_sound, c *C.ponder_config) Status {
		return cSoundOpenMemory(out, unsafe.Pointer(p), n, c)
	})
}

// SoundFromSamples takes floats in -1..1, interleaved.
func SoundFromSamples(samples []float32, rate, channels int, config *Config) (*Sound, error) {
	frames, err := wholeFrames(samples, channels)
	if err != nil {
		return nil, err
	}
	return newSound(config, func(out **C.ponder_sound, c *C.ponder_config) Status {
		return Status(C.open_samples(out, floatPointer(samples), C.size_t(frames), C.uint32_t(unsigned(rate)), C.uint32_t(channels), c))
	})
}

func wholeFrames(samples []float32, channels int) (int, error) {
	if channels < 1 || channels > 1<<16 || len(samples)%channels != 0 {
		return 0, &Error{ErrArgument, fmt.Sprintf("%d samples are no whole frames of %d channels", len(samples), channels)}
	}
	return len(samples) / channels, nil
}

func newSound(config *Config, open func(**C.ponder_sound, *C.ponder_config) Status) (*Sound, error) {
	config, err := config.orDefault()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(config)
	s := &Sound{}
	if status := open(&s.c, config.c); status != OK {
		return nil, failure(status, cConfigError(config.c))
	}
	runtime.SetFinalizer(s, (*Sound).Close)
	return s, nil
}

// Close frees the sound; sessions keep what they were given.
func (s *Sound) Close() {
	cSoundFree(s.c)
	s.c = nil
	runtime.SetFinalizer(s, nil)
}

func bytePointer(b []byte) *C.uchar {
	if len(b) == 0 {
		return (*C.uchar)(unsafe.Pointer(&emptyText[0]))
	}
	return (*C.uchar)(unsafe.Pointer(&b[0]))
}
