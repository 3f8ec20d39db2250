package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// NewKey makes a key: its id, the full text to hand out once, and the hash to keep.
func NewKey() (id, text string, hash []byte) {
	var idBytes [10]byte
	var secret [32]byte
	// crypto/rand.Read never fails: it ends the program instead.
	_, _ = rand.Read(idBytes[:])
	_, _ = rand.Read(secret[:])
	id = strings.ToLower(base32.StdEncoding.EncodeToString(idBytes[:]))
	half := hex.EncodeToString(secret[:])
	return id, prefix + id + "_" + half, Hash(half)
}

// Hash is what is kept of a key's secret half.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Parse splits a key's text; ok is false where it has not the form of one.
func Parse(text string) (id, secret string, ok bool) {
	rest, found := strings.CutPrefix(text, prefix)
	if !found {
		return "", "", false
	}
	id, secret, found = strings.Cut(rest, "_")
	if !found || len(id) != 16 || len(secret) != 64 {
		return "", "", false
	}
	return id, secret, true
}

const prefix = "trb_"
