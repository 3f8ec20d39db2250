package channeltest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

// pigeon is the smallest channel that holds to the contract, and, with a defect, does not.
type pigeon struct{ defect string }

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

func (p pigeon) Normalise(r *channel.Request) (channel.Result, error) {
	var in struct{ ID, From, Team, Text string }
	if err := json.Unmarshal(r.Body, &in); err != nil {
		if p.defect == "panics" {
			panic("garbage")
		}
		return channel.Result{}, &channel.Error{Class: channel.ClassReject, Code: "not_json"}
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
				return timed{pigeon{defect}}
			}
			return pigeon{defect}
		},
		Features: channel.Features{
			Name: "pigeon", Title: "Pigeon", Ref: "app", BodyLimit: 64 << 10, TextLimit: 100, TextUnit: channel.UnitCharacters,
			IdentityKind: "pigeon_user", ExternalID: "[a-z0-9]+", LongestCall: 1,
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
