// Package ponder is a thinking model inside your program: the Go layer over libponder.
//
//	model, err := ponder.Open("model.gguf", nil)
//	session, err := model.NewSession(nil)
//	err = session.Ask(ctx, "Why is the sky blue?", func(e ponder.Event) error {
//		fmt.Print(e.Text)
//		return nil
//	})
//
// Every failure is an *Error with the library's status and text. A Model may be used by many goroutines; a Config, a Session, a
// Contemplation, and the agents of one session together, by one at a time, but for Cancel and CloseThought. Close may be called in any order; what is forgotten is closed by the
// garbage collector.
package ponder

/*
#include <stdlib.h>
#include <ponder.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"unsafe"
)

// Error is a failure of the library.
type Error struct {
	Status Status
	Text   string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Status.String()
	}
	return e.Status.String() + ": " + e.Text
}

// Is compares statuses: errors.Is(err, ponder.ErrIO).
func (e *Error) Is(target error) bool {
	status, ok := target.(Status)
	return ok && status == e.Status
}

// Error lets a Status stand as the target of errors.Is.
func (s Status) Error() string { return s.String() }

// String is the constant's name in C.
func (s Status) String() string { return C.GoString(cStatusName(s)) }

func nameOf(name string, number int32) string {
	if name == "" {
		return strconv.Itoa(int(number))
	}
	return name
}

// ErrClosed is the answer of every call on a handle that was closed.
var ErrClosed = errors.New("ponder: the handle is closed")

// errLibrary is not nil when the library that was loaded is not the one this package was generated for; nothing else is
// called then.
var errLibrary = checkLibrary(cABI(), cVersion())

func checkLibrary(abi, version uint32) error {
	if abi != ABI {
		return fmt.Errorf("ponder: the library has ABI %d, this package needs %d", abi, ABI)
	}
	major, minor := int(version/1000000), int(version/1000%1000)
	// Below 1.0 a minor version may change anything; from 1.0 on an older library may lack what is called.
	if major != VersionMajor || (major == 0 && minor != VersionMinor) || minor < VersionMinor {
		return fmt.Errorf("ponder: the library is version %d.%d, this package was made for %d.%d",
			major, minor, VersionMajor, VersionMinor)
	}
	// The library refuses a struct that is smaller than its own first version: ask with ours.
	info := C.ponder_param_info{size: C.sizeof_ponder_param_info}
	if status := cParamAt(0, &info); status != OK {
		return fmt.Errorf("ponder: the library refuses our structs (status %d)", int32(status)) // its names are not to be trusted
	}
	return nil
}

// Version of the library that runs, or why it is refused.
func Version() (string, error) {
	v := cVersion()
	return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000), errLibrary
}

func failure(s Status, text *C.char) error {
	if s >= 0 {
		return nil
	}
	return &Error{s, C.GoString(text)}
}

func newErrorText() *C.ponder_error { return &C.ponder_error{size: C.sizeof_ponder_error} }

// chars lends a string's bytes to one call.
func chars(s string) (*C.char, int) {
	if s == "" {
		return (*C.char)(unsafe.Pointer(&emptyText[0])), 0
	}
	b := []byte(s)
	return (*C.char)(unsafe.Pointer(&b[0])), len(b)
}

var emptyText [1]byte

// Config holds options; nil stands for the defaults everywhere.
type Config struct{ c *C.ponder_config }

// NewConfig has every default.
func NewConfig() (*Config, error) {
	if errLibrary != nil {
		return nil, errLibrary
	}
	c := &Config{}
	if s := cConfigNew(&c.c, nil); s != OK {
		return nil, &Error{Status: s}
	}
	runtime.SetFinalizer(c, (*Config).Close)
	return c, nil
}

// Close frees the config; what was opened with it is not touched.
func (c *Config) Close() {
	cConfigFree(c.c)
	c.c = nil
	runtime.SetFinalizer(c, nil)
}

func (c *Config) set(call func() Status) error {
	if c.c == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(c)
	return failure(call(), cConfigError(c.c))
}

func (c *Config) setI64(id Param, v int64) error {
	return c.set(func() Status { return cConfigSetI64(c.c, id, v) })
}

func (c *Config) setF64(id Param, v float64) error {
	return c.set(func() Status { return cConfigSetF64(c.c, id, v) })
}

func (c *Config) setStr(id Param, v string) error {
	text := C.CString(v)
	defer C.free(unsafe.Pointer(text))
	return c.set(func() Status { return cConfigSetStr(c.c, id, text) })
}

// orDefault gives every creation a config, because the text of a failure is left there.
func (c *Config) orDefault() (*Config, error) {
	if c == nil {
		return NewConfig()
	}
	if c.c == nil {
		return nil, ErrClosed
	}
	return c, nil
}

// Model owns weights and an engine.
type Model struct{ c *C.ponder_model }

// Open reads a GGUF file, or a folder with safetensors.
func Open(path string, config *Config) (*Model, error) {
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	return newModel(config, func(out **C.ponder_model, c *C.ponder_config) Status { return cModelOpen(out, text, c) })
}

// OpenFd reads a GGUF inside an open file: length bytes from offset; length 0: to the end.
func OpenFd(fd uintptr, offset, length uint64, config *Config) (*Model, error) {
	return newModel(config, func(out **C.ponder_model, c *C.ponder_config) Status {
		return cModelOpenFd(out, C.int(fd), offset, length, c)
	})
}

// OpenRemote is a model on servers that speak OpenAI's protocol: "http://host:port" or a whole base "https://host/v1", several
// separated by blanks. SetRemoteKey, SetRemoteModel and others are options.
func OpenRemote(url string, config *Config) (*Model, error) {
	text := C.CString(url)
	defer C.free(unsafe.Pointer(text))
	return newModel(config, func(out **C.ponder_model, c *C.ponder_config) Status { return cModelOpenRemote(out, text, c) })
}

// Share is a second engine, with its own threads and caps, over the same weights.
func (m *Model) Share(config *Config) (*Model, error) {
	if m.c == nil {
		return nil, ErrClosed
	}
	defer runtime.KeepAlive(m)
	return newModel(config, func(out **C.ponder_model, c *C.ponder_config) Status { return cModelShare(out, m.c, c) })
}

func newModel(config *Config, open func(**C.ponder_model, *C.ponder_config) Status) (*Model, error) {
	config, err := config.orDefault()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(config)
	m := &Model{}
	if s := open(&m.c, config.c); s != OK {
		return nil, failure(s, cConfigError(config.c))
	}
	runtime.SetFinalizer(m, (*Model).Close)
	return m, nil
}

// Close frees the model once its sessions are gone too.
func (m *Model) Close() {
	cModelFree(m.c)
	m.c = nil
	runtime.SetFinalizer(m, nil)
}

// Int is a number the model knows about itself.
func (m *Model) Int(id Info) (int64, error) {
	if m.c == nil {
		return 0, ErrClosed
	}
	defer runtime.KeepAlive(m)
	var v C.int64_t
	s := cModelInfoI64(m.c, int32(id), &v)
	return int64(v), failure(s, nil)
}

// Text is a text the model knows about itself.
func (m *Model) Text(id Info) (string, error) {
	if m.c == nil {
		return "", ErrClosed
	}
	defer runtime.KeepAlive(m)
	b, s := sized(func(p unsafe.Pointer, cap int, n *C.size_t) Status {
		return cModelInfoStr(m.c, int32(id), (*C.char)(p), cap, n)
	}, 1)
	return string(b), failure(s, nil)
}

// sized asks how many elements of `width` bytes there are, then for them.
func sized(call func(p unsafe.Pointer, cap int, n *C.size_t) Status, width int) ([]byte, Status) {
	var n C.size_t
	if s := call(nil, 0, &n); s != OK && s != ErrSpace {
		return nil, s
	}
	if n == 0 {
		return nil, OK
	}
	b := make([]byte, int(n)*width)
	s := call(unsafe.Pointer(&b[0]), int(n), &n)
	return b[:int(n)*width], s
}
