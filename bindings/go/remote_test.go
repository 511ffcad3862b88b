package ponder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRemote(t *testing.T) {
	load(t)
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			fmt.Fprint(w, `{"object": "list", "data": [{"id": "tiny", "max_model_len": 4096}]}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		asked = r.Header.Get("Authorization") + string(body)
		for _, chunk := range []string{`{"delta": {"reasoning_content": "Hm."}}`, `{"delta": {"content": "Yes, "}}`,
			`{"delta": {"content": "sir."}, "finish_reason": "stop"}`} {
			fmt.Fprintf(w, "data: {\"choices\": [%s]}\n\n", chunk)
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	}))
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetRemoteKey("secret"))
	check(t, config.SetRemoteRetries(0))
	model, err := OpenRemote(server.URL, config)
	check(t, err)
	s, err := model.NewSession(nil)
	check(t, err)
	texts := map[EventKind]string{}
	check(t, s.Ask(context.Background(), "Well?", func(e Event) error { texts[e.Kind] += e.Text; return nil }))
	if texts[EventThought] != "Hm." || texts[EventAnswer] != "Yes, sir." {
		t.Fatal(texts)
	}
	if !strings.HasPrefix(asked, "Bearer secret{") || !strings.Contains(asked, "Well?") {
		t.Fatal(asked)
	}
	server.Close()
	if _, err := OpenRemote(server.URL, config); !errors.Is(err, ErrIO) || !strings.Contains(err.Error(), server.URL) || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}
