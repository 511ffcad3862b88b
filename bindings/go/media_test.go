package ponder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Expected values come from tests/data/media, made with transformers.
type mediaCase struct {
	Name   string      `json:"name"`
	Parts  [][2]string `json:"parts"`
	IDs    []int32     `json:"ids"`
	Logits []float32   `json:"logits"`
}

var mediaFolder = filepath.Join(os.Getenv("PONDER_TEST_DATA"), "media")

// loadMedia skips, once the refusal is seen to be the right one, when this library has no PNG.
func loadMedia(t *testing.T) (*Model, map[string]mediaCase, []float64) {
	t.Helper()
	load(t)
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetThreads(1))
	check(t, config.SetKVType("f32"))
	model, err := Open(filepath.Join(os.Getenv("PONDER_TEST_DATA"), "seed0"), config)
	check(t, err)
	if _, err := OpenImage(mediaPath("left.png"), nil); err != nil {
		if !errors.Is(err, ErrUnsupported) {
			t.Fatal(err)
		}
		t.Skip("this library has no PNG")
	}
	data, err := os.ReadFile(mediaPath("cases.json"))
	check(t, err)
	var all struct {
		Seconds []float64   `json:"frame_seconds"`
		Cases   []mediaCase `json:"cases"`
	}
	check(t, json.Unmarshal(data, &all))
	cases := map[string]mediaCase{}
	for _, c := range all.Cases {
		cases[c.Name] = c
	}
	return model, cases, all.Seconds
}

func mediaPath(name string) string { return filepath.Join(mediaFolder, name) }

func mediaSession(t *testing.T, m *Model, set func(*Config)) *Session {
	t.Helper()
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetContext(1024))
	check(t, config.SetMaxTokens(300))
	if set != nil {
		set(config)
	}
	s, err := m.NewSession(config)
	check(t, err)
	return s
}

func openImage(t *testing.T, name string) *Image {
	t.Helper()
	i, err := OpenImage(mediaPath(name+".png"), nil)
	check(t, err)
	return i
}

func partsOf(t *testing.T, c mediaCase, seconds []float64) []any {
	t.Helper()
	var parts []any
	for _, p := range c.Parts {
		switch p[0] {
		case "text":
			parts = append(parts, p[1])
		case "image":
			parts = append(parts, openImage(t, p[1]))
		case "sound":
			s, err := OpenSound(mediaPath(p[1]+".wav"), nil)
			check(t, err)
			parts = append(parts, s)
		case "video":
			v := Video{Seconds: seconds}
			for i := range seconds {
				v.Frames = append(v.Frames, openImage(t, fmt.Sprintf("frame%d", i)))
			}
			parts = append(parts, v)
		}
	}
	return parts
}

func asReference(t *testing.T, s *Session, c mediaCase) {
	t.Helper()
	logits, err := s.Logits()
	check(t, err)
	sameTokens(t, s, c.IDs)
	worst := 0.0
	for i, want := range c.Logits {
		worst = math.Max(worst, math.Abs(float64(logits[i]-want)))
	}
	if worst > 3e-4 {
		t.Fatalf("%s: logits differ by %g", c.Name, worst)
	}
}

func TestMediaAreTheReferences(t *testing.T) {
	model, cases, seconds := loadMedia(t)
	for _, c := range cases {
		s := mediaSession(t, model, nil)
		check(t, s.Add("user", partsOf(t, c, seconds)...))
		asReference(t, s, c)
		s.Close()
	}
}

func TestPicturesFromWhateverHoldsThem(t *testing.T) {
	model, cases, _ := loadMedia(t)
	c := cases["image odd"]
	file, err := os.ReadFile(mediaPath("odd.png"))
	check(t, err)
	decoded, err := png.Decode(bytes.NewReader(file))
	check(t, err)
	bounds := decoded.Bounds()
	nrgba := image.NewNRGBA(image.Rect(-3, -2, bounds.Dx()+5, bounds.Dy()+1)) // a part of a larger one
	inside := image.Rect(0, 0, bounds.Dx(), bounds.Dy())
	draw.Draw(nrgba, inside, decoded, bounds.Min, draw.Src)
	rgba := image.NewRGBA(inside)
	draw.Draw(rgba, inside, decoded, bounds.Min, draw.Src)
	var all []*Image
	for _, make := range []func() (*Image, error){
		func() (*Image, error) { return ImageFromBytes(file, nil) },
		func() (*Image, error) { return ImageFrom(decoded, nil) },
		func() (*Image, error) { return ImageFrom(nrgba.SubImage(inside), nil) },
		func() (*Image, error) { return ImageFrom(rgba, nil) },
		func() (*Image, error) { return ImageFrom(struct{ image.Image }{decoded}, nil) },
	} {
		i, err := make()
		check(t, err)
		all = append(all, i)
	}
	for _, i := range all {
		s := mediaSession(t, model, nil)
		check(t, s.Add("user", i, c.Parts[1][1]))
		i.Close()
		asReference(t, s, c)
	}
	encoded, err := model.Int(InfoEncoded)
	check(t, err)
	if encoded != 1 { // the same pixels each time
		t.Fatalf("%d encoded", encoded)
	}
	if _, err := ImageFromBytes([]byte("no picture"), nil); err == nil {
		t.Fatal("that was no picture")
	}
	if _, err := ImageFromBytes(nil, nil); err == nil {
		t.Fatal("that was no picture")
	}
}

