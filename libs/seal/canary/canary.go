// Package canary looks for planted personal data where none may be: in files of brokers and databases,
// spools, objects, logs and traces. It looks for each needle raw, in base64 (any alignment, both
// alphabets), hex, URL encoding, UTF-16 and JSON escapes, and inside gzip streams. Tests and the demo use
// it.
package canary

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// Scanner looks for needles.
type Scanner struct {
	patterns []pattern
	longest  int
}

type pattern struct {
	needle, encoding string
	bytes            []byte
}

// Hit is where a needle was found.
type Hit struct {
	File     string
	Offset   int64
	Needle   string
	Encoding string
}

func (h Hit) String() string {
	return fmt.Sprintf("%s at %d: %q (%s)", h.File, h.Offset, h.Needle, h.Encoding)
}

// New makes a scanner. Needles shorter than 8 bytes would be found by chance; they panic.
func New(needles ...string) *Scanner {
	s := &Scanner{}
	for _, n := range needles {
		if len(n) < 8 {
			panic("canary: needle too short: " + n)
		}
		s.add(n, "raw", []byte(n))
		s.add(n, "hex", []byte(hex.EncodeToString([]byte(n))))
		s.add(n, "HEX", []byte(strings.ToUpper(hex.EncodeToString([]byte(n)))))
		s.add(n, "url", []byte(url.QueryEscape(n)))
		if j, err := json.Marshal(n); err == nil {
			s.add(n, "json", j[1:len(j)-1])
		}
		var le, be []byte
		for _, u := range utf16.Encode([]rune(n)) {
			le = append(le, byte(u), byte(u>>8))
			be = append(be, byte(u>>8), byte(u))
		}
		s.add(n, "utf-16le", le)
		s.add(n, "utf-16be", be)
		for shift := range 3 {
			s.add(n, "base64", inside(base64.StdEncoding, n, shift))
			s.add(n, "base64url", inside(base64.URLEncoding, n, shift))
		}
	}
	return s
}

// inside is the part of an encoding that does not depend on what stands before or after the needle.
func inside(enc *base64.Encoding, needle string, shift int) []byte {
	text := enc.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, shift), needle...))
	skip := []int{0, 2, 3}[shift]
	tail := 0
	if (shift+len(needle))%3 != 0 {
		tail = 1 // its last character mixes with what follows
	}
	return []byte(text[skip : len(text)-tail])
}

func (s *Scanner) add(needle, encoding string, b []byte) {
	for _, p := range s.patterns {
		if bytes.Equal(p.bytes, b) {
			return
		}
	}
	s.patterns = append(s.patterns, pattern{needle, encoding, b})
	s.longest = max(s.longest, len(b))
}

// Bytes looks through one piece of memory.
func (s *Scanner) Bytes(name string, b []byte) []Hit {
	hits, err := s.Reader(name, bytes.NewReader(b))
	if err != nil { // memory can be read
		panic(err)
	}
	return hits
}

// maxInflated bounds what one gzip stream is inflated to.
const maxInflated = 256 << 20

// Reader looks through a stream, in chunks that overlap.
func (s *Scanner) Reader(name string, r io.Reader) ([]Hit, error) {
	return s.reader(name, r, 2)
}

func (s *Scanner) reader(name string, r io.Reader, depth int) ([]Hit, error) {
	const chunk = 4 << 20
	var hits []Hit
	buf := make([]byte, 0, chunk+s.longest)
	var base int64
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for _, p := range s.patterns {
			if i := bytes.Index(buf, p.bytes); i >= 0 {
				hits = append(hits, Hit{name, base + int64(i), p.needle, p.encoding})
			}
		}
		if depth > 0 {
			hits = append(hits, s.inflate(name, buf, depth)...)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return hits, nil
		}
		if err != nil {
			return hits, err
		}
		keep := min(s.longest, len(buf))
		base += int64(len(buf) - keep)
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// inflate looks through gzip streams that begin in b.
func (s *Scanner) inflate(name string, b []byte, depth int) []Hit {
	var hits []Hit
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte{0x1f, 0x8b, 0x08})
		if i < 0 {
			return hits
		}
		from += i
		if z, err := gzip.NewReader(bytes.NewReader(b[from:])); err == nil {
			// A stream that breaks off has still given what came before.
			found, _ := s.reader(fmt.Sprintf("%s (gzip at %d)", name, from), brokenOff{io.LimitReader(z, maxInflated)}, depth-1)
			hits = append(hits, found...)
		}
		from++
	}
}

// brokenOff ends a stream at its first error.
type brokenOff struct{ r io.Reader }

func (b brokenOff) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// Scanned says how much was looked through.
type Scanned struct {
	Files int
	Bytes int64
}

// Tree looks through every regular file below root. A file that goes while it looks is passed over.
func (s *Scanner) Tree(root string) (hits []Hit, scanned Scanned, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		counted := &counter{r: f}
		found, err := s.Reader(path, counted)
		hits = append(hits, found...)
		scanned.Files++
		scanned.Bytes += counted.n
		return err
	})
	return hits, scanned, err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
