package ponder

/*
#include <stdlib.h>
#include <ponder.h>

static ponder_status listen_to(ponder_session *session, const float *samples, size_t frames, uint32_t rate, uint32_t channels)
{
    ponder_samples s = {sizeof s, samples, frames, rate, channels};
    return ponder_session_listen(session, &s);
}
*/
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// Add appends a message of parts in any order: string, *Image, *Sound, Video. Text never becomes a control token.
func (s *Session) Add(role string, parts ...any) error {
	return s.message(role, parts, func(name, text *C.char, n int) Status { return cSessionAdd(s.c, name, text, n) })
}

// AddResult is the result of a tool call, for the next turn: text and media. In the order of the calls.
func (s *Session) AddResult(name string, parts ...any) error {
	return s.message(name, parts, func(name, text *C.char, n int) Status { return cSessionAddResult(s.c, name, text, n) })
}

func (s *Session) message(name string, parts []any, add func(name, text *C.char, n int) Status) error {
	last := ""
	if n := len(parts); n > 0 {
		if text, ok := parts[n-1].(string); ok {
			last, parts = text, parts[:n-1]
		}
	}
	if err := s.Attach(parts...); err != nil {
		return err
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	p, n := chars(last)
	return s.do(func() Status { return add(c, p, n) })
}

// Attach gives parts of the next message or result, before those that Add is given. What the model cannot take is refused
// before anything is attached.
func (s *Session) Attach(parts ...any) error {
	for _, part := range parts {
		if err := s.checkPart(part); err != nil {
			return err
		}
	}
	for _, part := range parts {
		if err := s.attach(part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) checkPart(part any) error {
	switch p := part.(type) {
	case string:
		return nil
	case *Image:
		return s.checkImage(p)
	case *Sound:
		if p == nil || p.c == nil {
			return ErrClosed
		}
		if s.model.c == nil { // closed by now: the library keeps what it needs, but tells nothing of it
			return nil
		}
		_, err := s.model.SoundTokens(48000, 48000)
		return err
	case Video:
		if p.Seconds != nil && len(p.Seconds) != len(p.Frames) {
			return &Error{ErrArgument, fmt.Sprintf("%d frames, but %d times", len(p.Frames), len(p.Seconds))}
		}
		for _, frame := range p.Frames {
			if err := s.checkImage(frame); err != nil {
				return err
			}
		}
		return nil
	}
	return &Error{ErrArgument, fmt.Sprintf("a part is a string, *Image, *Sound or Video, not %T", part)}
}

func (s *Session) checkImage(i *Image) error {
	if i == nil {
		return ErrClosed
	}
	w, h, err := i.Size()
	if err == nil && s.model.c != nil {
		_, err = s.model.ImageTokens(w, h)
	}
	return err
}

func (s *Session) attach(part any) error {
	defer runtime.KeepAlive(part)
	switch p := part.(type) {
	case *Image:
		return s.do(func() Status { return cSessionAttachImage(s.c, p.c) })
	case *Sound:
		return s.do(func() Status { return cSessionAttachSound(s.c, p.c) })
	case Video:
		return s.attachVideo(p)
	}
	text, n := chars(part.(string))
	if n == 0 {
		return nil
	}
	return s.do(func() Status { return cSessionAttachText(s.c, text, n) })
}

func (s *Session) attachVideo(v Video) error {
	n := len(v.Frames)
	if n == 0 {
		return &Error{ErrArgument, "a video without frames"}
	}
	frames, seconds := make([]*C.ponder_image, n), make([]C.double, n)
	for i, frame := range v.Frames {
		frames[i], seconds[i] = frame.c, C.double(float64(i)/2)
		if v.Seconds != nil {
			seconds[i] = C.double(v.Seconds[i])
		}
	}
	return s.do(func() Status { return cSessionAttachVideo(s.c, &frames[0], &seconds[0], n) })
}

// Listen takes more of a sound that is being recorded: floats in -1..1, interleaved. The first call opens a user's message,
// Add("user", text) ends it; Prefill computes what has arrived.
func (s *Session) Listen(samples []float32, rate, channels int) error {
	frames, err := wholeFrames(samples, channels)
	if err != nil {
		return err
	}
	return s.do(func() Status {
		return Status(C.listen_to(s.c, floatPointer(samples), C.size_t(frames), C.uint32_t(unsigned(rate)), C.uint32_t(channels)))
	})
}

// Features are the rows that stand for the attached media, [rows][width]; encodes what is not encoded yet.
func (s *Session) Features() ([]float32, error) {
	b, err := s.sized(4, func(p unsafe.Pointer, cap int, n *C.size_t) Status {
		return cSessionFeatures(s.c, (*C.float)(p), cap, n)
	})
	return float32s(b), err
}

// Prefill computes what was added without generating, for about that long; less than 0: all of it. done: nothing is left.
func (s *Session) Prefill(most time.Duration) (done bool, err error) {
	us := ^uint64(0)
	if most >= 0 {
		us = uint64(most.Microseconds())
	}
	status := OK
	err = s.do(func() Status {
		status = cSessionPrefill(s.c, us)
		return status
	})
	return status == OK, err
}
