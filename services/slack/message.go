package slack

import (
	"slices"
	"strings"

	"tributary.dev/libs/channel"
)

// message tells messages, edits, deletions and our own echoes apart. The subtypes that are messages are
// named; others (joins, topics, pins …) are counted.
func (n *normaliser) message(m *message) {
	if !isID(m.Channel) {
		n.fault("message.channel")
		return
	}
	switch m.SubType {
	case "", "file_share", "me_message", "thread_broadcast", "bot_message":
		n.posted(m)
	case "message_changed":
		n.changed(m)
	case "message_deleted":
		n.deleted(m, m.DeletedTS, m.PreviousMessage)
	default:
		n.unknown("message." + word(m.SubType))
	}
}

func (n *normaliser) posted(m *message) {
	order, ok := parseTS(m.TS)
	if !ok {
		n.fault("message.ts")
		return
	}
	if n.wroteIt(m) {
		n.echo(m.Type, m.Channel, m.TS, thread(m.Channel, m.ChannelType, m.TS, m.ThreadTS), m.Metadata)
		return
	}
	author, ok := n.author(m)
	if !ok {
		n.fault("message.author")
		return
	}
	e := channel.Event{
		Type: channel.TypeMessage, SourceType: sourceType(m.Type, m.SubType),
		Key:   strings.Join([]string{sourceType(m.Type, m.SubType), m.Channel, m.TS}, ":"),
		Order: order, IDTime: micros(order), Automated: isAutomatic(m),
		Thread: thread(m.Channel, m.ChannelType, m.TS, m.ThreadTS),
		Author: author, Contact: directly(m.Channel, m.ChannelType, author),
		ExternalID: externalID(m.Channel, m.TS), Content: n.content(m),
	}
	if isDirect(m.Channel, m.ChannelType) && m.ThreadTS != "" && m.ThreadTS != m.TS {
		e.ReplyTo = externalID(m.Channel, m.ThreadTS)
	}
	n.add(e)
}

// changed is an edit when what was written changed. Unfurled links, reply counts and the like change the
// message too; a thread's first message that was deleted becomes a tombstone.
func (n *normaliser) changed(m *message) {
	now, before := m.Message, m.PreviousMessage
	if now == nil {
		n.fault("message_changed.message")
		return
	}
	if now.SubType == "tombstone" {
		n.deleted(m, now.TS, before)
		return
	}
	if n.wroteIt(now) {
		n.unknown("message_changed.own")
		return
	}
	content := n.content(now)
	at := now.Edited.TS
	if before != nil {
		if sameContent(content, n.content(before)) {
			n.unknown("message_changed.same")
			return
		}
		if at == before.Edited.TS { // changed, but not by an edit: a file was taken away, an app updated it
			at = m.EventTS
		}
	} else if at == "" {
		n.unknown("message_changed.same")
		return
	}
	if at == "" {
		at = m.TS
	}
	order, ok := parseTS(at)
	if _, targetOK := parseTS(now.TS); !ok || !targetOK {
		n.fault("message_changed.ts")
		return
	}
	author, ok := n.author(now)
	if !ok {
		n.fault("message_changed.author")
		return
	}
	n.add(channel.Event{
		Type: channel.TypeEdit, SourceType: "message.message_changed",
		Key:   strings.Join([]string{"message_changed", m.Channel, now.TS, at}, ":"),
		Order: order, IDTime: micros(order), Automated: isAutomatic(now),
		Thread: thread(m.Channel, m.ChannelType, now.TS, now.ThreadTS),
		Author: author, Contact: directly(m.Channel, m.ChannelType, author),
		Target: externalID(m.Channel, now.TS), Content: content,
	})
}

// deleted names nobody: Slack does not say who deleted, and the message is found by its id.
func (n *normaliser) deleted(m *message, ts string, before *message) {
	order, ok := parseTS(m.EventTS)
	if !ok {
		order, ok = parseTS(m.TS)
	}
	if _, targetOK := parseTS(ts); !ok || !targetOK {
		n.fault("message_deleted.ts")
		return
	}
	e := channel.Event{
		Type: channel.TypeDeletion, SourceType: "message.message_deleted",
		Key:   strings.Join([]string{"message_deleted", m.Channel, ts}, ":"),
		Order: order, IDTime: micros(order),
		Thread: thread(m.Channel, m.ChannelType, ts, ""),
		Target: externalID(m.Channel, ts),
	}
	if before != nil {
		e.Thread = thread(m.Channel, m.ChannelType, ts, before.ThreadTS)
	}
	n.add(e)
}

