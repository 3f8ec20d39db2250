package sms

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func normalised(t *testing.T, form url.Values, query string, settings map[string]string) channel.Result {
	t.Helper()
	result, err := New(*DefaultConfig(), http.DefaultClient).Normalise(&channel.Request{
		URL:    &url.URL{Scheme: "https", Host: "mesh.example", Path: "/webhooks/sms/c1", RawQuery: query},
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, Body: []byte(form.Encode()), Settings: settings,
	})
	require.NoError(t, err)
	return result
}

func TestConsentWords(t *testing.T) {
	type consent struct{ action, source string }
	stop, start := consent{"opt_out", "keyword"}, consent{"opt_in", "keyword"}
	toldStop, toldStart, flagged, none := consent{"opt_out", "provider"}, consent{"opt_in", "provider"}, consent{"flagged", "free_text"}, consent{}
	for _, c := range []struct {
		body, optOutType string
		want             consent
	}{
		{"STOP", "", stop}, {"STOPALL", "", stop}, {"UNSUBSCRIBE", "", stop}, {"CANCEL", "", stop}, {"END", "", stop},
		{"QUIT", "", stop}, {"REVOKE", "", stop}, {"OPTOUT", "", stop}, {"OPT OUT", "", stop},
		{"stop", "", stop}, {"Stop.", "", stop}, {" \n stop !! ", "", stop}, {"\"Stop\"", "", stop}, {"s.t.o.p", "", stop},
		{"Opt-Out!", "", stop}, {"stop all", "", stop}, {"ＳＴＯＰ", "", stop}, {"STOP 🙏", "", stop}, {"un-subscribe", "", stop},
		{"START", "", start}, {"unstop", "", start}, {"Start!", "", start},
		{"YES", "", none}, {"yes", "", none}, {"YES", "START", toldStart},
		{"ARRET", "STOP", toldStop}, {"STOP", "stop", toldStop}, {"STOP", "HELP", none}, {"START", "STOP", toldStop},
		{"HELP", "", none}, {"INFO", "", none}, {"", "", none}, {"stop2", "", none}, {"nonstop", "", none}, {"the end", "", none},
		{"cancel my order please", "", none}, {"When do you stop shipping?", "", none}, {"bus stop", "", none}, {"start again tomorrow", "", none},
		{"Please stop texting me", "", flagged}, {"STOP SENDING ME THESE MESSAGES", "", flagged}, {"pls stop", "", flagged},
		{"don't text me again", "", flagged}, {"Don’t message me", "", flagged}, {"do not contact me", "", flagged},
		{"Remove me from your list", "", flagged}, {"take my number off", "", flagged}, {"I want to opt out of this", "", flagged},
		{"unsubscribe me", "", flagged}, {"no more messages", "", flagged}, {"leave me alone", "", flagged},
		{"I withdraw my consent", "", flagged}, {"bitte keine Nachrichten mehr", "", flagged}, {"Arrêtez svp", "", flagged},
		{"no me escriban más", "", flagged},
	} {
		t.Run(c.body+"/"+c.optOutType, func(t *testing.T) {
			form := standin.TwilioInbound("AC1", "SM1", "+14155550123", "+14155550100", c.body)
			if c.optOutType != "" {
				form.Set("OptOutType", c.optOutType)
			}
			events := normalised(t, form, "", nil).Events
			require.NotEmpty(t, events)
			assert.Equal(t, channel.TypeMessage, events[0].Type, "the person said it all the same")
			assert.Equal(t, c.body, events[0].Content.Text)
			if c.want == none {
				assert.Len(t, events, 1)
				return
			}
			require.Len(t, events, 2)
			assert.Equal(t, channel.TypeConsent, events[1].Type)
			assert.Equal(t, c.want, consent{events[1].Consent.Action, events[1].Consent.Source})
			assert.Equal(t, c.want.action != "opt_in", events[1].Consent.WorkspaceWide, "STOP is for the whole workspace, START gives the channel back")
		})
	}
}

