package ponder

/*
#include <stdlib.h>
#include <ponder.h>

extern int32_t ponderGoAgentEvent(void *user, ponder_event *event);

static int32_t on_agent_event(void *user, const ponder_event *event)
{
    return ponderGoAgentEvent(user, (ponder_event *)event);
}

static ponder_status wait_for(ponder_agent *const *agents, size_t n, size_t least, uint64_t max_us, void *user)
{
    return ponder_agent_wait(agents, n, least, max_us, on_agent_event, user);
}
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// Thought is what a turn thought: all its thoughts together, and how the newest one ended.
type Thought struct {
	Why                  ThoughtWhy
	Escaped              bool // after a close that was not the model's it tried to go on in its answer
	Tokens, Microseconds uint64
	Blocks               uint64
	Injected             uint64 // tokens that the library wrote
	Probes, ProbeTokens  uint64
}

// Thought tells what the running turn, or the last one, thought.
func (s *Session) Thought() (Thought, error) {
	c := C.ponder_thought{size: C.sizeof_ponder_thought}
	err := s.do(func() Status { return cSessionThought(s.c, &c) })
	return Thought{ThoughtWhy(c.why), c.escaped != 0, uint64(c.tokens), uint64(c.us), uint64(c.blocks), uint64(c.injected),
		uint64(c.probes), uint64(c.probe_tokens)}, err
}

// CloseThought ends the thought that is open, soon, and goes on with the answer. From any goroutine.
func (s *Session) CloseThought() {
	if !s.closed() {
		cSessionCloseThought(s.c)
	}
	runtime.KeepAlive(s)
}

// group is what the agents of one session have in common. Whoever closes one, be it a finalizer on another thread, its handle
// is freed while no call on the group is under way.
type group struct {
	mu        sync.Mutex
	inside    int
	forgotten []*C.ponder_agent
}

func (g *group) enter() {
	g.mu.Lock()
	g.inside++
	g.mu.Unlock()
}

func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.sweep()
}

func (g *group) free(c *C.ponder_agent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgotten = append(g.forgotten, c)
	g.sweep()
}

func (g *group) sweep() {
	if g.inside > 0 {
		return
	}
	for _, c := range g.forgotten {
		cAgentFree(c)
	}
	g.forgotten = nil
}

// agentHandle is held by an Agent and by the session that it lends: a finalizer must not stand in a circle.
type agentHandle struct {
	mu    sync.Mutex
	c     *C.ponder_agent
	group *group
	owner *Contemplation // not nil: the agent is its, and lives as long
}

func (h *agentHandle) get() *C.ponder_agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner != nil && h.owner.c == nil {
		return nil
	}
	return h.c
}

func (h *agentHandle) closed() bool { return h.get() == nil }

func (h *agentHandle) close() {
	h.mu.Lock()
	c := h.c
	h.c = nil
	h.mu.Unlock()
	runtime.SetFinalizer(h, nil)
	if c != nil && h.owner == nil {
		h.group.free(c)
	}
}

// Agent is a session of its own that has the tokens of another. It advances inside Wait, with all running agents of that
// session, and nowhere else.
type Agent struct {
	h     *agentHandle
	model *Model
}

// Spawn makes an agent of this conversation. nil takes the session's options.
func (s *Session) Spawn(config *Config) (*Agent, error) {
	var c *C.ponder_config
	if config != nil {
		if config.c == nil {
			return nil, ErrClosed
		}
		c = config.c
	}
	defer runtime.KeepAlive(config)
	if s.group == nil {
		s.group = &group{}
	}
	var agent *C.ponder_agent
	s.group.enter()
	err := s.do(func() Status { return cAgentSpawn(&agent, s.c, c) })
	s.group.leave()
	if err != nil {
		return nil, err
	}
	h := &agentHandle{c: agent, group: s.group}
	runtime.SetFinalizer(h, (*agentHandle).close)
	return &Agent{h, s.model}, nil
}

// Close frees the agent, also while it runs.
func (a *Agent) Close() { a.h.close() }

func (a *Agent) do(call func(*C.ponder_agent) Status) error {
	a.h.group.enter()
	defer a.h.group.leave()
	c := a.h.get()
	if c == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(a.h)
	return failure(call(c), cAgentError(c))
}

// Send gives it a user's message; it runs at the next Wait. Without parts it goes on with what was added to its Session.
func (a *Agent) Send(parts ...any) error {
	if len(parts) == 0 {
		return a.do(func(c *C.ponder_agent) Status { return cAgentSend(c, nil, 0) })
	}
	last, ok := parts[len(parts)-1].(string)
	if ok {
		parts = parts[:len(parts)-1]
	}
	if len(parts) > 0 {
		s, err := a.Session()
		if err == nil {
			err = s.Attach(parts...)
		}
		if err != nil {
			return err
		}
	}
	p, n := chars(last)
	return a.do(func(c *C.ponder_agent) Status { return cAgentSend(c, p, n) })
}

// Read is what it wrote in its last turn: EventThought, EventCommentary, EventAnswer, or EventToolCall for the calls' JSON.
func (a *Agent) Read(kind EventKind) (string, error) {
	var b []byte
	err := a.do(func(c *C.ponder_agent) Status {
		var status Status
		b, status = sized(func(p unsafe.Pointer, cap int, n *C.size_t) Status {
			return cAgentRead(c, int32(kind), (*C.char)(p), cap, n)
		}, 1)
		return status
	})
	return string(b), err
}

// Call is a tool call of an agent's turn.
type Call struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// Calls are the tool calls of its last turn. When their results were added to its Session, Send() goes on.
func (a *Agent) Calls() (calls []Call, err error) {
	text, err := a.Read(EventToolCall)
	if err == nil {
		err = json.Unmarshal([]byte(text), &calls)
	}
	return calls, err
}

// AgentStatus is what is known of an agent.
type AgentStatus struct {
	State                      AgentState
	End                        End // of its last turn; EndNone while it runs
	Number                     int // as Event.Agent
	Failure                    Status
	Round                      int  // of a contemplation
	Dropped                    bool // of a contemplation, for low confidence
	Tokens, ThoughtTokens      uint64
	Calls                      uint64
	PromptTokens, SharedTokens uint64 // computed for it alone; that it had from the session
	Microseconds               uint64
	Confidence, Lowest         float64 // 0..1: the geometric mean of its tokens' probabilities, and of its weakest stretch; -1: unknown
}

// Status tells how it is doing.
func (a *Agent) Status() (AgentStatus, error) {
	i := C.ponder_agent_info{size: C.sizeof_ponder_agent_info}
	err := a.do(func(c *C.ponder_agent) Status { return cAgentStatus(c, &i) })
	return AgentStatus{AgentState(i.state), End(i.end), int(i.number), Status(i.failure), int(i.round), i.dropped != 0,
		uint64(i.tokens), uint64(i.thought_tokens), uint64(i.calls), uint64(i.prompt_tokens), uint64(i.shared_tokens),
		uint64(i.us), float64(i.confidence), float64(i.lowest)}, err
}

// Session is the agent's own, for tools, results, pictures, tokens, while it is not running. It lives as long as the agent.
func (a *Agent) Session() (*Session, error) {
	var s *C.ponder_session
	if err := a.do(func(c *C.ponder_agent) Status {
		s = cAgentSession(c)
		return OK
	}); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, &Error{ErrState, "the agent's part in its contemplation is over"}
	}
	return &Session{c: s, model: a.model, group: a.h.group, lender: a.h}, nil
}

// Cancel ends its turn soon. From any goroutine.
func (a *Agent) Cancel() {
	a.h.group.enter()
	defer a.h.group.leave()
	if c := a.h.get(); c != nil {
		cAgentCancel(c)
	}
	runtime.KeepAlive(a.h)
}

// Wait drives all running agents of one session until at least `least` of these (0: all of them) are not running. fn (may be
// nil) is called for each event of any of them, Event.Agent says whose; its error cancels that agent, ends the waiting and is
// returned. The end of ctx ends the waiting too: agents that are still running rest until the next Wait.
func Wait(ctx context.Context, agents []*Agent, least int, fn func(Event) error) error {
	if len(agents) == 0 {
		return ctx.Err()
	}
	g := agents[0].h.group
	handles := make([]*C.ponder_agent, len(agents))
	g.enter()
	defer g.leave()
	for i, a := range agents {
		if a.h.group != g {
			return &Error{ErrArgument, "agents of different sessions cannot be waited for together"}
		}
		if handles[i] = a.h.get(); handles[i] == nil {
			return ErrClosed
		}
	}
	defer runtime.KeepAlive(agents)
	t := &turn{ctx: ctx, fn: fn}
	handle := cgo.NewHandle(t)
	defer handle.Delete()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		status := Status(C.wait_for(&handles[0], C.size_t(len(handles)), C.size_t(unsigned(least)), sliceMicroseconds,
			unsafe.Pointer(&handle)))
		if p, ok := t.err.(panicked); ok {
			panic(p.value)
		}
		if t.err != nil {
			return t.err
		}
		if status != More {
			return failure(status, cAgentError(handles[0]))
		}
	}
}

// ---- contemplation ----

// Contemplation is many agents at work on what a session was asked, step by step:
//
//	thoughts, err := session.Contemplation(config)
//	defer thoughts.Close()
//	for thoughts.Next(ctx) {
//		fmt.Print(thoughts.Event().Agent, thoughts.Event().Text)
//	}
//	err = thoughts.Err()
//
// Until its end, or Close, the session answers nothing else.
type Contemplation struct {
	c       *C.ponder_contemplation
	session *Session
	group   *group
	event   Event
	err     error
	done    bool
}

// Contemplation begins to answer what was added to the session. config gives the agents' options and the contemplation's
// (SetAgents, SetTemperature, SetSynthesis, ...); nil: the session's and the defaults.
func (s *Session) Contemplation(config *Config) (*Contemplation, error) {
	var c *C.ponder_config
	if config != nil {
		if config.c == nil {
			return nil, ErrClosed
		}
		c = config.c
	}
	defer runtime.KeepAlive(config)
	var out *C.ponder_contemplation
	if err := s.do(func() Status { return cContemplationNew(&out, s.c, c) }); err != nil {
		return nil, err
	}
	t := &Contemplation{c: out, session: s, group: &group{}}
	runtime.SetFinalizer(t, (*Contemplation).Close)
	return t, nil
}

// Close frees it; in the middle, the session is as it was before.
func (t *Contemplation) Close() {
	cContemplationFree(t.c)
	t.c = nil
	runtime.SetFinalizer(t, nil)
}

func (t *Contemplation) do(call func() Status) error {
	if t.c == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(t)
	return failure(call(), cContemplationError(t.c))
}

// Step works for about that long. more: there is no event yet, call again. After the event EventDone of agent -1 it is an error.
func (t *Contemplation) Step(most time.Duration) (e Event, more bool, err error) {
	c := C.ponder_event{size: C.sizeof_ponder_event}
	us := uint64(0)
	if most > 0 {
		us = uint64(most.Microseconds())
	}
	status := OK
	err = t.do(func() Status {
		status = cContemplationStep(t.c, us, &c)
		return status
	})
	if err != nil || status == More {
		return Event{Agent: -1}, err == nil, err
	}
	e = eventOf(&c)
	t.done = e.Kind == EventDone && e.Agent < 0
	return e, false, nil
}

// Next computes until there is an event; false after the last one or a failure. The end of ctx cancels.
func (t *Contemplation) Next(ctx context.Context) bool {
	for !t.done && t.err == nil {
		if ctx.Err() != nil {
			t.Cancel()
		}
		var more bool
		if t.event, more, t.err = t.Step(sliceMicroseconds * time.Microsecond); t.err == nil && !more {
			if t.done && t.event.End == EndCancelled && ctx.Err() != nil {
				t.err = ctx.Err()
			}
			return true
		}
	}
	return false
}

// Event is what Next found.
func (t *Contemplation) Event() Event { return t.event }

// Err is the failure that ended it, or the context's when that did.
func (t *Contemplation) Err() error { return t.err }

// Cancel ends it soon; the session gets no answer. From any goroutine.
func (t *Contemplation) Cancel() {
	if t.c != nil {
		cContemplationCancel(t.c)
	}
	runtime.KeepAlive(t)
}

// ContemplationStatus is what is known of a contemplation.
type ContemplationStatus struct {
	DecidedBy                          DecidedBy
	End                                End // EndEOS: there is an answer
	Spawned, Finished, Dropped         int
	Round                              int
	Votes, Voters                      int     // for the answer, of all in the last round
	Share                              float64 // of the weight of all votes, for the answer
	Writer                             int     // number of the agent that wrote the answer; -1: none
	Fallback                           Status  // not OK: why the vote stepped in for the writer; More: it was late, or empty
	Microseconds, CriticalMicroseconds uint64
	Tokens, ThoughtTokens              uint64
	CriticalTokens                     uint64 // the longest chain: the longest agent of each round, and the writer
	SharedTokens, PromptTokens         uint64
	SharedBytes, OwnBytes              uint64
}

// Status tells how it is doing.
func (t *Contemplation) Status() (ContemplationStatus, error) {
	i := C.ponder_contemplation_info{size: C.sizeof_ponder_contemplation_info}
	err := t.do(func() Status { return cContemplationStatus(t.c, &i) })
	return ContemplationStatus{DecidedBy: DecidedBy(i.decided_by), End: End(i.end), Spawned: int(i.agents), Finished: int(i.finished),
		Dropped: int(i.dropped), Round: int(i.round), Votes: int(i.votes), Voters: int(i.voters), Share: float64(i.share),
		Writer: int(i.writer), Fallback: Status(i.fallback), Microseconds: uint64(i.us), CriticalMicroseconds: uint64(i.critical_us),
		Tokens: uint64(i.tokens), ThoughtTokens: uint64(i.thought_tokens), CriticalTokens: uint64(i.critical_tokens),
		SharedTokens: uint64(i.shared_tokens), PromptTokens: uint64(i.prompt_tokens), SharedBytes: uint64(i.shared_bytes),
		OwnBytes: uint64(i.own_bytes)}, err
}

// Answer is as its agent wrote it; empty until the end.
func (t *Contemplation) Answer() (string, error) {
	var b []byte
	err := t.do(func() Status {
		var status Status
		b, status = sized(func(p unsafe.Pointer, cap int, n *C.size_t) Status {
			return cContemplationAnswer(t.c, (*C.char)(p), cap, n)
		}, 1)
		return status
	})
	return string(b), err
}

// Agent is one of them, to be read, asked for its status, or cancelled. It lives as long as the contemplation.
func (t *Contemplation) Agent(number int) (*Agent, error) {
	if number < 0 {
		return nil, &Error{ErrRange, fmt.Sprintf("there is no agent %d", number)}
	}
	var c *C.ponder_agent
	if err := t.do(func() Status { return cContemplationAgent(&c, t.c, unsigned(number)) }); err != nil {
		return nil, err
	}
	return &Agent{&agentHandle{c: c, group: t.group, owner: t}, t.session.model}, nil
}

// Opinion is what one agent of a contemplation came to.
type Opinion struct {
	Answer, Thought string
	AgentStatus
}

// Contemplated is what became of a contemplation.
type Contemplated struct {
	Answer string // "": none
	Agents []Opinion
	ContemplationStatus
}

// Result is everything that is known of it.
func (t *Contemplation) Result() (r Contemplated, err error) {
	if r.Answer, err = t.Answer(); err != nil {
		return r, err
	}
	if r.ContemplationStatus, err = t.Status(); err != nil {
		return r, err
	}
	for i := 0; i < r.Spawned; i++ {
		a, err := t.Agent(i)
		if err != nil {
			return r, err
		}
		var o Opinion
		if o.Answer, err = a.Read(EventAnswer); err != nil {
			return r, err
		}
		if o.Thought, err = a.Read(EventThought); err != nil {
			return r, err
		}
		if o.AgentStatus, err = a.Status(); err != nil {
			return r, err
		}
		r.Agents = append(r.Agents, o)
	}
	return r, nil
}

// Contemplate has many agents work on what was added to the session, and adds the answer that comes of it. fn (may be nil) is
// called for each event. An error of fn, or the end of ctx, ends the contemplation, leaves the session as it was before, and
// is returned.
func (s *Session) Contemplate(ctx context.Context, config *Config, fn func(Event) error) (Contemplated, error) {
	t, err := s.Contemplation(config)
	if err != nil {
		return Contemplated{}, err
	}
	defer t.Close()
	for t.Next(ctx) {
		if fn != nil {
			if err := fn(t.Event()); err != nil {
				return Contemplated{}, err
			}
		}
	}
	if t.Err() != nil {
		return Contemplated{}, t.Err()
	}
	return t.Result()
}
