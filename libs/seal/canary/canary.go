// Package canary looks for planted personal data where none may be: in files of brokers and databases,
// spools, objects, logs and traces. It looks for each needle raw, in base64 (any alignment, both
// alphabets), hex, URL encodings, UTF-16, and the escapes of JSON and of PostgreSQL's text, and inside gzip
// streams. Tests and the demo use it.
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
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// Scanner looks for needles.
type Scanner struct {
	patterns []pattern
	longest  int

	// A search moves by shift, which the last three bytes of a window of the shortest pattern's length decide:
	// how far it is at least until a pattern can begin; where 0, those of starts may begin here.
	shortest int
	shift    [blocks]uint8
	starts   map[uint32][]int
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
		for _, escaped := range []string{url.QueryEscape(n), url.PathEscape(n), strings.ReplaceAll(url.QueryEscape(n), "+", "%20")} {
			s.add(n, "url", []byte(escaped))
			s.add(n, "url", []byte(lowerEscapes(escaped)))
		}
		if j, err := json.Marshal(n); err == nil {
			s.add(n, "json", j[1:len(j)-1])
		}
		ascii := strconv.QuoteToASCII(n)
		s.add(n, "ascii", []byte(ascii[1:len(ascii)-1]))
		s.add(n, "octal", octal(n))
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
	s.index()
	return s
}

// lowerEscapes writes the hex digits of %XX small.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// octal writes bytes that are not ASCII as \ooo, as PostgreSQL and protobuf's text do.
func octal(s string) (b []byte) {
	for _, c := range []byte(s) {
		if c < 0x80 {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, `\%03o`, c)
		}
	}
	return b
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

const (
	blockSize = 3
	blocks    = 1 << 15
)

func block(b []byte) uint32 {
	return (uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16) * 0x9e3779b1 >> 17
}

// index prepares find: Wu and Manber's search for many patterns at once.
func (s *Scanner) index() {
	s.shortest, s.starts = 255, map[uint32][]int{}
	for _, p := range s.patterns {
		s.shortest = min(s.shortest, len(p.bytes))
	}
	farthest := uint8(s.shortest - blockSize + 1)
	for i := range s.shift {
		s.shift[i] = farthest
	}
	for i, p := range s.patterns {
		for at := range int(farthest) {
			h := block(p.bytes[at:])
			s.shift[h] = min(s.shift[h], farthest-1-uint8(at))
		}
		last := block(p.bytes[s.shortest-blockSize:])
		s.starts[last] = append(s.starts[last], i)
	}
}

// find gives where each pattern that is in b is first.
func (s *Scanner) find(b []byte) map[int]int {
	found := map[int]int{}
	for at := 0; at+s.shortest <= len(b); {
		last := block(b[at+s.shortest-blockSize:])
		if far := s.shift[last]; far > 0 {
			at += int(far)
			continue
		}
		for _, i := range s.starts[last] {
			if _, before := found[i]; !before && bytes.HasPrefix(b[at:], s.patterns[i].bytes) {
				found[i] = at
			}
		}
		at++
	}
	return found
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
		for i, at := range s.find(buf) {
			hits = append(hits, Hit{name, base + int64(at), s.patterns[i].needle, s.patterns[i].encoding})
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
	return s.TreeSince(root, time.Time{})
}

// TreeSince is Tree for the files alone that were written to at since or later.
func (s *Scanner) TreeSince(root string, since time.Time) (hits []Hit, scanned Scanned, err error) {
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
		if info, err := d.Info(); err == nil && info.ModTime().Before(since) {
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
