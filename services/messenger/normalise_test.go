package messenger

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

var at = time.UnixMilli(1773500965308).UTC()

// request of the mesh's own app, whose verify token is known.
func request(body []byte) *channel.Request {
	return &channel.Request{Header: http.Header{"Content-Type": {"application/json"}}, Body: body, AppID: ourApp, VerifyToken: "let me in"}
}

func normalised(t *testing.T, items ...map[string]any) channel.Result {
	t.Helper()
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(request(standin.GraphWebhook(page, at, items...)))
	require.NoError(t, err)
	return result
}

func one(t *testing.T, item map[string]any) channel.Event {
	t.Helper()
	result := normalised(t, item)
	require.Len(t, result.Events, 1, "unknown %v, faults %v", result.Unknown, result.Faults)
	return result.Events[0]
}

func TestOurOwnEchoIsAReceiptAndAnybodyElsesAMessage(t *testing.T) {
	meta := (&part{MessageID: "m-1", Part: 1, Attempt: 2, ConversationKey: "k"}).String()
	for name, c := range map[string]struct {
		known   string // the app's id, as the mesh has it
		message map[string]any
		own     bool
		joined  string
	}{
		"our app":                            {ourApp, map[string]any{"app_id": json.Number(ourApp), "metadata": meta}, true, "m-1"},
		"our app, its id as text":            {ourApp, map[string]any{"app_id": ourApp}, true, ""},
		"our app, another's metadata":        {ourApp, map[string]any{"app_id": ourApp, "metadata": "campaign 7"}, true, ""},
		"our app, metadata of another shape": {ourApp, map[string]any{"app_id": ourApp, "metadata": `{"tributary":[1]}`}, true, ""},
		"another app":                        {ourApp, map[string]any{"app_id": 263902037430900}, false, ""},
		"another mesh's app":                 {ourApp, map[string]any{"app_id": 263902037430900, "metadata": meta}, false, ""},
		"Meta's inbox":                       {ourApp, map[string]any{}, false, ""},
		"no app id, our metadata":            {ourApp, map[string]any{"metadata": meta}, true, "m-1"},
		"our id is not known, our metadata":  {"", map[string]any{"app_id": ourApp, "metadata": meta}, true, "m-1"},
		"our id is not known, no metadata":   {"", map[string]any{"app_id": ourApp}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			item := standin.MessengerEcho("", standin.GraphPost{MID: "m_1", Page: page, PSID: ada, At: at, Text: "hello"})
			for k, v := range c.message {
				item["message"].(map[string]any)[k] = v
			}
			r := request(standin.GraphWebhook(page, at, item))
			r.AppID = c.known
			result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(r)
			require.NoError(t, err)
			require.Len(t, result.Events, 1)
			e := result.Events[0]
			assert.Equal(t, page+":"+ada, e.Contact.Value)
			if !c.own {
				assert.Equal(t, channel.TypeMessage, e.Type)
				assert.True(t, e.Outbound)
				assert.Nil(t, e.Author)
				assert.Equal(t, "hello", e.Content.Text)
				return
			}
			assert.Equal(t, channel.TypeReceipt, e.Type)
			assert.Nil(t, e.Content, "what we wrote is not told again")
			assert.Equal(t, c.joined, e.Receipt.MessageID)
			assert.Equal(t, "m_1", e.Target)
			assert.Equal(t, at.UnixMicro(), e.Receipt.SentOrder)
		})
	}
}

func TestStandbyIsTakenInLikeAnyOther(t *testing.T) {
	item := standin.MessengerMessage(page, ada, "m_1", at, "hello")
	body, err := json.Marshal(map[string]any{"object": "page", "entry": []any{map[string]any{"id": page, "time": 1, "standby": []any{item}}}})
	require.NoError(t, err)
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(request(body))
	require.NoError(t, err)
	assert.Equal(t, normalised(t, item), result)
}

