package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/ingress"
	"tributary.dev/libs/ingress/ingresstest"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func ids(events []*pb.ChannelEvent) (all []string) {
	for _, e := range events {
		all = append(all, e.GetId())
	}
	return all
}

// aside are the entries set aside, with why.
func aside(t testing.TB, m *ingresstest.Mesh) (why []string) {
	t.Helper()
	from := filepath.Join(m.Config().DataDir, "spool", "aside")
	copied := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(copied, "spool"), os.DirFS(from)))
	s, err := spool.Open(spool.Config{Dir: filepath.Join(copied, "spool"), MaxBytes: 1 << 30})
	require.NoError(t, err)
	defer s.Close()
	b, err := s.Next(1000, 1<<30)
	require.NoError(t, err)
	for _, r := range b.Records {
		e := &pb.SpoolEntry{}
		_ = proto.Unmarshal(r.Data, e)
		why = append(why, e.GetSetAside())
	}
	return why
}

// spooled counts the records that are not done.
func spooled(t testing.TB, m *ingresstest.Mesh) int {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(m.Config().DataDir, "spool"))))
	s, err := spool.Open(spool.Config{Dir: copied, MaxBytes: 1 << 30})
	require.NoError(t, err)
	defer s.Close()
	b, err := s.Next(1000, 1<<30)
	require.NoError(t, err)
	return len(b.Records)
}

func TestWhatCannotBePublishedIsSpooledAndComesHomeTheSame(t *testing.T) {
	events := []any{direct("a1", "1"), direct("a2", "2"), channel.Event{Type: channel.TypeRevocation, Account: "a1", Key: "3", Reason: "gone"}}
	whole := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, whole, events...))
	want := ids(whole.Publisher.Events(t))

	for name, away := range map[string]func(*ingresstest.Mesh, bool){
		"the brokers away": func(m *ingresstest.Mesh, away bool) { m.Publisher.SetAway(away) },
		"the registry away": func(m *ingresstest.Mesh, away bool) {
			m.Registry.FailWith(nil)
			if away {
				m.Registry.FailWith(ingresstest.ErrAway)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			away(m, true)
			from := m.Clock.NowMicros()
			require.Equal(t, http.StatusOK, post(t, m, events...))
			to := m.Clock.NowMicros()
			require.Empty(t, m.Publisher.Messages())
			require.Equal(t, 3, spooled(t, m))
			noCanaryOnDisk(t, m)

			m.Restart(t)
			away(m, false)
			require.NoError(t, m.Flush(t.Context()))

			got := m.Publisher.Events(t)
			require.Equal(t, want, ids(got))
			for _, e := range got {
				require.True(t, from <= e.GetReceivedAtUs() && e.GetReceivedAtUs() <= to, "received when it came, not when it was drained")
				require.Equal(t, e.GetReceivedAtUs(), e.GetOrderUs())
			}
			var content pb.Content
			open(t, m, "workspace-1", part(t, got[0], pb.Category_CATEGORY_CONTENT), seal.OriginContent(got[0].GetMessageId(), got[0].GetOrderUs()), &content)
			require.Equal(t, "I am "+canary, content.GetText())
			require.Zero(t, spooled(t, m))
			require.NoError(t, m.Flush(t.Context()))
			require.Len(t, m.Publisher.Messages(), 3, "and only once")
		})
	}
}

func noCanaryOnDisk(t testing.TB, m *ingresstest.Mesh) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(m.Config().DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.False(t, bytes.Contains(content, []byte(canary)), "personal data in %s", path)
		return err
	}))
}

