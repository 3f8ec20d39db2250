package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/localsecrets" // base64key://
)

// keyring is every key that can be had from a key store, with the root key that opens it, and from the wrapped
// keys that somebody has: those of the data, and those which wrap them.
type keyring struct {
	// secrets of the key store, by name.
	secrets map[string][]byte
	// data are the data keys, by subject.
	data map[string][]byte
	// all of these, and what can be derived from them.
	all [][]byte
}

// wrapKeySize is the length of every key that wraps and is wrapped.
const wrapKeySize = 32

// openKeyring makes one of a key store as it is now, and of loot that may be older.
func openKeyring(ctx context.Context, keystore, keeperURL string, loots ...*loot) (*keyring, error) {
	k := &keyring{secrets: map[string][]byte{}, data: map[string][]byte{}}
	keeper, err := secrets.OpenKeeper(ctx, keeperURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = keeper.Close() }()
	files, err := os.ReadDir(keystore)
	if err != nil {
		return nil, err
	}
	var wraps []cipher.AEAD
	for _, f := range files {
		sealed, err := os.ReadFile(filepath.Join(keystore, f.Name()))
		if err != nil {
			return nil, err
		}
		plain, err := keeper.Decrypt(ctx, sealed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		secret, ok := strings.CutPrefix(string(plain), f.Name()+"\x00")
		if !ok {
			return nil, fmt.Errorf("%s holds another secret", f.Name())
		}
		k.secrets[f.Name()] = []byte(secret)
		k.all = append(k.all, []byte(secret))
		for _, use := range []string{"tributary registry wrap v1", "tributary registry pepper v1"} {
			derived, err := hkdf.Key(sha256.New, []byte(secret), nil, use, wrapKeySize)
			if err != nil {
				return nil, err
			}
			k.all = append(k.all, derived)
			if strings.Contains(use, "wrap") {
				block, err := aes.NewCipher(derived)
				if err != nil {
					return nil, err
				}
				wrap, err := cipher.NewGCM(block)
				if err != nil {
					return nil, err
				}
				wraps = append(wraps, wrap)
			}
		}
	}
	for _, l := range loots {
		for _, w := range l.wrapped {
			k.unwrap(wraps, w)
		}
		k.carve(wraps, l)
	}
	for _, key := range k.data {
		k.all = append(k.all, key)
	}
	return k, nil
}

func (k *keyring) unwrap(wraps []cipher.AEAD, w wrappedKey) {
	if len(w.key) != nonceSize+wrapKeySize+tagSize {
		return
	}
	for _, wrap := range wraps {
		if key, err := wrap.Open(nil, w.key[:nonceSize], w.key[nonceSize:], boundTo(w.workspace, w.subject)); err == nil {
			k.data[w.subject] = key
		}
	}
}

// carve looks for the wrapped keys of those who are sought at every place of the registry's raw files.
func (k *keyring) carve(wraps []cipher.AEAD, l *loot) {
	for _, w := range l.sought {
		if k.data[w.subject] != nil {
			continue
		}
		data := boundTo(w.workspace, w.subject)
		for _, file := range l.carved {
			for at := 0; at+nonceSize+wrapKeySize+tagSize <= len(file); at++ {
				b := file[at : at+nonceSize+wrapKeySize+tagSize]
				for _, wrap := range wraps {
					if key, err := wrap.Open(nil, b[:nonceSize], b[nonceSize:], data); err == nil {
						k.data[w.subject] = key
					}
				}
			}
		}
	}
}

// boundTo is what a wrapped key is bound to.
func boundTo(workspace, subject string) (b []byte) {
	for _, field := range []string{"tributary data key v1", workspace, subject} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return b
}
