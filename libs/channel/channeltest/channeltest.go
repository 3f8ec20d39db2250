// Package channeltest is the conformance kit that every adapter runs: what a channel must hold to, so
// that the rest of the mesh may rely on it without knowing its code.
//
//	var kit = channeltest.Kit{
//		New:      func() channel.Adapter { return New() },
//		Features: must(channel.Lookup("slack")),
//		Sign:     sign,
//	}
//
//	func TestConformance(t *testing.T)      { channeltest.Run(t, kit) }
//	func FuzzNormalise(f *testing.F)        { channeltest.Fuzz(f, kit) }
//
// Samples are requests as a provider sends them, one in each testdata/<name>.http: the request line,
// headers, an empty line, and the body to the end of the file (one line break at the end is not part of
// it). The signature is left out: the kit has it made by Sign. What the adapter makes of a sample stands
// beside it in testdata/<name>.golden.json, written by `go test -update`.
package channeltest

import (
	"flag"
	"testing"
	"time"

	"tributary.dev/libs/channel"
)

// update rewrites the goldens: go test ./... -update
var update = flag.Bool("update", false, "write what adapters make of their samples into the goldens")

// Secrets that the kit signs with; both are accepted, as in a rotation.
const (
	NewSecret = "kit-signing-secret-of-today-5f1c9a"
	OldSecret = "kit-signing-secret-of-yesterday-77e2"
)

// ReceivedAt is when samples come in. Signatures that carry a time are made of Request.ReceivedAt.
var ReceivedAt = time.Date(2026, 3, 14, 15, 9, 26, 535898000, time.UTC)

// Kit is one adapter under test.
type Kit struct {
	// New makes the adapter.
	New func() channel.Adapter
	// Features as its channel.yaml declares them.
	Features channel.Features
	// Sign signs a request as the provider does, by changing its headers or its URL. It replaces a
	// signature that is there.
	Sign func(r *channel.Request, secret string)
	// Bearer tells the requests whose provider signs nothing but repeats the secret: that a body was changed can't be told
	// there. Nil: there are none.
	Bearer func(r *channel.Request) bool
	// Samples is the folder of the samples; "testdata" where empty.
	Samples string
	// AppID is the provider's id of our app, by which own echoes are known.
	AppID string
	// Settings of the connection, where ref names one.
	Settings map[string]string
	// Canaries are personal data planted in the samples besides what the events carry: none may show in
	// an error, a count or a log line, nor anything of the events.
	Canaries []string
}

// Run holds the adapter to the contract.
func Run(t *testing.T, kit Kit) {
	samples := kit.samples(t)
	t.Run("declared features are what it implements", func(t *testing.T) { declared(t, kit) })
	t.Run("goldens", func(t *testing.T) { goldens(t, kit, samples) })
	t.Run("signatures", func(t *testing.T) { signatures(t, kit, samples) })
	t.Run("events are whole", func(t *testing.T) { whole(t, kit, samples) })
	t.Run("a replay names the same events", func(t *testing.T) { replays(t, kit, samples) })
	t.Run("nothing panics and nothing leaks", func(t *testing.T) { rough(t, kit, samples) })
	t.Run("a mesh that fails gives no 2xx unless spooled", func(t *testing.T) { mesh(t, kit, samples) })
}

// Fuzz is the body of an adapter's fuzz target: whatever the bytes, signed, normalising neither panics nor
// tells in an error, a fault or a count what a person wrote, and gives the same events twice.
func Fuzz(f *testing.F, kit Kit) {
	samples := kit.samples(f)
	for i, s := range samples {
		f.Add(i, s.body)
	}
	adapter := kit.New()
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		if i < 0 || i >= len(samples) || int64(len(body)) > kit.Features.BodyLimit {
			t.Skip()
		}
		try(t, kit, adapter, samples[i].with(body))
	})
}
