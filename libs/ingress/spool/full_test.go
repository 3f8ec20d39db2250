package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestADiskThatIsFullIsDrainedAllTheSame: what is done can't be noted where there is no room for a file more,
// and has to make room by that it goes.
func TestADiskThatIsFullIsDrainedAllTheSame(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 200}
	s, err := Open(cfg)
	require.NoError(t, err)
	const records = 20
	for n := range records {
		require.NoError(t, s.Append(time.Unix(1, 0), fmt.Appendf(nil, "record %d", n)))
	}
	full := filepath.Join(dir, "done.new") // no such file can be made
	require.NoError(t, os.Mkdir(full, 0o700))
	before, _ := s.Bytes()

	read := 0
	take := func(s *Spool, max int) {
		t.Helper()
		b, err := s.Next(max, 1<<20)
		require.NoError(t, err)
		for _, r := range b.Records {
			require.Equal(t, fmt.Sprintf("record %d", read), string(r.Data))
			read++
		}
		require.NoError(t, s.Done(b))
	}
	take(s, 11)
	require.Equal(t, 11, read)
	after, _ := s.Bytes()
	require.Less(t, after, before, "what is done makes room")

	// After a kill some are given out again, and none is left out.
	require.NoError(t, s.Close())
	s, err = Open(cfg)
	require.NoError(t, err)
	b, err := s.Next(1, 1<<20)
	require.NoError(t, err)
	_, err = fmt.Sscanf(string(b.Records[0].Data), "record %d", &read)
	require.NoError(t, err)
	require.Greater(t, read, 0)
	require.LessOrEqual(t, read, 11)
	for read < records {
		take(s, 3)
	}
	require.True(t, s.Empty())
	segments, _ := s.Bytes()
	require.Zero(t, segments)
	require.NoError(t, s.Close())
}

// TestWhatCantBeSetAsideIsKeptWithItsSegment: no room is taken by it, and what is behind it does not wait.
func TestWhatCantBeSetAsideIsKeptWithItsSegment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := fill(t, s, 4)
	b, err := s.Next(2, 1<<20)
	require.NoError(t, err)
	s.KeepSegment(b.Records[0])
	require.NoError(t, s.Done(b))
	require.NoError(t, s.Close())

	s = open(t, dir) // which knows it still
	require.Equal(t, want[2:], drain(t, s))
	left, aside := s.Bytes()
	require.Zero(t, left)
	require.Positive(t, aside)
	require.NoError(t, s.Close())
	for name := range segments(t, filepath.Join(dir, "aside")) {
		require.NoError(t, os.Rename(filepath.Join(dir, "aside", name), filepath.Join(dir, name)))
	}
	require.Equal(t, want[0], drain(t, open(t, dir))[0], "put back it is read again")
}
