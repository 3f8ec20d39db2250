package egress

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func TestTurnsOfALimit(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	p := newPacer(2*time.Second, 1)
	limit := channel.Pace{Key: "k", Every: time.Second, Burst: 2}
	for i, want := range []time.Duration{0, 0, time.Second, 2 * time.Second} {
		due, notBefore := p.reserve("k", limit, now)
		require.Zero(t, notBefore, "turn %d", i)
		require.Equal(t, want, due.Sub(now), "turn %d", i)
	}
	for i, want := range []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second} {
		due, notBefore := p.reserve("k", limit, now)
		require.Zero(t, due, "deferral %d", i)
		require.Equal(t, want, notBefore.Sub(now), "deferral %d: they come back one after the other", i)
	}
	due, _ := p.reserve("k", limit, now.Add(3*time.Second))
	require.Equal(t, 3*time.Second, due.Sub(now), "what was deferred has used no turn up")
	due, _ = p.reserve("other", limit, now)
	require.Equal(t, now, due)
}

func TestAPauseOutranksTheLimit(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for name, limit := range map[string]channel.Pace{"limited": {Key: "k", Every: time.Second}, "unlimited": {Key: "k"}} {
		t.Run(name, func(t *testing.T) {
			p := newPacer(2*time.Second, 1)
			p.pause("k", now, now.Add(time.Minute))
			p.pause("k", now, now.Add(time.Second)) // a shorter one does not end it
			require.Equal(t, now.Add(time.Minute), p.paused("k", now))
			_, notBefore := p.reserve("k", limit, now)
			require.Equal(t, now.Add(time.Minute), notBefore)
			due, notBefore := p.reserve("k", limit, now.Add(59*time.Second))
			require.Zero(t, notBefore)
			require.Equal(t, now.Add(time.Minute), due, "the end of it is waited for")
			require.Zero(t, p.paused("k", now.Add(time.Minute)))
		})
	}
}

func TestLimitsAreBoundedAndPausesAreKept(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	p := newPacer(time.Second, 1)
	p.pause("paused", now, now.Add(time.Hour))
	limit := channel.Pace{Every: time.Second}
	for i := range 2*maxPaced + 10 {
		p.reserve(fmt.Sprint(i), limit, now.Add(time.Duration(i)*time.Millisecond))
	}
	require.LessOrEqual(t, len(p.keys), maxPaced)
	require.Equal(t, now.Add(time.Hour), p.paused("paused", now.Add(time.Minute)), "idle limits go first")
}

func TestSeats(t *testing.T) {
	p := newPacer(time.Second, 2)
	require.True(t, p.sit("c1"))
	require.True(t, p.sit("c1"))
	require.False(t, p.sit("c1"))
	require.True(t, p.sit("c2"))
	p.stand("c1")
	require.True(t, p.sit("c1"))
	p.stand("c1")
	p.stand("c1")
	p.stand("c2")
	require.Empty(t, p.seats)
}

func TestMetadata(t *testing.T) {
	position, err := parseMetadata(formatMetadata(1_700_000_000_000_001))
	require.NoError(t, err)
	require.EqualValues(t, 1_700_000_000_000_001, position)
	position, err = parseMetadata("")
	require.NoError(t, err)
	require.Zero(t, position)
	for _, foreign := range []string{"17", "position/2 17", "position/1 x"} {
		_, err := parseMetadata(foreign)
		require.Error(t, err, foreign)
	}
}