func TestOnlyHelpIsAnsweredAndOnlyWhereAskedTo(t *testing.T) {
	empty := "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response></Response>"
	help := map[string]string{"help_reply": "Parcels & more: call 123 <9-17>"}
	for _, c := range []struct {
		body     string
		settings map[string]string
		want     string
	}{
		{"help!", nil, empty},
		{"help!", help, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Message>Parcels &amp; more: call 123 &lt;9-17&gt;</Message></Response>"},
		{"STOP", help, empty}, {"START", help, empty}, {"hello", help, empty}, {"help me with my order", help, empty},
	} {
		reply := normalised(t, standin.TwilioInbound("AC1", "SM1", "+14155550123", "+14155550100", c.body), "", c.settings).Reply
		assert.Equal(t, c.want, string(reply.Body), c.body)
		assert.Equal(t, "text/xml; charset=utf-8", reply.ContentType)
	}
}

func TestStatusesAreRanksOfOurs(t *testing.T) {
	for word, c := range map[string]struct {
		code string
		want channel.Receipt
	}{
		"queued":      {"", channel.Receipt{Status: channel.StatusSent}},
		"accepted":    {"", channel.Receipt{Status: channel.StatusSent}},
		"scheduled":   {"", channel.Receipt{Status: channel.StatusSent}},
		"sending":     {"", channel.Receipt{Status: channel.StatusSent}},
		"sent":        {"", channel.Receipt{Status: channel.StatusSent}},
		"delivered":   {"", channel.Receipt{Status: channel.StatusDelivered}},
		"read":        {"", channel.Receipt{Status: channel.StatusRead}},
		"undelivered": {"30005", channel.Receipt{Status: channel.StatusFailed, Class: channel.ClassReject, Code: "30005"}},
		"failed":      {"30008", channel.Receipt{Status: channel.StatusFailed, Class: channel.ClassRetry, Code: "30008"}},
		"canceled":    {"", channel.Receipt{Status: channel.StatusFailed, Class: channel.ClassReject, Code: "canceled"}},
	} {
		t.Run(word, func(t *testing.T) {
			form := standin.TwilioStatus("AC1", standin.TwilioPost{SID: "SM1", From: "+14155550100", To: "+14155550123"}, word, c.code)
			events := normalised(t, form, "m=0196b1b2-0000-8000-8000-000000000001&p=3&a=2&k=6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11", nil).Events
			require.Len(t, events, 1)
			c.want.MessageID, c.want.Part, c.want.Attempt, c.want.ExternalID = "0196b1b2-0000-8000-8000-000000000001", 3, 2, "SM1"
			assert.Equal(t, c.want, *events[0].Receipt)
			assert.Equal(t, "SM1:"+word, events[0].Key)
			assert.Equal(t, "6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11", events[0].Thread.ConversationKey)
			assert.Nil(t, events[0].Contact, "the key says whose it is: the registry need not be asked")
		})
	}
}

func TestACallbackURLThatIsNotOursNamesNothing(t *testing.T) {
	form := standin.TwilioStatus("AC1", standin.TwilioPost{SID: "SM1", From: "+14155550100", To: "+14155550123"}, "delivered", "")
	for _, query := range []string{"", "m=1&p=-1&a=99999999999&k=x", "m=%00&k=%00"} {
		e := normalised(t, form, query, nil).Events[0]
		assert.Empty(t, e.Receipt.MessageID)
		assert.Empty(t, e.Thread.ConversationKey)
		assert.Equal(t, "SM1", e.Target)
		assert.Equal(t, &channel.Identity{Kind: "phone", Value: "+14155550123"}, e.Contact)
	}
}

func TestOddMessagesAreKept(t *testing.T) {
	form := standin.TwilioInbound("AC1", "SM1", "+14155550123", "+14155550100", "")
	form.Set("NumMedia", "3")
	form.Set("MediaUrl1", "https://api.twilio.com/x")
	e := normalised(t, form, "", nil).Events[0]
	require.Len(t, e.Content.Attachments, 1, "an item without an address is not there")
	assert.Equal(t, "1", e.Content.Attachments[0].Ref)

	form.Set("NumMedia", "-7")
	assert.Empty(t, normalised(t, form, "", nil).Events[0].Content.Attachments)

	form.Set("Body", "\xff\x00 hello")
	assert.Equal(t, "�� hello", normalised(t, form, "", nil).Events[0].Content.Text)

}

func TestAMessageWithoutSenderOrIDIsAFault(t *testing.T) {
	for name, c := range map[string]struct {
		change func(url.Values)
		fault  string
	}{
		"no sender":                {func(f url.Values) { f.Del("From") }, "message.from"},
		"no sender, and no status": {func(f url.Values) { f.Del("From"); f.Del("SmsStatus") }, "message.from"},
		"a blank sender":           {func(f url.Values) { f.Set("From", " ") }, "message.from"},
		"a sender that is text":    {func(f url.Values) { f.Set("From", "banana; drop table") }, "message.from"},
		"lines in the sender":      {func(f url.Values) { f.Set("From", "+14155550123\r\nX: y") }, "message.from"},
		"no id":                    {func(f url.Values) { f.Del("MessageSid"); f.Del("SmsSid"); f.Del("SmsMessageSid") }, "message.sid"},
		"no id, and no status": {func(f url.Values) {
			for _, name := range []string{"MessageSid", "SmsSid", "SmsMessageSid", "SmsStatus"} {
				f.Del(name)
			}
		}, "message.sid"},
		"an id that is a path": {func(f url.Values) { f.Set("MessageSid", "no sid/at all") }, "message.sid"},
	} {
		t.Run(name, func(t *testing.T) {
			form := standin.TwilioInbound("AC1", "SM1", "+14155550123", "+14155550100", "hello")
			c.change(form)
			result := normalised(t, form, "", nil)
			assert.Empty(t, result.Events)
			assert.Equal(t, []string{c.fault}, result.Faults)
		})
	}
}

func TestWhatIsNotWhatItPromisesIsAnError(t *testing.T) {
	const object, form = "application/json", "application/x-www-form-urlencoded"
	a := New(*DefaultConfig(), http.DefaultClient)
	read := func(contentType, query, body string) error {
		_, err := a.Normalise(&channel.Request{
			URL:    &url.URL{Scheme: "https", Host: "mesh.example", Path: "/webhooks/sms/c1", RawQuery: query},
			Header: http.Header{"Content-Type": {contentType}}, Body: []byte(body),
		})
		return err
	}
	message := standin.TwilioInbound("AC1", "SM1", "+14155550123", "+14155550100", "CANARY").Encode()
	for _, c := range []struct{ contentType, query, body string }{
		{"", "", message}, {"text/plain", "", message}, {"multipart/form-data; boundary=x", "", message}, {"CANARY", "", message},
		{form, "", ""}, {form, "", `{"Body":"CANARY"}`}, {form, "", "Body=%zz"},
		{object, "", "{}"}, {object, "bodySHA256=00", ""}, {object, "bodySHA256=00", message}, {"text/plain", "bodySHA256=00", "{}"},
	} {
		if err := read(c.contentType, c.query, c.body); assert.Error(t, err, "%s: %s", c.contentType, c.body) {
			assert.NotContains(t, err.Error(), "CANARY")
		}
	}
	assert.NoError(t, read(form+"; charset=UTF-8", "", message))
	assert.NoError(t, read(object+"; charset=utf-8", "bodySHA256=00", "{}"))
}

func TestNumbers(t *testing.T) {
	for address, want := range map[string]channel.Identity{
		"+14155550123":             {Kind: "phone", Value: "+14155550123"},
		" +1 (415) 555-0123 ":      {Kind: "phone", Value: "+14155550123"},
		"+41 79 123 45 67":         {Kind: "phone", Value: "+41791234567"},
		"+390612345678":            {Kind: "phone", Value: "+390612345678"},
		"73837":                    {Kind: "phone", Value: "73837"},
		"MyBank":                   {Kind: "phone", Value: "MyBank"},
		"+999123456":               {Kind: "phone", Value: "+999123456"},
		"911":                      {Kind: "phone", Value: "911"},
		"A&B-Shop_1.":              {Kind: "phone", Value: "A&B-Shop_1."},
		"whatsapp:+14155550123":    {Kind: "whatsapp", Value: "whatsapp:+14155550123"},
		"WhatsApp:+1 415 555 0123": {Kind: "whatsapp", Value: "whatsapp:+14155550123"},
	} {
		got, ok := identity(address)
		assert.True(t, ok, address)
		assert.Equal(t, want, got, address)
	}
	for _, nobody := range []string{
		"", "  ", "+", "+0415550123", "+12345678901234567", "12", "123456789", "14155550123", "...", "+1415555CALL", "Twelve chars",
		"banana; drop table", "+14155550123\n", "\r\n+14155550123", "+1415\x005550123", "My\tBank", "Bänk", "١٢٣٤٥", "+1 415 555 0123; x",
		"whatsapp:", "whatsapp:MyBank", "whatsapp:73837", "whatsapp:+1\n", "whatsapp:whatsapp:+14155550123", string(make([]byte, 200)),
	} {
		_, ok := identity(nobody)
		assert.False(t, ok, "%q", nobody)
	}
}

func TestNumbersWithoutTheirPlus(t *testing.T) {
	for address, want := range map[string]string{
		"41791234567": "+41791234567", "447700900000": "+447700900000", "14155550123": "+14155550123", "29022222": "+29022222",
		"73837": "73837", "911": "911", "12345678": "12345678", "MyBank": "MyBank", "+41791234567": "+41791234567",
		"": "", "0791234567": "0791234567", "1234567890123456": "1234567890123456", "41 79": "41 79",
	} {
		assert.Equal(t, want, withPlus(address), address)
	}
}
