package channeltest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/capability"
)

// prove records the first test that proves a capability.
func (l *list) prove(c capability.Name, test string) {
	if _, ok := l.proved[c]; !ok && c != "" {
		l.proved[c] = test
	}
}

// proveReceiving: what a golden holds is received, and that golden's test proves it.
func (l *list) proveReceiving(kit Kit, samples []sample) {
	for _, s := range posts(samples) {
		result, ok := normalise(l.t, kit, kit.New(), kit.signed(s, NewSecret))
		if !ok {
			continue
		}
		for _, e := range result.Events {
			for _, c := range receives(e) {
				l.prove(c, l.t.Name()+"/goldens/"+s.name)
			}
		}
	}
}

// receives names what an event shows that its channel can.
func receives(e channel.Event) (all []capability.Name) {
	shows := func(c capability.Name, when bool) {
		if when {
			all = append(all, c)
		}
	}
	inbound := e.Type == channel.TypeMessage && !e.Outbound
	written := inbound && e.Content.Payload == ""
	shows(capability.ReceiveText, written && e.Content.Text != "")
	shows(capability.ReceiveMedia, inbound && len(e.Content.Attachments) > 0)
	shows(capability.ReceiveEdits, e.Type == channel.TypeEdit)
	shows(capability.ReceiveDeletions, e.Type == channel.TypeDeletion)
	shows(capability.ReceiveReactions, e.Type == channel.TypeReaction)
	shows(capability.ReceiveReplies, written && e.ReplyTo != "")
	shows(capability.ReceivePayload, inbound && e.Content.Payload != "")
	shows(capability.ReceiveGroups, inbound && e.Thread.Group)
	shows(capability.ReceiveElsewhere, e.Type == channel.TypeMessage && e.Outbound)
	if e.Type == channel.TypeReceipt {
		shows(capability.ReceiveSent, e.Receipt.Status == channel.StatusSent)
		shows(capability.ReceiveDelivered, e.Receipt.Status == channel.StatusDelivered)
		shows(capability.ReceiveRead, e.Receipt.Status == channel.StatusRead)
		shows(capability.ReceiveFailed, e.Receipt.Status == channel.StatusFailed)
	}
	shows(capability.ReceiveProfile, e.Profile != nil)
	shows(capability.ReceiveConsent, e.Type == channel.TypeConsent)
	shows(capability.ReceiveMembers, e.Type == channel.TypeMembership)
	shows(capability.ReceiveCommerce, e.Type == channel.TypeCommerce)
	shows(capability.ReceiveRevoked, e.Type == channel.TypeRevocation)
	return all
}

// recorded holds the record of what a channel can to what was proved just now. It is asked only when the whole list
// was run and held: a part of it proves a part.
func (l *list) recorded(t *testing.T, kit Kit) {
	if !l.whole() {
		t.Skip("not the whole list held")
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	require.NoError(t, e.Encode(l.proved)) // maps are encoded in the order of their keys
	file := filepath.Join(kit.folder(), "capabilities.json")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "write it with -update, then read it")
	require.Equal(t, string(want), b.String(), "what the channel can; the README's table is made of it")
}
