// Package seal seals and opens personal data. Adapters seal it under a data key that belongs to one
// subject; destroying the key in the registry makes the person unreadable everywhere.
package seal

import (
	"context"
	"errors"
	"strconv"
	"time"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// SCAFFOLD: signatures and docs stand; the owner of libs/seal replaces the bodies and splits the file.

// Errors of opening. They say nothing of the data.
var (
	// ErrGone: the key is frozen, destroyed, or not this workspace's. It will not come back.
	ErrGone = errors.New("seal: key is gone")
	// ErrRestricted: the key may not be used for this purpose.
	ErrRestricted = errors.New("seal: restricted")
	// ErrForged: the part does not belong to this record, or was altered.
	ErrForged = errors.New("seal: part does not open here")
	// ErrUnavailable: the registry could not be asked; nothing was opened.
	ErrUnavailable = errors.New("seal: registry unavailable")
	// ErrErased: an identity erased after it acted (Acquire with ActedAt).
	ErrErased = errors.New("seal: identity was erased")
)

// Identity is who acted, as a provider names them. Value is normalised by the channel and holds
// whatever it is unique in ("T012:U345", "+41791234567").
type Identity struct {
	Workspace string
	Kind      string
	Value     string
}

// Origin is what a part is bound to besides workspace, subject, key and category: the reader computes
// it from the record it reads.
type Origin string

// OriginContent binds a message's content to the message and the order of that content (µs).
func OriginContent(messageID string, order int64) Origin {
	return Origin("content/" + messageID + "/" + strconv.FormatInt(order, 10))
}

// OriginReaction binds a reaction's emoji to its reaction key and order.
func OriginReaction(reactionKey string, order int64) Origin {
	return Origin("reaction/" + reactionKey + "/" + strconv.FormatInt(order, 10))
}

// OriginCommand binds the words of one part and attempt of an outbound message.
func OriginCommand(messageID string, part, attempt int32) Origin {
	return Origin("command/" + messageID + "/" + strconv.Itoa(int(part)) + "/" + strconv.Itoa(int(attempt)))
}

// OriginProfile binds a profile to its subject.
func OriginProfile(subjectID string) Origin { return Origin("profile/" + subjectID) }

// OriginAttachment binds an attachment's wrapped key to the attachment.
func OriginAttachment(attachmentID string) Origin { return Origin("attachment/" + attachmentID) }

// OriginTechnical binds technical data to the event that brought it.
func OriginTechnical(eventID string) Origin { return Origin("technical/" + eventID) }

// Subject is an identity's subject with its plain data key. Never log or store Key.
type Subject struct {
	ID, KeyID, Workspace string
	State                pb.SubjectState
	Key                  []byte
}

// Act is an identity and when it acted; At zero where the provider signs no time (then the erased list
// is not consulted).
type Act struct {
	Identity Identity
	At       time.Time
}

// Config of a Client.
type Config struct {
	// Address of the registry (host:port) and the token of this service.
	Address string
	Token   string
	// TTL bounds how long a plain key stays in memory, counted from when the request was sent.
	TTL time.Duration
	// Timeout of one call.
	Timeout time.Duration
	// CacheSize bounds the number of keys and identities kept.
	CacheSize int
}

// Client talks to the key registry, and keeps what it answered for at most the TTL.
type Client struct{}

// NewClient makes a client on the registry's gRPC client; clock is set by every answer.
// (See Dial in this package for making the connection from Config.)
func NewClient(reg pb.KeyRegistryClient, cfg Config, onTime func(sent, registry time.Time)) *Client {
	panic("scaffold")
}

// Acquire finds or makes the subjects of the acts, in order. A result's State is ACTIVE (Key set),
// RESTRICTED (Key set: storing is allowed), or ERASED (no subject).
func (c *Client) Acquire(ctx context.Context, acts []Act) ([]Subject, error) { panic("scaffold") }

// Find finds subjects of identities, in order; State NONE where there is none. Makes none.
func (c *Client) Find(ctx context.Context, ids []Identity) ([]Subject, error) { panic("scaffold") }

// Keys gives the subjects' keys by key id for a purpose; the map misses what is gone, and errs by key id
// says why (ErrGone, ErrRestricted). workspace "" is for adapters, who serve all.
func (c *Client) Keys(ctx context.Context, workspace string, purpose pb.Purpose, keyIDs []string) (keys map[string]Subject, errs map[string]error, err error) {
	panic("scaffold")
}

// Sealed names a part together with where it was found.
type Sealed struct {
	Workspace string
	Part      *pb.SealedPart
	Origin    Origin
}

// Opened is the plaintext, or why there is none.
type Opened struct {
	Plain []byte
	Err   error
}

// Open opens many parts with one registry call at most; results in order. err is ErrUnavailable (and
// nothing is opened).
func (c *Client) Open(ctx context.Context, purpose pb.Purpose, parts []Sealed) ([]Opened, error) {
	panic("scaffold")
}

// Evict forgets the subjects' keys and identities at once.
func (c *Client) Evict(subjectIDs ...string) { panic("scaffold") }

// OpenSpool asks the registry for the keys of spool entries.
func (c *Client) OpenSpool(ctx context.Context, items []*pb.OpenSpoolRequest_Item) ([]*pb.OpenSpoolResponse_Item, error) {
	panic("scaffold")
}

// Seal seals plain for a subject.
func Seal(s Subject, category pb.Category, origin Origin, plain []byte) (*pb.SealedPart, error) {
	panic("scaffold")
}

// OpenWith opens a part with a key already at hand. ErrForged if it does not belong there.
func OpenWith(key Subject, part *pb.SealedPart, origin Origin) ([]byte, error) { panic("scaffold") }

// ReactionKey names a reaction without revealing it: HMAC-SHA256 under the author's data key.
func ReactionKey(author Subject, messageID, emoji string) string { panic("scaffold") }

// SealObject wraps r so that reading yields the sealed stream (chunked AES-256-GCM, STREAM
// construction) under a fresh key, which it returns for wrapping with Seal (category content,
// OriginAttachment). OpenObject reverses it; truncation and reordering fail.
// (signatures: func NewObjectKey() []byte; SealWriter(key, w) io.WriteCloser; OpenReader(key, r) io.Reader)

// SealSpool seals a spool entry to a spool key's public half: HPKE (crypto/hpke) over a fresh entry key.
// enc and sealedKey go into the entry's header, ciphertext is the body; OpenSpoolEntry opens the body with
// the entry key that OpenSpool gave.
func SealSpool(key *pb.SpoolKey, plain []byte) (enc, sealedKey, ciphertext []byte, err error) {
	panic("scaffold")
}

// OpenSpoolEntry opens a body sealed by SealSpool.
func OpenSpoolEntry(entryKey, ciphertext []byte) ([]byte, error) { panic("scaffold") }
