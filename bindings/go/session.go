package ponder

/*
#include <stdlib.h>
#include <ponder.h>

extern int32_t ponderGoEvent(void *user, ponder_event *event);

static int32_t on_event(void *user, const ponder_event *event)
{
    return ponderGoEvent(user, (ponder_event *)event);
}

static ponder_status generate(ponder_session *session, void *user)
{
    return ponder_session_generate(session, on_event, user);
}

// The struct is built on the C side: Go memory that holds Go pointers must not be passed.
static ponder_status eval(ponder_session *session, const int32_t *ids, size_t n, float *logits, float *hidden, int32_t layer)
{
    ponder_eval e = {sizeof e, logits, hidden, layer, 0};
    return ponder_session_eval(session, ids, n, &e);
}
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"runtime/cgo"
	"time"
	"unsafe"
)

// TokenProb is one of the most likely tokens at a place.
type TokenProb struct {
	Token   int32
	Logprob float32
}

// Event is a piece of a turn. The counts belong to the EventDone event.
type Event struct {
	Kind                                     EventKind
	End                                      End
	Text                                     string // of an EventToolCall: its arguments, a JSON object
	Name                                     string // of an EventToolCall: the function
	Token                                    int32  // the newest when this was sent; -1: none
	Logprob                                  float32
	Top                                      []TokenProb
	PromptTokens, ReusedTokens, OutputTokens uint64
	PrefillMicroseconds, DecodeMicroseconds  uint64
	ThoughtTokens, Calls                     uint64
	Message                                  uint64 // of the turn's messages the one this belongs to, from 0; EventDone: how many ended
	Agent                                    int    // number of the agent whose event it is; -1: the session's own, or the contemplation's
	Announced                                bool   // with subagents: the text says that agents are started, but none was called
	Drafted, Accepted                        uint64 // EventDone: draft tokens computed (PDraft); of them, those that were generated then
}

func eventOf(c *C.ponder_event) Event {
	e := Event{Kind: EventKind(c.kind), End: End(c.end), Agent: -1, Token: int32(c.token), Logprob: float32(c.logprob),
		PromptTokens: uint64(c.prompt_tokens), ReusedTokens: uint64(c.reused_tokens), OutputTokens: uint64(c.output_tokens),
		PrefillMicroseconds: uint64(c.prefill_us), DecodeMicroseconds: uint64(c.decode_us)}
	if c.text_bytes > 0 {
		e.Text = C.GoStringN(c.text, C.int(c.text_bytes))
	}
	for i := 0; i < int(c.n_top); i++ {
		p := (*C.ponder_token_prob)(unsafe.Add(unsafe.Pointer(c.top), i*C.sizeof_ponder_token_prob))
		e.Top = append(e.Top, TokenProb{int32(p.token), float32(p.logprob)})
	}
	// Members that were appended: a library may be older than they are.
	if uintptr(c.size) >= unsafe.Offsetof(c.calls)+unsafe.Sizeof(c.calls) {
		if c.name_bytes > 0 {
			e.Name = C.GoStringN(c.name, C.int(c.name_bytes))
		}
		e.ThoughtTokens, e.Calls = uint64(c.thought_tokens), uint64(c.calls)
	}
	if uintptr(c.size) >= unsafe.Offsetof(c.message)+unsafe.Sizeof(c.message) {
		e.Message = uint64(c.message)
	}
	if uintptr(c.size) >= unsafe.Offsetof(c.announced)+unsafe.Sizeof(c.announced) {
		e.Agent, e.Announced = int(c.agent), c.announced != 0
	}
	if uintptr(c.size) >= unsafe.Offsetof(c.accepted)+unsafe.Sizeof(c.accepted) {
		e.Drafted, e.Accepted = uint64(c.drafted), uint64(c.accepted)
	}
	return e
}

// Session is a conversation.
type Session struct {
	c      *C.ponder_session
	model  *Model
	group  *group       // of the agents that came from it; nil: none yet
	lender *agentHandle // not nil: it is an agent's, and lives as long as that
}

func (s *Session) closed() bool { return s.c == nil || (s.lender != nil && s.lender.closed()) }

// NewSession is an empty conversation.
func (m *Model) NewSession(config *Config) (*Session, error) {
	if m.c == nil {
		return nil, ErrClosed
	}
	config, err := config.orDefault()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(m)
	defer runtime.KeepAlive(config)
	var c *C.ponder_session // not the Session's own: C must not see Go memory that holds Go pointers
	if status := cSessionNew(&c, m.c, config.c); status != OK {
		return nil, failure(status, cConfigError(config.c))
	}
	s := &Session{c: c, model: m}
	runtime.SetFinalizer(s, (*Session).Close)
	return s, nil
}

// Close frees the session.
func (s *Session) Close() {
	if s.lender == nil {
		cSessionFree(s.c)
	}
	s.c = nil
	runtime.SetFinalizer(s, nil)
}

func (s *Session) do(call func() Status) error {
	if s.closed() {
		return ErrClosed
	}
	defer runtime.KeepAlive(s)
	return failure(call(), cSessionError(s.c))
}

// Configure takes the options of config that may change in a running conversation.
func (s *Session) Configure(config *Config) error {
	config, err := config.orDefault()
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(config)
	return s.do(func() Status { return cSessionConfigure(s.c, config.c) })
}

// Prompt appends raw text.
func (s *Session) Prompt(text string, flags TokenizeFlags) error {
	p, n := chars(text)
	return s.do(func() Status { return cSessionPrompt(s.c, p, n, uint32(flags)) })
}

// PromptIDs appends raw token ids.
func (s *Session) PromptIDs(ids []int32) error {
	return s.do(func() Status { return cSessionPromptIds(s.c, idPointer(ids), len(ids)) })
}

// Bias is added to a token's logit before sampling.
func (s *Session) Bias(token int32, bias float32) error {
	return s.do(func() Status { return cSessionBias(s.c, token, bias) })
}

// Ask adds a user's message and generates the answer. An error of fn, or the end of ctx, ends the turn and is returned;
// the session can be used again.
func (s *Session) Ask(ctx context.Context, text string, fn func(Event) error) error {
	if err := s.Add("user", text); err != nil {
		return err
	}
	return s.Generate(ctx, fn)
}

// Generate computes what was added and a turn; fn (may be nil) is called on this goroutine's thread for each event, the
// EventDone last.
func (s *Session) Generate(ctx context.Context, fn func(Event) error) error {
	return s.generate(&turn{ctx: ctx, fn: fn}, func(user unsafe.Pointer) Status {
		return Status(C.generate(s.c, user))
	})
}

func (s *Session) generate(t *turn, call func(user unsafe.Pointer) Status) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	handle := cgo.NewHandle(t)
	defer handle.Delete()
	defer s.cancelWith(t.ctx)()
	err := s.do(func() Status { return call(unsafe.Pointer(&handle)) })
	if p, ok := t.err.(panicked); ok {
		panic(p.value)
	}
	if t.err != nil {
		return t.err
	}
	if (err == nil || errors.Is(err, ErrCancelled)) && t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	return err
}

// cancelWith cancels the turn when ctx ends; the result stops watching, and waits until nobody touches the session. A turn
// that has not begun yet cannot be cancelled: hence again and again.
func (s *Session) cancelWith(ctx context.Context) func() {
	if ctx.Done() == nil {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-stop:
			return
		}
		for {
			s.Cancel()
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// Cancel ends the running turn, or the contemplation of this session, soon. From any goroutine.
func (s *Session) Cancel() {
	if !s.closed() {
		cSessionCancel(s.c)
	}
	runtime.KeepAlive(s)
}

// Turn reads a turn event by event:
//
//	turn := session.Turn(ctx)
//	for turn.Next() {
//		fmt.Print(turn.Event().Text)
//	}
//	err := turn.Err()
type Turn struct {
	session *Session
	ctx     context.Context
	event   Event
	err     error
	done    bool
}

// Turn begins to read a turn.
func (s *Session) Turn(ctx context.Context) *Turn { return &Turn{session: s, ctx: ctx} }

const sliceMicroseconds = 20000 // between two slices the context is looked at

// Next computes until there is an event; false after EventDone or a failure.
func (t *Turn) Next() bool {
	c := C.ponder_event{size: C.sizeof_ponder_event}
	for !t.done && t.err == nil {
		if t.ctx.Err() != nil {
			t.session.Cancel()
		}
		status := More
		t.err = t.session.do(func() Status {
			status = cSessionStep(t.session.c, sliceMicroseconds, &c)
			return status
		})
		if status == OK && t.err == nil {
			t.event = eventOf(&c)
			t.done = t.event.Kind == EventDone
			return true
		}
	}
	return false
}

// Event is what Next found.
func (t *Turn) Event() Event { return t.event }

// Err is the failure that ended the turn, or the context's when that ended it.
func (t *Turn) Err() error {
	if t.err == nil && t.done && t.event.End == EndCancelled {
		return t.ctx.Err()
	}
	return t.err
}

// Close cancels what was not read, so that the session can be used again.
func (t *Turn) Close() {
	if t.done || t.err != nil {
		return
	}
	t.session.Cancel()
	for t.Next() {
	}
}

// Fork is another session with the same tokens; nothing is computed again. nil takes the parent's options.
func (s *Session) Fork(config *Config) (*Session, error) {
	var c *C.ponder_config
	if config != nil {
		c = config.c
	}
	defer runtime.KeepAlive(config)
	var forked *C.ponder_session
	if err := s.do(func() Status { return cSessionFork(&forked, s.c, c) }); err != nil {
		return nil, err
	}
	other := &Session{c: forked, model: s.model}
	runtime.SetFinalizer(other, (*Session).Close)
	return other, nil
}

// Rewind forgets the tokens from that position on, and tells how many of the others will be computed again.
func (s *Session) Rewind(tokens int) (recompute int, err error) {
	var n C.size_t
	err = s.do(func() Status { return cSessionRewind(s.c, tokens, &n) })
	return int(n), err
}

// Tokens are the ids in the session.
func (s *Session) Tokens() ([]int32, error) {
	b, err := s.sized(4, func(p unsafe.Pointer, cap int, n *C.size_t) Status {
		return cSessionTokens(s.c, (*C.int32_t)(p), cap, n)
	})
	return int32s(b), err
}

// Bytes that the session holds or has reserved.
func (s *Session) Bytes() uint64 {
	if s.closed() {
		return 0
	}
	defer runtime.KeepAlive(s)
	return cSessionBytes(s.c)
}

// Logits after the last token, one for each token of the vocabulary.
func (s *Session) Logits() ([]float32, error) {
	b, err := s.sized(4, func(p unsafe.Pointer, cap int, n *C.size_t) Status {
		return cSessionLogits(s.c, (*C.float)(p), cap, n)
	})
	return float32s(b), err
}

// Embed is the mean of the text's final hidden states, scaled to length 1.
func (s *Session) Embed(text string) ([]float32, error) {
	t, count := chars(text)
	b, err := s.sized(4, func(p unsafe.Pointer, cap int, n *C.size_t) Status {
		return cSessionEmbed(s.c, t, count, (*C.float)(p), cap, n)
	})
	return float32s(b), err
}

// Save gives the session's tokens and key-value pages.
func (s *Session) Save() ([]byte, error) {
	return s.sized(1, func(p unsafe.Pointer, cap int, n *C.size_t) Status { return cSessionSave(s.c, p, cap, n) })
}

// Load replaces the session's content by what Save gave.
func (s *Session) Load(state []byte) error {
	if len(state) == 0 {
		return &Error{ErrFormat, "no bytes"}
	}
	return s.do(func() Status { return cSessionLoad(s.c, unsafe.Pointer(&state[0]), len(state)) })
}

func (s *Session) sized(width int, call func(unsafe.Pointer, int, *C.size_t) Status) ([]byte, error) {
	var b []byte
	err := s.do(func() Status {
		var status Status
		b, status = sized(call, width)
		return status
	})
	return b, err
}

// Eval appends ids and computes them. logits (of len(ids) times the vocabulary) and hidden (of len(ids) times the width,
// after `layer`) are filled unless nil.
func (s *Session) Eval(ids []int32, logits, hidden []float32, layer int32) error {
	return s.do(func() Status {
		return Status(C.eval(s.c, idPointer(ids), C.size_t(len(ids)), floatPointer(logits), floatPointer(hidden), C.int32_t(layer)))
	})
}

// Score is the log-probability of each id, each given what stands before it.
func (s *Session) Score(ids []int32) ([]float32, error) {
	out := make([]float32, len(ids))
	err := s.do(func() Status { return cSessionScore(s.c, idPointer(ids), len(ids), floatPointer(out)) })
	return out, err
}

func floatPointer(f []float32) *C.float {
	if len(f) == 0 {
		return nil
	}
	return (*C.float)(unsafe.Pointer(&f[0]))
}
