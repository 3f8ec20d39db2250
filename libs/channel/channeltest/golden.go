package channeltest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

// answer is what a golden holds: the reply to a challenge, or what came of normalising.
type answer struct {
	Challenge *reply
	Refused   bool
	Events    []channel.Event
	Reply     *reply
	Unknown   []string
	Faults    []string
	SignedAt  time.Time
}

// reply with a body that can be read.
type reply struct {
	Status      int
	ContentType string
	Body        string
}

func readableReply(r channel.Reply) *reply { return &reply{r.Status, r.ContentType, string(r.Body)} }

func goldens(t *testing.T, kit Kit, samples []sample) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			got := readable(t, answered(t, kit, s))
			if *update {
				require.NoError(t, os.WriteFile(s.golden(), got, 0o644))
				return
			}
			want, err := os.ReadFile(s.golden())
			require.NoError(t, err, "write it with -update, then read it")
			require.Equal(t, string(want), string(got))
		})
	}
}

func answered(t *testing.T, kit Kit, s sample) answer {
	adapter := kit.New()
	if s.method == http.MethodGet {
		challenger, ok := adapter.(channel.Challenger)
		require.True(t, ok, "a GET is a challenge")
		r, ok, err := challenger.Challenge(kit.signed(s, NewSecret), both)
		if err != nil || !ok {
			return answer{Refused: true}
		}
		return answer{Challenge: readableReply(r)}
	}
	r := kit.signed(s, NewSecret)
	require.NoError(t, adapter.Verify(r, both))
	if challenger, ok := adapter.(channel.Challenger); ok {
		c, ok, err := challenger.Challenge(r, both)
		require.NoError(t, err)
		if ok {
			return answer{Challenge: readableReply(c)}
		}
	}
	result, err := adapter.Normalise(r)
	require.NoError(t, err)
	return answer{
		Events: result.Events, Reply: readableReply(result.Reply),
		Unknown: result.Unknown, Faults: result.Faults, SignedAt: result.SignedAt,
	}
}

// readable is v as indented JSON without what is empty, so that a golden shows what there is.
func readable(t *testing.T, v any) []byte {
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // orders are larger than a float holds
	var tree any
	require.NoError(t, d.Decode(&tree))
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if tree = pruned(tree); tree == nil {
		tree = map[string]any{}
	}
	require.NoError(t, e.Encode(tree))
	return b.Bytes()
}

// pruned leaves out what is empty; nil where nothing is left.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e = pruned(e); e == nil {
				delete(v, k)
			} else {
				v[k] = e
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i, e := range v {
			v[i] = pruned(e)
		}
		if len(v) == 0 {
			return nil
		}
	case string:
		if v == "" || v == "0001-01-01T00:00:00Z" {
			return nil
		}
	case json.Number:
		if v == "0" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}
