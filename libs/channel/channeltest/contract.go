package channeltest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

var both = channel.Secrets{NewSecret, OldSecret}

func declared(t *testing.T, kit Kit) {
	adapter := kit.New()
	require.NoError(t, kit.Features.Validate())
	assert.Equal(t, kit.Features.Name, adapter.Name(), "the adapter's name is its channel's")

	var has []string
	if _, ok := adapter.(channel.Challenger); ok {
		has = append(has, "challenger")
	}
	if _, ok := adapter.(channel.Sender); ok {
		has = append(has, "sender")
	}
	if _, ok := adapter.(channel.Fetcher); ok {
		has = append(has, "fetcher")
	}
	if _, ok := adapter.(channel.Timed); ok {
		has = append(has, "timed")
	}
	if _, ok := adapter.(channel.Listener); ok {
		has = append(has, "listener")
	}
	if _, ok := adapter.(channel.Poller); ok {
		has = append(has, "poller")
	}
	assert.ElementsMatch(t, kit.Features.Interfaces, has, "channel.yaml's interfaces are what the adapter implements")
}

// signatures: what is not signed is refused before anything is read, and a rotation refuses nobody.
func signatures(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	refused := func(t *testing.T, what string, r *channel.Request, secrets channel.Secrets) {
		t.Helper()
		err := adapter.Verify(r, secrets)
		var e *channel.Error
		if assert.Error(t, err, what) && assert.ErrorAs(t, err, &e, what) {
			assert.Equal(t, channel.ClassUnverified, e.Class, what)
			kit.silent(t, what, err.Error(), adapter, r)
		}
	}
	for _, s := range posts(samples) {
		t.Run(s.name, func(t *testing.T) {
			assert.NoError(t, adapter.Verify(kit.signed(s, NewSecret), both), "today's secret")
			assert.NoError(t, adapter.Verify(kit.signed(s, OldSecret), both), "yesterday's secret, while it is rotated")

			refused(t, "no signature", kit.request(s), both)
			refused(t, "another's signature", kit.signed(s, "not the secret"), both)
			refused(t, "yesterday's secret, after the rotation", kit.signed(s, OldSecret), channel.Secrets{NewSecret})
			refused(t, "no secret known", kit.signed(s, NewSecret), nil)
			refused(t, "an empty secret known", kit.signed(s, ""), channel.Secrets{""})

			if kit.Bearer != nil && kit.Bearer(kit.request(s)) {
				return
			}
			changed := kit.signed(s, NewSecret)
			changed.Body = append(changed.Body, []byte("&Body=forged")...)
			refused(t, "a body changed after signing", changed, both)

			garbage := kit.signed(s, NewSecret)
			garbage.Body = []byte("\x00{not what it promises")
			refused(t, "garbage under a signature that is not its own", garbage, both)
		})
	}
}

// whole: what the rest of the mesh needs of each event is there.
func whole(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	for _, s := range posts(samples) {
		result, ok := normalise(t, kit, adapter, kit.signed(s, NewSecret))
		if !ok {
			continue
		}
		for i, e := range result.Events {
			t.Run(fmt.Sprintf("%s/%d %s", s.name, i, e.Type), func(t *testing.T) { wholeEvent(t, kit, e) })
		}
	}
}

