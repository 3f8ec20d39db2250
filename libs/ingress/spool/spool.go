// Package spool is a log on disk for what could not be published yet: appended by many, read by one, in
// order. It knows nothing of what its records mean.
//
// What is guaranteed:
//
//   - After Append returned nil the records are on stable storage: the process may be killed, the machine
//     may lose power. Many Appends at once share one fsync.
//   - A kill at any byte of a write loses only records that Append had not acknowledged.
//   - Every record is given out until Done was told of it, oldest first. After a crash some that were done
//     may be given out again.
//   - What is on disk never exceeds MaxBytes: Append then refuses, and drops nothing.
//   - A damaged stretch of a segment costs the records in it and none behind it; the segment is kept in the
//     folder aside.
//   - One process holds the folder.
//
// The folder holds segments (<number>.segment, only ever appended to), done (how far the reader is), lock,
// and aside, whose files are segments too: put back into the folder they are read after the next start.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Errors.
var (
	// ErrFull: MaxBytes are reached.
	ErrFull = errors.New("spool: full")
	// ErrTooLarge: a record above MaxRecordBytes.
	ErrTooLarge = errors.New("spool: record too large")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("spool: closed")
)

// MaxRecordBytes is the largest record.
const MaxRecordBytes = 64 << 20

// Config of a Spool.
type Config struct {
	Dir string
	// MaxBytes bounds all files together, those set aside included.
	MaxBytes int64
	// SegmentBytes is when a segment is full; 0 is 16 MiB.
	SegmentBytes int64
}

// Spool is the log. Append and SetAside may be called by many; Next and Done by one at a time.
type Spool struct {
	cfg  Config
	lock *os.File

	committing chan struct{} // held by who writes and syncs
	aside      chan struct{} // held by who sets aside

	mu      sync.Mutex
	closed  bool
	pending *commit
	writing int64 // bytes of the commit under way
	active  *segment
	//bound:queue the spool on disk, with what was set aside | {bytes TRIBUTARY_SPOOL_BYTES} | 503; nothing is dropped
	segments []uint64 // all that are not done, the active one last
	next     uint64   // number of the next segment
	done     position
	unnoted  bool // done is not on disk
	//bound:exempt as the segments
	size     map[uint64]int64 // of segments
	setAside int64            // bytes
	// damagedSegments are kept when they are done.
	//bound:exempt as the segments
	damagedSegments map[uint64]bool
	asideSegment    uint64 // that SetAside appends to; 0: none yet
	asideBytes      int64
	oldest          time.Time // of the first record that is not done; zero: not known
}

// position is the first byte not done.
type position struct {
	segment uint64
	offset  int64
}

// commit is one write and one fsync, shared by those who came while another was under way.
type commit struct {
	//bound:queue records that share the next fsync | the requests under way | those who come later share the one after
	frames []byte
	oldest time.Time
	done   chan struct{}
	err    error
}

// segment that is appended to.
type segment struct {
	number  uint64
	file    *os.File
	durable int64
}

// Open opens or makes the folder. It appends to no old segment, so that a torn end stays an end.
func Open(cfg Config) (*Spool, error) {
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = 16 << 20
	}
	if cfg.Dir == "" || cfg.MaxBytes <= 0 {
		return nil, errors.New("spool: Dir and MaxBytes are required")
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "aside"), 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := lockFolder(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("spool: the folder is held by another process: %w", err)
	}
	s := &Spool{
		cfg: cfg, lock: lock,
		//bound:limit who writes to the spool | {} | the others share the next fsync
		//bound:limit who sets aside | {} | the others wait
		committing: make(chan struct{}, 1), aside: make(chan struct{}, 1),
		size: map[uint64]int64{}, damagedSegments: map[uint64]bool{},
	}
	if err := s.load(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return s, nil
}

// Close ends it; what is not done stays on disk.
func (s *Spool) Close() error {
	s.committing <- struct{}{}
	defer func() { <-s.committing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.active != nil {
		err = s.active.file.Close()
		s.active = nil
	}
	return errors.Join(err, s.lock.Close())
}

// Append makes records durable, all or, on an error, maybe none. at is when they came, for Oldest.
func (s *Spool) Append(at time.Time, records ...[]byte) error {
	if len(records) == 0 {
		return nil
	}
	var frames []byte
	for _, r := range records {
		if len(r) > MaxRecordBytes {
			return ErrTooLarge
		}
		frames = appendFrame(frames, at, r)
	}
	c, err := s.join(frames, at)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case s.committing <- struct{}{}:
	}
	defer func() { <-s.committing }()
	s.mu.Lock()
	mine := s.pending == c
	if mine {
		s.pending, s.writing = nil, int64(len(c.frames))
	}
	s.mu.Unlock()
	if mine {
		c.err = s.commit(c)
		s.mu.Lock()
		s.writing = 0
		s.mu.Unlock()
		close(c.done)
	}
	<-c.done
	return c.err
}

