package ponder

/*
#include <stdlib.h>
#include <ponder.h>
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// Tokenizer turns text into ids and back. Any number of goroutines may use one.
type Tokenizer struct{ c *C.ponder_tokenizer }

// OpenTokenizer reads a tokenizer.json, a tiktoken rank file or a GGUF's tokenizer.
func OpenTokenizer(path string, config *Config) (*Tokenizer, error) {
	config, err := config.orDefault()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(config)
	text := C.CString(path)
	defer C.free(unsafe.Pointer(text))
	t := &Tokenizer{}
	if s := cTokenizerOpen(&t.c, text, config.c); s != OK {
		return nil, failure(s, cConfigError(config.c))
	}
	runtime.SetFinalizer(t, (*Tokenizer).Close)
	return t, nil
}

// Tokenizer is the model's own.
func (m *Model) Tokenizer() (*Tokenizer, error) {
	if m.c == nil {
		return nil, ErrClosed
	}
	defer runtime.KeepAlive(m)
	t, e := &Tokenizer{}, newErrorText()
	if s := cModelTokenizer(&t.c, m.c, e); s != OK {
		return nil, failure(s, &e.text[0])
	}
	runtime.SetFinalizer(t, (*Tokenizer).Close)
	return t, nil
}

// Close frees the tokenizer.
func (t *Tokenizer) Close() {
	cTokenizerFree(t.c)
	t.c = nil
	runtime.SetFinalizer(t, nil)
}

// Encode turns text into ids.
func (t *Tokenizer) Encode(text string, flags TokenizeFlags) ([]int32, error) {
	if t.c == nil {
		return nil, ErrClosed
	}
	defer runtime.KeepAlive(t)
	e := newErrorText()
	p, n := chars(text)
	b, s := sized(func(out unsafe.Pointer, cap int, got *C.size_t) Status {
		return cTokenize(t.c, p, n, uint32(flags), (*C.int32_t)(out), cap, got, e)
	}, 4)
	return int32s(b), failure(s, &e.text[0])
}

// Decode turns ids into text; special tokens appear only when asked for.
func (t *Tokenizer) Decode(ids []int32, special bool) (string, error) {
	if t.c == nil {
		return "", ErrClosed
	}
	defer runtime.KeepAlive(t)
	e, show := newErrorText(), int32(0)
	if special {
		show = 1
	}
	b, s := sized(func(out unsafe.Pointer, cap int, got *C.size_t) Status {
		return cDetokenize(t.c, idPointer(ids), len(ids), show, (*C.char)(out), cap, got, e)
	}, 1)
	return string(b), failure(s, &e.text[0])
}

func idPointer(ids []int32) *C.int32_t {
	if len(ids) == 0 {
		return nil
	}
	return (*C.int32_t)(unsafe.Pointer(&ids[0]))
}

func int32s(b []byte) []int32 {
	out := make([]int32, len(b)/4)
	for i := range out {
		out[i] = *(*int32)(unsafe.Pointer(&b[4*i]))
	}
	return out
}

func float32s(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = *(*float32)(unsafe.Pointer(&b[4*i]))
	}
	return out
}
