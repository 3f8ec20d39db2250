package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// KeySize is the length of every key here: AES-256.
const KeySize = 32

// Subject is an identity's subject with its plain data key. Never log, store or change Key.
type Subject struct {
	ID, KeyID, Workspace string
	State                pb.SubjectState
	Key                  []byte

	shared *sharedCipher // of what the registry answered; nil: made for each use
}

// sharedCipher is the cipher of a cached key, made once: making one costs as much as sealing a part. It goes with the key.
type sharedCipher struct {
	once sync.Once
	aead cipher.AEAD
	err  error
}

func (s Subject) cipher() (cipher.AEAD, error) {
	if s.shared == nil {
		return newAEAD(s.Key, cipher.NewGCMWithRandomNonce)
	}
	s.shared.once.Do(func() { s.shared.aead, s.shared.err = newAEAD(s.Key, cipher.NewGCMWithRandomNonce) })
	return s.shared.aead, s.shared.err
}

// Seal seals plain for a subject: AES-256-GCM under its data key, random nonce, bound to workspace,
// subject, key, category and origin.
func Seal(s Subject, category pb.Category, origin Origin, plain []byte) (*pb.SealedPart, error) {
	sealer, err := NewSealer(s)
	if err != nil {
		return nil, err
	}
	return sealer.Seal(category, origin, plain)
}

// Sealer seals parts for one subject. It is for one goroutine.
type Sealer struct {
	Subject
	aead cipher.AEAD
	data []byte // of one part at a time
}

// NewSealer makes one; it is to be kept no longer than the subject's key may be.
func NewSealer(s Subject) (*Sealer, error) {
	aead, err := s.cipher()
	return &Sealer{Subject: s, aead: aead, data: make([]byte, 0, 256)}, err
}

// Seal is Seal for the subject.
func (s *Sealer) Seal(category pb.Category, origin Origin, plain []byte) (*pb.SealedPart, error) {
	if s.ID == "" || s.KeyID == "" || s.Workspace == "" || origin == "" || category == pb.Category_CATEGORY_UNSPECIFIED {
		return nil, fmt.Errorf("seal: subject, key, workspace, category and origin are needed")
	}
	part := &pb.SealedPart{SubjectId: s.ID, KeyId: s.KeyID, Category: category}
	s.data = partData(s.data[:0], s.Subject, part, origin)
	part.Ciphertext = s.aead.Seal(nil, nil, plain, s.data)
	return part, nil
}

// OpenWith opens a part with a key already at hand. ErrForged if it does not belong there.
func OpenWith(key Subject, part *pb.SealedPart, origin Origin) ([]byte, error) {
	if part.GetSubjectId() != key.ID || part.GetKeyId() != key.KeyID {
		return nil, ErrForged
	}
	aead, err := key.cipher()
	if err != nil {
		return nil, err
	}
	return opened(aead, part.GetCiphertext(), partData(nil, key, part, origin))
}

// ReactionKey names a reaction without revealing it: HMAC-SHA256 of message and emoji under a key derived
// from the author's data key. With that key gone nobody can try emojis against it.
func ReactionKey(author Subject, messageID, emoji string) string {
	key, err := hkdf.Key(sha256.New, author.Key, nil, "tributary reaction v1", KeySize)
	if err != nil {
		panic(err) // only for a length beyond HKDF's, which is a constant here
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(lengthPrefixed(nil, messageID, emoji))
	return hex.EncodeToString(mac.Sum(nil))
}

func partData(b []byte, s Subject, part *pb.SealedPart, origin Origin) []byte {
	return lengthPrefixed(b, "tributary part v1", s.Workspace, s.ID, s.KeyID, pb.Category_name[int32(part.GetCategory())], string(origin))
}

// lengthPrefixed appends fields to b so that no two lists of fields give the same bytes.
func lengthPrefixed(b []byte, fields ...string) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// sealRandom seals with a random nonce, which comes first in what it gives.
func sealRandom(key, plain, data []byte) ([]byte, error) {
	aead, err := newAEAD(key, cipher.NewGCMWithRandomNonce)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, data), nil
}

func openRandom(key, sealed, data []byte) ([]byte, error) {
	aead, err := newAEAD(key, cipher.NewGCMWithRandomNonce)
	if err != nil {
		return nil, err
	}
	return opened(aead, sealed, data)
}

func opened(aead cipher.AEAD, sealed, data []byte) ([]byte, error) {
	plain, err := aead.Open(nil, nil, sealed, data)
	if err != nil {
		return nil, ErrForged
	}
	return plain, nil
}

func newAEAD(key []byte, mode func(cipher.Block) (cipher.AEAD, error)) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("seal: key of %d bytes, not %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return mode(block)
}
