package telegram

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tributary.dev/libs/channel"
)

// Normalise reads one update, which is of one kind.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	var in map[string]jsontext.Value
	if channel.DecodeObject(r.Body, &in) != nil {
		return channel.Result{}, errors.New("telegram: body is not a JSON object")
	}
	n := &normaliser{}
	if _ = channel.Decode(in["update_id"], &n.update); n.update <= 0 {
		return channel.Result{Faults: []string{"update_id"}}, nil
	}
	for _, kind := range []string{"channel_post", "edited_channel_post", "business_message", "inline_query", "poll", "poll_answer", "chat_member"} {
		if in[kind] != nil {
			n.unknown(kind)
			return n.result, nil
		}
	}
	known := read(n, in, "message", n.message) || read(n, in, "edited_message", n.message) || read(n, in, "message_reaction", n.reaction) ||
		read(n, in, "callback_query", n.callback) || read(n, in, "my_chat_member", n.member)
	if !known {
		n.unknown("other")
	}
	return n.result, nil
}

// read has an update of a kind handled. One that is no object, or lacks what an event needs, is a fault.
func read[T any](n *normaliser, in map[string]jsontext.Value, kind string, handle func(kind string, item *T) bool) bool {
	item := new(T)
	if in[kind] != nil && (channel.DecodeObject(in[kind], item) != nil || !handle(kind, item)) {
		n.result.Faults = append(n.result.Faults, kind)
	}
	return in[kind] != nil
}

// normaliser makes events of one update. Its methods tell whether the item has what an event needs.
type normaliser struct {
	update int64
	result channel.Result
}

// unknown counts what is no event of ours.
func (n *normaliser) unknown(kind string) bool {
	n.result.Unknown = append(n.result.Unknown, kind)
	return true
}

// add an event, named by the update's own id, which is the same in every redelivery.
func (n *normaliser) add(kind string, e channel.Event) bool {
	e.SourceType, e.Key = kind, strconv.FormatInt(n.update, 10)
	if i := len(n.result.Events); i > 0 {
		e.Key += ":" + strconv.Itoa(i)
	}
	n.result.Events = append(n.result.Events, e)
	return true
}

// message, or an edit of one. Telegram also tells of changes that nobody made by editing, without a new date of an edit.
func (n *normaliser) message(kind string, m *message) bool {
	switch {
	case m.Chat.Type != "private" && !group(m.Chat):
		return n.unknown(kind + ".chat")
	case m.ID <= 0 || m.Chat.ID == 0 || at(m.Date).IsZero() || nobody(m.From, m.AsChat):
		return false
	}
	e, id := act(m.Chat, m.From, m.AsChat), externalID(m.Chat, m.ID)
	if group(m.Chat) && m.InTopic && m.Topic > 0 {
		e.Thread.ID += ":" + strconv.FormatInt(m.Topic, 10)
	}
	e.Automated = m.Forwarded || m.AsChat.ID == 0 && m.From.IsBot
	switch e.Content = m.content(); {
	case e.Content == nil:
		return n.unknown(kind + ".service")
	case kind == "message":
		e.Type, e.ExternalID, e.Order, e.IDTime = channel.TypeMessage, id, order(m.Date, m.ID), at(m.Date)
		if m.ReplyTo != nil && m.ReplyTo.ID > 0 && (!m.InTopic || m.ReplyTo.ID != m.Topic) { // what answers nothing in a topic answers its first
			e.ReplyTo = externalID(m.Chat, m.ReplyTo.ID)
		}
	case m.EditDate < m.Date || at(m.EditDate).IsZero():
		return n.unknown(kind + ".same")
	default:
		e.Type, e.Target, e.IDTime = channel.TypeEdit, id, at(m.EditDate)
		e.Order = max(order(m.EditDate, n.update), order(m.Date, m.ID)+1)
	}
	return n.add(kind, e)
}

