package messenger

import (
	"encoding/hex"
	"errors"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// identityKind of people: their ids are scoped to a Page.
const identityKind = "psid"

// Normalise reads one request: all items of all entries, which may be of several Pages, or a callback.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	if name, ok := callback(r); ok {
		return called(r, name)
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/json" {
		return channel.Result{}, errors.New("messenger: content type is not JSON")
	}
	var env envelope
	if err := channel.DecodeObject(r.Body, &env); err != nil {
		return channel.Result{}, errors.New("messenger: body is not a JSON object")
	}
	if env.Object != "page" {
		return channel.Result{Unknown: []string{"object." + word(env.Object)}}, nil
	}
	n := &normaliser{appID: r.AppID, key: r.VerifyToken}
	for _, e := range env.Entry {
		n.entry(e)
	}
	return n.result, nil
}

// normaliser turns the items of one request into events of the mesh.
type normaliser struct {
	appID  string
	key    string // see secretly
	result channel.Result

	// Of the item at hand.
	page   string
	person *channel.Identity
	at     time.Time // zero where Meta gives no time
}

// entry of a Page. Items on standby are those of a conversation that another app has control of: they happened all the
// same.
func (n *normaliser) entry(e entry) {
	if !isID(e.ID) {
		n.fault("entry.id")
		return
	}
	n.page = string(e.ID)
	for _, data := range slices.Concat(e.Messaging, e.Standby) {
		var it item
		if err := channel.DecodeObject(data, &it); err != nil {
			n.fault("item")
			continue
		}
		n.item(&it)
	}
	for _, c := range e.Changes {
		n.unknown("changes." + word(c.Field))
	}
	if len(e.Messaging)+len(e.Standby)+len(e.Changes) == 0 {
		n.unknown("entry")
	}
}

func (n *normaliser) item(it *item) {
	kind := it.kind()
	if kind == "" {
		n.unknown(it.name())
		return
	}
	n.at = it.Timestamp.time()
	who := it.Sender.ID
	if it.Message != nil && it.Message.IsEcho {
		who = it.Recipient.ID
	}
	switch {
	case string(who) == n.page: // the Page's own doing in Meta's inbox, of which only echoes tell
		n.unknown(kind + ".own")
		return
	case !isID(who): // a visitor without an id, whom a plug-in calls by a reference
		n.fault(kind + ".person")
		return
	}
	n.person = &channel.Identity{Kind: identityKind, Value: n.page + ":" + string(who)}
	switch kind {
	case "message":
		n.message(it.Message)
	case "postback":
		n.postback(it.Postback)
	case "referral":
		n.referral(it.Referral)
	case "reaction":
		n.reaction(it.Reaction)
	case "message_edit":
		n.edit(it.Edit)
	case "delivery":
		n.delivery(kind, channel.StatusDelivered, it.Delivery)
	case "read":
		n.delivery(kind, channel.StatusRead, it.Read)
	case "optin":
		n.optIn(it.OptIn)
	}
}

func (it *item) kind() string {
	switch {
	case it.Message != nil:
		return "message"
	case it.Postback != nil:
		return "postback"
	case it.Reaction != nil:
		return "reaction"
	case it.Edit != nil:
		return "message_edit"
	case it.Delivery != nil:
		return "delivery"
	case it.Read != nil:
		return "read"
	case it.OptIn != nil:
		return "optin"
	case it.Referral != nil:
		return "referral"
	}
	return ""
}

func (n *normaliser) reaction(r *reaction) {
	emoji := r.Emoji
	if emoji == "" {
		emoji = r.Reaction
	}
	if !isMID(r.MID) || emoji == "" || n.at.IsZero() || r.Action != "react" && r.Action != "unreact" {
		n.fault("reaction")
		return
	}
	n.add(channel.Event{
		Type: channel.TypeReaction, SourceType: "reaction", Key: strings.Join([]string{"reaction", r.MID, r.Action, n.stamp()}, ":"),
		Author: n.person, Contact: n.person, Target: r.MID, Emoji: emoji, Removed: r.Action == "unreact",
	})
}