func TestTheBreakerSpoolsStraightAwayUntilAProbeSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, func(c *ingress.Config) { c.BreakerPause = time.Second })
		m.Publisher.FailWith(func(ctx context.Context, _ []bus.Message) error { <-ctx.Done(); return ctx.Err() })
		begun := time.Now()
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
		require.Equal(t, m.Config().PublishBudget, time.Since(begun), "the first waits its budget")
		for i := range 10 {
			require.Equal(t, http.StatusOK, post(t, m, direct("a1", fmt.Sprint("w", i))))
		}
		require.Equal(t, m.Config().PublishBudget, time.Since(begun), "the others do not wait")
		require.Equal(t, 1, m.Publisher.Calls())

		time.Sleep(2 * time.Second)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "probe")))
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "after")))
		require.Equal(t, 2, m.Publisher.Calls(), "one probes")

		m.Publisher.SetAway(false)
		time.Sleep(2 * time.Second)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "back")))
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "and on")))
		require.Len(t, m.Publisher.Messages(), 2)
		require.NoError(t, m.Flush(t.Context()))
		require.Len(t, m.Publisher.Messages(), 15)
	})
}

func TestTheRegistrysBudget(t *testing.T) {
	m := newMesh(t)
	m.Registry.FailWith(ingresstest.ErrAway)
	for i := range 5 {
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", fmt.Sprint(i))))
	}
	require.Equal(t, 1, m.Registry.Calls("Acquire"))
	require.Zero(t, m.Publisher.Calls())
}

func TestWhoIsRememberedNeedsNoRegistry(t *testing.T) {
	m := newMesh(t)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	m.Registry.FailWith(ingresstest.ErrAway)
	stranger := direct("a1", "2")
	stranger.Author, stranger.Contact = &channel.Identity{Kind: "courier", Value: "a stranger"}, nil
	require.Equal(t, http.StatusOK, post(t, m, stranger))
	require.Equal(t, 1, spooled(t, m))
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "3")), "the breaker is open")
	read := channel.Event{Type: channel.TypeReceipt, Account: "a1", Key: "4", Contact: direct("a1", "3").Contact, Target: "m-3", Receipt: &channel.Receipt{Status: channel.StatusRead}}
	require.Equal(t, http.StatusOK, post(t, m, read))
	require.Len(t, m.Publisher.Messages(), 3)
	require.Equal(t, 1, spooled(t, m))
}

func TestTooMuchInFlightIsNoOutage(t *testing.T) {
	m := newMesh(t)
	m.Publisher.FailWith(func(context.Context, []bus.Message) error { return bus.ErrFull })
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	m.Publisher.SetAway(false)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "2")))
	require.Len(t, m.Publisher.Messages(), 1)
	require.Equal(t, 1, spooled(t, m))
}

func TestWhatCannotBeKeptIsRefused(t *testing.T) {
	refused := func(t *testing.T, m *ingresstest.Mesh, code string) {
		t.Helper()
		answer := m.Do(signed(today, "app", body(t, direct("a1", "refused"))))
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
		require.NotEmpty(t, answer.Header().Get("Retry-After"))
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Contains(t, string(text), `"`+code+`"`)
		require.NotContains(t, string(text), canary)
	}
	t.Run("no spool key", func(t *testing.T) {
		m := newMesh(t)
		m.Publisher.SetAway(true)
		m.SpoolKeys.Set(nil)
		refused(t, m, "unavailable_spool_key")
	})
	t.Run("the spool full", func(t *testing.T) {
		m := newMesh(t, func(c *ingress.Config) { c.SpoolBytes = 2000 })
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
		refused(t, m, "unavailable_spool_full")
		require.Equal(t, 1, spooled(t, m), "nothing was dropped for it")
	})
	t.Run("the spool lagging", func(t *testing.T) {
		m := newMesh(t)
		var ahead atomic.Int64
		m.Clock.Local = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
		ahead.Store(int64(7*24*time.Hour - time.Minute))
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "2")))
		ahead.Store(int64(7 * 24 * time.Hour))
		refused(t, m, "unavailable_spool_lagging")
		m.Publisher.SetAway(false)
		require.NoError(t, m.Flush(t.Context()))
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "3")), "drained, it takes in again")
	})
	t.Run("the spool unwritable", func(t *testing.T) {
		m := newMesh(t)
		m.Publisher.SetAway(true)
		require.NoError(t, os.RemoveAll(m.Config().DataDir))
		refused(t, m, "unavailable_spool")
	})
}

