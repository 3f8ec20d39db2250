package messenger

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tributary.dev/libs/channel"
)

// envelope is what every webhook comes in: entries of Pages, each with its items, which are read one by one.
type envelope struct {
	Object string  `json:"object"`
	Entry  []entry `json:"entry"`
}

type entry struct {
	ID        loose            `json:"id"`
	Messaging []jsontext.Value `json:"messaging"`
	Standby   []jsontext.Value `json:"standby"`
	Changes   []struct {
		Field string `json:"field"`
	} `json:"changes"`
}

// item is one thing that happened between a Page and a person; one of the pointers says what
// (https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events).
type item struct {
	Sender    party `json:"sender"`
	Recipient party `json:"recipient"`
	Timestamp loose `json:"timestamp"`

	Message  *message  `json:"message"`
	Postback *postback `json:"postback"`
	Referral *referral `json:"referral"`
	Reaction *reaction `json:"reaction"`
	Edit     *edit     `json:"message_edit"`
	Delivery *delivery `json:"delivery"`
	Read     *delivery `json:"read"`
	OptIn    *optIn    `json:"optin"`

	other
}

// other is what an item may be too, and is counted by its name.
type other struct {
	AccountLinking jsontext.Value `json:"account_linking"`
	AppRoles       jsontext.Value `json:"app_roles"`
	Feedback       jsontext.Value `json:"messaging_feedback"`
	GamePlay       jsontext.Value `json:"game_play"`
	Order          jsontext.Value `json:"order"`
	PassThread     jsontext.Value `json:"pass_thread_control"`
	Policy         jsontext.Value `json:"policy_enforcement"`
	RequestThread  jsontext.Value `json:"request_thread_control"`
	TakeThread     jsontext.Value `json:"take_thread_control"`
}

func (o *other) name() string {
	for _, kind := range []struct {
		name  string
		value jsontext.Value
	}{
		{"account_linking", o.AccountLinking}, {"app_roles", o.AppRoles}, {"messaging_feedback", o.Feedback}, {"game_play", o.GamePlay},
		{"order", o.Order}, {"pass_thread_control", o.PassThread}, {"policy_enforcement", o.Policy},
		{"request_thread_control", o.RequestThread}, {"take_thread_control", o.TakeThread},
	} {
		if len(kind.value) > 0 {
			return kind.name
		}
	}
	return "other"
}

// party is a Page, a person, or (without an id) a visitor whom a plug-in calls by a reference.
type party struct {
	ID loose `json:"id"`
}

type message struct {
	MID         string       `json:"mid"`
	Text        string       `json:"text"`
	IsEcho      bool         `json:"is_echo"`
	IsDeleted   bool         `json:"is_deleted"`
	AppID       loose        `json:"app_id"`
	Metadata    string       `json:"metadata"`
	Attachments []attachment `json:"attachments"`
	Referral    *referral    `json:"referral"`
	QuickReply  struct {
		Payload string `json:"payload"`
	} `json:"quick_reply"`
	ReplyTo struct {
		MID string `json:"mid"`
	} `json:"reply_to"`
}

type attachment struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	URL     string `json:"url"`
	Payload struct {
		URL         string `json:"url"`
		Title       string `json:"title"`
		Text        string `json:"text"`
		StickerID   loose  `json:"sticker_id"`
		Coordinates struct {
			Lat  loose `json:"lat"`
			Long loose `json:"long"`
		} `json:"coordinates"`
		Elements []element `json:"elements"`
		Product  struct {
			Elements []element `json:"elements"`
		} `json:"product"`
	} `json:"payload"`
}

// element of a template.
type element struct {
	Title    string `json:"title"`
	Subtitle string `json:"subtitle"`
}

type postback struct {
	MID      string    `json:"mid"`
	Title    string    `json:"title"`
	Payload  string    `json:"payload"`
	Referral *referral `json:"referral"`
}

// referral is the link or the ad that a person came by.
type referral struct {
	Ref        string `json:"ref"`
	Source     string `json:"source"`
	Type       string `json:"type"`
	AdID       loose  `json:"ad_id"`
	RefererURI string `json:"referer_uri"`
	Product    struct {
		ID loose `json:"id"`
	} `json:"product"`
	Ad struct {
		Title string `json:"ad_title"`
	} `json:"ads_context_data"`
}

type reaction struct {
	MID      string `json:"mid"`
	Action   string `json:"action"`
	Emoji    string `json:"emoji"`
	Reaction string `json:"reaction"`
}

type edit struct {
	MID     string `json:"mid"`
	Text    string `json:"text"`
	NumEdit loose  `json:"num_edit"`
}

type delivery struct {
	MID       string   `json:"mid"`
	MIDs      []string `json:"mids"`
	Watermark loose    `json:"watermark"`
}

type optIn struct {
	Ref     string `json:"ref"`
	Payload string `json:"payload"`
	Status  string `json:"notification_messages_status"`
}

// metadata that a message of ours is sent with, as text; its echo brings it back.
type metadata struct {
	Tributary *part `json:"tributary,omitempty"`
}

// part of a message of ours.
type part struct {
	MessageID       string `json:"message_id"`
	Part            int32  `json:"part"`
	Attempt         int32  `json:"attempt"`
	ConversationKey string `json:"conversation_key"`
}

func (p *part) String() string {
	text, err := json.Marshal(metadata{p})
	if err != nil { // an id that is no text
		return ""
	}
	return string(text)
}

// ours reads metadata that this mesh wrote.
func ours(text string) (part, bool) {
	var m metadata
	if channel.DecodeObject([]byte(text), &m) != nil || m.Tributary == nil || !isMID(m.Tributary.MessageID) {
		return part{}, false
	}
	return *m.Tributary, true
}

// loose is an id or a number, which Meta writes as a string here and as a number there: its digits, exactly.
type loose string

func (l *loose) UnmarshalJSON(raw []byte) error {
	switch {
	case len(raw) > 0 && raw[0] == '"':
		var s string
		*l = ""
		if channel.Decode(raw, &s) == nil {
			*l = loose(s)
		}
	case len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'):
		*l = loose(raw)
	default:
		*l = ""
	}
	return nil
}

// Times that Meta may have meant, in milliseconds: from 2001 to 2191.
const (
	earliest = 1_000_000_000_000
	latest   = 7_000_000_000_000
)

// time of a timestamp in milliseconds, or in seconds, as the samples of some events have it; zero where it is none.
func (l loose) time() time.Time {
	n, err := strconv.ParseInt(string(l), 10, 64)
	if err == nil && n >= earliest/1000 && n < latest/1000 {
		n *= 1000
	}
	if err != nil || n < earliest || n >= latest {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}

// isID tells an id of Meta's (of a Page, a person, an app): ids go into keys and addresses, so nothing else may pass
// for one.
func isID(s loose) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// isMID tells a message's id: Meta gives it no form, but it is one word.
func isMID(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 512
}
