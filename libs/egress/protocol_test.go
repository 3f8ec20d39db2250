package egress

import (
	"flag"
	"testing"

	"pgregory.net/rapid"
)

// The sending protocol under random interleavings: processes that crash, stop, lose partitions and do not
// notice; commits whose answers are lost and which land late or never; receipts that are late, doubled or
// published with a lost acknowledgement; a relay that publishes again; a registry and a provider that fail
// in every way. The steps are the production code's own (lane, sender); broker, relay, conversation service
// and provider are models in memory, on one simulated clock.
//
// What must hold, whatever happens:
//
//   - The provider never gets a (message, part, attempt) from two deliveries, nor again after an offer that
//     it may have taken.
//   - It never gets a conversation's messages out of order, nor two of one conversation at the same time.
//   - No call begins later than Late after its command's position.
//   - Once the faults end, every message ends as sent, failed or unknown.
func TestSendingProtocol(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue {
		runs := "6000"
		if testing.Short() {
			runs = "600"
		}
		if err := flag.Set("rapid.checks", runs); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set("rapid.checks", checks.DefValue) }()
	}
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := newWorld(t)
			for range 20 + w.pick("steps", 120) {
				w.act()
			}
			w.heal()
		})
	})
}
