package messenger

import (
	"net/url"
	"path"
	"strconv"
	"strings"

	"tributary.dev/libs/channel"
)

// message tells messages, echoes and what was unsent apart.
func (n *normaliser) message(m *message) {
	switch {
	case !isMID(m.MID):
		n.fault("message.mid")
	case m.IsDeleted:
		n.add(channel.Event{
			Type: channel.TypeDeletion, SourceType: "message.is_deleted", Key: "deletion:" + m.MID, Target: m.MID,
		})
	case m.IsEcho && n.wroteIt(m):
		n.echo(m)
	case m.IsEcho:
		n.add(channel.Event{
			Type: channel.TypeMessage, SourceType: "message.is_echo", Key: "message:" + m.MID, Outbound: true,
			Contact: n.person, ExternalID: m.MID, ReplyTo: m.answered(), Content: m.content(),
		})
	default:
		n.add(channel.Event{
			Type: channel.TypeMessage, SourceType: "message", Key: "message:" + m.MID,
			Author: n.person, Contact: n.person, ExternalID: m.MID, ReplyTo: m.answered(), Content: m.content(),
			Technical: m.Referral.technical(),
		})
	}
}

// wroteIt: our app sent it, or, where one of the two app ids is not known, it carries what only this mesh writes.
func (n *normaliser) wroteIt(m *message) bool {
	if n.appID != "" && m.AppID != "" {
		return n.appID == string(m.AppID)
	}
	_, ok := ours(m.Metadata)
	return ok
}

// echo says that Meta took a message of ours: a receipt, joined by our metadata or by the message's id. It may come
// before the call that sent it has returned.
func (n *normaliser) echo(m *message) {
	receipt := &channel.Receipt{Status: channel.StatusSent, ExternalID: m.MID}
	if !n.at.IsZero() {
		receipt.SentOrder = n.at.UnixMicro()
	}
	e := channel.Event{
		Type: channel.TypeReceipt, SourceType: "message.is_echo", Key: "echo:" + m.MID,
		Contact: n.person, Target: m.MID, Receipt: receipt,
	}
	if p, ok := ours(m.Metadata); ok {
		receipt.MessageID, receipt.Part, receipt.Attempt = p.MessageID, p.Part, p.Attempt
		e.Thread.ConversationKey = p.ConversationKey
	}
	n.add(e)
}

// postback is a button or a menu's entry that a person used: a message that says what stood on it.
func (n *normaliser) postback(p *postback) {
	mid, key := p.MID, "postback:"+p.MID
	if !isMID(mid) { // before Graph API v8 it had none
		if n.at.IsZero() {
			n.fault("postback")
			return
		}
		mid = n.secretly("postback", n.stamp())
		key = mid
	}
	payload := p.Payload
	if payload == "" && p.Referral != nil {
		payload = p.Referral.Ref
	}
	n.add(channel.Event{
		Type: channel.TypeMessage, SourceType: "postback", Key: key,
		Author: n.person, Contact: n.person, ExternalID: mid,
		Content: &channel.Content{Text: p.Title, Payload: payload}, Technical: p.Referral.technical(),
	})
}

// referral is a person who came back by a link or an ad and has not written yet.
func (n *normaliser) referral(r *referral) {
	if n.at.IsZero() {
		n.fault("referral")
		return
	}
	id := n.secretly("referral", n.stamp())
	n.add(channel.Event{
		Type: channel.TypeMessage, SourceType: "referral", Key: id,
		Author: n.person, Contact: n.person, ExternalID: id,
		Content: &channel.Content{Payload: r.Ref}, Technical: r.technical(),
	})
}

// isMade tells an id that secretly made from one of Meta's.
func isMade(externalID string) bool {
	return strings.HasPrefix(externalID, "postback:") || strings.HasPrefix(externalID, "referral:")
}

func (r *referral) technical() map[string]string {
	if r == nil {
		return nil
	}
	return told(map[string]string{
		"referral_ref": r.Ref, "referral_source": r.Source, "referral_type": r.Type, "referral_uri": r.RefererURI,
		"referral_ad": string(r.AdID), "referral_ad_title": r.Ad.Title, "referral_product": string(r.Product.ID),
	})
}

// answered is the message that this one answers.
func (m *message) answered() string {
	if !isMID(m.ReplyTo.MID) {
		return ""
	}
	return m.ReplyTo.MID
}

func (m *message) content() *channel.Content {
	c := &channel.Content{Text: m.Text, Payload: m.QuickReply.Payload}
	if c.Payload == "" && m.Referral != nil {
		c.Payload = m.Referral.Ref
	}
	for i, a := range m.Attachments {
		if m.isCopy(a) {
			continue
		}
		if kind := a.kind(); kind != "" && a.Payload.URL != "" {
			c.Attachments = append(c.Attachments, channel.Attachment{
				Ref: strconv.Itoa(i), Kind: kind, Name: a.name(kind), URL: a.Payload.URL,
			})
			continue
		}
		for _, line := range a.lines() {
			if !strings.Contains(c.Text, line) {
				c.Text = strings.TrimPrefix(c.Text+"\n"+line, "\n")
			}
		}
	}
	return c
}

// isCopy: for a while Meta sends a sticker as one and, for those who do not know that, as an image too.
func (m *message) isCopy(a attachment) bool {
	if a.Type != "image" || a.Payload.StickerID == "" {
		return false
	}
	for _, b := range m.Attachments {
		if b.Type == "sticker" && b.Payload.StickerID == a.Payload.StickerID {
			return true
		}
	}
	return false
}

// kind of file that an attachment is; "" where it is none.
func (a attachment) kind() string {
	switch a.Type {
	case "image", "audio", "video", "file":
		return a.Type
	case "sticker":
		return "image"
	case "reel", "ig_reel":
		return "video"
	}
	return ""
}

// name of a file, as the last element of its address has it; of the rest that says nothing.
func (a attachment) name(kind string) string {
	if kind != "file" {
		return ""
	}
	u, err := url.Parse(a.Payload.URL)
	if err != nil || strings.HasSuffix(u.Path, "/") || u.Path == "" {
		return ""
	}
	return path.Base(u.Path)
}

// lines say in words what is no file: a place, a shared link, a template's texts.
func (a attachment) lines() []string {
	var lines []string
	say := func(parts ...string) {
		if line := strings.TrimSpace(strings.Join(parts, "")); line != "" {
			lines = append(lines, line)
		}
	}
	title := a.Title
	if title == "" {
		title = a.Payload.Title
	}
	if at := a.Payload.Coordinates; at.Lat != "" && at.Long != "" {
		say(title, " (", string(at.Lat), ", ", string(at.Long), ")")
		return lines
	}
	say(title)
	say(a.Payload.Text)
	for _, elements := range [][]element{a.Payload.Elements, a.Payload.Product.Elements} {
		for _, e := range elements {
			say(e.Title)
			say(e.Subtitle)
		}
	}
	if link := a.URL; link != "" {
		say(link)
	} else {
		say(a.Payload.URL)
	}
	return lines
}
