package registry

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
)

const keySize = 32

var errSealed = errors.New("registry: wrapped data does not open")

// secretKeys are what is derived from one secret of the key store.
type secretKeys struct {
	wrap   cipher.AEAD
	pepper []byte
}

func deriveKeys(secret []byte) (*secretKeys, error) {
	wrap, err := hkdf.Key(sha256.New, secret, nil, "tributary registry wrap v1", keySize)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(wrap)
	if err != nil {
		return nil, err
	}
	pepper, err := hkdf.Key(sha256.New, secret, nil, "tributary registry pepper v1", keySize)
	if err != nil {
		return nil, err
	}
	return &secretKeys{aead, pepper}, nil
}

// wrapKey wraps a data key, bound to workspace and subject.
func (k *secretKeys) wrapKey(workspace, subjectID string, key []byte) []byte {
	return k.wrap.Seal(nil, nil, key, bound("tributary data key v1", workspace, subjectID))
}

func (k *secretKeys) unwrapKey(workspace, subjectID string, wrapped []byte) ([]byte, error) {
	return open(k.wrap, wrapped, bound("tributary data key v1", workspace, subjectID))
}

// hash is the identity as it is looked up: HMAC-SHA256 of the normalised value.
func (k *secretKeys) hash(id identity) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.pepper)
	mac.Write(bound("tributary identity v1", id.workspace, id.kind, normalise(id.kind, id.value)))
	return [sha256.Size]byte(mac.Sum(nil))
}

// normalise is what the registry adds to the channels' normalising: mail addresses in lower case.
func normalise(kind, value string) string {
	if kind == "email" {
		return strings.ToLower(value)
	}
	return value
}

// sealIdentity seals an identity's value under the data key of its subject.
func sealIdentity(key []byte, subjectID string, id identity) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, []byte(id.value), bound("tributary identity value v1", id.workspace, subjectID, id.kind)), nil
}

func openIdentity(key []byte, subjectID, workspace, kind string, sealed []byte) (identity, error) {
	aead, err := newGCM(key)
	if err != nil {
		return identity{}, err
	}
	value, err := open(aead, sealed, bound("tributary identity value v1", workspace, subjectID, kind))
	return identity{workspace, kind, string(value)}, err
}

func newSecret() []byte {
	b := make([]byte, keySize)
	rand.Read(b)
	return b
}

// bound joins fields, each behind its length, as associated data.
func bound(fields ...string) []byte {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// newGCM seals with a random nonce, which comes first in what it gives.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func open(aead cipher.AEAD, sealed, data []byte) ([]byte, error) {
	plain, err := aead.Open(nil, nil, sealed, data)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}
