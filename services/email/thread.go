package email

import "tributary.dev/libs/channel"

// thread that a letter belongs to, by the letter alone: the conversation of a token in an address that it was sent to,
// else of one in a Message-ID of ours that it answers (In-Reply-To before References, the newest of these first), else
// the first mail of its thread. key stands in for a Message-ID that is missing.
func (l *letter) thread(k keyed, key string) channel.Thread {
	for _, to := range l.to {
		if conversation, ok := k.tagged(to); ok {
			return channel.Thread{ConversationKey: conversation}
		}
	}
	for _, id := range l.answered() {
		if own, ok := k.own(id); ok && own.conversation != "" {
			return channel.Thread{ConversationKey: own.conversation}
		}
	}
	first := key
	switch {
	case len(l.references) > 0:
		first = l.references[0]
	case len(l.inReplyTo) > 0:
		first = l.inReplyTo[0]
	case l.messageID != "":
		first = l.messageID
	}
	return channel.Thread{Root: k.id("root", first)}
}

// answered are the ids of what a letter answers, the nearest first.
func (l *letter) answered() []string {
	ids := append([]string(nil), l.inReplyTo...)
	for i := len(l.references) - 1; i >= 0; i-- {
		ids = append(ids, l.references[i])
	}
	return ids
}

// replyTo is the mail of ours that a letter answers, as its external id; empty where it answers none.
func (l *letter) replyTo(k keyed) string {
	for _, id := range l.answered() {
		if _, ok := k.own(id); ok {
			return k.mail(id)
		}
	}
	return ""
}

// tagged gives the conversation of an address whose tag is a token of ours.
func (k keyed) tagged(address string) (conversationKey string, ok bool) {
	local, _, _ := cutAddress(address)
	base := untagged(local + "@x")
	if base == local+"@x" {
		return "", false
	}
	return k.conversation(local[len(base)-len("@x")+1:])
}
