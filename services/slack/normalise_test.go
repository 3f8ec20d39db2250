package slack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
)

// normalised runs an event through the adapter as it comes in its envelope.
func normalised(t *testing.T, event map[string]any) channel.Result {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"type": "event_callback", "team_id": "T1", "api_app_id": ourApp, "event_id": "Ev1", "event_time": 1773500966, "event": event,
		"authorizations": []any{map[string]any{"team_id": "T1", "user_id": "U0BOT", "is_bot": true}},
	})
	require.NoError(t, err)
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(&channel.Request{
		Header: http.Header{"Content-Type": {"application/json"}}, Body: body, AppID: ourApp,
	})
	require.NoError(t, err)
	return result
}

func post(over map[string]any) map[string]any {
	m := map[string]any{
		"type": "message", "channel": "C1", "channel_type": "channel", "user": "U1",
		"ts": "1773500965.000200", "event_ts": "1773500965.000200", "text": "hello",
	}
	for k, v := range over {
		m[k] = v
	}
	return m
}

func TestMessageAndMentionAreTwoEventsOfOneMessage(t *testing.T) {
	message := normalised(t, post(nil)).Events[0]
	mention := normalised(t, post(map[string]any{"type": "app_mention", "channel_type": ""})).Events[0]
	assert.Equal(t, message.ExternalID, mention.ExternalID)
	assert.Equal(t, message.Thread, mention.Thread)
	assert.Equal(t, message.Author, mention.Author)
	assert.NotEqual(t, message.Key, mention.Key)
}

func TestTheSameMessageUnderAnotherEventIDIsTheSameEvent(t *testing.T) {
	n := func(eventID string) channel.Event {
		n := normaliser{env: envelope{EventID: eventID}, installation: installation{account: "T1"}}
		body, _ := json.Marshal(map[string]any{"event": post(nil)})
		n.env.Event = eventOf[*message](body)
		n.event()
		return n.result.Events[0]
	}
	assert.Equal(t, n("Ev1"), n("Ev2"))
}

func TestWhatIsOurOwnIsNeverAMessage(t *testing.T) {
	for name, own := range map[string]map[string]any{
		"by app id":                        {"user": "U9", "app_id": ourApp},
		"by the bot's profile":             {"user": "U9", "bot_profile": map[string]any{"app_id": ourApp}},
		"by the bot's user":                {"user": "U0BOT"},
		"a file, which carries no app id":  {"user": "U0BOT", "subtype": "file_share"},
		"of the bot, as it was long ago":   {"user": "", "bot_id": "B1", "app_id": ourApp, "subtype": "bot_message"},
		"with metadata that is not a part": {"user": "U0BOT", "metadata": map[string]any{"event_type": metadataType, "event_payload": "odd"}},
	} {
		t.Run(name, func(t *testing.T) {
			events := normalised(t, post(own)).Events
			require.Len(t, events, 1)
			assert.Equal(t, channel.TypeReceipt, events[0].Type)
			assert.Equal(t, channel.StatusSent, events[0].Receipt.Status)
			assert.Equal(t, "C1:1773500965.000200", events[0].Target)
			assert.Nil(t, events[0].Content, "what we wrote is not told again")
		})
	}
}

func TestAnEditIsAChangeOfWhatWasWritten(t *testing.T) {
	change := func(now, before map[string]any) map[string]any {
		e := map[string]any{
			"type": "message", "subtype": "message_changed", "channel": "C1", "channel_type": "channel",
			"ts": "1773500980.000500", "event_ts": "1773500980.000500", "message": post(now),
		}
		if before != nil {
			e["previous_message"] = post(before)
		}
		return e
	}
	edited := map[string]any{"ts": "1773500979.000001"}
	section := func(text string) []any {
		return []any{map[string]any{"type": "section", "text": map[string]any{"type": "mrkdwn", "text": text}}}
	}
	for name, c := range map[string]struct {
		now, before map[string]any
		order       int64 // 0 is no edit
	}{
		"the text":                        {map[string]any{"text": "bye", "edited": edited}, map[string]any{}, 1773500979000001},
		"without the message before":      {map[string]any{"text": "bye", "edited": edited}, nil, 1773500979000001},
		"an app's update, never 'edited'": {map[string]any{"text": "bye"}, map[string]any{}, 1773500980000500},
		"an app's blocks":                 {map[string]any{"text": "", "blocks": section("step 2 of 2")}, map[string]any{"text": "", "blocks": section("step 1 of 2")}, 1773500980000500},
		"emphasis alone, which is text":   {map[string]any{"text": "*hello*", "edited": edited}, map[string]any{}, 1773500979000001},
		"an unfurl":                       {map[string]any{"attachments": []any{map[string]any{"from_url": "https://x", "text": "X"}}}, map[string]any{}, 0},
		"a reply count":                   {map[string]any{"reply_count": 3}, map[string]any{"reply_count": 2}, 0},
		"an unfurl of what was edited before": {
			map[string]any{"text": "bye", "edited": edited, "attachments": []any{map[string]any{"from_url": "https://x"}}},
			map[string]any{"text": "bye", "edited": edited}, 0,
		},
		"nothing to compare with, not edited": {map[string]any{"reply_count": 3}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			result := normalised(t, change(c.now, c.before))
			if c.order == 0 {
				assert.Empty(t, result.Events)
				assert.Equal(t, []string{"message_changed.same"}, result.Unknown)
				return
			}
			require.Len(t, result.Events, 1)
			assert.Equal(t, channel.TypeEdit, result.Events[0].Type)
			assert.Equal(t, c.order, result.Events[0].Order)
			assert.Equal(t, "C1:1773500965.000200", result.Events[0].Target)
		})
	}
}

