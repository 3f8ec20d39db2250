package main

import "slices"

// expected is what the API must show of a conversation.
type expected struct {
	// messages by their place; shown ones may and must ones must be there.
	messages [perConversation]expectedMessage
}

type expectedMessage struct {
	// may be shown, since it was sent; must be, since it was answered 2xx.
	may, must bool
	// text is the place of the newest edit answered 2xx, or the message's own; newer are those of later edits
	// that were sent, which it may have as well.
	text    int
	newer   []int
	deleted expectedState
	who     int
	// reactions that were told of.
	reactions []expectedReaction
}

// expectedReaction is a person's emoji: it stands or does not, or, its newest act not being answered 2xx,
// may.
type expectedReaction struct {
	who   int
	emoji string
	state expectedState
}

type expectedState uint8

const (
	not expectedState = iota
	maybe
	surely
)

// expect derives it from what was sent and what was answered 2xx of the conversation.
func (t *traffic) expect(conversation int, l *ledger, acts []act, x *expected) []act {
	acts = t.script(conversation, acts)
	for at := range x.messages {
		x.messages[at] = expectedMessage{text: at, newer: x.messages[at].newer[:0], reactions: x.messages[at].reactions[:0]}
	}
	for _, a := range acts {
		sentAt, acceptedAt := l.when(conversation*perConversation + a.at)
		if sentAt == 0 {
			continue
		}
		m, accepted := &x.messages[a.target], acceptedAt > 0
		switch a.kind {
		case message, mention:
			m.may, m.must, m.who = true, m.must || accepted, a.who
		case edit: // in the order of their times
			if m.newer = append(m.newer, a.at); accepted {
				m.text, m.newer = a.at, m.newer[:0]
			}
		case deletion:
			m.deleted = maybe
			if accepted {
				m.deleted = surely
			}
		case reaction, withdrawn:
			m.react(a, accepted)
		}
	}
	return acts
}

func (m *expectedMessage) react(a act, accepted bool) {
	i := slices.IndexFunc(m.reactions, func(r expectedReaction) bool { return r.who == a.who && r.emoji == a.emoji })
	if i < 0 {
		i = len(m.reactions)
		m.reactions = append(m.reactions, expectedReaction{who: a.who, emoji: a.emoji})
	}
	state := not
	if a.kind == reaction {
		state = surely
	}
	if r := &m.reactions[i]; accepted {
		r.state = state
	} else if r.state != state {
		r.state = maybe
	}
}
