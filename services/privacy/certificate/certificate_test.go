package certificate

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"
	"time"
)

func sample() Certificate {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	until := at.AddDate(0, 0, 14)
	return Certificate{
		Version: Version, RuleVersion: RuleVersion, RequestID: "r", WorkspaceID: "w", ContactID: "c", SubjectIDs: []string{"s"},
		ReceivedAt: at, FrozenAt: at, CachesEmptyAt: at.Add(time.Minute), DestroyedAt: at.Add(2 * time.Minute), IssuedAt: at.Add(3 * time.Minute),
		Holders:    []Holder{{Name: "conversation", AnsweredAt: at, Found: map[string]int64{"messages": 3}, Deleted: map[string]int64{"messages": 3}}},
		Exceptions: []Exception{}, Survives: []Survivor{{What: "sealed copies", Where: "topics", Until: &until}},
		BackupsUnreadableFrom: at.AddDate(0, 0, 7), OutOfReach: []string{},
	}
}

func TestVerifyAcceptsWhatSignWroteAndNoFlippedBit(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file, err := Sign(sample(), private)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(file, public); err != nil {
		t.Fatalf("as signed: %v", err)
	}
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			if _, err := Verify(file, public); err == nil {
				t.Fatalf("bit %d of byte %d flipped and accepted", bit, i)
			}
			file[i] ^= 1 << bit
		}
	}
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	if _, err := Verify(file, other); !errors.Is(err, ErrKey) {
		t.Fatalf("another key: %v", err)
	}
	if _, err := Verify(append(file, '\n'), public); !errors.Is(err, ErrFormat) {
		t.Fatalf("with a tail: %v", err)
	}
}

func TestVerifyRefusesASignedContradiction(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	for name, change := range map[string]func(*Certificate){
		"found and not deleted": func(c *Certificate) { c.Holders[0].Deleted = map[string]int64{} },
		"no holder":             func(c *Certificate) { c.Holders = nil },
		"destroyed too early":   func(c *Certificate) { c.DestroyedAt = c.FrozenAt.Add(-time.Second) },
	} {
		c := sample()
		change(&c)
		file, err := Sign(c, private)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(file, public); !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysSurviveTheirEncoding(t *testing.T) {
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	text, err := EncodeKey(public)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeKey(text)
	if err != nil || !again.Equal(public) {
		t.Fatalf("%v %v", again, err)
	}
	if _, err := DecodeKey([]byte("nonsense")); err == nil {
		t.Fatal("nonsense decoded")
	}
}
