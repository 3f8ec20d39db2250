package seal

import (
	"bufio"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
)

// An object (an attachment) is sealed as a stream under a key of its own, which is wrapped with Seal
// (category content, OriginAttachment). STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015):
// a random prefix of 7 bytes, then chunks of 64 KiB, each AES-256-GCM under prefix, counter and a mark
// on the last. A stream cut short, extended, reordered or mixed with another does not open.
const (
	chunkSize    = 64 << 10
	prefixSize   = 7
	chunkMaximum = 1<<32 - 1
)

// ErrObjectTooLarge: more than 2^32 chunks of 64 KiB.
var ErrObjectTooLarge = errors.New("seal: object too large")

// NewObjectKey makes the key of one object.
func NewObjectKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key)
	return key
}

// SealWriter seals what is written to it and writes it to w. Close writes the last chunk: a stream that
// was not closed does not open. It does not close w.
func SealWriter(key []byte, w io.Writer) (io.WriteCloser, error) {
	aead, err := newAEAD(key, cipher.NewGCM)
	if err != nil {
		return nil, err
	}
	s := &sealWriter{w: w, chunks: chunks{aead: aead}, plain: make([]byte, 0, chunkSize)}
	rand.Read(s.nonce[:prefixSize])
	return s, nil
}

// OpenReader opens a sealed stream. What it gives was sealed with key at that place; only io.EOF says that
// it was all of it. ErrForged for anything else than a whole stream; errors of r are passed on.
func OpenReader(key []byte, r io.Reader) (io.Reader, error) {
	aead, err := newAEAD(key, cipher.NewGCM)
	if err != nil {
		return nil, err
	}
	return &openReader{r: bufio.NewReaderSize(r, chunkSize+aead.Overhead()+1), chunks: chunks{aead: aead}}, nil
}

type chunks struct {
	aead    cipher.AEAD
	nonce   [12]byte
	counter uint64
}

// next gives the nonce of the next chunk.
func (c *chunks) next(last bool) ([]byte, error) {
	if c.counter > chunkMaximum {
		return nil, ErrObjectTooLarge
	}
	binary.BigEndian.PutUint32(c.nonce[prefixSize:], uint32(c.counter))
	c.counter++
	if last {
		c.nonce[11] = 1
	}
	return c.nonce[:], nil
}

//bound:exempt a chunk
type sealWriter struct {
	w io.Writer
	chunks
	plain, sealed []byte
	started       bool
	err           error
}

var errClosed = errors.New("seal: write after close")

func (s *sealWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && s.err == nil {
		if len(s.plain) == chunkSize { // more follows, so this is not the last
			s.flush(false)
			continue
		}
		k := min(len(p), chunkSize-len(s.plain))
		s.plain = append(s.plain, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, s.err
}

func (s *sealWriter) Close() error {
	if s.err == nil {
		s.flush(true)
	}
	if s.err == nil {
		s.err = errClosed
		return nil
	}
	if errors.Is(s.err, errClosed) {
		return nil
	}
	return s.err
}

func (s *sealWriter) flush(last bool) {
	if !s.started {
		s.started = true
		if _, s.err = s.w.Write(s.nonce[:prefixSize]); s.err != nil {
			return
		}
	}
	var nonce []byte
	if nonce, s.err = s.next(last); s.err != nil {
		return
	}
	s.sealed = s.aead.Seal(s.sealed[:0], nonce, s.plain, nil)
	s.plain = s.plain[:0]
	_, s.err = s.w.Write(s.sealed)
}

type openReader struct {
	r *bufio.Reader
	chunks
	plain   []byte // opened and not yet given
	buf     []byte
	started bool
	err     error
}

func (o *openReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(o.plain) == 0 && o.err == nil {
		o.err = o.open()
	}
	if len(o.plain) > 0 {
		n := copy(p, o.plain)
		o.plain = o.plain[n:]
		return n, nil
	}
	return 0, o.err
}

// open opens the next chunk; io.EOF with the last.
func (o *openReader) open() error {
	if !o.started {
		o.started = true
		if _, err := io.ReadFull(o.r, o.nonce[:prefixSize]); err != nil {
			return cut(err)
		}
	}
	full := chunkSize + o.aead.Overhead()
	ahead, err := o.r.Peek(full + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	last := len(ahead) <= full
	if !last {
		ahead = ahead[:full]
	}
	nonce, err := o.next(last)
	if err != nil {
		return err
	}
	if o.plain, err = o.aead.Open(o.buf[:0], nonce, ahead, nil); err != nil {
		o.plain = nil
		return ErrForged
	}
	o.buf = o.plain
	if _, err := o.r.Discard(len(ahead)); err != nil {
		return err
	}
	if last {
		return io.EOF
	}
	return nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrForged
	}
	return err
}
