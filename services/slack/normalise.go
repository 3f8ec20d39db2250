package slack

import (
	"errors"
	"math"
	"mime"
	"strings"
	"time"

	"github.com/slack-go/slack"
	"tributary.dev/libs/channel"
)

// Normalise reads one request: an event, an interaction or a slash command.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	switch contentType(r) {
	case "application/json":
	case "application/x-www-form-urlencoded":
		return normaliseForm(r)
	default:
		return channel.Result{}, errors.New("slack: content type is neither JSON nor a form")
	}
	var env envelope
	if err := channel.DecodeObject(r.Body, &env); err != nil {
		return channel.Result{}, errors.New("slack: body is not a JSON object")
	}
	if env.Type != "event_callback" {
		return channel.Result{Unknown: []string{word(env.Type)}}, nil
	}
	n := &normaliser{body: r.Body, env: env, appID: r.AppID, shared: env.IsExtSharedChannel}
	installed := installations(env)
	if len(installed) == 0 {
		n.fault("team")
	}
	for _, n.installation = range installed {
		if n.event(); len(n.result.Events) == 0 || n.result.Events[0].Type == channel.TypeRevocation {
			break // what the others would say too, or what is one's alone
		}
	}
	n.result.SignedAt = n.earliest(r)
	return n.result, nil
}

// normaliseForm reads interactions (a form with a JSON payload) and slash commands. Either answers with an empty 200.
func normaliseForm(r *channel.Request) (channel.Result, error) {
	form, err := r.Form()
	if err != nil {
		return channel.Result{}, errors.New("slack: body is not a form")
	}
	n := &normaliser{appID: r.AppID}
	switch {
	case form.Has("payload"):
		var p interaction
		if err := channel.DecodeObject([]byte(form.Get("payload")), &p); err != nil {
			return channel.Result{}, errors.New("slack: payload is not a JSON object")
		}
		n.interaction(&p)
	case form.Has("command"):
		n.command(form)
	case form.Has("ssl_check"): // Slack looks at a command's certificate now and then
		n.unknown("ssl_check")
	default:
		return channel.Result{}, errors.New("slack: body is no form of Slack's")
	}
	if len(n.result.Events) > 0 {
		n.result.SignedAt = n.earliest(r)
	}
	return n.result, nil
}

func contentType(r *channel.Request) string {
	field := r.Header.Get("Content-Type")
	if field == "application/json" { // as Slack writes it
		return field
	}
	mediaType, _, _ := mime.ParseMediaType(field)
	return mediaType
}

// normaliser turns the event of one envelope into events of the mesh.
type normaliser struct {
	installation
	body  []byte
	env   envelope
	appID string
	// shared: it happened where people of other organisations may be (Slack Connect).
	shared bool
	result channel.Result
}

func (n *normaliser) event() {
	m := n.env.Event
	if m == nil || m.Type == "" {
		n.fault("event")
		return
	}
	switch m.Type {
	case "message", "app_mention":
		n.message(m)
	case "message_metadata_posted":
		n.metadataPosted()
	case "reaction_added", "reaction_removed":
		n.reaction(m.Type)
	case "member_joined_channel":
		n.memberJoined()
	case "user_change":
		n.userChange()
	case "app_uninstalled":
		n.revocation(m.Type)
	case "tokens_revoked":
		n.tokensRevoked()
	default:
		n.unknown(word(m.Type))
	}
}

func (n *normaliser) reaction(sourceType string) {
	e := eventOf[struct {
		User     string `json:"user"`
		Reaction string `json:"reaction"`
		EventTS  string `json:"event_ts"`
		Item     struct {
			Type    string `json:"type"`
			Channel string `json:"channel"`
			TS      string `json:"ts"`
		} `json:"item"`
	}](n.body)
	if e.Item.Type != "message" {
		n.unknown(sourceType + "." + word(e.Item.Type))
		return
	}
	order, ok := parseTS(e.EventTS)
	_, itemOK := parseTS(e.Item.TS)
	if !ok || !itemOK || !isID(e.Item.Channel) || !isID(e.User) || e.Reaction == "" || n.env.EventID == "" {
		n.fault(sourceType)
		return
	}
	if n.isOurs(e.User, "") {
		n.unknown(sourceType + ".own")
		return
	}
	who := n.person("", e.User)
	n.add(channel.Event{
		Type: channel.TypeReaction, SourceType: sourceType,
		// Slack's own id and not who reacted how: a hash of that could be guessed. Were it delivered under
		// another id too, a reaction set twice is set.
		Key: n.env.EventID, Order: order, IDTime: micros(order),
		Thread: thread(e.Item.Channel, "", e.Item.TS, ""), Author: who, Contact: directly(e.Item.Channel, "", who),
		Target: externalID(e.Item.Channel, e.Item.TS), Emoji: e.Reaction, Removed: sourceType == "reaction_removed",
	})
}

