package ponder

/*
#include <stdlib.h>
#include <ponder.h>

extern int32_t ponderGoEvent(void *user, ponder_event *event);
extern int32_t ponderGoCall(void *user, ponder_event *call);

static int32_t on_run_event(void *user, const ponder_event *event)
{
    return ponderGoEvent(user, (ponder_event *)event);
}

static int32_t on_run_call(void *user, ponder_session *session, const ponder_event *call)
{
    (void)session;
    return ponderGoCall(user, (ponder_event *)call);
}

static ponder_status run(ponder_session *session, void *user, uint32_t rounds)
{
    return ponder_session_run(session, on_run_event, on_run_call, user, rounds);
}
*/
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"unsafe"
)

// Tool is what a model is told of a function. Parameters is a JSON Schema of an object: a map, a struct that marshals to
// one, or json.RawMessage.
type Tool struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  any    `json:"parameters,omitempty"`
}

// asJSON takes JSON as it is, and marshals everything else; nil is "".
func asJSON(v any) (string, error) {
	switch t := v.(type) {
	case nil:
		return "", nil
	case string:
		return t, nil
	case []byte:
		return string(t), nil
	case json.RawMessage:
		return string(t), nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// SetSchemaFrom binds the answer by a JSON Schema: its text, json.RawMessage, or what marshals to one; nil: none.
func (c *Config) SetSchemaFrom(schema any) error {
	text, err := asJSON(schema)
	if err != nil {
		return err
	}
	return c.SetSchema(text)
}

// Tools that the model may call: []Tool, or a JSON list as string, []byte or json.RawMessage; nil takes them back. Before the
// first message is computed.
func (s *Session) Tools(definitions any) error {
	text, err := asJSON(definitions)
	if err != nil {
		return err
	}
	p, n := chars(text)
	return s.do(func() Status { return cSessionTools(s.c, p, n) })
}

// ErrRounds: a Run used up its rounds; the last calls are not answered.
var ErrRounds = errors.New("ponder: the rounds are used up; the last calls are not answered")

// Run generates, has each tool call answered by `answer`, and generates again, until a turn without calls: at most `rounds`
// turns, then ErrRounds. fn (may be nil) is called for each event. An error of answer or fn, or the end of ctx, ends the loop
// and is returned; what the model shall know of a failure, answer returns as text. answer may Attach media to its result.
func (s *Session) Run(ctx context.Context, rounds int, answer func(name string, args json.RawMessage) (string, error), fn func(Event) error) error {
	t := &turn{ctx: ctx, fn: fn, answer: func(e Event) error {
		text, err := answer(e.Name, json.RawMessage(e.Text))
		if err != nil {
			return err
		}
		return s.AddResult(e.Name, text)
	}}
	status := OK
	err := s.generate(t, func(user unsafe.Pointer) Status {
		status = Status(C.run(s.c, user, C.uint32_t(unsigned(rounds))))
		return status
	})
	if err == nil && status == More {
		return ErrRounds
	}
	return err
}

// Parser turns raw text in a template's form into events.
type Parser struct{ c *C.ponder_parser }

// NewParser of a template: "muse", "chatml", "qwen3", ... tools, as Session.Tools takes them (may be nil), give arguments
// their types.
func NewParser(template string, tools any) (*Parser, error) {
	text, err := asJSON(tools)
	if err != nil {
		return nil, err
	}
	config, err := NewConfig()
	if err != nil {
		return nil, err
	}
	defer config.Close()
	name := C.CString(template)
	defer C.free(unsafe.Pointer(name))
	t, n := chars(text)
	p := &Parser{}
	if s := cParserNew(&p.c, name, t, n, config.c); s != OK {
		return nil, failure(s, cConfigError(config.c))
	}
	runtime.SetFinalizer(p, (*Parser).Close)
	return p, nil
}

// Close frees the parser.
func (p *Parser) Close() {
	cParserFree(p.c)
	p.c = nil
	runtime.SetFinalizer(p, nil)
}

// Feed takes the next bytes, in any split, and gives the events that are complete.
func (p *Parser) Feed(text string) ([]Event, error) {
	if text == "" {
		return p.events(OK)
	}
	t, n := chars(text)
	return p.feed(t, n)
}

// Finish ends the stream and gives the last events.
func (p *Parser) Finish() ([]Event, error) { return p.feed(nil, 0) }

func (p *Parser) feed(text *C.char, n int) ([]Event, error) {
	if p.c == nil {
		return nil, ErrClosed
	}
	return p.events(cParserFeed(p.c, text, n))
}

func (p *Parser) events(s Status) (all []Event, err error) {
	if p.c == nil {
		return nil, ErrClosed
	}
	defer runtime.KeepAlive(p)
	c := C.ponder_event{size: C.sizeof_ponder_event}
	for s == OK {
		if s = cParserNext(p.c, &c); s == OK {
			all = append(all, eventOf(&c))
		}
	}
	return all, failure(s, cParserError(p.c))
}