// metadataPosted is the echo that surely carries our metadata, whatever the message event has.
func (n *normaliser) metadataPosted() {
	e := eventOf[struct {
		AppID     string   `json:"app_id"`
		ChannelID string   `json:"channel_id"`
		MessageTS string   `json:"message_ts"`
		Metadata  metadata `json:"metadata"`
	}](n.body)
	if !n.isOurs("", e.AppID) || e.Metadata.EventType != metadataType {
		n.unknown("message_metadata_posted.other")
		return
	}
	if _, ok := parseTS(e.MessageTS); !ok || !isID(e.ChannelID) {
		n.fault("message_metadata_posted")
		return
	}
	n.echo("message_metadata_posted", e.ChannelID, e.MessageTS, thread(e.ChannelID, "", e.MessageTS, ""), e.Metadata)
}

// echo says that Slack took a message of ours: a receipt, joined by our metadata or by the message's id.
func (n *normaliser) echo(source, channelID, ts string, in channel.Thread, meta metadata) {
	order, _ := parseTS(ts)
	receipt := &channel.Receipt{Status: channel.StatusSent, ExternalID: externalID(channelID, ts), SentOrder: order}
	if meta.EventType == metadataType {
		p := meta.EventPayload
		receipt.MessageID, receipt.Part, receipt.Attempt = p.MessageID, p.Part, p.Attempt
		in.ConversationKey = p.ConversationKey
	}
	n.add(channel.Event{
		Type: channel.TypeReceipt, SourceType: source,
		Key:   strings.Join([]string{"echo", source, channelID, ts}, ":"),
		Order: order, IDTime: micros(order), Thread: in,
		Target: externalID(channelID, ts), Receipt: receipt,
	})
}

func (n *normaliser) wroteIt(m *message) bool {
	return n.isOurs(m.User, m.AppID) || n.isOurs("", m.BotProfile.AppID)
}

// author of a message: a person, or a bot that has no user of its own, by its bot's id or else its app's.
// What names neither is nobody's: to share one author among all such would merge strangers.
func (n *normaliser) author(m *message) (*channel.Identity, bool) {
	team := m.UserTeam
	for _, t := range []string{m.SourceTeam, m.Team} {
		if team == "" {
			team = t
		}
	}
	if isID(m.User) {
		return n.person(team, m.User), true
	}
	for _, bot := range []string{m.BotID, m.BotProfile.ID, m.AppID, m.BotProfile.AppID} {
		if isID(bot) {
			return &channel.Identity{Kind: "slack_bot", Value: n.account + ":" + bot}, true
		}
	}
	return nil, false
}

func isAutomatic(m *message) bool {
	return !isID(m.User) || m.BotID != "" || m.SubType == "bot_message" || m.User == "USLACKBOT"
}

func sourceType(eventType, subType string) string {
	if subType == "" {
		return eventType
	}
	return eventType + "." + subType
}

func (n *normaliser) content(m *message) *channel.Content {
	text := written(n.home(), m)
	c := &channel.Content{}
	seen := map[string]bool{}
	for _, f := range m.Files {
		if f.Mode == "tombstone" || !isID(f.ID) || seen[f.ID] {
			continue // a deleted one is no longer the message's
		}
		seen[f.ID] = true
		c.Attachments = append(c.Attachments, f.normalised())
		// What lies elsewhere may be a page that only a person can open: it is told as a link too.
		if at := either(f.ExternalURL, f.URLPrivate); f.elsewhere() && at != "" && !strings.Contains(text.String(), at) {
			text.line()
			text.link(at, either(f.Title, f.Name))
		}
	}
	c.Text, c.Mentions = text.String(), text.mentions
	return c
}

func (f file) elsewhere() bool { return f.IsExternal || f.Mode == "external" }

func (f file) normalised() channel.Attachment {
	a := channel.Attachment{
		Ref: f.ID, Kind: "file", Name: f.Name, ContentType: f.MIMEType, Size: max(f.Size, 0), URL: f.URLPrivateDownload,
	}
	if a.URL == "" {
		a.URL = f.URLPrivate
	}
	if a.URL == "" && f.elsewhere() {
		a.URL = f.ExternalURL
	}
	if f.Mode == "hidden_by_limit" || f.FileAccess == "check_file_info" {
		a.URL = "" // Slack tells more when asked: see Locate
	}
	if a.Name == "" {
		a.Name = f.Title
	}
	if kind, _, _ := strings.Cut(f.MIMEType, "/"); kind == "image" || kind == "audio" || kind == "video" {
		a.Kind = kind
	}
	return a
}

func sameContent(a, b *channel.Content) bool {
	return a.Text == b.Text && slices.Equal(a.Mentions, b.Mentions) &&
		slices.EqualFunc(a.Attachments, b.Attachments, func(x, y channel.Attachment) bool { return x.Ref == y.Ref })
}
