package ponder

/*
#include <ponder.h>
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// turn is what a generate in C carries back to Go.
type turn struct {
	fn  func(Event) error
	err error
}

// call never lets a panic cross C: it is kept, and raised again when the generate has returned.
func (t *turn) call(e Event) (stop bool) {
	defer func() {
		if r := recover(); r != nil {
			t.err, stop = panicked{r}, true
		}
	}()
	if t.err == nil {
		t.err = t.fn(e)
	}
	return t.err != nil
}

type panicked struct{ value interface{} }

func (panicked) Error() string { return "ponder: the callback panicked" }

//export ponderGoEvent
func ponderGoEvent(user unsafe.Pointer, event *C.ponder_event) C.int32_t {
	if (*(*cgo.Handle)(user)).Value().(*turn).call(eventOf(event)) {
		return 1
	}
	return 0
}