// However Meta groups items into entries and requests, and in whatever order, they are the same events.
func TestGroupingChangesNoEvent(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	type placed struct {
		page string
		item map[string]any
	}
	events := func(t *rapid.T, entries []any) []string {
		body, err := json.Marshal(map[string]any{"object": "page", "entry": entries})
		require.NoError(t, err)
		result, err := a.Normalise(request(body))
		require.NoError(t, err)
		require.Empty(t, result.Faults)
		var all []string
		for _, e := range result.Events {
			told, err := json.Marshal(e)
			require.NoError(t, err)
			all = append(all, string(told))
		}
		slices.Sort(all)
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.Custom(func(t *rapid.T) placed {
			p := rapid.SampledFrom([]string{page, "730000112233445"}).Draw(t, "page")
			who := rapid.SampledFrom([]string{ada, "7311285728960002"}).Draw(t, "person")
			when := at.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "ms")) * time.Millisecond)
			mid := fmt.Sprintf("m_%d", rapid.IntRange(1, 5).Draw(t, "mid"))
			switch rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0:
				return placed{p, standin.MessengerMessage(p, who, mid, when, "hello")}
			case 1:
				return placed{p, standin.MessengerDelivery(p, who, when, mid)}
			case 2:
				return placed{p, standin.MessengerRead(p, who, when, when)}
			case 3:
				return placed{p, standin.MessengerEcho(json.Number(ourApp), standin.GraphPost{MID: mid, Page: p, PSID: who, At: when})}
			case 4:
				return placed{p, standin.MessengerItem(p, who, when, map[string]any{"referral": map[string]any{"ref": "r", "source": "SHORTLINK"}})}
			case 5:
				return placed{p, standin.MessengerItem(p, who, when, map[string]any{"reaction": map[string]any{"mid": mid, "emoji": "❤", "action": "react"}})}
			}
			return placed{p, standin.MessengerItem(p, who, when, map[string]any{"postback": map[string]any{"title": "T", "payload": "P"}})}
		})
		items := rapid.SliceOfN(kind, 1, 12).Draw(t, "items")
		var apart, together []any
		byPage := map[string][]any{}
		for _, i := range items {
			apart = append(apart, map[string]any{"id": i.page, "time": 1, "messaging": []any{i.item}})
		}
		for _, i := range rapid.Permutation(items).Draw(t, "order") {
			byPage[i.page] = append(byPage[i.page], i.item)
		}
		for p, all := range byPage {
			together = append(together, map[string]any{"id": p, "time": 2, "messaging": all})
		}
		require.Equal(t, events(t, apart), events(t, together))
	})
}

// Two persons who do the same thing in the same millisecond are two events, and nothing of the event's id can be
// reckoned without the app's secret.
func TestIdsOfWhatHasNoneAreEachPersonsAndKeyed(t *testing.T) {
	for _, fields := range []map[string]any{
		{"referral": map[string]any{"ref": "r"}},
		{"postback": map[string]any{"title": "T", "payload": "P"}},
		{"optin": map[string]any{"ref": "r"}},
		{"read": map[string]any{"watermark": at.UnixMilli()}},
		{"delivery": map[string]any{"watermark": at.UnixMilli()}},
	} {
		first := one(t, standin.MessengerItem(page, ada, at, fields))
		other := one(t, standin.MessengerItem(page, "7311285728960002", at, fields))
		assert.NotEqual(t, first.Key, other.Key)
		assert.NotContains(t, first.Key+first.ExternalID, ada)
		r := request(standin.GraphWebhook(page, at, standin.MessengerItem(page, ada, at, fields)))
		r.VerifyToken = "another secret"
		result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(r)
		require.NoError(t, err)
		assert.NotEqual(t, first.Key, result.Events[0].Key)
	}
}

func TestEachEventIsSignedAtItsOwnTime(t *testing.T) {
	result := normalised(t, standin.MessengerMessage(page, ada, "m_1", at.Add(-time.Hour), "old"), standin.MessengerMessage(page, "7311285728960002", "m_2", at, "new"))
	require.Len(t, result.Events, 2)
	assert.Equal(t, at.Add(-time.Hour), result.Events[0].ActedAt)
	assert.Equal(t, at, result.Events[1].ActedAt)
	assert.True(t, result.SignedAt.IsZero())
}