func TestAPersonErasedMeanwhileStaysErased(t *testing.T) {
	m := newMesh(t)
	m.Publisher.SetAway(true)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "old")))
	who := m.Known(t, "workspace-1", channel.Identity{Kind: "courier_user", Value: "user-" + canary})
	m.Registry.Destroy(who.ID)
	m.Seal.Evict(who.ID)
	made := m.Registry.Subjects()
	m.Publisher.SetAway(false)
	require.NoError(t, m.Flush(t.Context()))

	events := m.Publisher.Events(t)
	require.Len(t, events, 1)
	require.Equal(t, pb.EventType_EVENT_TYPE_ERASED, events[0].GetType())
	require.Equal(t, channel.EventID("connection-1", channel.TypeMessage, "old", time.Time{}), events[0].GetId(), "remembered as seen")
	require.Empty(t, events[0].GetParts())
	require.Empty(t, events[0].GetExternalId())
	require.Equal(t, made, m.Registry.Subjects(), "no new person was made")

	t.Run("a redelivery whose signature is older too", func(t *testing.T) {
		body := fmt.Appendf(nil, `{"SignedAt":%q,"Events":[{"Type":"message","Account":"a1","Key":"old","ExternalID":"x","Author":{"Kind":"courier_user","Value":"user-%s"},"Content":{"Text":"t"},"Thread":{"ID":"g","Group":true}}]}`,
			time.Now().Add(-time.Hour).Format(time.RFC3339), canary)
		m.Restart(t)
		require.Equal(t, http.StatusOK, m.Do(signed(today, "app", body)).Code)
		events := m.Publisher.Events(t)
		require.Equal(t, pb.EventType_EVENT_TYPE_ERASED, events[len(events)-1].GetType())
		require.Equal(t, made, m.Registry.Subjects())
	})
	t.Run("one that was signed at its own time, beside another's", func(t *testing.T) {
		old, other := direct("a1", "signed"), direct("a1", "other")
		old.ActedAt = time.Now().Add(-time.Hour)
		other.Author, other.Contact = &channel.Identity{Kind: "courier_user", Value: "another"}, nil
		other.ActedAt, other.Thread = time.Now().Add(-time.Hour), channel.Thread{ID: "g", Group: true}
		require.Equal(t, http.StatusOK, post(t, m, old, other))
		events := m.Publisher.Events(t)
		require.Equal(t, pb.EventType_EVENT_TYPE_ERASED, events[len(events)-2].GetType())
		require.Equal(t, pb.EventType_EVENT_TYPE_MESSAGE, events[len(events)-1].GetType())
		made++
		require.Equal(t, made, m.Registry.Subjects())
	})
	t.Run("who writes again is new", func(t *testing.T) {
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "new")))
		require.Equal(t, made+1, m.Registry.Subjects())
	})
}

func TestAConnectionDisabledMeanwhileChangesNothingForWhatWasAccepted(t *testing.T) {
	m := newMesh(t)
	m.Publisher.SetAway(true)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	m.Accounts.AddConnection(&pb.Connection{Id: "connection-1", ExternalId: "a1", Status: pb.ConnectionStatus_CONNECTION_STATUS_DISABLED}, nil)
	m.Publisher.SetAway(false)
	require.NoError(t, m.Flush(t.Context()))
	require.Len(t, m.Publisher.Messages(), 1)
}

