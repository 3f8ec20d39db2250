package channeltest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// pigeon is the smallest channel that holds to the contract, and, with a defect, does not.
type pigeon struct {
	defect string
	loft   *loft
}

func (p pigeon) Name() string { return "pigeon" }

func (p pigeon) Verify(r *channel.Request, secrets channel.Secrets) error {
	var probe any
	if p.defect == "parses first" && json.Unmarshal(r.Body, &probe) != nil {
		return errors.New("not JSON")
	}
	for i, s := range secrets {
		if p.defect == "knows one secret" && i > 0 {
			break
		}
		if s != "" && hmac.Equal([]byte(r.Header.Get("X-Signature")), []byte(pigeonSignature(s, r.Body))) {
			return nil
		}
	}
	code := "signature"
	if p.defect == "tells the secret" && len(secrets) > 0 {
		code = "expected " + secrets[0]
	}
	return &channel.Error{Class: channel.ClassUnverified, Code: code}
}

// Normalise reads one note, or several.
func (p pigeon) Normalise(r *channel.Request) (all channel.Result, err error) {
	var notes []json.RawMessage
	if !bytes.HasPrefix(r.Body, []byte("[")) {
		return p.note(r, r.Body)
	}
	if json.Unmarshal(r.Body, &notes) != nil {
		return all, &channel.Error{Class: channel.ClassReject, Code: "not_json"}
	}
	for _, note := range notes {
		one, err := p.note(r, note)
		if err != nil {
			one.Faults = []string{"not_json"}
		}
		if len(one.Faults) > 0 && p.defect == "loses the rest" {
			return one, nil
		}
		all.Events, all.Unknown, all.Faults = append(all.Events, one.Events...), append(all.Unknown, one.Unknown...), append(all.Faults, one.Faults...)
	}
	return all, nil
}

func (p pigeon) note(r *channel.Request, body []byte) (channel.Result, error) {
	var in struct{ ID, From, Team, Text, Kind string }
	d := json.NewDecoder(bytes.NewReader(body))
	if p.defect == "reads only what it knows" {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(&in); err != nil {
		if p.defect == "panics" {
			panic("garbage")
		}
		return channel.Result{}, &channel.Error{Class: channel.ClassReject, Code: "not_json"}
	}
	if in.Kind == "coo" {
		if p.defect == "passes over unknown types" {
			return channel.Result{}, nil
		}
		return channel.Result{Unknown: []string{in.Kind}}, nil
	}
	if in.ID == "" || in.From == "" {
		return channel.Result{Faults: []string{"incomplete"}}, nil
	}
	key := in.ID
	if p.defect == "names by the time of receipt" {
		key += r.ReceivedAt.String()
	}
	who := &channel.Identity{Kind: "pigeon_user", Value: in.From}
	e := channel.Event{
		Type: channel.TypeMessage, Account: in.Team, Key: key, ExternalID: in.ID, Author: who, Contact: who,
		Content: &channel.Content{Text: in.Text}, Order: 1_700_000_000_000_000,
	}
	if p.defect == "leaves the author out" {
		e.Author = nil
	}
	out := channel.Result{Events: []channel.Event{e}}
	if p.defect == "counts what was written" {
		out.Unknown = []string{in.Text}
	}
	if p.defect == "leaks into clear fields" {
		out.Events[0].SourceType = in.Text
	}
	return out, nil
}

// Check, Pace and Send make a pigeon a channel.Sender; its provider is a loft.
func (p pigeon) Check(out *channel.Outgoing) error {
	if out.Text == "" && out.Attachment == nil || p.defect == "refuses the longest text" && len(out.Text) > 90 {
		return &channel.Error{Class: channel.ClassReject, Code: "no_text"}
	}
	return nil
}

func (p pigeon) Pace(*channel.Outgoing) channel.Pace { return channel.Pace{} }

func (p pigeon) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	took := Taken{Text: out.Text, ReplyTo: out.ReplyTo}
	if p.defect == "forgets what is answered" {
		took.ReplyTo = ""
	}
	if a := out.Attachment; a != nil {
		took.FileURL = a.URL
	}
	if out.Connection.Credentials["ring"] != "CANARY-ring" {
		return channel.Sent{}, &channel.Error{Class: channel.ClassReauthorise, Code: "ring", Sentence: "Another ring is needed."}
	}
	f := p.loft.fail(took)
	e := &channel.Error{Class: channel.ClassRetry, Code: strconv.Itoa(f.Refuse), NotTaken: f.Refuse == 429}
	switch {
	case f.Refuse == 429 && p.defect != "forgets the pause":
		e.RetryAfter = 7 * time.Second
	case f.Refuse == 503 && p.defect == "blames its credentials":
		e.Class = channel.ClassReauthorise
	case f.HangUp && p.defect == "sends again into silence":
		e.NotTaken = true
	}
	if f.Refuse != 0 || f.HangUp {
		if p.defect == "tells the text" {
			return channel.Sent{}, fmt.Errorf("not sent: %s: %w", out.Text, e)
		}
		return channel.Sent{}, e
	}
	return channel.Sent{ExternalID: strconv.Itoa(len(p.loft.took))}, nil
}