func TestOddEventsAreCountedOrFaultsAndNeverErrors(t *testing.T) {
	for name, c := range map[string]struct {
		event          map[string]any
		unknown, fault []string
	}{
		"a type of nobody's":     {event: map[string]any{"type": "Не тип"}, unknown: []string{"other"}},
		"no type":                {event: map[string]any{}, fault: []string{"event"}},
		"a topic":                {event: post(map[string]any{"subtype": "channel_topic"}), unknown: []string{"message.channel_topic"}},
		"no ts":                  {event: post(map[string]any{"ts": ""}), fault: []string{"message.ts"}},
		"a ts that is a number":  {event: post(map[string]any{"ts": 1773500965.0002}), fault: []string{"message.ts"}},
		"an event of no fields":  {event: nil, fault: []string{"event"}},
		"no channel":             {event: post(map[string]any{"channel": "c 1"}), fault: []string{"message.channel"}},
		"a change of nothing":    {event: post(map[string]any{"subtype": "message_changed"}), fault: []string{"message_changed.message"}},
		"a deletion of nothing":  {event: post(map[string]any{"subtype": "message_deleted"}), fault: []string{"message_deleted.ts"}},
		"a reaction to nothing":  {event: map[string]any{"type": "reaction_added"}, unknown: []string{"reaction_added.other"}},
		"our own reaction":       {event: map[string]any{"type": "reaction_added", "user": "U0BOT", "reaction": "x", "event_ts": "1.0", "item": map[string]any{"type": "message", "channel": "C1", "ts": "1.0"}}, unknown: []string{"reaction_added.own"}},
		"a profile of nobody":    {event: map[string]any{"type": "user_change", "event_ts": "1.0"}, fault: []string{"user_change"}},
		"another app's metadata": {event: map[string]any{"type": "message_metadata_posted", "app_id": "A0", "metadata": map[string]any{"event_type": metadataType}}, unknown: []string{"message_metadata_posted.other"}},
	} {
		t.Run(name, func(t *testing.T) {
			result := normalised(t, c.event)
			assert.Empty(t, result.Events)
			assert.Equal(t, c.unknown, result.Unknown)
			assert.Equal(t, c.fault, result.Faults)
		})
	}
}

func TestNamesAreTakenAsTheyAreWrittenAndOnce(t *testing.T) {
	normalise := func(event string) (channel.Result, error) {
		return New(*DefaultConfig(), http.DefaultClient).Normalise(&channel.Request{
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   []byte(`{"type":"event_callback","team_id":"T1","event_id":"Ev1","event":` + event + `}`),
		})
	}
	result, err := normalise(`{"type":"message","channel":"C1","user":"U1","User":"U2","ts":"1773500965.000200","text":"a","Text":"b"}`)
	require.NoError(t, err)
	require.Len(t, result.Events, 1)
	assert.Equal(t, "T1:U1", result.Events[0].Author.Value)
	assert.Equal(t, "a", result.Events[0].Content.Text)
	_, err = normalise(`{"type":"message","channel":"C1","user":"U1","user":"U2","ts":"1773500965.000200","text":"a"}`)
	require.Error(t, err, "two names that differ could be read either way")
}

func TestASignedTimeIsTheEventsOwnWhenTheRequestIsSignedLater(t *testing.T) {
	body := []byte(`{"type":"event_callback","team_id":"T1","event_id":"Ev1","event_time":1773500966,"event":{"type":"message","channel":"C1","user":"U1","ts":"1773500965.000200","text":"old"}}`)
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(&channel.Request{
		Header: http.Header{"Content-Type": {"application/json"}, "X-Slack-Request-Timestamp": {"1773900000"}}, Body: body,
	})
	require.NoError(t, err)
	assert.Equal(t, time.UnixMicro(1773500965000200).UTC(), result.SignedAt)
}

