package ponder

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const searchQuestion = "Which 3 of 91462 sum to 11?"

// thinking is a config for agents of seed0; each of the functions may change it.
func thinking(t *testing.T, seed int64, change ...func(*Config) error) *Config {
	t.Helper()
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetContext(512))
	check(t, config.SetMaxTokens(120))
	check(t, config.SetTemperature(1))
	check(t, config.SetEffort("high"))
	check(t, config.SetSeed(seed))
	for _, f := range change {
		check(t, f(config))
	}
	return config
}

func endless(c *Config) error {
	if err := c.SetContext(30000); err != nil {
		return err
	}
	if err := c.SetMaxTokens(0); err != nil {
		return err
	}
	return c.SetIgnoreEOS(1)
}

func asked(t *testing.T, m *Model, c *Config, question string) *Session {
	t.Helper()
	s, err := m.NewSession(c)
	check(t, err)
	check(t, s.Add("user", question))
	return s
}

// said is what a turn wrote: an agent's must be that of a session alone with its seed.
type said struct {
	answer, thought string
	tokens          uint64
}

func alone(t *testing.T, m *Model, seed int64, question string) (r said) {
	t.Helper()
	s := asked(t, m, thinking(t, seed), question)
	defer s.Close()
	check(t, s.Generate(context.Background(), func(e Event) error {
		switch e.Kind {
		case EventAnswer:
			r.answer += e.Text
		case EventThought:
			r.thought += e.Text
		case EventDone:
			r.tokens = e.OutputTokens
		}
		return nil
	}))
	return r
}

func ofAgent(t *testing.T, a *Agent) (r said) {
	t.Helper()
	var err error
	r.answer, err = a.Read(EventAnswer)
	check(t, err)
	r.thought, err = a.Read(EventThought)
	check(t, err)
	status, err := a.Status()
	check(t, err)
	r.tokens = status.Tokens
	return r
}

func spawn(t *testing.T, s *Session, n int, change ...func(*Config) error) (agents []*Agent) {
	t.Helper()
	for i := 0; i < n; i++ {
		a, err := s.Spawn(thinking(t, int64(i), change...))
		check(t, err)
		agents = append(agents, a)
	}
	return agents
}

func states(t *testing.T, agents []*Agent) (all []AgentState) {
	t.Helper()
	for _, a := range agents {
		status, err := a.Status()
		check(t, err)
		all = append(all, status.State)
	}
	return all
}

func TestABudgetIsKept(t *testing.T) {
	model, _, _ := load(t)
	const eom, message = 391, 395
	s := asked(t, model, thinking(t, 0, func(c *Config) error { return c.SetThinkTokens(6) }, func(c *Config) error { return c.SetThinkSoft(0) },
		func(c *Config) error { return c.SetThinkGrace(0) }, func(c *Config) error { return c.SetTemperature(0) }), "From B do 1p2t3s4p")
	_, err := s.Prefill(-1)
	check(t, err)
	prompt, err := s.Tokens()
	check(t, err)
	check(t, s.Generate(context.Background(), nil))
	ids, err := s.Tokens()
	check(t, err)
	begin := len(prompt)
	for ids[begin] != message {
		begin++
	}
	end := begin
	for ids[end] != eom {
		end++
	}
	thought, err := s.Thought()
	check(t, err)
	if thought.Why != ThoughtCap || thought.Why.String() != "cap" || thought.Tokens != uint64(end-begin) || thought.Tokens > 6 || thought.Blocks != 1 {
		t.Fatalf("%+v, counted %d", thought, end-begin)
	}
}

func TestAnotherGoroutineClosesTheThought(t *testing.T) {
	model, _, _ := load(t)
	s := asked(t, model, thinking(t, 0, func(c *Config) error { return c.SetTemperature(0) }), "From B do 1p2t3s4p")
	closed := false
	check(t, s.Generate(context.Background(), func(e Event) error {
		if e.Kind == EventThought && !closed {
			done := make(chan struct{})
			go func() { s.CloseThought(); close(done) }()
			<-done
			closed = true
		}
		return nil
	}))
	if thought, err := s.Thought(); err != nil || thought.Why != ThoughtCaller {
		t.Fatalf("%+v, %v", thought, err)
	}
}

