package slack

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// interaction is what comes when a person uses a button, a menu, a shortcut or a form of the app
// (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload). Its response_url and trigger_id are
// credentials for a while: neither is kept.
type interaction struct {
	Type string `json:"type"`
	User struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	Team struct {
		ID string `json:"id"`
	} `json:"team"`
	Enterprise struct {
		ID string `json:"id"`
	} `json:"enterprise"`
	IsEnterpriseInstall bool   `json:"is_enterprise_install"`
	APIAppID            string `json:"api_app_id"`
	TriggerID           string `json:"trigger_id"`
	Container           struct {
		Type        string `json:"type"`
		MessageTS   string `json:"message_ts"`
		ThreadTS    string `json:"thread_ts"`
		ChannelID   string `json:"channel_id"`
		IsEphemeral bool   `json:"is_ephemeral"`
	} `json:"container"`
	Channel struct {
		ID string `json:"id"`
	} `json:"channel"`
	Message message  `json:"message"`
	Actions []action `json:"actions"`
}

// action is one element that was used, with what was chosen of it, by its kind.
type action struct {
	Type     string     `json:"type"`
	ActionID string     `json:"action_id"`
	BlockID  string     `json:"block_id"`
	ActionTS string     `json:"action_ts"`
	Text     textObject `json:"text"`
	Value    string     `json:"value"`

	SelectedOption        option   `json:"selected_option"`
	SelectedOptions       []option `json:"selected_options"`
	SelectedUser          string   `json:"selected_user"`
	SelectedUsers         []string `json:"selected_users"`
	SelectedChannel       string   `json:"selected_channel"`
	SelectedChannels      []string `json:"selected_channels"`
	SelectedConversation  string   `json:"selected_conversation"`
	SelectedConversations []string `json:"selected_conversations"`
	SelectedDate          string   `json:"selected_date"`
	SelectedTime          string   `json:"selected_time"`
	SelectedDateTime      int64    `json:"selected_date_time"`
	RichTextValue         block    `json:"rich_text_value"`
}

type option struct {
	Text  textObject `json:"text"`
	Value string     `json:"value"`
}

// interaction takes block_actions of messages. The others name no conversation (views, global shortcuts) or none of a
// person's words (message shortcuts), and the mesh's own app offers none of them: they are counted.
func (n *normaliser) interaction(p *interaction) {
	kind := "interaction." + word(p.Type)
	if p.Type != "block_actions" {
		n.unknown(kind)
		return
	}
	if p.Container.Type != "message" && p.Container.Type != "message_attachment" {
		n.unknown(kind + "." + word(p.Container.Type))
		return
	}
	n.env.APIAppID = p.APIAppID
	n.installation = installed(p.team(n), p.Enterprise.ID, p.IsEnterpriseInstall)
	switch {
	case !isID(n.account):
		n.fault("block_actions.team")
	case !isID(p.User.ID):
		n.fault("block_actions.user")
	case len(p.Actions) == 0:
		n.fault("block_actions.actions")
	default:
		for i := range p.Actions {
			n.blockAction(p, &p.Actions[i])
		}
	}
}

// team that the app is installed in: in Slack Connect payloads may name the person's, but a message of ours was
// written in ours.
func (p *interaction) team(n *normaliser) string {
	if n.isOurs("", p.Message.AppID) && strings.HasPrefix(p.Message.Team, "T") && isID(p.Message.Team) {
		return p.Message.Team
	}
	return either(p.Team.ID, p.User.TeamID)
}

// blockAction is what a person says by it: a message of theirs, in the conversation of the message that carries the
// block.
func (n *normaliser) blockAction(p *interaction, a *action) {
	channelID := either(p.Container.ChannelID, p.Channel.ID)
	messageTS := either(p.Container.MessageTS, p.Message.TS)
	threadTS := either(p.Container.ThreadTS, p.Message.ThreadTS)
	if _, ok := parseTS(messageTS); !ok || !isID(channelID) {
		n.fault("block_actions.message")
		return
	}
	in, replyTo := thread(channelID, "", messageTS, threadTS), externalID(channelID, messageTS)
	if p.Container.IsEphemeral { // nobody else has seen it, and no thread can begin at it
		replyTo = ""
		if _, ok := parseTS(threadTS); !ok {
			in = inChannel(channelID)
		}
	}
	id := digest("block_actions", p.TriggerID, channelID, messageTS, a.ActionTS, a.BlockID, a.ActionID)
	external := "block_actions:" + id
	order, ok := parseTS(a.ActionTS)
	if ok {
		external = externalID(channelID, a.ActionTS) + ":" + id
	}
	who := n.person(p.User.TeamID, p.User.ID)
	text := a.chosen(n.home())
	n.add(channel.Event{
		Type: channel.TypeMessage, SourceType: "block_actions." + word(a.Type),
		Key: "block_actions:" + id, Order: order, IDTime: micros(order),
		Thread: in, Author: who, Contact: directly(channelID, "", who),
		ExternalID: external, ReplyTo: replyTo,
		Content: &channel.Content{Text: text.String(), Mentions: text.mentions, Payload: a.payload()},
	})
}

// inChannel is a channel itself as a conversation: of what is said in none of its threads and begins none.
func inChannel(channelID string) channel.Thread {
	return channel.Thread{ID: channelID, Group: !isDirect(channelID, "")}
}

// options that are chosen now.
func (a *action) options() []option {
	if a.SelectedOption != (option{}) {
		return []option{a.SelectedOption}
	}
	return a.SelectedOptions
}

// chosen is what the person saw and chose, or wrote, as text: a line for each. It is empty where they took back what
// they had chosen.
func (a *action) chosen(team string) *plain {
	p := &plain{team: team}
	switch {
	case a.Type == "rich_text_input":
		p.block(&a.RichTextValue)
	case strings.HasSuffix(a.Type, "_input"):
		p.WriteString(a.Value)
	case strings.HasSuffix(a.Type, "button"):
		p.object(a.Text)
	}
	for _, o := range a.options() {
		p.object(o.Text)
	}
	for _, id := range slices.Concat(a.SelectedUsers, a.SelectedChannels, a.SelectedConversations,
		[]string{a.SelectedUser, a.SelectedChannel, a.SelectedConversation}) {
		p.named(id)
	}
	p.object(textObject{Text: a.SelectedDate})
	p.object(textObject{Text: a.SelectedTime})
	if a.SelectedDateTime > 0 {
		p.object(textObject{Text: time.Unix(a.SelectedDateTime, 0).UTC().Format("2006-01-02 15:04 MST")})
	}
	return p
}

// named is a user or a channel that was picked.
func (p *plain) named(id string) {
	if !isID(id) {
		return
	}
	p.line()
	if id[0] == 'U' || id[0] == 'W' {
		p.mention(id)
	} else {
		p.WriteString("#" + id)
	}
}

// payload is what the app gave the choice to be known by: its value, several a line each, else the element's own id.
func (a *action) payload() string {
	var values []string
	if strings.HasSuffix(a.Type, "button") && a.Value != "" {
		values = append(values, a.Value)
	}
	for _, o := range a.options() {
		if o.Value != "" {
			values = append(values, o.Value)
		}
	}
	return either(strings.Join(values, "\n"), a.ActionID)
}

// digest makes an id of what a redelivery repeats, of which nothing can be read: trigger_id, which nobody can guess,
// is a part of it.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}