func TestTransparentPixels(t *testing.T) {
	load(t)
	p := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	copy(p.Pix, []byte{200, 100, 0, 0, 200, 100, 0, 255})
	q := image.NewRGBA(p.Rect)
	draw.Draw(q, p.Rect, p, image.Point{}, draw.Src)
	for i, picture := range []image.Image{p, q} {
		im, err := ImageFrom(picture, nil)
		check(t, err)
		got, err := im.Pixels()
		check(t, err)
		if !reflect.DeepEqual(got.Pix, []byte{255, 255, 255, 255, 200, 100, 0, 255}) {
			t.Fatal(i, got.Pix)
		}
	}
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetAlpha("drop"))
	im, err := ImageFrom(p, config)
	check(t, err)
	got, err := im.Pixels()
	check(t, err)
	if !reflect.DeepEqual(got.Pix, []byte{200, 100, 0, 255, 200, 100, 0, 255}) {
		t.Fatal(got.Pix)
	}
}

func TestPlacesCropsAndOutlines(t *testing.T) {
	loadMedia(t)
	i := openImage(t, "wide") // 140 x 70: red grows to the right, green downwards
	w, h, err := i.Size()
	check(t, err)
	if w != 140 || h != 70 {
		t.Fatal(w, h)
	}
	part, err := i.Crop(image.Rect(100, 60, 140, 70))
	check(t, err)
	got, err := part.Pixels()
	check(t, err)
	if c := got.NRGBAAt(0, 0); got.Rect.Dx() != 40 || got.Rect.Dy() != 10 || c.R != 100*255/139 || c.G != 60*255/69 {
		t.Fatal(got.Rect, c)
	}
	if _, err := i.Crop(image.Rect(-1, 0, 5, 5)); !errors.Is(err, ErrRange) {
		t.Fatal(err)
	}
	if _, err := i.Crop(image.Rect(0, 0, 141, 5)); !errors.Is(err, ErrRange) {
		t.Fatal(err)
	}
	x, y, err := i.ToModel(70, 35)
	check(t, err)
	bx, by, err := i.FromModel(x, y)
	check(t, err)
	if math.Abs(x-500) > 1 || math.Abs(y-500) > 1 || math.Abs(bx-70) > 1e-6 || math.Abs(by-35) > 1e-6 {
		t.Fatal(x, y, bx, by)
	}
	marked, err := i.Outline([][4]float64{{250, 250, 750, 750}})
	check(t, err)
	path := filepath.Join(t.TempDir(), "marked.png")
	check(t, marked.SavePNG(path))
	file, err := os.Open(path)
	check(t, err)
	defer file.Close()
	saved, err := png.Decode(file)
	check(t, err)
	before, err := i.Pixels()
	check(t, err)
	changed := 0
	for k := 0; k < w*h; k++ {
		r, g, b, _ := saved.At(k%w, k/w).RGBA()
		c := before.NRGBAAt(k%w, k/w)
		if uint8(r>>8) != c.R || uint8(g>>8) != c.G || uint8(b>>8) != c.B {
			changed++
		}
	}
	if changed == 0 || changed > w*h/2 {
		t.Fatal(changed)
	}
	i.Close()
	if _, _, err := i.Size(); err != ErrClosed {
		t.Fatal(err)
	}
}

func wave(t *testing.T, name string) (file []byte, samples []float32) {
	t.Helper()
	file, err := os.ReadFile(mediaPath(name + ".wav"))
	check(t, err)
	for p := file[44:]; len(p) > 1; p = p[2:] {
		samples = append(samples, float32(int16(uint16(p[0])|uint16(p[1])<<8))/32768)
	}
	return file, samples
}