func wholeEvent(t *testing.T, kit Kit, e channel.Event) {
	assert.NotEmpty(t, e.Key, "Key, by which a redelivery is known")
	assert.Equal(t, kit.Features.Ref == "connection", e.Account == "" && e.Grantor == "", "Account, or Grantor, is named where ref names an app, and only there")
	assert.GreaterOrEqual(t, e.Order, int64(0), "Order")
	if e.Order != 0 {
		at := time.UnixMicro(e.Order)
		assert.True(t, at.Year() > 2000 && at.Year() < 2200, "Order is in microseconds: %s", at)
	}
	for _, who := range []*channel.Identity{e.Author, e.Contact} {
		if who != nil {
			assert.NotEmpty(t, who.Kind, "an identity's Kind")
			assert.NotEmpty(t, who.Value, "an identity's Value")
		}
	}
	person := e.Author != nil || e.Contact != nil
	switch e.Type {
	case channel.TypeMessage:
		assert.NotEmpty(t, e.ExternalID, "a message's ExternalID")
		assert.NotNil(t, e.Content, "a message's Content")
		assert.True(t, e.Author != nil || e.Outbound, "a message has an Author, or was sent by the connection's side")
		assert.True(t, e.Contact != nil || e.Thread.Group || e.Thread.ConversationKey != "", "a message is one-to-one with a Contact, in a group, or names its conversation")
		if e.Thread.Group {
			assert.Nil(t, e.Contact, "a group has no Contact")
			assert.NotEmpty(t, e.Thread.ID, "a group's Thread.ID")
		}
	case channel.TypeEdit:
		assert.NotEmpty(t, e.Target, "an edit's Target")
		assert.NotNil(t, e.Content, "an edit's Content")
		assert.True(t, person, "an edit is somebody's")
	case channel.TypeDeletion:
		assert.NotEmpty(t, e.Target, "a deletion's Target")
	case channel.TypeReaction:
		assert.NotEmpty(t, e.Target, "a reaction's Target")
		assert.NotEmpty(t, e.Emoji, "a reaction's Emoji")
		assert.True(t, person, "a reaction is somebody's")
	case channel.TypeReceipt:
		if assert.NotNil(t, e.Receipt, "a receipt's Receipt") {
			r := e.Receipt
			assert.Contains(t, []channel.Status{channel.StatusSent, channel.StatusFailed, channel.StatusDelivered, channel.StatusRead}, r.Status)
			assert.True(t, r.MessageID != "" || e.Target != "" || r.ExternalID != "" || !r.Through.IsZero(), "a receipt names its message, or a range")
		}
	case channel.TypeProfile:
		assert.NotNil(t, e.Profile, "a profile event's Profile")
		assert.NotNil(t, e.Author, "a profile is an Author's")
	case channel.TypeConsent:
		if assert.NotNil(t, e.Consent, "a consent's Consent") {
			assert.Contains(t, []string{"opt_out", "opt_in", "flagged"}, e.Consent.Action)
			assert.Contains(t, []string{"keyword", "provider", "free_text"}, e.Consent.Source)
		}
		assert.True(t, person, "a consent is somebody's")
	case channel.TypeRevocation:
		assert.NotEmpty(t, e.Reason, "a revocation's Reason")
	case channel.TypeMembership:
		assert.NotNil(t, e.Author, "a membership is an Author's")
	case channel.TypeCommerce:
		if assert.NotNil(t, e.Commerce, "a commerce event's Commerce") {
			wholeCommerce(t, e.Commerce)
		}
		assert.NotNil(t, e.Author, "commerce is an Author's")
		assert.Positive(t, e.Order, "commerce has an Order of the shop's: the newest state counts")
	case channel.TypePrivacy:
		assert.NotEmpty(t, e.Reason, "a privacy event's Reason")
	default:
		assert.Fail(t, "no type of ours", "%q", e.Type)
	}
	if e.Content != nil {
		refs := map[string]bool{}
		for _, a := range e.Content.Attachments {
			assert.NotEmpty(t, a.Ref, "an attachment's Ref")
			assert.False(t, refs[a.Ref], "two attachments share a Ref")
			refs[a.Ref] = true
			assert.Contains(t, []string{"image", "audio", "video", "file"}, a.Kind)
		}
		for _, m := range e.Content.Mentions {
			assert.True(t, m.Start >= 0 && m.Length > 0 && m.Start+m.Length <= len(e.Content.Text), "a mention lies in the text")
			assert.NotEmpty(t, m.Identity.Value, "a mention's Identity")
		}
	}
}