func TestAgentsAreTheSessionsTheyWouldBeAlone(t *testing.T) {
	model, _, _ := load(t)
	s := asked(t, model, thinking(t, 0), searchQuestion)
	agents := spawn(t, s, 4)
	check(t, Wait(context.Background(), agents, 2, nil))
	done := 0
	for _, state := range states(t, agents) {
		if state == AgentDone {
			done++
		}
	}
	if done < 2 {
		t.Fatal(done)
	}
	texts := map[int]string{}
	s.Close()
	check(t, Wait(context.Background(), agents, 0, func(e Event) error {
		if e.Kind == EventAnswer {
			texts[e.Agent] += e.Text
		}
		runtime.GC()
		return nil
	}))
	for i, a := range agents {
		got, want := ofAgent(t, a), alone(t, model, int64(i), searchQuestion)
		if got != want || !strings.HasSuffix(want.answer, texts[i]) {
			t.Fatalf("agent %d: %+v, expected %+v, told %q", i, got, want, texts[i])
		}
	}
	mine, err := agents[0].Session()
	check(t, err)
	before, err := mine.Tokens()
	check(t, err)
	check(t, agents[0].Send("From 3 do ", "1p2t"))
	if err := agents[0].Send("x"); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "the agent is running") {
		t.Fatal(err)
	}
	check(t, Wait(context.Background(), agents[:1], 0, nil))
	after, err := mine.Tokens()
	check(t, err)
	if len(after) <= len(before) || !reflect.DeepEqual(after[:len(before)], before) {
		t.Fatal(after)
	}
	agents[0].Close()
	agents[0].Close()
	if _, err := agents[0].Status(); err != ErrClosed {
		t.Fatal(err)
	}
	if _, err := mine.Tokens(); err != ErrClosed {
		t.Fatal(err)
	}
	if err := Wait(context.Background(), agents, 0, nil); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestAnErrorCancelsOneAgent(t *testing.T) {
	model, _, _ := load(t)
	agents, mine := spawn(t, asked(t, model, thinking(t, 0), searchQuestion), 3), errors.New("mine")
	if err := Wait(context.Background(), agents, 0, func(e Event) error {
		if e.Agent == 1 {
			return mine
		}
		return nil
	}); err != mine {
		t.Fatal(err)
	}
	check(t, Wait(context.Background(), agents, 0, nil))
	if got := states(t, agents); !reflect.DeepEqual(got, []AgentState{AgentDone, AgentCancelled, AgentDone}) {
		t.Fatal(got)
	}
	for _, i := range []int{0, 2} {
		if got, want := ofAgent(t, agents[i]), alone(t, model, int64(i), searchQuestion); got != want {
			t.Fatalf("%+v, expected %+v", got, want)
		}
	}
}

func TestContextAndCancelOfAgents(t *testing.T) {
	model, _, _ := load(t)
	agents := spawn(t, asked(t, model, thinking(t, 0, endless), searchQuestion), 3, endless)
	ctx, cancel := context.WithCancel(context.Background())
	if err := Wait(ctx, agents, 0, func(Event) error { cancel(); return nil }); err != context.Canceled {
		t.Fatal(err)
	}
	if got := states(t, agents); !reflect.DeepEqual(got, []AgentState{AgentRunning, AgentRunning, AgentRunning}) {
		t.Fatal(got)
	}
	var once sync.Once
	check(t, Wait(context.Background(), agents, 0, func(Event) error {
		once.Do(func() {
			for _, a := range agents {
				go a.Cancel()
			}
		})
		return nil
	}))
	if got := states(t, agents); !reflect.DeepEqual(got, []AgentState{AgentCancelled, AgentCancelled, AgentCancelled}) {
		t.Fatal(got)
	}
}

