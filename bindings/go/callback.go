package ponder

/*
#include <ponder.h>
*/
import "C"

import (
	"context"
	"runtime/cgo"
	"unsafe"
)

// turn is what a generate or a run in C carries back to Go.
type turn struct {
	ctx    context.Context
	fn     func(Event) error // may be nil
	answer func(Event) error
	err    error
}

// call never lets a panic cross C: it is kept, and raised again when C has returned.
func (t *turn) call(fn func(Event) error, e Event) (stop bool) {
	defer func() {
		if r := recover(); r != nil {
			t.err, stop = panicked{r}, true
		}
	}()
	if t.err == nil && fn != nil {
		t.err = fn(e)
	}
	return t.err != nil
}

type panicked struct{ value interface{} }

func (panicked) Error() string { return "ponder: the callback panicked" }

func turnOf(user unsafe.Pointer) *turn { return (*(*cgo.Handle)(user)).Value().(*turn) }

//export ponderGoEvent
func ponderGoEvent(user unsafe.Pointer, event *C.ponder_event) C.int32_t {
	t := turnOf(user)
	if t.call(t.fn, eventOf(event)) {
		return 1
	}
	return 0
}

// Between two turns there is nothing to cancel: the context is looked at here.
//
//export ponderGoCall
func ponderGoCall(user unsafe.Pointer, call *C.ponder_event) C.int32_t {
	t := turnOf(user)
	if t.ctx.Err() != nil || t.call(t.answer, eventOf(call)) || t.ctx.Err() != nil {
		return 1
	}
	return 0
}

// Of agents, an error of the function cancels the one whose event it was, and nobody else.
//
//export ponderGoAgentEvent
func ponderGoAgentEvent(user unsafe.Pointer, event *C.ponder_event) C.int32_t {
	t := turnOf(user)
	if t.err == nil && t.call(t.fn, eventOf(event)) {
		return 1
	}
	return 0
}