var (
	decimal  = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// wholeCommerce: ids and amounts are text that says exactly what the shop said.
func wholeCommerce(t *testing.T, c *channel.Commerce) {
	assert.Contains(t, []string{"order", "checkout", "refund", "fulfilment"}, c.Kind)
	assert.NotEmpty(t, c.ID, "an object's ID")
	assert.Equal(t, c.Kind == "refund" || c.Kind == "fulfilment", c.Parent != "", "refunds and fulfilments name their order, and nothing else does")
	amounts := []string{c.Total}
	for _, l := range c.Lines {
		amounts = append(amounts, l.Price)
	}
	for _, amount := range amounts {
		if amount != "" {
			assert.Regexp(t, decimal, amount, "an amount is decimal text")
		}
	}
	if c.Total != "" {
		assert.Regexp(t, currency, c.Currency, "an amount has a currency (ISO 4217)")
	}
}

// replays: a redelivery, an hour later and signed anew, names the same events in the same order.
func replays(t *testing.T, kit Kit, samples []sample) {
	for _, s := range posts(samples) {
		t.Run(s.name, func(t *testing.T) {
			first, ok := normalise(t, kit, kit.New(), kit.signed(s, NewSecret))
			later := kit.request(s)
			later.ReceivedAt = ReceivedAt.Add(time.Hour)
			kit.Sign(later, OldSecret)
			second, again := normalise(t, kit, kit.New(), later)
			require.Equal(t, ok, again)
			assert.Equal(t, first.Events, second.Events, "events never depend on when they came")
		})
	}
}

// rough puts bytes before the adapter that no provider should send.
func rough(t *testing.T, kit Kit, samples []sample) {
	adapter := kit.New()
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			for _, body := range disturbed(s.body, random) {
				try(t, kit, adapter, s.with(body))
			}
			bare := s
			bare.header, bare.target = http.Header{}, "/webhooks/x/y"
			try(t, kit, adapter, bare)
			oversize := slices.Repeat([]byte("{\"a\":[\"%F0%9F\"]}&"), int(kit.Features.BodyLimit/16))
			try(t, kit, adapter, s.with(oversize))
			try(t, kit, adapter, s.with(slices.Repeat([]byte("["), 64<<10)))
		})
	}
}

// disturbed gives truncations, flipped bits, and things that are none of a provider's.
func disturbed(body []byte, random *rand.Rand) [][]byte {
	bodies := [][]byte{nil, []byte("null"), []byte("[]"), []byte("{}"), []byte("\""), []byte("=&%"), []byte("payload=%7B%7D"), {0xff, 0xfe, 0x00}}
	step := max(1, len(body)/300)
	for at := 0; at < len(body); at += step {
		bodies = append(bodies, slices.Clone(body[:at]))
		flipped := slices.Clone(body)
		flipped[at] ^= 1 << random.IntN(8)
		bodies = append(bodies, flipped)
	}
	for _, swap := range [][2]string{{`"`, `\u0000"`}, {":", ":null,\"x\":"}, {":\"", ":[\""}, {"1", "99999999999999999999999999"}, {"0", "-1"}, {"{", "[{"}} {
		bodies = append(bodies, []byte(strings.ReplaceAll(string(body), swap[0], swap[1])))
		bodies = append(bodies, []byte(strings.Replace(string(body), swap[0], swap[1], 1)))
	}
	return bodies
}

// try runs one request through every entrance of the adapter, signed and unsigned; a panic fails the
// test by itself.
func try(t testing.TB, kit Kit, adapter channel.Adapter, s sample) {
	r := kit.signed(s, NewSecret)
	for _, err := range []error{adapter.Verify(kit.request(s), both), adapter.Verify(r, both)} {
		if err != nil {
			kit.silent(t, "Verify's error", err.Error(), adapter, r)
		}
	}
	if c, ok := adapter.(channel.Challenger); ok {
		if _, _, err := c.Challenge(r, both); err != nil {
			kit.silent(t, "Challenge's error", err.Error(), adapter, r)
		}
	}
	first, err := adapter.Normalise(r)
	if err != nil {
		kit.silent(t, "Normalise's error", err.Error(), adapter, r)
	}
	kit.silent(t, "a fault or an unknown type", strings.Join(slices.Concat(first.Faults, first.Unknown), "\n"), adapter, r)
	if len(first.Faults)+len(first.Unknown) > 10_000 {
		t.Errorf("one request counted %d faults", len(first.Faults)+len(first.Unknown))
	}
	second, _ := adapter.Normalise(r)
	if fmt.Sprintf("%+v", names(first)) != fmt.Sprintf("%+v", names(second)) {
		t.Error("the same request gave other events the second time")
	}
}

