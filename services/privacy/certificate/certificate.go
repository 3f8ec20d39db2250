// Package certificate is the proof that a person was erased: a JSON document, signed with Ed25519, that
// anyone checks offline with the public key. It holds ids, counts and dates, and nothing personal.
package certificate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version of the document, and of the rules it was made by.
const (
	Version     = 1
	RuleVersion = "erasure/2026-11"
	algorithm   = "Ed25519"
)

// Certificate says what was erased, what is left, and until when.
type Certificate struct {
	Version     int       `json:"version"`
	RuleVersion string    `json:"rule_version"`
	RequestID   string    `json:"request_id"`
	WorkspaceID string    `json:"workspace_id"`
	ContactID   string    `json:"contact_id"`
	SubjectIDs  []string  `json:"subject_ids"`
	ReceivedAt  time.Time `json:"received_at"`
	// FrozenAt: from then on the registry gave no key of the person out.
	FrozenAt time.Time `json:"frozen_at"`
	// CachesEmptyAt: from then on no process held one.
	CachesEmptyAt time.Time `json:"caches_empty_at"`
	DestroyedAt   time.Time `json:"destroyed_at"`
	IssuedAt      time.Time `json:"issued_at"`
	// Holders are all services that store personal data, with their own counts.
	Holders []Holder `json:"holders"`
	// Exceptions are what was kept on purpose.
	Exceptions []Exception `json:"exceptions"`
	// Survives lists what is left that names the person by id or hash alone, or that no key opens.
	Survives []Survivor `json:"survives"`
	// BackupsUnreadableFrom is the next turn of the epoch that was due when this was issued: from then on
	// no backup of any database opens anything of the person.
	BackupsUnreadableFrom time.Time `json:"backups_unreadable_from"`
	// OutOfReach is what this certificate does not speak of.
	OutOfReach []string `json:"out_of_reach"`
}

// Holder is one holder's answer, by kind of record.
//
//bound:exempt one answer
type Holder struct {
	Name       string           `json:"name"`
	AnsweredAt time.Time        `json:"answered_at"`
	Found      map[string]int64 `json:"found"`
	Deleted    map[string]int64 `json:"deleted"`
}

// Exception is something kept, how much of it and why.
type Exception struct {
	Holder string `json:"holder"`
	What   string `json:"what"`
	Count  int64  `json:"count"`
	Reason string `json:"reason"`
}

// Survivor is something left. Until is nil for what stays for ever.
type Survivor struct {
	What  string     `json:"what"`
	Where string     `json:"where"`
	Until *time.Time `json:"until"`
}

type signed struct {
	Certificate Certificate `json:"certificate"`
	Algorithm   string      `json:"algorithm"`
	KeyID       string      `json:"key_id"`
	Signature   []byte      `json:"signature"`
}

// Errors of Verify.
var (
	ErrFormat    = errors.New("not a certificate as it was issued")
	ErrKey       = errors.New("signed with another key")
	ErrSignature = errors.New("the signature does not match")
	ErrContent   = errors.New("the certificate contradicts itself")
)

// Sign makes the file of a certificate.
func Sign(c Certificate, key ed25519.PrivateKey) ([]byte, error) {
	message, err := message(c)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, ErrKey
	}
	return encode(signed{Certificate: c, Algorithm: algorithm, KeyID: KeyID(public), Signature: ed25519.Sign(key, message)})
}

// Verify checks a file against the public key. It accepts exactly what Sign wrote, byte for byte.
func Verify(file []byte, key ed25519.PublicKey) (Certificate, error) {
	var s signed
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Certificate{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Certificate{}, fmt.Errorf("%w: something follows it", ErrFormat)
	}
	again, err := encode(s)
	if err != nil {
		return Certificate{}, err
	}
	if !bytes.Equal(again, file) || s.Algorithm != algorithm || s.Certificate.Version != Version {
		return Certificate{}, ErrFormat
	}
	if s.KeyID != KeyID(key) {
		return Certificate{}, ErrKey
	}
	message, err := message(s.Certificate)
	if err != nil {
		return Certificate{}, err
	}
	if !ed25519.Verify(key, message, s.Signature) {
		return Certificate{}, ErrSignature
	}
	return s.Certificate, s.Certificate.check()
}

// check holds what a certificate claims against itself.
func (c Certificate) check() error {
	switch {
	case len(c.SubjectIDs) == 0 || len(c.Holders) == 0:
		return fmt.Errorf("%w: nobody, or no holder", ErrContent)
	case c.CachesEmptyAt.Before(c.FrozenAt) || c.DestroyedAt.Before(c.CachesEmptyAt):
		return fmt.Errorf("%w: its steps are out of order", ErrContent)
	}
	for _, h := range c.Holders {
		for what, n := range h.Found {
			if h.Deleted[what] != n {
				return fmt.Errorf("%w: %s found %d %s and deleted %d", ErrContent, h.Name, n, what, h.Deleted[what])
			}
		}
	}
	return nil
}

func message(c Certificate) ([]byte, error) {
	b, err := json.Marshal(c)
	return append([]byte("tributary erasure certificate v1\n"), b...), err
}

func encode(s signed) ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// KeyID is the fingerprint by which a certificate names its key.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// EncodeKey gives a public key as PEM (SubjectPublicKeyInfo).
func EncodeKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// DecodeKey reads what EncodeKey wrote.
func DecodeKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("not a PEM public key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("not an Ed25519 key")
	}
	return public, nil
}