func TestFaultsOfTheDataAreSetAsideAndDelayNone(t *testing.T) {
	t.Run("in a request", func(t *testing.T) {
		m := newMesh(t)
		large := direct("a1", "large")
		large.Content.Text = strings.Repeat("x", bus.MaxValueBytes)
		nameless := direct("a1", "nameless")
		nameless.Author, nameless.Contact = &channel.Identity{Kind: "courier_user"}, nil
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1"), large, nameless, channel.Event{Type: "riddle", Account: "a1", Key: "r"}, direct("a1", "2")))
		require.Len(t, m.Publisher.Messages(), 2)
		require.ElementsMatch(t, []string{"too_large", "invalid_identity", "unknown_type"}, aside(t, m))
		noCanaryOnDisk(t, m)
	})
	t.Run("in a request, where they can't be", func(t *testing.T) {
		m := newMesh(t)
		m.SpoolKeys.Set(nil)
		require.Equal(t, http.StatusServiceUnavailable, post(t, m, channel.Event{Type: "riddle", Account: "a1", Key: "r"}))
	})
	t.Run("in the spool", func(t *testing.T) {
		m := newMesh(t)
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1"), channel.Event{Type: "riddle", Account: "a1", Key: "r"}, direct("a1", "2")))
		require.NoError(t, m.Close())
		s, err := spool.Open(spool.Config{Dir: filepath.Join(m.Config().DataDir, "spool"), MaxBytes: 1 << 20})
		require.NoError(t, err)
		forged, err := proto.Marshal(&pb.SpoolEntry{SpoolKeyId: m.Registry.SpoolKey().GetId(), Enc: []byte("e"), SealedKey: []byte("k"), Ciphertext: []byte("c")})
		require.NoError(t, err)
		require.NoError(t, s.Append(time.Now(), []byte("\xff nonsense"), forged))
		require.NoError(t, s.Close())
		m.Restart(t)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "3")))

		// The brokers refuse one message for what it is, and fail once in between.
		poison := channel.EventID("connection-1", channel.TypeMessage, "2", time.Time{})
		calls := 0
		m.Publisher.FailWith(func(_ context.Context, msgs []bus.Message) error {
			if calls++; calls == 2 {
				return ingresstest.ErrAway
			}
			for _, msg := range msgs {
				if bytes.Contains(msg.Value, []byte(poison)) {
					return bus.DataFault("refused", ingresstest.ErrAway)
				}
			}
			return nil
		})
		require.NoError(t, m.Flush(t.Context()))
		got := map[string]bool{}
		for _, id := range ids(m.Publisher.Events(t)) {
			got[id] = true
		}
		require.Equal(t, map[string]bool{
			channel.EventID("connection-1", channel.TypeMessage, "1", time.Time{}): true,
			channel.EventID("connection-1", channel.TypeMessage, "3", time.Time{}): true,
		}, got)
		why := map[string]bool{}
		for _, w := range aside(t, m) {
			why[w] = true
		}
		require.Subset(t, why, map[string]bool{"unknown_type": true, "refused": true, "key_lost": true, "": true})
		require.Zero(t, spooled(t, m))
	})
	t.Run("in the spool, where there is no room aside", func(t *testing.T) {
		m := newMesh(t)
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1"), channel.Event{Type: "riddle", Account: "a1", Key: "r"}, direct("a1", "2")))
		m.Publisher.SetAway(false)
		folder := filepath.Join(m.Config().DataDir, "spool", "aside")
		for number := 2; number < 9; number++ { // no such file can be made
			require.NoError(t, os.Mkdir(filepath.Join(folder, fmt.Sprintf("%012d.segment", number)), 0o700))
		}
		require.NoError(t, m.Flush(t.Context()))
		require.Len(t, m.Publisher.Messages(), 2, "nothing is published again, and nothing waits")
		require.FileExists(t, filepath.Join(folder, fmt.Sprintf("%012d.segment", 1)))
		require.Zero(t, spooled(t, m))
	})
	t.Run("a spool key that is gone", func(t *testing.T) {
		m := newMesh(t)
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
		m.Publisher.SetAway(false)
		m.Registry.LoseSpoolKey()
		require.NoError(t, m.Flush(t.Context()))
		require.Empty(t, m.Publisher.Messages())
		require.Equal(t, []string{"key_lost"}, aside(t, m))
	})
}

func TestTheDrainRunsByItself(t *testing.T) {
	m := newMesh(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Drain(ctx) }()
	for round := range 3 {
		m.Publisher.SetAway(true)
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", fmt.Sprint(round))))
		m.Publisher.SetAway(false)
		require.Eventually(t, func() bool { return len(m.Publisher.Messages()) == round+1 }, 10*time.Second, 5*time.Millisecond)
	}
	cancel()
	require.NoError(t, <-ended)
}

