package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheTableTellsWhatIsMissed(t *testing.T) {
	var out bytes.Buffer
	missed := writeTable(&out, []figure{
		figure{Name: "a", Value: .7, Unit: "ratio"}.atLeast(.7),
		figure{Name: "b", Value: .69, Unit: "ratio"}.atLeast(.7),
		figure{Name: "c", Value: 2, Unit: "ms"}.atMost(2),
		figure{Name: "d", Value: 3, Unit: "ms"}.atMost(2),
		{Name: "e", Value: 1, Unit: "s"},
	})
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"met", "MISSED", "met", "MISSED"} {
		if !strings.HasSuffix(lines[i+1], want) {
			t.Errorf("%q does not end in %s", lines[i+1], want)
		}
	}
	if missed != 2 || strings.Contains(lines[5], "met") {
		t.Errorf("%d missed:\n%s", missed, &out)
	}
}

func TestTheFileOfFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := writeJSON(file, []figure{figure{Name: "a", Value: .5, Unit: "ratio"}.atLeast(1)}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read []map[string]any
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if len(read) != 1 || len(read[0]) != 3 || read[0]["name"] != "a" || read[0]["value"] != .5 || read[0]["unit"] != "ratio" {
		t.Errorf("%s", text)
	}
}

func TestARatioIsTheMedianOfAlternatedRounds(t *testing.T) {
	var turns strings.Builder
	values := map[string][]float64{"o": {10, 1, 6}, "b": {10, 10, 10}}
	turn := func(who string) side {
		return func(context.Context) (float64, error) {
			turns.WriteString(who)
			v := values[who][0]
			values[who] = values[who][1:]
			return v, nil
		}
	}
	e := &env{window: time.Second, rounds: 3, out: &bytes.Buffer{}}
	c, err := e.compare(t.Context(), "x", turn("o"), turn("b"))
	if err != nil || turns.String() != "obobob" || c != (compared{6, 10, .6}) {
		t.Errorf("%v %s %+v", err, &turns, c)
	}
	broken := errors.New("broken")
	if _, err := e.compare(t.Context(), "x", func(context.Context) (float64, error) { return 0, broken }, turn("b")); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	idle := func(context.Context) (float64, error) { return 0, nil }
	if _, err := e.compare(t.Context(), "x", idle, idle); err == nil {
		t.Error("a bare side that did nothing gives a ratio")
	}
}

func TestMedianAndPercentile(t *testing.T) {
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error(m)
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(99-i))
	}
	if p := percentile(hundred, .99); p != 98 {
		t.Error(p)
	}
	if p := percentile(hundred[:1], .5); p != 99 {
		t.Error(p)
	}
}
