package email

import (
	"maps"
	"strings"

	"tributary.dev/libs/channel"
)

// Normalise reads a raw mail, or one record of Postmark's.
func (a *Adapter) Normalise(r *channel.Request) (channel.Result, error) {
	k := a.keyed(r.Ref)
	if !isRaw(r) {
		return postmarkRecord(r, k)
	}
	l, err := readMail(r.Body)
	if err != nil {
		return channel.Result{}, err
	}
	mailbox := r.Account
	if mailbox == "" {
		mailbox = l.mailbox()
	}
	result := l.result(k, mailbox, r.Settings)
	if at, ok := number64(r.Header.Get(TimestampHeader)); ok {
		result.SignedAt = at
	}
	return result, nil
}

// mailbox that a raw mail was delivered to, as the host says that posts it.
func (l *letter) mailbox() string {
	for _, field := range []string{"Delivered-To", "X-Original-To", "Envelope-To"} {
		if to := addressesOf(addresses(l.header.Get(field))); len(to) > 0 {
			return untagged(to[0])
		}
	}
	return ""
}

// result of one letter to a mailbox, whose address may not be known.
func (l *letter) result(k keyed, mailbox string, settings map[string]string) channel.Result {
	var result channel.Result
	key := k.id("event", l.messageID, l.from, l.date, l.digest())
	if events, ok := l.reported(k, key); ok {
		result.Events = events
		if len(events) == 0 {
			result.Unknown = append(result.Unknown, "dsn."+l.report.action)
		}
		return result
	}
	if l.from == "" {
		result.Faults = append(result.Faults, "message.from")
		return result
	}
	if mail, ok := k.own(l.messageID); ok && mail.conversation != "" && mailbox != "" && untagged(l.from) == mailbox {
		result.Events = append(result.Events, l.echo(k, key, mail))
		return result
	}
	event := channel.Event{
		Type: channel.TypeMessage, SourceType: "mail", Key: key, ExternalID: key, ReplyTo: l.replyTo(k), Automated: l.automatic(mailbox),
		Thread: l.thread(k, key), Author: identity(l.from), Content: l.content(), Technical: l.facts(settings),
	}
	if event.Thread.ConversationKey == "" {
		event.Contact = event.Author // who answers to a token may write from another address than the conversation's
	}
	if l.fromName != "" {
		event.Profile = &channel.Profile{Name: l.fromName}
	}
	result.Events = append(result.Events, event)
	return result
}

// echo of a mail of ours that came back, as from a list or a copy to ourselves: it was sent.
func (l *letter) echo(k keyed, key string, mail ours) channel.Event {
	return channel.Event{
		Type: channel.TypeReceipt, SourceType: "echo", Key: key, Target: k.mail(l.messageID), Thread: channel.Thread{ConversationKey: mail.conversation},
		Receipt: &channel.Receipt{MessageID: mail.messageID, Part: mail.part, Attempt: mail.attempt, Status: channel.StatusSent, ExternalID: k.mail(l.messageID)},
	}
}

// facts about a mail that are no content of it.
func (l *letter) facts(settings map[string]string) map[string]string {
	facts := maps.Clone(l.technical)
	if facts == nil {
		facts = map[string]string{}
	}
	maps.Copy(facts, authentication(l.header, settings["trusted_host"]))
	for field, name := range map[string]string{"User-Agent": "user_agent", "X-Mailer": "user_agent", "Date": "date", "Reply-To": "reply_to", "X-Spam-Status": "spam"} {
		if value := cut(words(l.header.Get(field)), maxName); strings.TrimSpace(value) != "" {
			facts[name] = value
		}
	}
	return facts
}