func (n *normaliser) edit(e *edit) {
	if !isMID(e.MID) || e.NumEdit == "" && n.at.IsZero() {
		n.fault("message_edit")
		return
	}
	number := string(e.NumEdit)
	if !isID(e.NumEdit) {
		number = n.stamp()
	}
	n.add(channel.Event{
		Type: channel.TypeEdit, SourceType: "message_edit", Key: strings.Join([]string{"edit", e.MID, number}, ":"),
		Author: n.person, Contact: n.person, Target: e.MID, Content: &channel.Content{Text: e.Text},
	})
}

// delivery tells of messages by their ids, and of everything sent up to a time: either may be missing.
func (n *normaliser) delivery(kind string, status channel.Status, d *delivery) {
	through := d.Watermark.time()
	if n.at.IsZero() {
		n.at = through
	}
	mids := d.MIDs
	if d.MID != "" {
		mids = append(mids, d.MID)
	}
	named := false
	for _, mid := range mids {
		if !isMID(mid) {
			continue
		}
		named = true
		n.add(channel.Event{
			Type: channel.TypeReceipt, SourceType: kind, Key: kind + ":" + mid,
			Contact: n.person, Target: mid, Receipt: &channel.Receipt{Status: status, ExternalID: mid},
		})
	}
	if !through.IsZero() {
		named = true
		n.add(channel.Event{
			Type: channel.TypeReceipt, SourceType: kind, Key: n.secretly(kind+".through", strconv.FormatInt(through.UnixMilli(), 10)),
			Contact: n.person, Receipt: &channel.Receipt{Status: status, Through: through},
		})
	}
	if !named {
		n.fault(kind)
	}
}

// optIn is a person who lets the Page write to them. Stopping or resuming its marketing messages alone is not: whoever
// writes is answered all the same.
func (n *normaliser) optIn(o *optIn) {
	if o.Status != "" {
		n.unknown("optin.status")
		return
	}
	if n.at.IsZero() {
		n.fault("optin.timestamp")
		return
	}
	n.add(channel.Event{
		Type: channel.TypeConsent, SourceType: "optin", Key: n.secretly("optin", n.stamp()),
		Author: n.person, Contact: n.person, Consent: &channel.Consent{Action: "opt_in", Source: "provider"},
		Technical: told(map[string]string{"optin_ref": o.Ref, "optin_payload": o.Payload}),
	})
}

// add an event of the item at hand. Its time is Meta's, which every redelivery repeats and the signature covers.
func (n *normaliser) add(e channel.Event) {
	e.Account, e.IDTime, e.ActedAt = n.page, n.at, n.at
	if !n.at.IsZero() {
		e.Order = n.at.UnixMicro()
	}
	n.result.Events = append(n.result.Events, e)
}

// stamp of the item at hand in milliseconds.
func (n *normaliser) stamp() string { return strconv.FormatInt(n.at.UnixMilli(), 10) }

// secretly makes an id of what Meta gives none to: that a person did something at a time. It is an HMAC, since a plain
// hash of who did it could be guessed, under the app's verify token, the only secret there is to read by. Were that
// changed while Meta sends again, the event would be told twice.
func (n *normaliser) secretly(kind, what string) string {
	sum := keyed(n.key, []byte(strings.Join([]string{kind, n.person.Value, what}, "\x00")))
	return kind + ":" + hex.EncodeToString(sum[:16])
}

// maxCounted of one request are counted one by one: Meta sends no more items in one.
const maxCounted = 1000

func (n *normaliser) unknown(kind string) {
	if len(n.result.Unknown) < maxCounted {
		n.result.Unknown = append(n.result.Unknown, kind)
	}
}

func (n *normaliser) fault(class string) {
	if len(n.result.Faults) < maxCounted {
		n.result.Faults = append(n.result.Faults, class)
	}
}

// told is what of a set of facts there is; nil where nothing is.
func told(facts map[string]string) map[string]string {
	for name, value := range facts {
		if value == "" {
			delete(facts, name)
		}
	}
	if len(facts) == 0 {
		return nil
	}
	return facts
}

// word keeps a type of Meta's vocabulary, and nothing that a person could have written.
func word(s string) string {
	if s == "" || len(s) > 40 {
		return "other"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' {
			return "other"
		}
	}
	return s
}