// reaction: what was taken away, then what was set. A custom emoji has no letter.
func (n *normaliser) reaction(kind string, r *reaction) bool {
	if r.ID <= 0 || r.Chat.ID == 0 || at(r.Date).IsZero() || nobody(r.User, r.Actor) {
		return false
	}
	e := act(r.Chat, r.User, r.Actor)
	e.Type, e.Target, e.Order, e.IDTime = channel.TypeReaction, externalID(r.Chat, r.ID), order(r.Date, n.update), at(r.Date)
	for i, w := range slices.Concat(r.Old, r.New) {
		e.Removed, e.Emoji = i < len(r.Old), w.Emoji
		switch {
		case slices.Contains(r.Old, w) && slices.Contains(r.New, w):
		case w.Emoji == "":
			n.unknown(kind + ".custom")
		default:
			n.add(kind, e)
		}
	}
	return true
}

// callback is a button that was used, which Telegram gives no time. The answer to the webhook ends the button's waiting.
func (n *normaliser) callback(kind string, c *callback) bool {
	if c.ID == "" || c.From.ID == 0 {
		return false
	}
	reply, _ := json.Marshal(map[string]string{"method": "answerCallbackQuery", "callback_query_id": c.ID}) // strings encode
	n.result.Reply = channel.Reply{Status: http.StatusOK, ContentType: "application/json", Body: reply}
	m := c.Message
	if m.ID <= 0 || m.Chat.ID == 0 || m.Chat.Type != "private" && !group(m.Chat) { // of a message sent inline
		return n.unknown(kind + ".elsewhere")
	}
	e := act(m.Chat, c.From, chat{})
	e.Type, e.ExternalID, e.ReplyTo = channel.TypeMessage, "callback/"+c.ID, externalID(m.Chat, m.ID)
	e.Content = &channel.Content{Payload: c.Data}
	for _, button := range slices.Concat(m.Buttons.Rows...) {
		if button.Data == c.Data {
			e.Content.Text = button.Text
		}
	}
	return n.add(kind, e)
}

// member: a person who blocks the bot wants to hear nothing from it; one who lets it in again does.
func (n *normaliser) member(kind string, m *membership) bool {
	action := map[string]string{"kicked": "opt_out", "member": "opt_in"}[m.New.Status]
	switch {
	case m.Chat.Type != "private" || action == "":
		return n.unknown(kind + ".other")
	case nobody(m.From, chat{}) || at(m.Date).IsZero():
		return false
	}
	e := act(m.Chat, m.From, chat{})
	e.Type, e.Order, e.IDTime = channel.TypeConsent, order(m.Date, n.update), at(m.Date)
	e.Consent = &channel.Consent{Action: action, Source: "provider"}
	return n.add(kind, e)
}

func nobody(who user, as chat) bool { return as.ID == 0 && who.ID == 0 }

// act of a person in a chat; of a chat where it speaks for itself: who it names as a person then is nobody.
func act(in chat, who user, as chat) (e channel.Event) {
	if as.ID != 0 {
		e.Author = &channel.Identity{Kind: "telegram_user", Value: "chat:" + strconv.FormatInt(as.ID, 10)}
		e.Profile = &channel.Profile{Name: as.Title, Handle: as.Username}
	} else {
		e.Author = &channel.Identity{Kind: "telegram_user", Value: strconv.FormatInt(who.ID, 10)}
		e.Profile = &channel.Profile{Name: who.name(), Handle: who.Username, Locale: who.Language}
	}
	if group(in) {
		e.Thread = channel.Thread{ID: strconv.FormatInt(in.ID, 10), Group: true}
	} else {
		e.Contact = e.Author
	}
	return e
}

func externalID(in chat, id int64) string {
	if group(in) {
		return strconv.FormatInt(in.ID, 10) + ":" + strconv.FormatInt(id, 10)
	}
	return strconv.FormatInt(id, 10)
}

func group(in chat) bool { return in.Type == "group" || in.Type == "supergroup" }

// order in microseconds: what happened within a second goes by a number that rises.
func order(seconds, number int64) int64 { return seconds*1_000_000 + number%1_000_000 }

// at is a date of Telegram's; zero where it is none.
func at(seconds int64) time.Time {
	if seconds < 1e9 || seconds > 7e9 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