func TestFlushGivesUpWithItsContextAndKeepsTheRest(t *testing.T) {
	m := newMesh(t)
	m.Publisher.SetAway(true)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, m.Flush(ctx))
	require.Equal(t, 1, spooled(t, m))
}

// The folder as kill -9 leaves it: copied while requests are answered, and cut anywhere. Each request
// answered before the copy comes home, whatever is cut off behind it.
func TestKilledWhileSpooling(t *testing.T) {
	m := newMesh(t)
	m.Publisher.SetAway(true)
	for i := range 3 {
		require.Equal(t, http.StatusOK, post(t, m, direct("a1", fmt.Sprint(i))))
	}
	dir := filepath.Join(m.Config().DataDir, "spool")
	segment := filepath.Join(dir, "000000000001.segment")
	answered, err := os.ReadFile(segment)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "dying")))
	whole, err := os.ReadFile(segment)
	require.NoError(t, err)
	require.NoError(t, m.Close())

	for cut := len(answered); cut <= len(whole); cut += max(1, (len(whole)-len(answered))/25) {
		after := newMesh(t)
		require.NoError(t, after.Close())
		require.NoError(t, os.WriteFile(filepath.Join(after.Config().DataDir, "spool", "000000000001.segment"), whole[:cut], 0o600))
		after.Seal, after.Registry = m.Seal, m.Registry
		after.Restart(t)
		require.NoError(t, after.Flush(t.Context()))
		want := 3
		if cut == len(whole) {
			want = 4
		}
		require.Len(t, after.Publisher.Messages(), want, "cut at %d", cut)
	}
}

func TestTooManyRequestsAtOnce(t *testing.T) {
	m := newMesh(t, func(c *ingress.Config) { c.MaxRequests = 2 })
	hold, begun := make(chan struct{}), make(chan struct{}, 2)
	m.Publisher.FailWith(func(context.Context, []bus.Message) error {
		begun <- struct{}{}
		<-hold
		return nil
	})
	answers := make(chan int, 2)
	for i := range 2 {
		go func() { answers <- post(t, m, direct("a1", fmt.Sprint(i))) }()
	}
	<-begun
	<-begun
	require.Equal(t, http.StatusServiceUnavailable, post(t, m, direct("a1", "one too many")))
	close(hold)
	require.Equal(t, http.StatusOK, <-answers)
	require.Equal(t, http.StatusOK, <-answers)
}

// Who sends slowly takes room for what has come, and no place; who promises much is given little.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	m := newMesh(t, func(c *ingress.Config) { c.MaxRequests, c.BodyBytes = 1, 160<<10 })
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	for range 10 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "POST /webhooks/courier/app HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{")
		require.NoError(t, err)
	}
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "1")))
	fits, tooMuch := bytes.Repeat([]byte(" "), 20<<10), bytes.Repeat([]byte(" "), 150<<10)
	require.Equal(t, http.StatusUnauthorized, m.Do(signed("wrong", "app", fits)).Code)
	require.Equal(t, http.StatusUnauthorized, m.Do(unsized(signed("wrong", "app", fits))).Code)
	require.Equal(t, http.StatusServiceUnavailable, m.Do(signed(today, "app", tooMuch)).Code)
	require.Equal(t, http.StatusServiceUnavailable, m.Do(unsized(signed(today, "app", tooMuch))).Code)
	require.Equal(t, http.StatusOK, post(t, m, direct("a1", "2")), "what was refused has left")
}

func TestASlowBodyTimesOut(t *testing.T) {
	m := newMesh(t)
	server := httptest.NewUnstartedServer(m.Handler())
	server.Config.ReadTimeout = 50 * time.Millisecond
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /webhooks/courier/app HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "408 Request Timeout")
}

func TestAProviderThatHangsUpIsTakenInAllTheSame(t *testing.T) {
	m := newMesh(t)
	ctx, hangUp := context.WithCancel(t.Context())
	m.Publisher.FailWith(func(ctx context.Context, _ []bus.Message) error {
		hangUp()
		return ctx.Err()
	})
	m.Do(signed(today, "app", body(t, direct("a1", "1"))).WithContext(ctx))
	require.Len(t, m.Publisher.Messages(), 1)
}