func TestSoundsFromWhateverHoldsThem(t *testing.T) {
	model, cases, _ := loadMedia(t)
	c := cases["long sound"]
	file, samples := wave(t, "long")
	twice := make([]float32, 0, 2*len(samples))
	for _, v := range samples {
		twice = append(twice, v, v)
	}
	for _, make := range []func() (*Sound, error){
		func() (*Sound, error) { return SoundFromBytes(file, nil) },
		func() (*Sound, error) { return SoundFromSamples(samples, 24000, 1, nil) },
		func() (*Sound, error) { return SoundFromSamples(twice, 24000, 2, nil) },
	} {
		sound, err := make()
		check(t, err)
		s := mediaSession(t, model, nil)
		check(t, s.Add("user", sound))
		sound.Close()
		asReference(t, s, c)
	}
	// As it is recorded.
	s := mediaSession(t, model, nil)
	for at := 0; at < len(samples); at += 1000 {
		check(t, s.Listen(samples[at:min(at+1000, len(samples))], 24000, 1))
		if _, err := s.Prefill(time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	done, err := s.Prefill(-1)
	check(t, err)
	if !done {
		t.Fatal("something is left")
	}
	check(t, s.Add("user"))
	asReference(t, s, c)
	if err := s.Listen(twice[:3], 24000, 2); !errors.Is(err, ErrArgument) {
		t.Fatal(err)
	}
	if _, err := SoundFromSamples(samples, -1, 1, nil); err == nil {
		t.Fatal("a rate below nothing")
	}
}

func TestFeaturesAndCosts(t *testing.T) {
	model, cases, seconds := loadMedia(t)
	s := mediaSession(t, model, nil)
	check(t, s.Attach(partsOf(t, cases["image wide"], seconds)...))
	rows, err := s.Features()
	check(t, err)
	width, err := model.Int(InfoWidth)
	check(t, err)
	tokens, err := model.ImageTokens(140, 70)
	check(t, err)
	if len(rows) != (tokens-2)*int(width) {
		t.Fatal(len(rows), tokens, width)
	}
	n, err := model.SoundTokens(5000, 24000)
	check(t, err)
	if n != 5 {
		t.Fatal(n)
	}
	if _, err := model.ImageTokens(-1, 5); !errors.Is(err, ErrRange) {
		t.Fatal(err)
	}
}

// What the model cannot take is refused before anything is attached: the next message is whole.
func TestARefusedPartLeavesNothingBehind(t *testing.T) {
	_, cases, _ := loadMedia(t)
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetTowers(0))
	model, err := Open(filepath.Join(os.Getenv("PONDER_TEST_DATA"), "seed0"), config)
	check(t, err)
	s, plain := mediaSession(t, model, nil), mediaSession(t, model, nil)
	if err := s.Add("user", "Look: ", openImage(t, "left")); !errors.Is(err, ErrUnsupported) {
		t.Fatal(err)
	}
	if err := s.Add("user", "Look: ", 5); !errors.Is(err, ErrArgument) {
		t.Fatal(err)
	}
	ask := cases["image left"].Parts[1][1]
	check(t, s.Add("user", ask))
	check(t, plain.Add("user", ask))
	for _, who := range []*Session{s, plain} {
		_, err = who.Prefill(-1)
		check(t, err)
	}
	want, err := plain.Tokens()
	check(t, err)
	sameTokens(t, s, want)
}

// ---- tools and bound answers -----------------------------------------------------------------------------

var lamp = []Tool{{Name: "lamp.set", Description: "Sets a lamp.", Parameters: json.RawMessage(`{"type":"object",
	"properties":{"on":{"type":"boolean"},"room":{"enum":["hall","attic"]}},"required":["on","room"],"additionalProperties":false}`)}}

// A raw prompt opens a call; the tool's schema leaves the model no choice but to make it a right one.
func inACall(t *testing.T, m *Model) *Session {
	t.Helper()
	s := mediaSession(t, m, func(c *Config) { check(t, c.SetStrictTools(1)) })
	check(t, s.Tools(lamp))
	check(t, s.Prompt("<|begin_of_text|><|start|>user<|message|>Light!<|eot|><|start|>assistant to=lamp.set<|message|>", TokenizeSpecial))
	return s
}

func TestRunAnswersCalls(t *testing.T) {
	model, _, _ := load(t)
	s := inACall(t, model)
	var called []string
	calls, events := uint64(0), 0
	err := s.Run(context.Background(), 2, func(name string, args json.RawMessage) (string, error) {
		var v struct {
			On   *bool  `json:"on"`
			Room string `json:"room"`
		}
		check(t, json.Unmarshal(args, &v))
		if name != "lamp.set" || v.On == nil || (v.Room != "hall" && v.Room != "attic") {
			t.Errorf("%s %s", name, args)
		}
		called = append(called, name)
		return "so be it", nil
	}, func(e Event) error {
		events++
		calls += e.Calls
		return nil
	})
	if err != nil && err != ErrRounds {
		t.Fatal(err)
	}
	if len(called) == 0 || calls < uint64(len(called)) || events < 2 {
		t.Fatal(called, calls, events)
	}
	ids, err := s.Tokens()
	check(t, err)
	tok, err := model.Tokenizer()
	check(t, err)
	text, err := tok.Decode(ids, true)
	check(t, err)
	if !strings.Contains(text, "<tool_output name=\"lamp.set\">\nso be it\n</tool_output>") {
		t.Fatal(text)
	}
}

func TestRunEnds(t *testing.T) {
	model, _, _ := load(t)
	if err := inACall(t, model).Run(context.Background(), 1, nil, nil); err != ErrRounds {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	fail := func(string, json.RawMessage) (string, error) { return "", mine }
	if err := inACall(t, model).Run(context.Background(), 2, fail, nil); err != mine {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stop := func(string, json.RawMessage) (string, error) { cancel(); return "", nil }
	if err := inACall(t, model).Run(ctx, 9, stop, nil); err != context.Canceled {
		t.Fatal(err)
	}
	defer func() {
		if recover() != "mine" {
			t.Fatal("the panic did not arrive")
		}
	}()
	_ = inACall(t, model).Run(context.Background(), 2, func(string, json.RawMessage) (string, error) { panic("mine") }, nil)
}

func TestASchemaBindsTheAnswer(t *testing.T) {
	model, _, _ := load(t)
	s := mediaSession(t, model, func(c *Config) {
		check(t, c.SetSchemaFrom(map[string]any{"type": "object", "required": []string{"state"}, "additionalProperties": false,
			"properties": map[string]any{"state": map[string]any{"type": "integer", "minimum": 0, "maximum": 7}}}))
	})
	text, thought, told := "", "", uint64(0)
	check(t, s.Ask(context.Background(), "From 3 do 1p2t", func(e Event) error {
		switch e.Kind {
		case EventAnswer:
			text += e.Text
		case EventThought:
			thought += e.Text
		case EventDone:
			told = e.ThoughtTokens
		}
		return nil
	}))
	var v map[string]int
	check(t, json.Unmarshal([]byte(text), &v))
	if state, there := v["state"]; len(v) != 1 || !there || state < 0 || state > 7 || thought == "" || told == 0 {
		t.Fatal(text, thought, told)
	}
	config, err := NewConfig()
	check(t, err)
	check(t, config.SetSchema(`{"type": 5}`))
	if _, err := model.NewSession(config); err == nil {
		t.Fatal("that was no schema")
	}
}

func TestParserAtEverySplit(t *testing.T) {
	load(t)
	stream := " to=self<|message|>Hm, \u00e4.<|eom|><|start|>assistant to=lamp.set<|message|><atem:function_calls>\n" +
		"<atem:invoke name=\"lamp.set\">\n<atem:parameter name=\"on\">true</atem:parameter>\n" +
		"<atem:parameter name=\"room\">hall</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>" +
		"<|start|>assistant to=user<|message|>Done.<|eot|>"
	for piece := 1; piece < len(stream); piece += 1 + piece/8 {
		p, err := NewParser("muse", lamp)
		check(t, err)
		got := map[EventKind]string{}
		take := func(events []Event, err error) {
			check(t, err)
			for _, e := range events {
				got[e.Kind] += e.Name + e.Text
			}
		}
		for at := 0; at < len(stream); at += piece {
			take(p.Feed(stream[at:min(at+piece, len(stream))]))
		}
		take(p.Finish())
		call := strings.TrimPrefix(got[EventToolCall], "lamp.set")
		var v map[string]any
		check(t, json.Unmarshal([]byte(call), &v))
		if got[EventThought] != "Hm, \u00e4." || got[EventAnswer] != "Done." || got[EventRaw] != "" ||
			!reflect.DeepEqual(v, map[string]any{"on": true, "room": "hall"}) {
			t.Fatal(piece, got)
		}
		if _, err := p.Feed("x"); !errors.Is(err, ErrState) {
			t.Fatal(err)
		} else if !strings.Contains(err.Error(), "ended") {
			t.Fatal(err)
		}
		p.Close()
	}
	p, err := NewParser("muse", nil)
	check(t, err)
	defer p.Close()
	events, err := p.Feed(" to=commentary<|message|>One.<|eom|><|start|>assistant to=commentary<|message|>Two.<|eot|>")
	check(t, err)
	seen := map[string]uint64{}
	for _, e := range events {
		seen[e.Text] = e.Message
	}
	if !reflect.DeepEqual(seen, map[string]uint64{"One.": 0, "Two.": 1, "": 2}) {
		t.Fatal(seen)
	}
	if _, err := NewParser("nothing", nil); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
}