func TestOddItemsAreCountedOrFaultsAndNeverErrors(t *testing.T) {
	in := func(fields map[string]any) map[string]any { return standin.MessengerItem(page, ada, at, fields) }
	for name, c := range map[string]struct {
		item           map[string]any
		unknown, fault []string
	}{
		"nothing known":                 {item: in(map[string]any{"CANARY": 1}), unknown: []string{"other"}},
		"nothing at all":                {item: map[string]any{}, unknown: []string{"other"}},
		"account linking":               {item: in(map[string]any{"account_linking": map[string]any{"status": "linked"}}), unknown: []string{"account_linking"}},
		"a policy notice":               {item: in(map[string]any{"policy_enforcement": map[string]any{"action": "block"}}), unknown: []string{"policy_enforcement"}},
		"a message without an id":       {item: in(map[string]any{"message": map[string]any{"text": "x"}}), fault: []string{"message.mid"}},
		"an id with a space":            {item: in(map[string]any{"message": map[string]any{"mid": "m 1"}}), fault: []string{"message.mid"}},
		"an id that is no text":         {item: in(map[string]any{"message": map[string]any{"mid": 7}}), fault: []string{"message.mid"}},
		"a message that is no object":   {item: in(map[string]any{"message": "x"}), fault: []string{"message.mid"}},
		"nobody":                        {item: map[string]any{"recipient": map[string]any{"id": page}, "message": map[string]any{"mid": "m_1"}}, fault: []string{"message.person"}},
		"a person who is no number":     {item: standin.MessengerMessage(page, "ada", "m_1", at, "x"), fault: []string{"message.person"}},
		"the Page's own reaction":       {item: standin.MessengerItem(page, page, at, map[string]any{"reaction": map[string]any{"mid": "m_1", "emoji": "x", "action": "react"}}), unknown: []string{"reaction.own"}},
		"a reaction to nothing":         {item: in(map[string]any{"reaction": map[string]any{"emoji": "x", "action": "react"}}), fault: []string{"reaction"}},
		"a reaction of another kind":    {item: in(map[string]any{"reaction": map[string]any{"mid": "m_1", "emoji": "x", "action": "shrug"}}), fault: []string{"reaction"}},
		"a delivery of nothing":         {item: in(map[string]any{"delivery": map[string]any{}}), fault: []string{"delivery"}},
		"a delivery of no ids":          {item: in(map[string]any{"delivery": map[string]any{"mids": []any{"", " "}}}), fault: []string{"delivery"}},
		"an edit of nothing":            {item: in(map[string]any{"message_edit": map[string]any{"text": "x"}}), fault: []string{"message_edit"}},
		"a referral without a time":     {item: map[string]any{"sender": map[string]any{"id": ada}, "referral": map[string]any{"ref": "x"}}, fault: []string{"referral"}},
		"a postback without id or time": {item: map[string]any{"sender": map[string]any{"id": ada}, "postback": map[string]any{"title": "x"}}, fault: []string{"postback"}},
		"an opt-in without a time":      {item: map[string]any{"sender": map[string]any{"id": ada}, "optin": map[string]any{"ref": "x"}}, fault: []string{"optin.timestamp"}},
	} {
		t.Run(name, func(t *testing.T) {
			result := normalised(t, c.item)
			assert.Empty(t, result.Events)
			assert.Equal(t, c.unknown, result.Unknown)
			assert.Equal(t, c.fault, result.Faults)
		})
	}
}

func TestOddEntriesLoseNothingOfTheOthers(t *testing.T) {
	good := `{"id":"` + page + `","messaging":[7,null,"x",{"sender":{"id":"` + ada + `"},"timestamp":1773500965308,"message":{"mid":"m_1","text":"kept"}}]}`
	body := `{"object":"page","entry":[7,{"id":"CANARY","messaging":[{}]},{"id":682498302938465},` + good + `,{"id":"1","messaging":{"0":{}}}]}`
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(request([]byte(body)))
	require.NoError(t, err)
	require.Len(t, result.Events, 1)
	assert.Equal(t, "kept", result.Events[0].Content.Text)
	assert.Equal(t, []string{"entry.id", "entry.id", "item", "item", "item"}, result.Faults)
	assert.Equal(t, []string{"entry", "entry"}, result.Unknown)
}