func (n *normaliser) memberJoined() {
	e := n.env.Event
	order, ok := parseTS(e.EventTS)
	if !ok || !isID(e.User) || !isID(e.Channel) || n.env.EventID == "" {
		n.fault("member_joined_channel")
		return
	}
	if n.isOurs(e.User, "") {
		n.unknown("member_joined_channel.own")
		return
	}
	n.add(channel.Event{
		Type: channel.TypeMembership, SourceType: "member_joined_channel",
		Key: n.env.EventID, Order: order, IDTime: micros(order),
		Thread: channel.Thread{ID: e.Channel, Group: true}, Author: n.person(e.Team, e.User),
	})
}

func (n *normaliser) userChange() {
	e := eventOf[struct {
		User    slack.User `json:"user"`
		EventTS string     `json:"event_ts"`
	}](n.body)
	order, ok := parseTS(e.EventTS)
	if !ok {
		order = n.eventTime()
	}
	if !isID(e.User.ID) || n.env.EventID == "" {
		n.fault("user_change")
		return
	}
	// It happened in no channel: whose the user is stands in the user alone.
	n.shared = true
	team := e.User.TeamID
	if n.enterprise != "" && e.User.Enterprise.EnterpriseID == n.enterprise {
		team = n.enterprise
	}
	profile := profileOf(&e.User)
	n.add(channel.Event{
		Type: channel.TypeProfile, SourceType: "user_change",
		Key: n.env.EventID, Order: order, IDTime: micros(order),
		Author: n.person(team, e.User.ID), Profile: &profile,
	})
}

// tokensRevoked is a revocation when it takes a bot's token: the connection lives by that one alone.
func (n *normaliser) tokensRevoked() {
	e := eventOf[struct {
		Tokens struct {
			Bot []string `json:"bot"`
		} `json:"tokens"`
	}](n.body)
	if len(e.Tokens.Bot) == 0 {
		n.unknown("tokens_revoked.user")
		return
	}
	n.revocation("tokens_revoked")
}

func (n *normaliser) revocation(reason string) {
	if n.env.EventID == "" {
		n.fault(reason)
		return
	}
	order := n.eventTime()
	n.add(channel.Event{
		Type: channel.TypeRevocation, SourceType: reason, Reason: reason,
		Key: n.env.EventID, Order: order, IDTime: micros(order),
	})
}

// eventTime in microseconds: of seconds, and the only time that some events have.
func (n *normaliser) eventTime() int64 {
	if t := n.env.EventTime; t > 0 && t < math.MaxInt64/1_000_000 {
		return t * 1_000_000
	}
	return 0
}

func (n *normaliser) add(e channel.Event) {
	e.Account = n.account
	n.result.Events = append(n.result.Events, e)
}

func (n *normaliser) unknown(kind string) { n.result.Unknown = append(n.result.Unknown, kind) }
func (n *normaliser) fault(class string)  { n.result.Faults = append(n.result.Faults, class) }

// earliest of the times that the signature covers: of the request, of the event, of what the event tells.
// A retry or a replay signs anew, but the event keeps its own. Those of the first two are whole seconds: beside a finer one
// a second's end counts, or what somebody writes within the second in which they were erased would seem to be from before.
func (n *normaliser) earliest(r *channel.Request) time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, e := range n.result.Events {
		if e.Order > 0 {
			sooner(time.UnixMicro(e.Order))
		}
	}
	var rest time.Duration
	if !at.IsZero() {
		rest = time.Second - time.Microsecond
	}
	if signed, ok := signedAt(r); ok {
		sooner(signed.Add(rest))
	}
	if t := n.eventTime(); t > 0 {
		sooner(time.UnixMicro(t).Add(rest))
	}
	return at.UTC()
}

// thread of a message: the channel and the ts of the thread's first message, or, between two, the direct
// message's channel and, in a thread of it, that thread.
func thread(channelID, channelType, ts, threadTS string) channel.Thread {
	_, ok := parseTS(threadTS)
	switch {
	case isDirect(channelID, channelType) && ok:
		return channel.Thread{ID: externalID(channelID, threadTS)}
	case isDirect(channelID, channelType):
		return channel.Thread{ID: channelID}
	case ok:
		return channel.Thread{ID: externalID(channelID, threadTS), Group: true}
	}
	return channel.Thread{ID: externalID(channelID, ts), Group: true}
}

// directly is who is on the other side of a direct message; nobody in a group.
func directly(channelID, channelType string, who *channel.Identity) *channel.Identity {
	if isDirect(channelID, channelType) {
		return who
	}
	return nil
}

func isDirect(channelID, channelType string) bool {
	return channelType == "im" || strings.HasPrefix(channelID, "D")
}

func micros(order int64) time.Time {
	if order <= 0 {
		return time.Time{}
	}
	return time.UnixMicro(order).UTC()
}

// word keeps a provider's type fit for a metric's label, whatever it says.
func word(s string) string {
	if s == "" || len(s) > 64 {
		return "other"
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return "other"
		}
	}
	return s
}
