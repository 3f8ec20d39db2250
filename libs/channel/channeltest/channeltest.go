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
// beside it in testdata/<name>.golden.json, written by `go test -update`, and what the channel can, by which test, in
// testdata/capabilities.json.
//
// Sending and fetching are tried on what stands in for the provider, where the kit is given it. What a channel need
// not do it declares: by not being a channel.Sender or channel.Fetcher, by the feature batches of its channel.yaml, by Bearer,
// and by what it leaves out of its StandIn.
package channeltest

import (
	"flag"
	"testing"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/capability"
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
	// Sign signs a request as the provider does, by changing its headers, its URL, or its body where the signature lies in
	// that. It replaces a signature that is there.
	Sign func(r *channel.Request, secret string)
	// Bearer tells the requests whose provider signs nothing but repeats the secret, or signs a field alone: that something
	// was added to a body can't be told there. Nil: there are none.
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
	// StandIn starts what stands in for the provider; nil leaves sending and fetching untried.
	StandIn func(t *testing.T) StandIn
}

// Run holds the adapter to the contract: a subtest for each item of the list of what a channel owes. Where one
// fails, the list is logged: what holds, what is to do, what waits for it, and what the channel is spared, and why.
func Run(t *testing.T, kit Kit) {
	samples := kit.samples(t)
	l := &list{t: t, outcomes: map[string]outcome{}, reasons: map[string]string{}, proved: map[capability.Name]string{}}
	l.run(kit, samples)
	t.Run("its capabilities are those recorded", func(t *testing.T) { l.recorded(t, kit) })
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
