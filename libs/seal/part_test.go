package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func newSubject(id string) seal.Subject {
	key := make([]byte, seal.KeySize)
	rand.Read(key)
	return seal.Subject{ID: id, KeyID: "key-" + id, Workspace: "w1", State: pb.SubjectState_SUBJECT_STATE_ACTIVE, Key: key}
}

func TestAPartOpensOnlyWhereItWasSealed(t *testing.T) {
	s := newSubject("s1")
	plain := []byte("the quick brown fox")
	origin := seal.OriginContent("m1", 42)
	part, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, origin, plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(part.GetCiphertext(), plain) {
		t.Fatal("the ciphertext contains the plaintext")
	}
	got, err := seal.OpenWith(s, part, origin)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%q, %v", got, err)
	}
	again, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, origin, plain)
	if err != nil || bytes.Equal(part.GetCiphertext(), again.GetCiphertext()) {
		t.Fatalf("sealed twice alike, %v", err)
	}

	change := func(f func(*pb.SealedPart)) *pb.SealedPart { p := proto.CloneOf(part); f(p); return p }
	with := func(f func(*seal.Subject)) seal.Subject { c := s; f(&c); return c }
	for name, c := range map[string]struct {
		key    seal.Subject
		part   *pb.SealedPart
		origin seal.Origin
	}{
		"another order":     {s, part, seal.OriginContent("m1", 43)},
		"another message":   {s, part, seal.OriginContent("m2", 42)},
		"another kind":      {s, part, seal.OriginProfile("s1")},
		"another workspace": {with(func(s *seal.Subject) { s.Workspace = "w2" }), part, origin},
		"another subject":   {with(func(s *seal.Subject) { s.ID = "s2" }), change(func(p *pb.SealedPart) { p.SubjectId = "s2" }), origin},
		"another key id":    {with(func(s *seal.Subject) { s.KeyID = "k2" }), change(func(p *pb.SealedPart) { p.KeyId = "k2" }), origin},
		"another's key":     {with(func(s *seal.Subject) { s.Key = newSubject("").Key }), part, origin},
		"another category":  {s, change(func(p *pb.SealedPart) { p.Category = pb.Category_CATEGORY_PROFILE }), origin},
		"key of another":    {newSubject("s2"), part, origin},
		"cut off":           {s, change(func(p *pb.SealedPart) { p.Ciphertext = p.GetCiphertext()[:20] }), origin},
		"empty":             {s, &pb.SealedPart{SubjectId: s.ID, KeyId: s.KeyID}, origin},
		"no part":           {s, nil, origin},
	} {
		if got, err := seal.OpenWith(c.key, c.part, c.origin); !errors.Is(err, seal.ErrForged) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for i := range part.GetCiphertext() {
		if _, err := seal.OpenWith(s, change(func(p *pb.SealedPart) { p.Ciphertext[i] ^= 1 }), origin); !errors.Is(err, seal.ErrForged) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
}

func TestSealRefusesWhatCouldNotBeOpened(t *testing.T) {
	s := newSubject("s1")
	keyless := s
	keyless.Key = nil
	for name, f := range map[string]func() (*pb.SealedPart, error){
		"no key": func() (*pb.SealedPart, error) { return seal.Seal(keyless, pb.Category_CATEGORY_CONTENT, "o", nil) },
		"no subject": func() (*pb.SealedPart, error) {
			return seal.Seal(seal.Subject{Key: s.Key}, pb.Category_CATEGORY_CONTENT, "o", nil)
		},
		"no category": func() (*pb.SealedPart, error) { return seal.Seal(s, 0, "o", nil) },
		"no origin":   func() (*pb.SealedPart, error) { return seal.Seal(s, pb.Category_CATEGORY_CONTENT, "", nil) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

func TestAReactionKeyIsTheAuthorsMessagesAndEmojis(t *testing.T) {
	a, b := newSubject("a"), newSubject("b")
	key := seal.ReactionKey(a, "m1", "+1")
	if key != seal.ReactionKey(a, "m1", "+1") {
		t.Error("not the same twice")
	}
	for name, other := range map[string]string{
		"author":  seal.ReactionKey(b, "m1", "+1"),
		"message": seal.ReactionKey(a, "m2", "+1"),
		"emoji":   seal.ReactionKey(a, "m1", "tada"),
		"border":  seal.ReactionKey(a, "m", "1+1"),
	} {
		if other == key {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestASpoolEntryOpensWithItsOwnKeyAlone(t *testing.T) {
	private, public, err := seal.NewSpoolKey()
	if err != nil {
		t.Fatal(err)
	}
	key := &pb.SpoolKey{Id: "day-1", PublicKey: public}
	plain := bytes.Repeat([]byte("entry "), 1000)
	enc, sealedKey, body, err := seal.SealSpool(key, plain)
	if err != nil {
		t.Fatal(err)
	}
	entryKey, err := seal.OpenSpoolKey(private, "day-1", enc, sealedKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := seal.OpenSpoolEntry(entryKey, body); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	otherPrivate, _, err := seal.NewSpoolKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenSpoolKey(otherPrivate, "day-1", enc, sealedKey); !errors.Is(err, seal.ErrForged) {
		t.Errorf("another private half: %v", err)
	}
	if _, err := seal.OpenSpoolKey(private, "day-2", enc, sealedKey); !errors.Is(err, seal.ErrForged) {
		t.Errorf("another id: %v", err)
	}
	if _, err := seal.OpenSpoolKey(private, "day-1", enc[:5], sealedKey); !errors.Is(err, seal.ErrForged) {
		t.Errorf("cut encapsulation: %v", err)
	}
	body[len(body)/2] ^= 1
	if _, err := seal.OpenSpoolEntry(entryKey, body); !errors.Is(err, seal.ErrForged) {
		t.Errorf("altered body: %v", err)
	}
	if _, _, _, err := seal.SealSpool(&pb.SpoolKey{Id: "x", PublicKey: []byte("short")}, plain); err == nil {
		t.Error("sealed to no key")
	}
}

func BenchmarkSeal2KiB(b *testing.B) {
	s, plain := newSubject("s1"), make([]byte, 2<<10)
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, "content/m/1", plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen2KiB(b *testing.B) {
	s := newSubject("s1")
	part, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, "content/m/1", make([]byte, 2<<10))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seal.OpenWith(s, part, "content/m/1"); err != nil {
			b.Fatal(err)
		}
	}
}