func TestWhatIsNotWhatItPromisesIsAnError(t *testing.T) {
	const object, form = "application/json", "application/x-www-form-urlencoded"
	event := `{"type":"url_verification","challenge":"CANARY","event":{"text":"CANARY"}}`
	a := New(*DefaultConfig(), http.DefaultClient)
	for _, c := range []struct{ contentType, body string }{
		{object, ""}, {object, " "}, {object, "[]"}, {object, "[" + event + "]"}, {object, "null"}, {object, "5"}, {object, `"url_verification"`},
		{object, "true"}, {object, `{"type":`}, {object, event + "}"}, {object, "payload=%7B%7D"},
		{form, ""}, {form, event}, {form, "payload=%zz"}, {form, "payload="}, {form, "payload=%5B%5D"}, {form, "payload=null"}, {form, "CANARY=1"},
		{"", event}, {"text/plain", event}, {"text/json", event}, {"multipart/form-data; boundary=x", event}, {"application/json, text/plain", event}, {"CANARY", "CANARY"},
	} {
		r := &channel.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {c.contentType}}, Body: []byte(c.body)}
		_, asked, err := a.Challenge(r, nil)
		require.NoError(t, err)
		assert.False(t, asked, "%s: %s", c.contentType, c.body)
		_, err = a.Normalise(r)
		if assert.Error(t, err, "%s: %s", c.contentType, c.body) {
			assert.NotContains(t, err.Error(), "CANARY")
		}
	}
}

func TestContentTypesMayHaveParametersAndAnyCase(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	for _, c := range []struct{ contentType, body, unknown string }{
		{"application/json; charset=utf-8", " {} ", "other"},
		{"Application/JSON", "{}", "other"},
		{"application/x-www-form-urlencoded", "ssl_check=1&token=x", "ssl_check"},
		{"application/x-www-form-urlencoded", "payload=%7B%22type%22%3A%22view_closed%22%7D", "interaction.view_closed"},
		{"application/x-www-form-urlencoded; charset=UTF-8", "payload=%7B%22type%22%3A%22block_actions%22%7D", "interaction.block_actions.other"},
	} {
		result, err := a.Normalise(&channel.Request{Header: http.Header{"Content-Type": {c.contentType}}, Body: []byte(c.body)})
		require.NoError(t, err, c.contentType)
		assert.Equal(t, []string{c.unknown}, result.Unknown)
	}
}

func TestNobodysMessagesAreFaultsAndNotOnePersons(t *testing.T) {
	change := func(over map[string]any) map[string]any {
		over["edited"] = map[string]any{"ts": "1773500979.000001"}
		return map[string]any{"type": "message", "subtype": "message_changed", "channel": "C1", "event_ts": "1773500980.000500", "message": post(over)}
	}
	for name, nobody := range map[string]map[string]any{
		"no user": {"user": ""}, "not an id": {"user": "U 1"}, "not a string": {"user": 7}, "a bot without an id": {"user": "", "subtype": "bot_message", "bot_id": "?"},
	} {
		t.Run(name, func(t *testing.T) {
			result := normalised(t, post(nobody))
			assert.Empty(t, result.Events)
			assert.Equal(t, []string{"message.author"}, result.Faults)
			result = normalised(t, change(nobody))
			assert.Empty(t, result.Events)
			assert.Equal(t, []string{"message_changed.author"}, result.Faults)
		})
	}
	for name, c := range map[string]struct {
		bot  map[string]any
		want string
	}{
		"a bot":           {map[string]any{"user": "", "bot_id": "B1", "app_id": "A1"}, "T1:B1"},
		"a bot's profile": {map[string]any{"user": "", "bot_profile": map[string]any{"id": "B2", "app_id": "A1"}}, "T1:B2"},
		"an app":          {map[string]any{"user": "", "subtype": "bot_message", "app_id": "A1"}, "T1:A1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, event := range []map[string]any{post(c.bot), change(c.bot)} {
				events := normalised(t, event).Events
				require.Len(t, events, 1)
				assert.Equal(t, &channel.Identity{Kind: "slack_bot", Value: c.want}, events[0].Author)
				assert.True(t, events[0].Automated)
			}
		})
	}
}

func TestTSIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds, fraction := rapid.Int64Range(0, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 999_999).Draw(t, "fraction")
		ts := fmt.Sprintf("%d.%06d", seconds, fraction)
		micros, ok := parseTS(ts)
		if !ok || micros != seconds*1_000_000+fraction {
			t.Fatalf("%s is %d", ts, micros)
		}
		if at := (&Adapter{}).MessageTime("C1:" + ts); at.UnixMicro() != micros {
			t.Fatalf("%s is at %s", ts, at)
		}
	})
	for _, ts := range []string{"", ".", "1.", "x.1", "1.0000001", "-1.000000", "1e9.000000", "99999999999999999999.000000", "9223372036854775807.000000", "1.00000a", "+1.000000"} {
		_, ok := parseTS(ts)
		assert.Equal(t, ts == "1.", ok, ts)
	}
	for _, id := range []string{"", "C1", "C1:x", ":"} {
		assert.True(t, (&Adapter{}).MessageTime(id).IsZero(), id)
	}
}
