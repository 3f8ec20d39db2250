package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var at = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

func open(t testing.TB, dir string) *Spool {
	s, err := Open(Config{Dir: dir, MaxBytes: 1 << 20, SegmentBytes: 200})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func texts(b Batch) (texts []string) {
	for _, r := range b.Records {
		texts = append(texts, string(r.Data))
	}
	return texts
}

// drain takes everything out, a few at a time.
func drain(t testing.TB, s *Spool) (all []string) {
	for {
		b, err := s.Next(3, 1<<20)
		require.NoError(t, err)
		if len(b.Records) == 0 {
			return all
		}
		all = append(all, texts(b)...)
		require.NoError(t, s.Done(b))
	}
}

func fill(t testing.TB, s *Spool, n int) (all []string) {
	for i := range n {
		text := fmt.Sprintf("record %d %s", i, strings.Repeat("x", i%40))
		require.NoError(t, s.Append(at.Add(time.Duration(i)*time.Second), []byte(text)))
		all = append(all, text)
	}
	return all
}

func TestEverythingComesOutOnceInOrder(t *testing.T) {
	s := open(t, t.TempDir())
	require.True(t, s.Empty())
	want := fill(t, s, 50)
	oldest, ok := s.Oldest()
	require.True(t, ok)
	require.Equal(t, at, oldest)

	require.Equal(t, want, drain(t, s))

	require.True(t, s.Empty())
	left, _ := s.Bytes()
	require.Zero(t, left, "what is done is deleted")
	require.Equal(t, fill(t, s, 3), drain(t, s), "and it goes on")
}

func TestWhatIsNotDoneComesAgainAfterAStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := fill(t, s, 20)
	b, err := s.Next(7, 1<<20)
	require.NoError(t, err)
	require.NoError(t, s.Done(b))
	again, err := s.Next(5, 1<<20)
	require.NoError(t, err)
	require.Len(t, again.Records, 5)
	require.NoError(t, s.Close())

	s = open(t, dir)
	require.False(t, s.Empty())
	oldest, _ := s.Oldest()
	require.Equal(t, at.Add(7*time.Second), oldest)
	require.Equal(t, want[7:], drain(t, s))
	require.NoError(t, s.Close())

	s = open(t, dir)
	require.True(t, s.Empty())
	require.Empty(t, drain(t, s))
}

// A kill may leave any beginning of what was written: each record whose end is there comes out, nothing
// else does, and the spool goes on.
func TestCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir, MaxBytes: 1 << 20})
	require.NoError(t, err)
	want := fill(t, s, 8)
	require.NoError(t, s.Close())
	segment := slices.Sorted(segments(t, dir))[0]
	whole, err := os.ReadFile(filepath.Join(dir, segment))
	require.NoError(t, err)
	var ends []int
	for i, text := range want {
		ends = append(ends, headerSize+len(text))
		if i > 0 {
			ends[i] += ends[i-1]
		}
	}
	for cut := range len(whole) + 1 {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, segment), whole[:cut], 0o600))
		s := open(t, dir)
		complete := 0
		for complete < len(ends) && ends[complete] <= cut {
			complete++
		}
		require.NoError(t, s.Append(at, []byte("after")))
		got := drain(t, s)
		require.Equal(t, append(slices.Clone(want[:complete]), "after"), got, "cut at %d", cut)
		_, aside := s.Bytes()
		require.Zero(t, aside, "a torn end is no damage")
		require.NoError(t, s.Close())
	}
}

func TestDamageCostsOnlyWhatIsDamaged(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		require.NoError(rt, err)
		defer os.RemoveAll(dir)
		s, err := Open(Config{Dir: dir, MaxBytes: 1 << 20})
		require.NoError(rt, err)
		var want []string
		for i := range 10 {
			// TRSP within the data must not mislead the search for the next frame.
			want = append(want, fmt.Sprintf("TRSP%dTRSP%s", i, strings.Repeat("TRSP", i%3)))
			require.NoError(rt, s.Append(at, []byte(want[i])))
		}
		require.NoError(rt, s.Close())
		path := filepath.Join(dir, "000000000001.segment")
		whole, err := os.ReadFile(path)
		require.NoError(rt, err)
		victim := rapid.IntRange(0, 8).Draw(rt, "victim")
		from := 0
		for _, w := range want[:victim] {
			from += headerSize + len(w)
		}
		i := from + rapid.IntRange(0, headerSize+len(want[victim])-1).Draw(rt, "byte")
		whole[i] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
		require.NoError(rt, os.WriteFile(path, whole, 0o600))

		s, err = Open(Config{Dir: dir, MaxBytes: 1 << 20})
		require.NoError(rt, err)
		defer s.Close()
		b, err := s.Next(100, 1<<20)
		require.NoError(rt, err)
		require.Equal(rt, slices.Delete(slices.Clone(want), victim, victim+1), texts(b))
		require.Equal(rt, int64(headerSize+len(want[victim])), b.Damaged)
		require.NoError(rt, s.Done(b))
		kept, err := os.ReadFile(filepath.Join(dir, "aside", "000000000001.segment"))
		require.NoError(rt, err, "the damaged segment is kept")
		require.Equal(rt, whole, kept)
		require.True(rt, s.Empty())
	})
}