func TestWhatIsCountedIsBounded(t *testing.T) {
	body := `{"object":"page","entry":[{"id":"1","messaging":[` + strings.Repeat(`7,`, 5000) + `{}]}` + strings.Repeat(`,{"id":"1"}`, 5000) + `]}`
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(request([]byte(body)))
	require.NoError(t, err)
	assert.Len(t, result.Faults, maxCounted)
	assert.Len(t, result.Unknown, maxCounted)
}

func TestWhatIsNotWhatItPromisesIsAnError(t *testing.T) {
	a := New(*DefaultConfig(), http.DefaultClient)
	for _, c := range []struct{ contentType, body string }{
		{"application/json", ""}, {"application/json", "[]"}, {"application/json", `"CANARY"`}, {"application/json", "null"},
		{"application/json", `{"object":`}, {"application/json", `{"object":"page"}}`}, {"application/json", `{"object":"page","object":"CANARY"}`},
		{"", `{}`}, {"text/plain", `{}`}, {"application/x-www-form-urlencoded", "CANARY=1"},
	} {
		r := request([]byte(c.body))
		r.Header.Set("Content-Type", c.contentType)
		_, err := a.Normalise(r)
		if assert.Error(t, err, "%s: %s", c.contentType, c.body) {
			assert.NotContains(t, err.Error(), "CANARY")
		}
	}
}

func TestTimesAreReadAsMetaWritesThem(t *testing.T) {
	for raw, want := range map[string]int64{
		"1773500965308": 1773500965308, "1773500965": 1773500965000, "": 0, "0": 0, "-1773500965308": 0, "1.7e12": 0, "x": 0,
		"177350096530800": 0, "99999999999999999999": 0, "1000000000": 1000000000000, "6999999999999": 6999999999999, "7000000000000": 0,
	} {
		got := loose(raw).time()
		if want == 0 {
			assert.True(t, got.IsZero(), raw)
		} else {
			assert.Equal(t, want, got.UnixMilli(), raw)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(earliest, latest-1).Draw(t, "ms")
		for _, written := range []string{fmt.Sprint(ms), fmt.Sprintf("%q", fmt.Sprint(ms))} {
			var v struct {
				T loose `json:"t"`
			}
			require.NoError(t, channel.Decode([]byte(`{"t":`+written+`}`), &v))
			require.Equal(t, ms, v.T.time().UnixMilli())
		}
	})
}

func TestAttachmentsBecomeFilesOrWords(t *testing.T) {
	content := func(attachments ...any) *channel.Content {
		return one(t, standin.MessengerItem(page, ada, at, map[string]any{"message": map[string]any{"mid": "m_1", "attachments": attachments}})).Content
	}
	file := func(kind, address string) map[string]any {
		return map[string]any{"type": kind, "payload": map[string]any{"url": address}}
	}
	for kind, want := range map[string]string{"image": "image", "audio": "audio", "video": "video", "file": "file", "sticker": "image", "ig_reel": "video"} {
		c := content(file(kind, "https://cdn.fbsbx.com/x/a%20b.pdf?oh=1"))
		require.Len(t, c.Attachments, 1, kind)
		assert.Equal(t, want, c.Attachments[0].Kind)
		assert.Empty(t, c.Text)
		if kind == "file" {
			assert.Equal(t, "a b.pdf", c.Attachments[0].Name)
		}
	}
	assert.Equal(t, "https://www.facebook.com/p/1", content(file("post", "https://www.facebook.com/p/1")).Text)
	assert.Empty(t, content(file("file", "https://cdn.fbsbx.com/")).Attachments[0].Name)
	several := content(file("image", "https://a/1"), map[string]any{"type": "image"}, file("image", "https://a/3"))
	require.Len(t, several.Attachments, 2)
	assert.Equal(t, "2", several.Attachments[1].Ref, "an item keeps its place")
	assert.Equal(t, &channel.Content{}, content(map[string]any{"type": "fallback", "payload": nil}, 7))
}
