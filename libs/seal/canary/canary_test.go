package canary

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf16"
)

const needle = "Zwölf Boxkämpfer jagen"

func TestFindsTheNeedleHoweverItIsWritten(t *testing.T) {
	s := New(needle)
	around := func(b []byte) []byte { return append(append(bytes.Repeat([]byte("x"), 1000), b...), "yyy"...) }
	var wide []byte
	for _, u := range utf16.Encode([]rune(needle)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	cases := map[string][]byte{
		"raw": []byte(needle), "hex": []byte(hex.EncodeToString([]byte(needle))),
		"url": []byte(url.QueryEscape(needle)), "url path": []byte(url.PathEscape(needle)), "url in small letters": []byte("Zw%c3%b6lf%20Boxk%c3%a4mpfer%20jagen"),
		"utf-16": wide, "gzip": zipped("before " + needle + " after"), "gzip of hex": zipped(hex.EncodeToString([]byte(needle))),
		"escapes of JSON": []byte(`Zw\u00f6lf Boxk\u00e4mpfer jagen`), "octal escapes": []byte(`Zw\303\266lf Boxk\303\244mpfer jagen`),
	}
	for _, before := range []string{"", "a", "ab", "abc"} {
		cases["base64 after "+before] = []byte(base64.StdEncoding.EncodeToString([]byte(before + needle + "tail")))
		cases["base64url after "+before] = []byte(base64.RawURLEncoding.EncodeToString([]byte(before + needle + "tail")))
	}
	for name, b := range cases {
		if len(s.Bytes(name, around(b))) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	if hits := s.Bytes("clean", around([]byte("Zwölf Boxer"))); len(hits) != 0 {
		t.Errorf("found where it is not: %v", hits)
	}
}

func zipped(text string) []byte {
	var zip bytes.Buffer
	z := gzip.NewWriter(&zip)
	_, _ = z.Write([]byte(text)) // memory takes it
	_ = z.Close()
	return zip.Bytes()
}

func TestFindsExactlyWhatIsThere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) []byte { // of few letters, so that much begins like a needle
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[random.IntN(2)]
		}
		return b
	}
	for range 300 {
		s := New(string(text(8)), string(text(9)), string(text(12)), string(text(30)))
		b := text(1 + random.IntN(600))
		found := s.find(b)
		for i, p := range s.patterns {
			at, ok := found[i]
			if want := bytes.Index(b, p.bytes); (want >= 0) != ok || ok && at != want {
				t.Fatalf("%q in %q: %d, want %d", p.bytes, b, at, want)
			}
		}
	}
}

func TestLooksAtWhatWasWrittenSince(t *testing.T) {
	s, dir := New(needle), t.TempDir()
	for name, age := range map[string]time.Duration{"old": time.Hour, "new": 0} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(needle), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	hits, scanned, err := s.TreeSince(dir, time.Now().Add(-time.Minute))
	if err != nil || scanned.Files != 1 || len(hits) == 0 || filepath.Base(hits[0].File) != "new" {
		t.Fatalf("%v %v %v", hits, scanned, err)
	}
}

func TestFindsWhatStraddlesTwoChunks(t *testing.T) {
	s := New(needle)
	dir := t.TempDir()
	big := bytes.Repeat([]byte{0}, 4<<20+s.longest-5)
	if err := os.WriteFile(filepath.Join(dir, "f"), append(big, needle...), 0o600); err != nil {
		t.Fatal(err)
	}
	hits, scanned, err := s.Tree(dir)
	if err != nil || len(hits) == 0 || scanned.Files != 1 || hits[0].Offset != int64(len(big)) {
		t.Fatalf("%v %v %v", hits, scanned, err)
	}
}
