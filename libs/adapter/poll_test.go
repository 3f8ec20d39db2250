package adapter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	first  = "11111111-1111-4111-8111-111111111111"
	second = "22222222-2222-4222-8222-222222222222"
)

// street is a provider with shops, the accounts that name them, and an inlet, in one.
type street struct {
	mu     sync.Mutex
	states map[string]pb.ConnectionStatus
	// poll answers for a connection; asked are the times that each was asked from, and when.
	poll  func(id string, since time.Time) (channel.Result, time.Time, bool, error)
	asked map[string][]asked
	// refuse makes Take fail.
	refuse bool
	taken  map[string][]channel.Event
}

type asked struct{ since, at time.Time }

func newStreet() *street {
	return &street{
		states: map[string]pb.ConnectionStatus{first: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE},
		asked:  map[string][]asked{}, taken: map[string][]channel.Event{},
		poll: func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			return channel.Result{}, since, false, nil
		},
	}
}

func (s *street) Ready() bool { return true }

func (s *street) Connections() (all []*pb.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, status := range s.states {
		all = append(all, &pb.Connection{Id: id, ExternalId: "shop-" + id[:1], Status: status})
	}
	return all
}

func (s *street) Opened(_ context.Context, c *pb.Connection) (*channel.Connection, error) {
	return &channel.Connection{ID: c.GetId(), ExternalID: c.GetExternalId()}, nil
}

func (s *street) PollEvery() time.Duration { return 10 * time.Minute }

func (s *street) Poll(_ context.Context, conn *channel.Connection, since time.Time) (channel.Result, time.Time, bool, error) {
	s.mu.Lock()
	s.asked[conn.ID] = append(s.asked[conn.ID], asked{since, time.Now()})
	poll := s.poll
	s.mu.Unlock()
	return poll(conn.ID, since)
}

func (s *street) Account(context.Context, string) (*channel.Connection, bool, error) {
	return nil, false, errors.New("not asked by a poller")
}

func (s *street) Take(_ context.Context, conn *channel.Connection, result channel.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse {
		return errors.New("away")
	}
	s.taken[conn.ID] = append(s.taken[conn.ID], result.Events...)
	return nil
}

// during runs a poller of the street for a while, and gives how often each connection was asked.
func (s *street) during(t *testing.T, dir string, d time.Duration) map[string]int {
	t.Helper()
	s.asked = map[string][]asked{}
	p, err := newPoller("shop", s, s, s, dir, 24*time.Hour, &clock.Clock{Local: time.Now}, telemetry.Discard())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	times := map[string]int{}
	for id, all := range s.asked {
		times[id] = len(all)
	}
	return times
}

func told(key string) channel.Result {
	return channel.Result{Events: []channel.Event{{Type: channel.TypeCommerce, Key: key}}}
}

func TestAConnectionIsAskedOnItsScheduleFromWhereItWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := filepath.Join(t.TempDir(), "poll"), newStreet()
		began := time.Now()
		newest := began.Add(-time.Hour)
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			return told("a"), newest, false, nil
		}
		n := s.during(t, dir, time.Hour)[first]
		require.True(t, n >= 5 && n <= 7, "asked %d times in an hour", n)
		require.True(t, s.asked[first][0].since.After(began.Add(-24*time.Hour-time.Minute)), "begins a while back")
		require.Equal(t, newest.Add(-pollOverlap).UTC(), s.asked[first][1].since.UTC(), "goes on from what it was told, with an overlap")

		s.during(t, dir, 10*time.Minute)
		require.Equal(t, newest.Add(-pollOverlap).UTC(), s.asked[first][0].since.UTC(), "also after a restart")
	})
}

func TestHowFarWasAskedMovesOnlyOnceItIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, s := filepath.Join(t.TempDir(), "poll"), newStreet()
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			return told("a"), time.Now(), false, nil
		}
		s.refuse = true
		s.during(t, dir, time.Hour)
		mark, err := marks{dir}.read(first)
		require.NoError(t, err)
		require.Zero(t, mark)
		require.Empty(t, s.taken)

		s.refuse = false
		s.during(t, dir, 10*time.Minute)
		mark, err = marks{dir}.read(first)
		require.NoError(t, err)
		require.False(t, mark.IsZero())
		require.NotEmpty(t, s.taken[first])
	})
}

func TestPagesFollowOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		left := 5
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			left--
			return told("a"), since.Add(time.Minute), left > 0, nil
		}
		require.Equal(t, 5, s.during(t, t.TempDir(), 5*time.Minute)[first])
		all := s.asked[first]
		for i := 1; i < len(all); i++ {
			require.GreaterOrEqual(t, all[i].at.Sub(all[i-1].at), pollPagePause, "no provider is pressed")
			require.Equal(t, all[i-1].since.Add(time.Minute), all[i].since)
		}
	})
}

func TestAProviderThatGoesNowhereIsNotAskedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			return channel.Result{}, since, true, nil
		}
		require.Less(t, s.during(t, t.TempDir(), 10*time.Minute)[first], 10)
	})
}

func TestOneThatCanNotBeAskedBacksOffAndHoldsNobodyUp(t *testing.T) {
	for what, failure := range map[string]func() error{
		"refused":     func() error { return &channel.Error{Class: channel.ClassReject, Code: "http_403"} },
		"a fault":     func() error { return errors.New("some fault") },
		"it panicked": func() error { panic("an order of somebody's") },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStreet()
				s.states[second] = pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
				s.poll = func(id string, since time.Time) (channel.Result, time.Time, bool, error) {
					if id == first {
						return channel.Result{}, since, false, failure()
					}
					return told("b"), since, false, nil
				}
				times := s.during(t, t.TempDir(), 6*time.Hour)
				require.Greater(t, times[second], 30, "the other is asked on its schedule")
				require.True(t, times[first] >= 8 && times[first] <= 18, "asked %d times in six hours", times[first])
			})
		})
	}
}

func TestAProvidersPauseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			return channel.Result{}, since, false, &channel.Error{Class: channel.ClassRetry, Code: "http_429", RetryAfter: 40 * time.Minute}
		}
		require.LessOrEqual(t, s.during(t, t.TempDir(), 70*time.Minute)[first], 2)
	})
}

func TestASlowOneHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		s.states[second] = pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
		s.poll = func(id string, since time.Time) (channel.Result, time.Time, bool, error) {
			if id == first {
				time.Sleep(3 * time.Hour)
			}
			return channel.Result{}, since, false, nil
		}
		require.Greater(t, s.during(t, t.TempDir(), 2*time.Hour)[second], 10)
	})
}

func TestVoidCredentialsAreToldAndNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		s.poll = func(_ string, since time.Time) (channel.Result, time.Time, bool, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.states[first] = pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE // as connect does when it is told
			return channel.Result{}, since, false, &channel.Error{Class: channel.ClassReauthorise, Code: "invalid_auth"}
		}
		require.Equal(t, 1, s.during(t, t.TempDir(), 3*time.Hour)[first])
		require.Len(t, s.taken[first], 1)
		require.Equal(t, channel.TypeRevocation, s.taken[first][0].Type)
		require.Equal(t, "invalid_auth", s.taken[first][0].Reason)
	})
}

func TestOnlyActiveConnectionsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreet()
		s.states[first] = pb.ConnectionStatus_CONNECTION_STATUS_DISABLED
		require.Empty(t, s.during(t, t.TempDir(), time.Hour))
	})
}

func TestMarks(t *testing.T) {
	m := marks{filepath.Join(t.TempDir(), "poll")}
	at := time.Date(2026, 3, 14, 15, 9, 26, 535898000, time.UTC)

	got, err := m.read(first)
	require.NoError(t, err)
	require.Zero(t, got, "none")
	require.NoError(t, m.sweep(nil), "no folder")
	require.NoError(t, m.write(first, at))
	require.NoError(t, m.write(second, at))
	got, err = m.read(first)
	require.NoError(t, err)
	require.Equal(t, at, got)

	require.NoError(t, m.sweep(map[string]bool{first: true}))
	got, err = m.read(second)
	require.NoError(t, err)
	require.Zero(t, got, "of a connection that is no more")

	require.NoError(t, os.WriteFile(filepath.Join(m.dir, first+markSuffix), []byte("half a ti"), 0o600))
	got, err = m.read(first)
	require.NoError(t, err)
	require.Zero(t, got, "what is no time is as none")
	require.Error(t, m.write("../../etc/passwd", at), "an id leads nowhere else")
}
