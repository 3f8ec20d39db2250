package email

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// keyed makes the ids and tokens of one connection. A plain hash of a Message-ID or an address would be personal
// data: it can be found by trying. These can't be without the secret.
type keyed struct{ secret []byte }

// keyed of a connection, under a secret of its own.
func (a *Adapter) keyed(connectionID string) keyed {
	return keyed{keyed{a.deps.Secret}.sum("connection", connectionID)}
}

// sum of fields, each with its length in front.
func (k keyed) sum(fields ...string) []byte {
	mac := hmac.New(sha256.New, k.secret)
	for _, f := range fields {
		mac.Write(binary.AppendUvarint(nil, uint64(len(f))))
		mac.Write([]byte(f))
	}
	return mac.Sum(nil)
}

func (k keyed) id(fields ...string) string { return hex.EncodeToString(k.sum(fields...)[:16]) }

// mail is the external id of an outbound mail, and what replies and bounces call it, by its Message-ID.
func (k keyed) mail(messageID string) string { return k.id("mail", messageID) }

// A token is a conversation key and eight bytes that prove it, in letters that survive being lower-cased, as local
// parts may be: 39 characters. Guessing one takes 2^63 mails.
const (
	proofBytes  = 8
	tokenLength = 39
)

var tokens = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// token of a conversation; empty where the key is none.
func (k keyed) token(conversationKey string) string {
	key, err := uuid.Parse(conversationKey)
	if err != nil {
		return ""
	}
	return tokens.EncodeToString(append(key[:], k.proof(key)...))
}

func (k keyed) proof(key uuid.UUID) []byte { return k.sum("token", key.String())[:proofBytes] }

// conversation that a token is of; not ok where it was not made here.
func (k keyed) conversation(token string) (conversationKey string, ok bool) {
	if len(token) != tokenLength {
		return "", false
	}
	raw, err := tokens.DecodeString(strings.ToLower(token))
	if err != nil || len(raw) != len(uuid.UUID{})+proofBytes {
		return "", false
	}
	key := uuid.UUID(raw[:len(uuid.UUID{})])
	if !hmac.Equal(raw[len(key):], k.proof(key)) {
		return "", false
	}
	return key.String(), true
}

// maxLocal is the longest local part (RFC 5321, 4.5.3.1.1).
const maxLocal = 64

// replyAddress of a conversation at a mailbox: the mailbox with the token as its tag. The mailbox itself where its
// name leaves no room for one: the Message-ID carries the token too.
func (k keyed) replyAddress(mailbox, conversationKey string) string {
	local, domain, _ := cutAddress(mailbox)
	token := k.token(conversationKey)
	if token == "" || len(local)+1+len(token) > maxLocal {
		return mailbox
	}
	return local + "+" + token + "@" + domain
}

// ours is a Message-ID of ours: which attempt of which part of which message, and the conversation's token.
type ours struct {
	messageID     string
	part, attempt int32
	conversation  string // empty where the token was not made here
}

// messageID of an outbound mail, without brackets. It is ours so that it is the same however often the call is made, and
// names what it is of to those who come back to it.
func (k keyed) messageID(messageID string, part, attempt int32, conversationKey, mailbox string) string {
	_, domain, _ := cutAddress(mailbox)
	id := messageID + "." + decimal(part) + "." + decimal(attempt)
	if token := k.token(conversationKey); token != "" {
		id += "." + token
	}
	return id + "@" + domain
}

// own reads a Message-ID of ours.
func (k keyed) own(id string) (o ours, ok bool) {
	local, _, ok := cutAddress(id)
	fields := strings.Split(local, ".")
	if !ok || len(fields) < 3 || len(fields) > 4 {
		return o, false
	}
	message, err := uuid.Parse(fields[0])
	if err != nil || len(fields[0]) != 36 {
		return o, false
	}
	o.messageID = message.String()
	if o.part, ok = number(fields[1]); !ok {
		return o, false
	}
	if o.attempt, ok = number(fields[2]); !ok {
		return o, false
	}
	if len(fields) == 4 {
		o.conversation, _ = k.conversation(fields[3])
	}
	return o, true
}

// cutAddress at its last @; not ok where one half is empty.
func cutAddress(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", "", false
	}
	return address[:at], address[at+1:], true
}