// loft stands in for the pigeons' provider.
type loft struct {
	took  []Taken
	fault standin.Fault
}

func (l *loft) fail(m Taken) (f standin.Failure) {
	if l.fault != nil {
		f = l.fault(len(l.took), "send")
	}
	if f.Refuse == 0 {
		l.took = append(l.took, m)
	}
	return f
}

// timed declares more than channel.yaml says.
type timed struct{ pigeon }

func (timed) MessageTime(string) time.Time { return time.Time{} }

func pigeonSignature(secret string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

func pigeonKit(defect string) Kit {
	return Kit{
		New: func() channel.Adapter {
			if defect == "is more than it declares" {
				return timed{pigeon{defect: defect}}
			}
			return pigeon{defect: defect}
		},
		Features: channel.Features{
			Name: "pigeon", Title: "Pigeon", Ref: "app", BodyLimit: 64 << 10, TextLimit: 100, TextUnit: channel.UnitCharacters,
			IdentityKind: "pigeon_user", ExternalID: "[a-z0-9]+", LongestCall: 1,
			Batches: true, Credentials: []string{"ring"}, Interfaces: []string{"sender"},
		},
		StandIn: func(*testing.T) StandIn {
			l := &loft{}
			return StandIn{
				Adapter: pigeon{defect, l}, Took: func() []Taken { return l.took }, Fail: func(f standin.Fault) { l.fault = f },
				Out: func() *channel.Outgoing {
					return &channel.Outgoing{Connection: &channel.Connection{Credentials: map[string]string{"ring": "CANARY-ring"}}}
				},
				Revoked: map[string]string{"ring": "old"}, Answerable: "1",
			}
		},
		Sign:     func(r *channel.Request, secret string) { r.Header.Set("X-Signature", pigeonSignature(secret, r.Body)) },
		Canaries: []string{"canary-of-the-kit"},
	}
}

func TestAChannelThatHolds(t *testing.T) { Run(t, pigeonKit(os.Getenv(defectEnv))) }

func FuzzAChannelThatHolds(f *testing.F) { Fuzz(f, pigeonKit("")) }

// defectEnv makes TestAChannelThatHolds run on a channel with a defect, in a process of its own.
const defectEnv = "CHANNELTEST_DEFECT"

func TestTheKitFindsEachDefect(t *testing.T) {
	if os.Getenv(defectEnv) != "" {
		t.Skip("within itself")
	}
	for defect, found := range map[string]string{
		"parses first":                 "signatures/",
		"knows one secret":             "signatures/",
		"tells the secret":             "signatures/",
		"panics":                       "garbage",
		"names by the time of receipt": "a_replay_names_the_same_events/",
		"leaves the author out":        "events_are_whole/",
		"counts what was written":      "nothing_panics_and_nothing_leaks/",
		"leaks into clear fields":      "a_mesh_that_fails",
		"is more than it declares":     "declared_features",
		"reads only what it knows":     "unknown_fields_change_nothing",
		"loses the rest":               "one_bad_item_does_not_lose_the_rest",
		"passes over unknown types":    "unknown_types_are_taken_and_counted",
		"refuses the longest text":     "the_longest_text_is_sent",
		"forgets what is answered":     "a_reply_names_what_it_answers",
		"forgets the pause":            "a_provider's_pause_is_kept",
		"blames its credentials":       "a_provider_that_fails_is_tried_again",
		"sends again into silence":     "an_answer_that_never_came",
		"tells the text":               "a_provider_that_fails_is_tried_again",
	} {
		t.Run(defect, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAChannelThatHolds$")
			cmd.Env = append(os.Environ(), defectEnv+"="+defect)
			out, err := cmd.CombinedOutput()
			var failed *exec.ExitError
			require.ErrorAs(t, err, &failed, "the kit passed it")
			var told bool
			for line := range strings.Lines(string(out)) {
				told = told || strings.Contains(line, found) && (strings.Contains(line, "--- FAIL") || strings.Contains(line, "panic: "))
			}
			require.True(t, told, "not found where it is: %s", out)
		})
	}
}