// Oldest is when the oldest record that is not done came; ok is false when all are done.
func (s *Spool) Oldest() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.oldest, !s.oldest.IsZero()
}

// Empty tells whether every record is done.
func (s *Spool) Empty() bool {
	_, ok := s.Oldest()
	return !ok
}

// Bytes on disk: of segments, and of what was set aside.
func (s *Spool) Bytes() (segments, aside int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segmentBytes(), s.setAside
}

func (s *Spool) segmentBytes() (bytes int64) {
	for _, n := range s.size {
		bytes += n
	}
	return bytes
}

// join adds frames to the commit that is waiting for its turn.
func (s *Spool) join(frames []byte, at time.Time) (*commit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	waiting := s.writing + int64(len(frames))
	if s.pending != nil {
		waiting += int64(len(s.pending.frames))
	}
	if s.segmentBytes()+s.setAside+waiting > s.cfg.MaxBytes {
		return nil, ErrFull
	}
	if s.pending == nil {
		s.pending = &commit{oldest: at, done: make(chan struct{})}
	}
	s.pending.frames = append(s.pending.frames, frames...)
	if at.Before(s.pending.oldest) {
		s.pending.oldest = at
	}
	return s.pending, nil
}

// commit writes and syncs; the caller holds committing.
func (s *Spool) commit(c *commit) error {
	s.mu.Lock()
	active, closed := s.active, s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if active == nil || active.durable >= s.cfg.SegmentBytes {
		var err error
		if active, err = s.roll(active); err != nil {
			return fmt.Errorf("spool: new segment: %w", err)
		}
	}
	_, err := active.file.WriteAt(c.frames, active.durable)
	if err == nil {
		err = active.file.Sync()
	}
	if err != nil {
		s.abandon(active)
		return fmt.Errorf("spool: write: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	active.durable += int64(len(c.frames))
	s.size[active.number] = active.durable
	if s.oldest.IsZero() {
		s.oldest = c.oldest
	}
	return nil
}

// roll closes the active segment and begins the next.
func (s *Spool) roll(active *segment) (*segment, error) {
	s.mu.Lock()
	number := s.next
	s.next++
	s.mu.Unlock()
	file, err := os.OpenFile(s.path(number), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = syncFolder(s.cfg.Dir)
	}
	if err != nil {
		if file != nil {
			file.Close()
			os.Remove(file.Name())
		}
		return nil, err
	}
	if active != nil {
		active.file.Close() // everything in it was synced
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = &segment{number: number, file: file}
	s.segments = append(s.segments, number)
	s.size[number] = 0
	return s.active, nil
}

// abandon leaves a segment whose last write failed: nobody knows what of it is on disk. Cut back it would
// do again, but only if that can be told for sure.
func (s *Spool) abandon(active *segment) {
	err := active.file.Truncate(active.durable)
	if err == nil {
		err = active.file.Sync()
	}
	if err == nil {
		return
	}
	size := active.durable
	if info, err := active.file.Stat(); err == nil {
		size = info.Size()
	}
	active.file.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = nil
	s.size[active.number] = size
}

// load finds what an earlier process left.
func (s *Spool) load() error {
	done, keep := s.readDone()
	if s.done = done; keep {
		s.damagedSegments[done.segment] = true
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.next = s.done.segment + 1
	for _, e := range entries {
		number, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		s.next = max(s.next, number+1)
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.segments = append(s.segments, number)
		s.size[number] = info.Size()
	}
	slices.Sort(s.segments)
	if len(s.segments) > 0 && s.segments[0] != s.done.segment {
		s.done = position{segment: s.segments[0]}
	}
	err = filepath.WalkDir(filepath.Join(s.cfg.Dir, "aside"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if number, ok := segmentNumber(e.Name()); ok {
			s.next = max(s.next, number+1)
		}
		info, err := e.Info()
		if err == nil {
			s.setAside += info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	// What is not done yet shows in Oldest from the start.
	_, err = s.Next(1, 1)
	return err
}

func (s *Spool) path(number uint64) string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("%012d%s", number, suffix))
}

const suffix = ".segment"

func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil
}