func TestManyShareAnFsyncAndNothingIsLost(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				assert.NoError(t, s.Append(at, fmt.Appendf(nil, "%d/%d", i, j), fmt.Appendf(nil, "%d/%d+", i, j)))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[string]int{}
	last := map[string]int{}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, text := range drain(t, s) {
			seen[text]++
			var i, j int
			if n, _ := fmt.Sscanf(text, "%d/%d", &i, &j); n == 2 && !strings.HasSuffix(text, "+") {
				require.GreaterOrEqual(t, j, last[fmt.Sprint(i)], "each one's records in order")
				last[fmt.Sprint(i)] = j
			}
		}
	}
	require.Len(t, seen, 8*20*2)
	for text, n := range seen {
		require.Equal(t, 1, n, text)
	}
}

func TestFullRefusesAndDropsNothing(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir(), MaxBytes: 1000, SegmentBytes: 300})
	require.NoError(t, err)
	defer s.Close()
	var want []string
	for i := 0; ; i++ {
		text := fmt.Sprintf("%050d", i)
		if err := s.Append(at, []byte(text)); err != nil {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		want = append(want, text)
	}
	require.Len(t, want, 1000/(50+headerSize))
	require.Equal(t, want, drain(t, s))
	require.NoError(t, s.Append(at, []byte("room again")))
}

func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s, 3)
	require.NoError(t, s.SetAside(at, []byte("poison")))
	require.NoError(t, s.SetAside(at, []byte("venom")))
	drain(t, s)
	_, aside := s.Bytes()
	require.Equal(t, int64(2*headerSize+len("poison")+len("venom")), aside)
	require.NoError(t, s.Close())

	for name := range segments(t, filepath.Join(dir, "aside")) {
		require.NoError(t, os.Rename(filepath.Join(dir, "aside", name), filepath.Join(dir, name)))
	}
	s = open(t, dir)
	require.Equal(t, []string{"poison", "venom"}, drain(t, s), "put back it is read again")
}

func TestAFailedWriteIsAnErrorAndTheNextOneWorks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, s.Append(at, []byte("one")))
	require.NoError(t, s.active.file.Close()) // as if the disk went away under it
	require.Error(t, s.Append(at, []byte("two")))
	require.NoError(t, s.Append(at, []byte("three")))
	require.Equal(t, []string{"one", "three"}, drain(t, s))
}

func TestOneProcessHoldsTheFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := Open(Config{Dir: dir, MaxBytes: 1})
	require.Error(t, err)
	require.NoError(t, s.Close())
	open(t, dir)
}

func TestALostNoteOfWhatIsDoneGivesOutAgain(t *testing.T) {
	for name, text := range map[string]string{"gone": "", "nonsense": "\x00\x00", "beyond": "99 99"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(Config{Dir: dir, MaxBytes: 1 << 20})
			require.NoError(t, err)
			want := fill(t, s, 5)
			b, err := s.Next(2, 1<<20)
			require.NoError(t, err)
			require.NoError(t, s.Done(b))
			require.NoError(t, s.Close())
			require.NoError(t, os.WriteFile(filepath.Join(dir, "done"), []byte(text), 0o600))
			require.Equal(t, want, drain(t, open(t, dir)))
		})
	}
}

func TestLimits(t *testing.T) {
	s := open(t, t.TempDir())
	require.ErrorIs(t, s.Append(at, bytes.Repeat([]byte{0}, MaxRecordBytes+1)), ErrTooLarge)
	require.NoError(t, s.Append(at), "nothing to append is nothing to do")
	require.True(t, s.Empty())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Append(at, []byte("x")), ErrClosed)
	require.ErrorIs(t, s.SetAside(at, []byte("x")), ErrClosed)
}

func segments(t testing.TB, dir string) func(yield func(string) bool) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	return func(yield func(string) bool) {
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), suffix) && !yield(e.Name()) {
				return
			}
		}
	}
}
