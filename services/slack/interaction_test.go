package slack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func form(t *testing.T, body []byte) channel.Result {
	t.Helper()
	at := time.Unix(1773500971, 0)
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(&channel.Request{
		Header: standin.SlackFormHeader("secret", body, at), Body: body, AppID: ourApp, ReceivedAt: at,
	})
	require.NoError(t, err)
	assert.Equal(t, channel.Reply{}, result.Reply, "an empty 200")
	return result
}

// used is a button's interaction with fields of its payload replaced.
func used(t *testing.T, over map[string]any) []byte {
	t.Helper()
	values, err := url.ParseQuery(string(standin.SlackButton("T1", ourApp, "C1", "U1", "1773500965.000200", "", "1.2.3abc", "1773500970.118300", "Approve", "yes")))
	require.NoError(t, err)
	var payload map[string]any
	require.NoError(t, json.Unmarshal([]byte(values.Get("payload")), &payload))
	for k, v := range over {
		payload[k] = v
	}
	raw, err := json.Marshal(payload)
	require.NoError(t, err)
	return []byte(url.Values{"payload": {string(raw)}}.Encode())
}

func TestAButtonIsAnswerOfItsPersonInTheConversationOfItsMessage(t *testing.T) {
	for name, c := range map[string]struct{ channel, thread, want string }{
		"of a channel's message":         {"C1", "", "C1:1773500965.000200"},
		"of a reply in a thread":         {"C1", "1773500900.000100", "C1:1773500900.000100"},
		"of a direct message":            {"D1", "", "D1"},
		"of a direct message's thread":   {"D1", "1773500900.000100", "D1:1773500900.000100"},
		"of a group message, an old one": {"G1", "", "G1:1773500965.000200"},
	} {
		t.Run(name, func(t *testing.T) {
			result := form(t, standin.SlackButton("T1", ourApp, c.channel, "U1", "1773500965.000200", c.thread, "1.2.3abc", "1773500970.118300", "Approve", "yes"))
			require.Len(t, result.Events, 1)
			e := result.Events[0]
			assert.Equal(t, c.want, e.Thread.ID)
			assert.Equal(t, c.channel[0] != 'D', e.Thread.Group)
			assert.Equal(t, c.channel[0] == 'D', e.Contact != nil)
			assert.Equal(t, "T1:U1", e.Author.Value)
			assert.Equal(t, c.channel+":1773500965.000200", e.ReplyTo)
			assert.Equal(t, "Approve", e.Content.Text)
			assert.Equal(t, "yes", e.Content.Payload)
			assert.Equal(t, int64(1773500970118300), e.Order)
			assert.Equal(t, e.Order, New(*DefaultConfig(), nil).MessageTime(e.ExternalID).UnixMicro(), "its id carries its time")
			assert.Equal(t, time.UnixMicro(e.Order).UTC(), result.SignedAt)
		})
	}
}

func TestTwoUsesOfOneButtonAreTwoMessagesAndARedeliveryIsNone(t *testing.T) {
	key := func(trigger, at string) channel.Event {
		return form(t, standin.SlackButton("T1", ourApp, "C1", "U1", "1773500965.000200", "", trigger, at, "Approve", "yes")).Events[0]
	}
	first := key("1.2.3abc", "1773500970.118300")
	assert.Equal(t, first, key("1.2.3abc", "1773500970.118300"))
	for _, other := range []channel.Event{key("1.2.3abd", "1773500970.118300"), key("1.2.3abc", "1773500970.118301")} {
		assert.NotEqual(t, first.Key, other.Key)
		assert.NotEqual(t, first.ExternalID, other.ExternalID)
	}
}

func TestNothingOfACredentialIsKept(t *testing.T) {
	for _, body := range [][]byte{
		standin.SlackButton("T1", ourApp, "C1", "U1", "1773500965.000200", "", "13345.TRIGGER", "1773500970.118300", "Approve", "yes"),
		standin.SlackCommand("T1", ourApp, "C1", "U1", "13345.TRIGGER", "/ask", "hello"),
	} {
		kept := fmt.Sprintf("%+v", form(t, body))
		for _, secret := range []string{"TRIGGER", "hooks.slack.com", "legacy"} {
			assert.Contains(t, string(body), secret)
			assert.NotContains(t, kept, secret)
		}
	}
}

