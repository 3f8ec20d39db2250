package slack

import "tributary.dev/libs/channel"

// envelope is what every event comes in (https://docs.slack.dev/apis/events-api#event-type-structure). Most are
// messages: Event is read as one at once, and once more where it is something else (see eventOf).
type envelope struct {
	Type                string   `json:"type"`
	TeamID              string   `json:"team_id"`
	EnterpriseID        string   `json:"enterprise_id"`
	ContextTeamID       string   `json:"context_team_id"`
	ContextEnterpriseID string   `json:"context_enterprise_id"`
	IsExtSharedChannel  bool     `json:"is_ext_shared_channel"`
	APIAppID            string   `json:"api_app_id"`
	EventID             string   `json:"event_id"`
	EventTime           int64    `json:"event_time"`
	Event               *message `json:"event"`
	Authorizations      []struct {
		EnterpriseID        string `json:"enterprise_id"`
		TeamID              string `json:"team_id"`
		UserID              string `json:"user_id"`
		IsBot               bool   `json:"is_bot"`
		IsEnterpriseInstall bool   `json:"is_enterprise_install"`
	} `json:"authorizations"`
}

// message is an event of type message or app_mention, and a message nested in one.
type message struct {
	Type        string `json:"type"`
	SubType     string `json:"subtype"`
	Channel     string `json:"channel"`
	ChannelType string `json:"channel_type"`
	TS          string `json:"ts"`
	ThreadTS    string `json:"thread_ts"`
	EventTS     string `json:"event_ts"`
	DeletedTS   string `json:"deleted_ts"`

	User       string `json:"user"`
	Team       string `json:"team"`
	UserTeam   string `json:"user_team"`
	SourceTeam string `json:"source_team"`
	BotID      string `json:"bot_id"`
	AppID      string `json:"app_id"`
	BotProfile struct {
		ID    string `json:"id"`
		AppID string `json:"app_id"`
	} `json:"bot_profile"`

	Text        string       `json:"text"`
	Blocks      []block      `json:"blocks"`
	Files       []file       `json:"files"`
	Attachments []attachment `json:"attachments"`
	Metadata    metadata     `json:"metadata"`
	Edited      struct {
		TS string `json:"ts"`
	} `json:"edited"`

	Message         *message `json:"message"`
	PreviousMessage *message `json:"previous_message"`
}

// file shared in a message (https://docs.slack.dev/reference/objects/file-object).
type file struct {
	ID                 string `json:"id"`
	Mode               string `json:"mode"`
	FileAccess         string `json:"file_access"`
	IsExternal         bool   `json:"is_external"`
	ExternalURL        string `json:"external_url"`
	Name               string `json:"name"`
	Title              string `json:"title"`
	MIMEType           string `json:"mimetype"`
	Size               int64  `json:"size"`
	URLPrivate         string `json:"url_private"`
	URLPrivateDownload string `json:"url_private_download"`
}

// attachment is legacy content of an app, the unfurl of a link (then it names where from), or a message that a person
// forwarded.
type attachment struct {
	Fallback string  `json:"fallback"`
	Pretext  string  `json:"pretext"`
	Title    string  `json:"title"`
	Text     string  `json:"text"`
	FromURL  string  `json:"from_url"`
	IsShare  bool    `json:"is_share"`
	Blocks   []block `json:"blocks"`
}

// metadata that an app posts with a message; ours says which part of which message it is.
type metadata struct {
	EventType    string `json:"event_type"`
	EventPayload struct {
		MessageID       string `json:"message_id"`
		Part            int32  `json:"part"`
		Attempt         int32  `json:"attempt"`
		ConversationKey string `json:"conversation_key"`
	} `json:"event_payload"`
}

// metadataType marks metadata as ours.
const metadataType = "tributary_message"

// eventOf reads the event of an envelope as what it is, where that is no message. The body is valid JSON by now.
func eventOf[T any](body []byte) T {
	var env struct {
		Event T `json:"event"`
	}
	_ = channel.Decode(body, &env)
	return env.Event
}