// names of the events of a result.
func names(r channel.Result) (names []string) {
	for _, e := range r.Events {
		names = append(names, fmt.Sprint(e.Type, e.Account, e.Key, e.IDTime.UnixMicro(), e.Order, e.ExternalID))
	}
	return names
}

// normalise as ingress does; not ok where the request is a challenge.
func normalise(t testing.TB, kit Kit, adapter channel.Adapter, r *channel.Request) (channel.Result, bool) {
	t.Helper()
	require.NoError(t, adapter.Verify(r, both))
	if c, ok := adapter.(channel.Challenger); ok {
		_, asked, err := c.Challenge(r, both)
		require.NoError(t, err)
		if asked {
			return channel.Result{}, false
		}
	}
	result, err := adapter.Normalise(r)
	require.NoError(t, err, "a sample is what its content type promises")
	return result, true
}

func posts(samples []sample) []sample {
	return slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.method != http.MethodPost })
}

// silent fails the test where text tells a secret, a canary, or anything personal of the request.
func (k Kit) silent(t testing.TB, what, text string, adapter channel.Adapter, r *channel.Request) {
	t.Helper()
	if text == "" {
		return
	}
	for _, secret := range slices.Concat(k.Canaries, []string{NewSecret, OldSecret}, k.personal(adapter, r)) {
		if tells(text, secret) {
			t.Errorf("%s tells what it must not: %q", what, secret)
		}
	}
}

// tells whether text has a value. A short number may stand in a random id by chance: it counts where it stands by itself.
func tells(text, value string) bool {
	const ofIDs = "0123456789abcdef-"
	if len(value) >= 10 || strings.Trim(value, ofIDs) != "" {
		return strings.Contains(text, value)
	}
	for {
		before, after, found := strings.Cut(text, value)
		if !found {
			return false
		}
		if strings.TrimRight(before, ofIDs) == before && strings.TrimLeft(after, ofIDs) == after {
			return true
		}
		text = after
	}
}

// personal is what the events of a request tell of persons: whole values of four bytes and more.
func (k Kit) personal(adapter channel.Adapter, r *channel.Request) (values []string) {
	result, err := adapter.Normalise(r)
	if err != nil {
		return nil
	}
	for _, e := range result.Events {
		for _, who := range []*channel.Identity{e.Author, e.Contact} {
			if who != nil {
				values = append(values, who.Value)
			}
		}
		if c := e.Content; c != nil {
			values = append(values, c.Text, c.HTML, c.Subject)
			for _, a := range c.Attachments {
				values = append(values, a.Name, a.URL)
			}
			for _, m := range c.Mentions {
				values = append(values, m.Identity.Value)
			}
		}
		if p := e.Profile; p != nil {
			values = append(values, p.Name, p.AvatarURL, p.Email, p.Phone, p.Handle)
		}
		if c := e.Commerce; c != nil {
			values = append(values, c.Email, c.Phone, c.Note, c.URL, c.TrackingNumber, c.TrackingURL)
			values = append(values, c.Tags...)
			for _, l := range c.Lines {
				values = append(values, l.Title, l.SKU)
			}
		}
		for _, v := range e.Technical {
			values = append(values, v)
		}
	}
	return slices.DeleteFunc(values, func(v string) bool { return len(strings.TrimSpace(v)) < 4 })
}