// Agents that are forgotten while others are waited for are freed, and not in the middle.
func TestForgottenAgentsAreFreed(t *testing.T) {
	model, _, _ := load(t)
	s := asked(t, model, thinking(t, 0), searchQuestion)
	_, err := s.Prefill(-1)
	check(t, err)
	bytes := func() int64 {
		n, err := model.Int(InfoKVBytes)
		check(t, err)
		return n
	}
	before := bytes()
	func() {
		forgotten := spawn(t, s, 8)
		kept := spawn(t, s, 1)
		check(t, Wait(context.Background(), forgotten[:1], 1, nil))
		if _, err := forgotten[1].Session(); err != nil {
			t.Fatal(err)
		}
		forgotten = nil
		check(t, Wait(context.Background(), kept, 0, func(Event) error { runtime.GC(); return nil }))
		if bytes() <= before {
			t.Fatal("the agents took nothing")
		}
		kept[0].Close()
	}()
	for i := 0; i < 200 && bytes() != before; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if got := bytes(); got != before {
		t.Fatalf("%d bytes, before the agents %d", got, before)
	}
	runtime.KeepAlive(s)
}

func TestAVoteOfEight(t *testing.T) {
	model, _, _ := load(t)
	config := thinking(t, 5, func(c *Config) error { return c.SetAgents(8) }, func(c *Config) error { return c.SetDecide(0) })
	s := asked(t, model, config, searchQuestion)
	r, err := s.Contemplate(context.Background(), config, nil)
	check(t, err)
	votes, most, tokens := map[string]int{}, 0, uint64(0)
	for i, o := range r.Agents {
		want := alone(t, model, 5+int64(i), searchQuestion)
		if got := (said{o.Answer, o.Thought, o.Tokens}); got != want || o.End != EndEOS || o.Number != i || o.Confidence <= 0 || o.Confidence > 1 {
			t.Fatalf("%+v, expected %+v", o, want)
		}
		votes[want.answer]++
		if votes[want.answer] > most {
			most = votes[want.answer]
		}
		tokens += want.tokens
	}
	if len(r.Agents) != 8 || votes[r.Answer] != most || r.Votes != most || r.Voters != 8 || r.Tokens != tokens || r.DecidedBy.String() != "all" {
		t.Fatalf("%+v", r.ContemplationStatus)
	}
	// The same in steps.
	s = asked(t, model, config, searchQuestion)
	thoughts, err := s.Contemplation(config)
	check(t, err)
	if err := s.Add("user", "x"); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	var last []Event
	for thoughts.Next(context.Background()) {
		if e := thoughts.Event(); e.Agent < 0 {
			last = append(last, e)
		}
	}
	check(t, thoughts.Err())
	if len(last) != 2 || last[0].Text != r.Answer || last[1].Kind != EventDone {
		t.Fatalf("%+v", last)
	}
	agent, err := thoughts.Agent(7)
	check(t, err)
	if got := ofAgent(t, agent); got.answer != r.Agents[7].Answer {
		t.Fatalf("%+v", got)
	}
	for _, bad := range []int{-1, 8} {
		if _, err := thoughts.Agent(bad); !errors.Is(err, ErrRange) {
			t.Fatal(err)
		}
	}
	thoughts.Close()
	if _, err := agent.Status(); err != ErrClosed {
		t.Fatal(err)
	}
	check(t, s.Ask(context.Background(), "From 3 do 1p2t", nil))
}

func TestWhatEndsAContemplation(t *testing.T) {
	model, _, _ := load(t)
	agents := func(n int64) func(*Config) error { return func(c *Config) error { return c.SetAgents(n) } }
	s := asked(t, model, thinking(t, 0, endless), searchQuestion)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Contemplate(ctx, thinking(t, 0, endless, agents(3)), func(Event) error { cancel(); return nil }); err != context.Canceled {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if _, err := s.Contemplate(context.Background(), thinking(t, 0, endless, agents(3)), func(Event) error { return mine }); err != mine {
		t.Fatal(err)
	}
	thoughts, err := s.Contemplation(thinking(t, 0, endless, agents(3)))
	check(t, err)
	for thoughts.Next(context.Background()) {
		go thoughts.Cancel()
	}
	check(t, thoughts.Err())
	if r, err := thoughts.Result(); err != nil || r.DecidedBy != DecidedCancelled || r.Answer != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := s.Contemplation(thinking(t, 0, agents(2))); !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), "two agents in a plain vote") {
		t.Fatal(err)
	}
}
