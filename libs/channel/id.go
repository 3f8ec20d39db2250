package channel

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// Namespace of the mesh's UUIDv5s.
var namespace = uuid.MustParse("6f1d1c1e-5a36-5b0e-9c1f-7d1f6c0a7b11")

// EventID is the id of an event: a UUIDv8 of the provider's time (zero where it does not repeat it) and
// a hash of the connection, the event's type and the provider's own id for it.
func EventID(connectionID string, t Type, key string, at time.Time) string {
	return uuid8(at, "event", connectionID, string(t), key)
}

// MessageID is the id of the message that a provider knows by externalID on a connection. at is the
// message's own time where the provider's id of it implies one (Slack ts), else zero; every event that
// names the message must derive the same.
func MessageID(connectionID, externalID string, at time.Time) string {
	return uuid8(at, "message", connectionID, externalID)
}

// AttachmentID is the id of an item of a message.
func AttachmentID(messageID, ref string) string {
	return uuid8(time.Time{}, "attachment", messageID, ref)
}

// DirectKey is the conversation key of a one-to-one conversation.
func DirectKey(subjectID, connectionID string) string {
	return uuid5("direct", subjectID, connectionID)
}

// ThreadKey is the conversation key of one of several one-to-one conversations with a contact.
func ThreadKey(subjectID, connectionID, root string) string {
	return uuid5("thread", subjectID, connectionID, root)
}

// GroupKey is the conversation key of a group conversation at a connection.
func GroupKey(connectionID, threadKey string) string {
	return uuid5("group", connectionID, threadKey)
}

// CommandID is the id of the command for a part and attempt.
func CommandID(messageID string, part, attempt int32) string {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:4], uint32(part))
	binary.BigEndian.PutUint32(b[4:], uint32(attempt))
	return uuid5("command", messageID, string(b[:]))
}

// ContactID is the id of the contact whose smallest subject id this is.
func ContactID(subjectID string) string { return uuid5("contact", subjectID) }

// Grantor is how a person who granted accounts to an app is known: connect keeps it with the connections, and an adapter
// names them by it in an event of that person. It is an HMAC under the app's verify token, the one secret that both
// have to read by: of an id nobody could be told from it, and from other apps' it differs.
func Grantor(verifyToken, id string) string {
	mac := hmac.New(sha256.New, []byte(verifyToken))
	mac.Write(joined(nil, "grantor", id))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// roomForIDs is enough for what most ids are made of, so that making one allocates nothing but the id.
const roomForIDs = 256

// uuid5 is a UUIDv5 (RFC 9562, 5.5).
func uuid5(fields ...string) string {
	var room [roomForIDs]byte
	sum := sha1.Sum(joined(append(room[:0], namespace[:]...), fields...))
	return stamped(uuid.UUID(sum[:16]), 5)
}

func uuid8(at time.Time, fields ...string) string {
	var room [roomForIDs]byte
	sum := sha256.Sum256(joined(room[:0], fields...))
	var u uuid.UUID
	if !at.IsZero() {
		ms := uint64(at.UnixMilli())
		u[0], u[1], u[2], u[3], u[4], u[5] = byte(ms>>40), byte(ms>>32), byte(ms>>24), byte(ms>>16), byte(ms>>8), byte(ms)
	}
	copy(u[6:], sum[:10])
	return stamped(u, 8)
}

// stamped gives a UUID its version, and the variant of RFC 9562.
func stamped(u uuid.UUID, version byte) string {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// joined appends many strings to b so that the bytes are unambiguous: each with its length in front.
func joined(b []byte, fields ...string) []byte {
	for _, f := range fields {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}
