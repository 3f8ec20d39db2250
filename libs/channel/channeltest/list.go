package channeltest

import (
	"fmt"
	"strings"
	"testing"

	"tributary.dev/libs/channel/capability"
)

// item is one thing that a channel owes: a subtest of its name.
type item struct {
	name string
	// after names the item that must hold before this one can be looked at.
	after string
	// spares says why a channel need not hold to it; "" where it must.
	spares func(kit Kit, samples []sample) string
	check  func(t *testing.T, kit Kit, samples []sample)
	// proves is what a channel can that holds to it.
	proves capability.Name
}

const (
	signed   = "signatures"
	received = "a sample becomes an event"
	sent     = "a text is sent"
)

// items are the kit's list, in the order in which a new channel meets them.
func items() []item {
	return []item{
		{name: "declared features are what it implements", check: func(t *testing.T, kit Kit, _ []sample) { declared(t, kit) }},
		{name: signed, check: signatures, proves: capability.RotateSecrets},
		{name: received, after: signed, check: becomes},
		{name: "goldens", after: received, check: goldens},
		{name: "events are whole", after: received, check: whole},
		{name: "a replay names the same events", after: received, check: replays},
		{name: "unknown fields change nothing", after: received, spares: withoutFields, check: unknownFields},
		{name: "unknown types are taken and counted", after: signed, spares: withoutTypes, check: unknownTypes},
		{name: "one bad item does not lose the rest", after: received, spares: withoutBatches, check: badItem},
		{name: "nothing panics and nothing leaks", after: signed, check: rough},
		{name: "a mesh that fails gives no 2xx unless spooled", after: received, check: mesh},

		{name: sent, spares: withoutSending, check: sends, proves: capability.SendText},
		{name: "declared credentials are enough to send", after: sent, spares: withoutSending, check: sendsAsDeclared, proves: capability.ConnectPasted},
		{name: "the longest text is sent and none is refused", after: sent, spares: withoutSending, check: sendsLongest, proves: capability.SendLong},
		{name: "a file is sent", after: sent, spares: withoutSending, check: sendsFile, proves: capability.SendMedia},
		{name: "a reply names what it answers", after: sent, spares: withoutSending, check: sendsReply, proves: capability.SendReplies},
		{name: "a refused credential asks for another", after: sent, spares: withoutSending, check: sendsUnauthorised},
		{name: "a provider's pause is kept", after: sent, spares: withoutSending, check: sendsTooFast},
		{name: "a provider that fails is tried again", after: sent, spares: withoutSending, check: sendsToBroken},
		{name: "an answer that never came leaves the outcome open", after: sent, spares: withoutSending, check: sendsToSilence},

		{name: "a file is fetched", spares: withoutFetching, check: fetchesFile, proves: capability.FetchMedia},
		{name: "a profile is fetched", spares: withoutFetching, check: fetchesProfile, proves: capability.FetchProfile},
	}
}

// outcome of an item.
type outcome int

const (
	unasked outcome = iota // go test -run chose others
	passed
	failed
	waits
	spared
)

// list of what became of the items.
type list struct {
	t        *testing.T
	outcomes map[string]outcome
	reasons  map[string]string
	proved   map[capability.Name]string
}

// run runs the items whose time has come. What waits and what is spared is a test that was skipped, with why.
func (l *list) run(kit Kit, samples []sample) {
	for _, i := range items() {
		l.t.Run(i.name, func(t *testing.T) {
			l.outcomes[i.name] = failed // until it has ended otherwise
			defer func() {
				if t.Skipped() && l.outcomes[i.name] == failed {
					l.outcomes[i.name], l.reasons[i.name] = spared, "left out of its StandIn"
				}
				if !t.Failed() && l.outcomes[i.name] == failed {
					l.outcomes[i.name] = passed
					l.prove(i.proves, t.Name())
				}
			}()
			if i.spares != nil {
				if why := i.spares(kit, samples); why != "" {
					l.skip(t, i.name, spared, why)
				}
			}
			if o := l.outcomes[i.after]; o == failed || o == waits {
				l.skip(t, i.name, waits, "first: "+i.after)
			}
			i.check(t, kit, samples)
		})
	}
	if l.outcomes["goldens"] == passed {
		l.proveReceiving(kit, samples)
	}
	if l.t.Failed() {
		l.t.Log(l.text())
	}
}

func (l *list) skip(t *testing.T, name string, o outcome, why string) {
	l.outcomes[name], l.reasons[name] = o, why
	t.Skip(why)
}

// whole tells whether every item was looked at, and none failed.
func (l *list) whole() bool {
	for _, i := range items() {
		if o := l.outcomes[i.name]; o != passed && o != spared {
			return false
		}
	}
	return true
}

// text of the list, for who works through it.
func (l *list) text() string {
	var b strings.Builder
	b.WriteString("what a channel owes:\n")
	for _, i := range items() {
		word := map[outcome]string{unasked: "-", passed: "holds", failed: "TO DO", waits: "waits", spared: "spared"}[l.outcomes[i.name]]
		fmt.Fprintf(&b, "  %-6s  %s", word, i.name)
		if why := l.reasons[i.name]; why != "" {
			fmt.Fprintf(&b, " (%s)", why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func withoutBatches(kit Kit, _ []sample) string {
	if !kit.Features.Batches {
		return "channel.yaml: no batches, a request carries one item"
	}
	return ""
}
