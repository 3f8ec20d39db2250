package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Record is what was appended.
type Record struct {
	At   time.Time
	Data []byte

	segment uint64
}

// Batch is what Next gave out.
//
//bound:exempt what Next was asked for
type Batch struct {
	Records []Record
	// Damaged bytes were skipped that lie between whole records; their segments are kept aside. A torn end,
	// which nobody was told is durable, is not damage.
	Damaged int64

	end     position
	damaged []uint64
}

// Next gives the oldest records that are not done: max of them, or fewer that together reach maxBytes. An
// empty batch means that there are none. Without a call of Done it gives the same again.
func (s *Spool) Next(max int, maxBytes int64) (Batch, error) {
	s.mu.Lock()
	start, segments := s.done, slices.Clone(s.segments)
	s.mu.Unlock()
	b := Batch{end: start}
	var bytes int64
	for _, number := range segments {
		if number < b.end.segment {
			continue
		}
		if number > b.end.segment {
			b.end = position{segment: number}
		}
		if err := s.readSegment(&b, max, maxBytes, &bytes); err != nil {
			return Batch{}, fmt.Errorf("spool: read: %w", err)
		}
		if len(b.Records) >= max || bytes >= maxBytes {
			break
		}
	}
	if len(b.Records) > 0 {
		s.mu.Lock()
		s.oldest = b.Records[0].At
		s.mu.Unlock()
		return b, nil
	}
	return b, s.Done(b) // leaves segments behind that hold nothing to read
}

// readSegment reads on from b.end to the end of its segment, as far as max and maxBytes allow.
func (s *Spool) readSegment(b *Batch, max int, maxBytes int64, bytes *int64) error {
	number := b.end.segment
	file, err := os.Open(s.path(number))
	if err != nil {
		return err
	}
	defer file.Close()
	s.mu.Lock()
	limit := s.size[number]
	s.mu.Unlock()
	for b.end.offset < limit && len(b.Records) < max && *bytes < maxBytes {
		rec, end, ok, err := readFrame(file, b.end.offset, limit)
		if err != nil {
			return err
		}
		if ok {
			rec.segment = number
			b.Records = append(b.Records, rec)
			b.end.offset = end
			*bytes += int64(len(rec.Data))
			continue
		}
		next, err := resync(file, b.end.offset, limit)
		if err != nil {
			return err
		}
		if next < limit {
			b.Damaged += next - b.end.offset
			b.damaged = append(b.damaged, number)
		}
		b.end.offset = next
	}
	return nil
}

// Done tells that everything in b was dealt with. Segments without anything left are deleted. Where that can't
// be noted on disk, because it is full, Done goes on all the same: what is deleted makes room, and after a crash
// what lies in the oldest segment is given out again.
func (s *Spool) Done(b Batch) error {
	s.committing <- struct{}{} // so that the active segment stands still
	defer func() { <-s.committing }()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	end := b.end
	if s.active != nil && end == (position{s.active.number, s.active.durable}) && end.offset > 0 {
		s.active.file.Close()
		s.active = nil
	}
	size, known := s.size[end.segment]
	if known && (s.active == nil || s.active.number != end.segment) && end.offset >= size {
		end = position{segment: end.segment + 1}
	}
	moved := end != s.done || s.unnoted
	s.mu.Unlock()
	unnoted := moved && s.writeDone(end, b.damaged) != nil
	if err := s.advance(end, b.damaged); err != nil {
		return fmt.Errorf("spool: done: %w", err)
	}
	if unnoted { // there may be room now
		unnoted = s.writeDone(end, b.damaged) != nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unnoted = unnoted
	return nil
}

// advance moves on to a position, and deletes what lies before it.
func (s *Spool) advance(end position, damaged []uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = end
	var faults []error
	s.segments = slices.DeleteFunc(s.segments, func(number uint64) bool {
		if number >= end.segment {
			return false
		}
		if slices.Contains(damaged, number) || s.damagedSegments[number] {
			faults = append(faults, os.Rename(s.path(number), s.asidePath(number)))
			s.setAside += s.size[number]
		} else if err := os.Remove(s.path(number)); !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
		delete(s.size, number)
		delete(s.damagedSegments, number)
		return true
	})
	for _, number := range damaged {
		if number >= end.segment {
			s.damagedSegments[number] = true
		}
	}
	left := s.segmentBytes()
	if len(s.segments) > 0 && s.segments[0] == end.segment {
		left -= end.offset
	}
	if left == 0 {
		s.oldest = time.Time{}
	}
	return errors.Join(faults...)
}

// SetAside makes a record durable in the folder aside, where nothing reads it.
func (s *Spool) SetAside(at time.Time, data []byte) error {
	s.aside <- struct{}{}
	defer func() { <-s.aside }()
	frame := appendFrame(nil, at, data)
	s.mu.Lock()
	number, closed := s.asideSegment, s.closed
	if number == 0 || s.asideBytes >= s.cfg.SegmentBytes {
		number, s.asideBytes = s.next, 0
		s.next++
		s.asideSegment = number
	}
	full := s.segmentBytes()+s.setAside+int64(len(frame)) > s.cfg.MaxBytes+s.cfg.SegmentBytes
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if full {
		return ErrFull
	}
	file, err := os.OpenFile(s.asidePath(number), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("spool: aside: %w", err)
	}
	_, err = file.Write(frame)
	err = errors.Join(err, file.Sync(), file.Close(), syncFolder(filepath.Join(s.cfg.Dir, "aside")))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asideBytes += int64(len(frame))
	s.setAside += int64(len(frame))
	if err != nil {
		s.asideSegment = 0 // leave a torn end to itself
		return fmt.Errorf("spool: aside: %w", err)
	}
	return nil
}

// KeepSegment has the segment of a record that Next gave out kept aside, whole, once it is done, as one that is
// damaged is: for what can't be set aside by itself because there is no room. To be called before Done.
func (s *Spool) KeepSegment(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damagedSegments[r.segment] = true
}

func (s *Spool) asidePath(number uint64) string {
	return filepath.Join(s.cfg.Dir, "aside", filepath.Base(s.path(number)))
}

// readDone is the position of the last Done, and whether its segment is to be kept; the zero position where it
// can't be read, which only gives records out again.
func (s *Spool) readDone() (p position, keep bool) {
	text, err := os.ReadFile(filepath.Join(s.cfg.Dir, "done"))
	if err != nil {
		return position{}, false
	}
	if _, err := fmt.Sscanf(string(text), "%d %d", &p.segment, &p.offset); err != nil || p.offset < 0 {
		return position{}, false
	}
	return p, bytes.HasSuffix(text, []byte(keepMark))
}

// keepMark ends the note of what is done of a segment that is to be kept aside.
const keepMark = " keep\n"

func (s *Spool) writeDone(p position, damaged []uint64) error {
	s.mu.Lock()
	mark := "\n"
	if s.damagedSegments[p.segment] || slices.Contains(damaged, p.segment) {
		mark = keepMark
	}
	s.mu.Unlock()
	path := filepath.Join(s.cfg.Dir, "done")
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%d %d%s", p.segment, p.offset, mark)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(s.cfg.Dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
