package ponder

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// Expected values come from tests/data/seed0, made with transformers. Run by tests/bindings/check.sh.
type reference struct {
	ID        string  `json:"id"`
	Rendered  string  `json:"rendered"`
	Effort    string  `json:"reasoning_strength"`
	Expected  string  `json:"expected"`
	PromptIDs []int32 `json:"prompt_ids"`
	GreedyIDs []int32 `json:"greedy_ids"`
	Messages  []struct {
		Content string `json:"content"`
	} `json:"messages"`
}

func load(t *testing.T) (*Model, reference, []int32) {
	t.Helper()
	if os.Getenv("PONDER_EXPECT_MISMATCH") != "" {
		t.Skip("this run has a mismatched library")
	}
	folder := filepath.Join(os.Getenv("PONDER_TEST_DATA"), "seed0")
	data, err := os.ReadFile(filepath.Join(folder, "reference.json"))
	check(t, err)
	var all []reference
	check(t, json.Unmarshal(data, &all))
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetThreads(1))
	model, err := Open(folder, config)
	check(t, err)
	return model, all[0], append(append([]int32{}, all[0].PromptIDs...), all[0].GreedyIDs...)
}

func newSession(t *testing.T, m *Model, effort string) *Session {
	t.Helper()
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetContext(512))
	check(t, config.SetTemperature(0))
	check(t, config.SetTemplate("muse"))
	check(t, config.SetEffort(effort))
	s, err := m.NewSession(config)
	check(t, err)
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sameTokens(t *testing.T, s *Session, want []int32) {
	t.Helper()
	got, err := s.Tokens()
	check(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("tokens\n%v, expected\n%v", got, want)
	}
}

func TestMismatchIsRefused(t *testing.T) {
	which := os.Getenv("PONDER_EXPECT_MISMATCH")
	if which == "" {
		t.Skip("this run has the right library")
	}
	want := map[string]string{"abi": "ABI 99", "version": "version 0.99", "structs": "structs"}[which]
	if _, err := NewConfig(); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("NewConfig: %v", err)
	}
	if _, err := Open("x", nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("Open: %v", err)
	}
}

func TestAskStreamsTheReferenceAnswer(t *testing.T) {
	model, ref, ids := load(t)
	s := newSession(t, model, ref.Effort)
	model.Close() // the session keeps it alive
	var text strings.Builder
	events := 0
	check(t, s.Ask(context.Background(), ref.Messages[0].Content, func(e Event) error {
		if e.Kind == EventAnswer {
			text.WriteString(e.Text)
		}
		events++
		return nil
	}))
	sameTokens(t, s, ids)
	if events < 4 || text.String() != ref.Expected {
		t.Fatalf("%d events: %q", events, text.String())
	}
	s.Close()
	if err := s.Add("user", "x"); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestTurnGivesTheSame(t *testing.T) {
	model, ref, ids := load(t)
	s := newSession(t, model, "")
	check(t, s.Prompt(ref.Rendered, TokenizeSpecial))
	turn := s.Turn(context.Background())
	var last Event
	for turn.Next() {
		last = turn.Event()
		runtime.GC() // nothing that C holds may be moved or freed
	}
	check(t, turn.Err())
	if last.Kind != EventDone || last.End != EndEOS || last.OutputTokens != uint64(len(ref.GreedyIDs)) {
		t.Fatalf("%+v", last)
	}
	sameTokens(t, s, ids)
}

func TestCallbackErrorAndPanicEndTheTurn(t *testing.T) {
	model, ref, _ := load(t)
	s := newSession(t, model, "")
	check(t, s.Prompt(ref.Rendered, TokenizeSpecial))
	mine := errors.New("mine")
	if err := s.Generate(context.Background(), func(Event) error { return mine }); err != mine {
		t.Fatal(err)
	}
	defer func() {
		if recover() != "mine" {
			t.Fatal("the panic did not arrive")
		}
	}()
	check(t, s.Prompt(ref.Rendered, TokenizeSpecial))
	_ = s.Generate(context.Background(), func(Event) error { panic("mine") })
}

func TestContextEndsTheTurn(t *testing.T) {
	model, ref, ids := load(t)
	s := newSession(t, model, "")
	check(t, s.Prompt(ref.Rendered, TokenizeSpecial))
	ctx, cancel := context.WithCancel(context.Background())
	turn := s.Turn(ctx)
	if !turn.Next() {
		t.Fatal(turn.Err())
	}
	cancel()
	for turn.Next() {
	}
	if turn.Err() != context.Canceled {
		t.Fatal(turn.Err())
	}
	_, err := s.Rewind(0)
	check(t, err)
	check(t, s.Prompt(ref.Rendered, TokenizeSpecial))
	check(t, s.Generate(context.Background(), func(Event) error { return nil }))
	sameTokens(t, s, ids)
}

func TestErrorsCarryStatusAndText(t *testing.T) {
	load(t)
	_, err := Open("no such file.gguf", nil)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrIO) || !strings.Contains(e.Text, "no such file.gguf") {
		t.Fatal(err)
	}
	config, err := NewConfig()
	check(t, err)
	if err := config.SetThreads(-1); !errors.Is(err, ErrRange) || !strings.Contains(err.Error(), "threads") {
		t.Fatal(err)
	}
}

func TestTokenizerAndState(t *testing.T) {
	model, ref, _ := load(t)
	tok, err := model.Tokenizer()
	check(t, err)
	ids, err := tok.Encode(ref.Rendered, TokenizeSpecial)
	check(t, err)
	if !reflect.DeepEqual(ids, ref.PromptIDs) {
		t.Fatal(ids)
	}
	text, err := tok.Decode(ids, true)
	check(t, err)
	if text != ref.Rendered {
		t.Fatal(text)
	}
	s := newSession(t, model, "")
	check(t, s.Eval(ids, nil, nil, 0))
	state, err := s.Save()
	check(t, err)
	other := newSession(t, model, "")
	check(t, other.Load(state))
	sameTokens(t, other, ids)
	a, err := s.Logits()
	check(t, err)
	b, err := other.Logits()
	check(t, err)
	if !reflect.DeepEqual(a, b) || len(a) == 0 {
		t.Fatal("logits differ after save and load")
	}
}
