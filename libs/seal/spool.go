package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"fmt"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// SealSpool seals a spool entry to a spool key's public half: HPKE (RFC 9180; DHKEM X25519, HKDF-SHA256,
// AES-256-GCM) over a fresh entry key. enc and sealedKey go into the entry's header, ciphertext is the
// body; OpenSpoolEntry opens the body with the entry key that OpenSpool gave.
func SealSpool(key *pb.SpoolKey, plain []byte) (enc, sealedKey, ciphertext []byte, err error) {
	public, err := spoolKEM().NewPublicKey(key.GetPublicKey())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("seal: spool key %s: %w", key.GetId(), err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), spoolInfo(key.GetId()))
	if err != nil {
		return nil, nil, nil, err
	}
	entryKey := make([]byte, KeySize)
	rand.Read(entryKey)
	if sealedKey, err = sender.Seal(nil, entryKey); err != nil {
		return nil, nil, nil, err
	}
	ciphertext, err = sealRandom(entryKey, plain, spoolBody)
	return enc, sealedKey, ciphertext, err
}

// OpenSpoolEntry opens a body sealed by SealSpool; ErrForged if it was altered.
func OpenSpoolEntry(entryKey, ciphertext []byte) ([]byte, error) {
	plain, err := openRandom(entryKey, ciphertext, spoolBody)
	if err != nil { // a key of another length is another entry's too
		return nil, ErrForged
	}
	return plain, nil
}

// NewSpoolKey makes a spool key: for the registry, who keeps the private half.
func NewSpoolKey() (private, public []byte, err error) {
	key, err := spoolKEM().GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	if private, err = key.Bytes(); err != nil {
		return nil, nil, err
	}
	return private, key.PublicKey().Bytes(), nil
}

// OpenSpoolKey opens the entry key of SealSpool with the private half of key keyID: for the registry.
// ErrForged if it was not sealed to it.
func OpenSpoolKey(private []byte, keyID string, enc, sealedKey []byte) ([]byte, error) {
	key, err := spoolKEM().NewPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("seal: private half of spool key %s: %w", keyID, err)
	}
	recipient, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), spoolInfo(keyID))
	if err != nil {
		return nil, ErrForged
	}
	entryKey, err := recipient.Open(nil, sealedKey)
	if err != nil {
		return nil, ErrForged
	}
	return entryKey, nil
}

var spoolBody = []byte("tributary spool body v1")

func spoolKEM() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

func spoolInfo(keyID string) []byte { return lengthPrefixed(nil, "tributary spool v1", keyID) }