func TestACommandBelongsToItsChannelAndHasNoTime(t *testing.T) {
	e := form(t, standin.SlackCommand("T1", ourApp, "C1", "U1", "1.2.3abc", "/ask", "<@U2|ada> &lt;3 ")).Events[0]
	assert.Equal(t, channel.Thread{ID: "C1", Group: true}, e.Thread)
	assert.Equal(t, "/ask @U2 <3", e.Content.Text)
	assert.Equal(t, "T1:U2", e.Content.Mentions[0].Identity.Value)
	assert.Zero(t, e.Order)
	assert.True(t, e.IDTime.IsZero())
	assert.True(t, New(*DefaultConfig(), nil).MessageTime(e.ExternalID).IsZero())
	assert.Equal(t, e, form(t, standin.SlackCommand("T1", ourApp, "C1", "U1", "1.2.3abc", "/ask", "<@U2|ada> &lt;3 ")).Events[0])

	direct := form(t, standin.SlackCommand("T1", ourApp, "D1", "U1", "1.2.3abd", "/ask", "")).Events[0]
	assert.Empty(t, direct.Thread, "the direct message may be another's: it is no place to answer in")
	assert.Equal(t, "T1:U1", direct.Contact.Value)
}

func TestInteractionsThatSayNothingAreCountedOrFaults(t *testing.T) {
	for name, c := range map[string]struct {
		over           map[string]any
		unknown, fault []string
	}{
		"in a view":        {over: map[string]any{"container": map[string]any{"type": "view", "view_id": "V1"}}, unknown: []string{"interaction.block_actions.view"}},
		"a menu's options": {over: map[string]any{"type": "block_suggestion"}, unknown: []string{"interaction.block_suggestion"}},
		"of long ago":      {over: map[string]any{"type": "interactive_message"}, unknown: []string{"interaction.interactive_message"}},
		"of nobody's type": {over: map[string]any{"type": "Не тип"}, unknown: []string{"interaction.other"}},
		"no actions":       {over: map[string]any{"actions": nil}, fault: []string{"block_actions.actions"}},
		"no user":          {over: map[string]any{"user": nil}, fault: []string{"block_actions.user"}},
		"no message":       {over: map[string]any{"container": map[string]any{"type": "message"}, "message": nil}, fault: []string{"block_actions.message"}},
		"no team":          {over: map[string]any{"team": nil, "message": nil, "user": map[string]any{"id": "U1"}}, fault: []string{"block_actions.team"}},
	} {
		t.Run(name, func(t *testing.T) {
			result := form(t, used(t, c.over))
			assert.Empty(t, result.Events)
			assert.Equal(t, c.unknown, result.Unknown)
			assert.Equal(t, c.fault, result.Faults)
		})
	}
}

func TestWhereAnEphemeralMessagesButtonIsUsed(t *testing.T) {
	ephemeral := map[string]any{"type": "message", "message_ts": "1773500965.000200", "channel_id": "C1", "is_ephemeral": true}
	e := form(t, used(t, map[string]any{"container": ephemeral, "message": nil})).Events[0]
	assert.Equal(t, channel.Thread{ID: "C1", Group: true}, e.Thread, "no thread begins at what one person saw")
	assert.Empty(t, e.ReplyTo)
	ephemeral["thread_ts"] = "1773500900.000100"
	e = form(t, used(t, map[string]any{"container": ephemeral, "message": nil})).Events[0]
	assert.Equal(t, "C1:1773500900.000100", e.Thread.ID)
}

// Whatever is chosen, its mentions are where they say and it is UTF-8.
func TestChosen(t *testing.T) {
	ids := rapid.SampledFrom([]string{"U1", "W2", "C3", "", "no id", "<@U1>"})
	rapid.Check(t, func(t *rapid.T) {
		a := action{
			Type: rapid.SampledFrom([]string{"button", "static_select", "plain_text_input", "users_select", ""}).Draw(t, "type"),
			Text: textObject{Type: "plain_text", Text: rapid.String().Draw(t, "text")}, Value: rapid.String().Draw(t, "value"), ActionID: "a1",
			SelectedUsers: rapid.SliceOfN(ids, 0, 3).Draw(t, "users"), SelectedConversation: ids.Draw(t, "conversation"),
			SelectedOptions: []option{{textObject{"mrkdwn", rapid.SampledFrom([]string{"<@U9> x", "&lt;", ""}).Draw(t, "option")}, "v"}},
		}
		p := a.chosen("T1")
		for _, m := range p.mentions {
			if got := p.String()[m.Start : m.Start+m.Length]; "T1:"+strings.TrimPrefix(got, "@") != m.Identity.Value {
				t.Fatalf("%q is not %v", got, m.Identity)
			}
		}
		if a.payload() == "" {
			t.Fatal("no payload")
		}
	})
}
