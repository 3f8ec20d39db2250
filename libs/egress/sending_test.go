package egress

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	"tributary.dev/libs/wire"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestACommandIsCarriedOutOnce(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		stop := m.run()
		first, second := m.command("first"), m.command("second")
		m.order(first, second)
		got := m.outcome("first")
		require.Equal(t, pb.Status_STATUS_SENT, got.GetStatus())
		require.Equal(t, "x-first", got.GetExternalId())
		require.EqualValues(t, 7, got.GetSentOrderUs())
		m.outcome("second")

		m.order(first, second, m.command("third")) // the relay again, with what follows
		m.outcome("third")
		stop()

		m.run() // another process: what it must know lies in the commit's metadata
		m.order(first, second, m.command("fourth"))
		m.outcome("fourth")
		for _, text := range []string{"first", "second", "third", "fourth"} {
			require.Equal(t, 1, m.provider.seen(text), text)
		}

		m.provider.mu.Lock()
		out := m.provider.last
		m.provider.mu.Unlock()
		require.Equal(t, "U1", out.To)
		require.Equal(t, "T1", out.Thread.ID)
		require.Equal(t, "https://mesh.example/webhooks/model/c1?a=1&k=conversation-fourth&m=fourth&p=0", out.CallbackURL)
	})
}

func TestWhatBecomesOfACall(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.run(func(cfg *Config, _ *Deps) { cfg.LongestCall = 500 * time.Millisecond })

		m.provider.answer("refused", status(http.StatusBadRequest))
		m.provider.answer("server", status(http.StatusInternalServerError))
		m.provider.answer("cut", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		})
		m.provider.answer("slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		var busy atomic.Int64
		m.provider.answer("busy", func(w http.ResponseWriter, r *http.Request) {
			if busy.Add(1) < 3 {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			_, _ = w.Write([]byte(`{"id":"x"}`))
		})
		for _, text := range []string{"refused", "server", "cut", "slow", "busy", "forbidden"} {
			m.order(m.command(text))
		}
		for text, want := range map[string]*pb.Receipt{
			"refused":   {Status: pb.Status_STATUS_FAILED, ErrorClass: pb.ErrorClass_ERROR_CLASS_REJECT, ErrorCode: "no_such_thread"},
			"server":    {Status: pb.Status_STATUS_UNKNOWN, ErrorClass: pb.ErrorClass_ERROR_CLASS_RETRY, ErrorCode: "server"},
			"cut":       {Status: pb.Status_STATUS_UNKNOWN, ErrorCode: codeNoAnswer},
			"slow":      {Status: pb.Status_STATUS_UNKNOWN, ErrorCode: codeTimeout},
			"busy":      {Status: pb.Status_STATUS_SENT},
			"forbidden": {Status: pb.Status_STATUS_FAILED, ErrorClass: pb.ErrorClass_ERROR_CLASS_WINDOW_CLOSED, ErrorCode: "window"},
		} {
			got := m.outcome(text)
			require.Equal(t, want.GetStatus(), got.GetStatus(), text)
			require.Equal(t, want.GetErrorClass(), got.GetErrorClass(), text)
			require.Equal(t, want.GetErrorCode(), got.GetErrorCode(), text)
		}
		require.Equal(t, 3, m.provider.seen("busy"), "a message that was surely not taken is offered again")
		require.Equal(t, 1, m.provider.seen("server"), "one that may have been taken is not")
		require.Zero(t, m.provider.seen("forbidden"))
	})
}

func TestRetryAfterPausesAllOfItsKey(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.run()
		m.provider.answer("busy", status(http.StatusTooManyRequests, "3600"))
		m.order(m.command("busy"))
		got := m.outcome("busy")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.InDelta(t, time.Now().Add(time.Hour).UnixMicro(), got.GetNotBeforeUs(), 60e6)
		m.order(m.command("next"), m.command("elsewhere", over("c2")))
		got = m.outcome("next")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.InDelta(t, time.Now().Add(time.Hour).UnixMicro(), got.GetNotBeforeUs(), 60e6)
		require.Zero(t, m.provider.seen("next"))
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("elsewhere").GetStatus())
	})
}

func TestASlowConnectionLeavesRoom(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.run(func(cfg *Config, _ *Deps) { cfg.CallsPerConnection = 1 })
		answer := make(chan struct{})
		m.provider.answer("slow", func(w http.ResponseWriter, _ *http.Request) {
			<-answer
			_, _ = w.Write([]byte(`{"id":"x"}`))
		})
		m.order(m.command("slow"), m.command("behind"), m.command("elsewhere", over("c2")))
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("elsewhere").GetStatus())
		got := m.outcome("behind")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.NotZero(t, got.GetNotBeforeUs())
		require.Empty(t, m.outcomes("slow"))
		close(answer)
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("slow").GetStatus())
	})
}

func TestPacing(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.provider.pace = channel.Pace{Key: "number", Every: 150 * time.Millisecond, Burst: 1}
		m.run()
		m.order(m.command("one"), m.command("two"), m.command("three"), m.command("four"))
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("one").GetStatus())
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("two").GetStatus(), "a short wait is waited")
		three, four := m.outcome("three"), m.outcome("four")
		require.Equal(t, pb.Status_STATUS_DEFERRED, three.GetStatus(), "a long one is not")
		require.Equal(t, pb.Status_STATUS_DEFERRED, four.GetStatus())
		require.InDelta(t, 150e3, four.GetNotBeforeUs()-three.GetNotBeforeUs(), 1e3, "and they do not come back at once")
	})
}

func TestConnectionsThatAreNotActive(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.provider.answer("void", status(http.StatusUnauthorized))
		m.run()
		m.order(m.command("void"))
		got := m.outcome("void")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.True(t, got.GetUntilActive())
		revocations := m.eventsOf(pb.EventType_EVENT_TYPE_REVOCATION)
		require.Len(t, revocations, 1)
		require.Equal(t, "token_revoked", revocations[0].GetReason())
		require.Equal(t, "c1", revocations[0].GetConnectionId())

		m.accounts.set("c1", pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE)
		m.accounts.set("c2", pb.ConnectionStatus_CONNECTION_STATUS_DISABLED)
		m.accounts.set("other", pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
		m.accounts.all["other"].WorkspaceId = "w2"
		m.accounts.set("c3", pb.ConnectionStatus_CONNECTION_STATUS_REVOKED)
		m.accounts.behind["c3"] = &pb.Connection{Id: "c3", WorkspaceId: "w1", Channel: "model", Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE}
		m.order(m.command("parked"), m.command("disabled", over("c2")), m.command("unknown", over("c9")),
			m.command("foreign", over("other")), m.command("again", over("c3")))
		got = m.outcome("parked")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.True(t, got.GetUntilActive())
		for text, code := range map[string]string{"disabled": codeDisabled, "unknown": codeNoConnection, "foreign": codeNoConnection} {
			got = m.outcome(text)
			require.Equal(t, pb.Status_STATUS_FAILED, got.GetStatus(), text)
			require.Equal(t, code, got.GetErrorCode(), text)
		}
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("again").GetStatus(), "a table that was behind is asked again")
	})
}

func TestKeys(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		moved := m.command("moved")
		moved.Content = m.command("elsewhere").GetContent()
		restricted, gone, waits := m.command("restricted"), m.command("gone"), m.command("waits")

		m.keys.Evict(m.subject.ID)
		m.registry.FailWith(errors.New("away"))
		m.run()
		m.order(waits)
		bustest.Eventually(t, "the registry is asked", func() bool { return m.registry.Calls("Unwrap") > 2 })
		require.False(t, m.announced("waits"), "nothing is taken that can't be opened yet")
		m.registry.FailWith(nil)
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("waits").GetStatus())

		m.order(at(m, moved))
		require.Equal(t, codeUnreadable, m.outcome("moved").GetErrorCode())
		m.registry.Restrict(m.subject.ID)
		m.keys.Evict(m.subject.ID)
		m.order(at(m, restricted))
		require.Equal(t, codeRestricted, m.outcome("restricted").GetErrorCode())
		m.registry.Destroy(m.subject.ID)
		m.keys.Evict(m.subject.ID)
		m.order(at(m, gone))
		got := m.outcome("gone")
		require.Equal(t, pb.Status_STATUS_FAILED, got.GetStatus())
		require.Equal(t, pb.ErrorClass_ERROR_CLASS_REJECT, got.GetErrorClass())
		require.Equal(t, codeGone, got.GetErrorCode())
	})
}

// at gives a command made earlier the next position.
func at(m *mesh, cmd *pb.Command) *pb.Command {
	m.position = max(m.position+1, time.Now().UnixMicro())
	cmd.Position = m.position
	return cmd
}

func TestAnOldCommandIsNotBegun(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.run()
		old := m.command("old")
		old.Position = time.Now().Add(-5*time.Minute - time.Second).UnixMicro()
		m.order(old, m.command("new"))
		got := m.outcome("old")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus())
		require.Zero(t, got.GetNotBeforeUs(), "it may go at once")
		require.Equal(t, codeLate, got.GetErrorCode())
		m.outcome("new")
		require.Zero(t, m.provider.seen("old"))
	})
}

func TestWhatCannotBeReadIsSetAside(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		m.run()
		require.Empty(t, m.bus.PublishPartitions(t.Context(), "outbound.model", map[int][]bus.Message{0: {{Key: "k", Value: []byte("\xff\xff")}}}))
		m.order(m.command("after"))
		m.outcome("after")
		letters := make(chan bus.Record, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.bus.Subscribe(ctx, bus.Subscription{Group: "dead", Topics: []string{"dead.outbound.model"}, Handle: func(_ context.Context, batch []bus.Record) error {
				letters <- batch[0]
				return nil
			}})
		}()
		letter := <-letters
		cancel()
		<-done
		require.Equal(t, "\xff\xff", string(letter.Value))
	})
}

// TestKilledBetweenSendingAndCall: the process that took a command is gone before the provider could
// answer; nobody calls again, and nobody else says what became of it.
func TestKilledBetweenSendingAndCall(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		answer := make(chan struct{})
		m.provider.answer("caught", func(http.ResponseWriter, *http.Request) { <-answer })
		t.Cleanup(func() { close(answer) })
		var dead atomic.Bool
		stop := m.run(func(cfg *Config, d *Deps) {
			cfg.StopWithin = time.Millisecond
			d.Receipts = unheard{&dead, &events{m.bus}}
		})
		m.order(m.command("caught"))
		bustest.Eventually(t, "the call", func() bool { return m.provider.seen("caught") == 1 })
		dead.Store(true)
		stop()

		m.run()
		m.order(m.command("after"))
		m.outcome("after")
		require.True(t, m.announced("caught"))
		require.Empty(t, m.outcomes("caught"), "the sweeper's to end")
		require.Equal(t, 1, m.provider.seen("caught"))
	})
}

// unheard swallows what a dead process can't say any more.
type unheard struct {
	dead *atomic.Bool
	Receipts
}

func (u unheard) Report(ctx context.Context, e *pb.ChannelEvent) error {
	if u.dead.Load() {
		return nil
	}
	return u.Receipts.Report(ctx, e)
}

// TestALostCommit: the commit landed and its answer was lost. The command is not called and not reported;
// the process joins anew and goes on behind it.
func TestALostCommit(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		proxy := bustest.NewProxy(t)
		through := c.Open(t, proxy.Through)
		m.run(func(_ *Config, d *Deps) { d.Bus, d.Adapter = through, sendOnly{m.provider} })
		m.order(m.command("before"))
		m.outcome("before")
		proxy.LoseAnswers(wire.OffsetCommit, 1)
		lost := m.command("lost")
		m.order(lost)
		bustest.Eventually(t, "the commit", func() bool { return proxy.Lost(wire.OffsetCommit) == 1 })
		m.order(m.command("after"))
		m.outcome("after")
		require.True(t, m.announced("lost"))
		require.Empty(t, m.outcomes("lost"))
		require.Zero(t, m.provider.seen("lost"))
	})
}

// sendOnly has nothing to fetch, so that all commits of its process are the sender's.
type sendOnly struct{ p *provider }

func (s sendOnly) Name() string                                         { return s.p.Name() }
func (s sendOnly) Verify(r *channel.Request, sec channel.Secrets) error { return s.p.Verify(r, sec) }
func (s sendOnly) Normalise(r *channel.Request) (channel.Result, error) { return s.p.Normalise(r) }
func (s sendOnly) Check(out *channel.Outgoing) error                    { return s.p.Check(out) }
func (s sendOnly) Pace(out *channel.Outgoing) channel.Pace              { return s.p.Pace(out) }
func (s sendOnly) Send(ctx context.Context, o *channel.Outgoing) (channel.Sent, error) {
	return s.p.Send(ctx, o)
}

// TestBrokersAway: a command that was taken keeps its outcome until the brokers are back, and what was not
// committed is taken afterwards.
func TestBrokersAway(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		proxy := bustest.NewProxy(t)
		through := c.Open(t, proxy.Through)
		answer := make(chan struct{})
		m.provider.answer("taken", func(w http.ResponseWriter, _ *http.Request) {
			<-answer
			_, _ = w.Write([]byte(`{"id":"x"}`))
		})
		m.run(func(_ *Config, d *Deps) { d.Bus = through })
		m.order(m.command("taken"))
		bustest.Eventually(t, "the call", func() bool { return m.provider.seen("taken") == 1 })
		proxy.Cut()
		m.order(m.command("waiting"))
		close(answer)
		require.Empty(t, m.outcomes("taken"))
		proxy.Mend()
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("taken").GetStatus())
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("waiting").GetStatus())
		require.Equal(t, 1, m.provider.seen("taken"))
	})
}

func TestStopping(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		answer := make(chan struct{})
		m.provider.answer("under-way", func(w http.ResponseWriter, _ *http.Request) {
			<-answer
			_, _ = w.Write([]byte(`{"id":"x"}`))
		})
		m.provider.answer("again", status(http.StatusTooManyRequests, "20"))
		m.provider.answer("without-end", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		stop := m.run(func(cfg *Config, _ *Deps) { cfg.Hold, cfg.StopWithin = 30*time.Second, time.Second })
		m.order(m.command("under-way"), m.command("again", over("c2")), m.command("without-end"))
		for _, text := range []string{"under-way", "again", "without-end"} {
			bustest.Eventually(t, "the call", func() bool { return m.provider.seen(text) == 1 })
		}
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		got := m.outcome("again")
		require.Equal(t, pb.Status_STATUS_DEFERRED, got.GetStatus(), "it is not offered again")
		close(answer)
		require.Equal(t, pb.Status_STATUS_SENT, m.outcome("under-way").GetStatus(), "a call under way may end")
		got = m.outcome("without-end")
		require.Equal(t, pb.Status_STATUS_UNKNOWN, got.GetStatus(), "but not for ever")
		require.Equal(t, codeCutOff, got.GetErrorCode())
		<-stopped
		require.Equal(t, 1, m.provider.seen("again"))
	})
}

// TestMembersComeAndGo: processes join and stop under load; each command is called once and ends as sent,
// or is handed back.
func TestMembersComeAndGo(t *testing.T) {
	bustest.EachCluster(t, func(t *testing.T, c *bustest.Cluster) {
		m := newMesh(t, c)
		const n = 300
		stop := m.run()
		for i := range n {
			m.order(m.command("m"+strconv.Itoa(i), over([]string{"c1", "c2"}[i%2])))
			if i == n/3 {
				bus := c.Open(t)
				m.run(func(_ *Config, d *Deps) { d.Bus = bus })
			}
			if i == 2*n/3 {
				stop()
			}
		}
		for i := range n {
			text := "m" + strconv.Itoa(i)
			switch got := m.outcome(text); got.GetStatus() {
			case pb.Status_STATUS_SENT:
				require.Equal(t, 1, m.provider.seen(text), text)
			case pb.Status_STATUS_DEFERRED:
				require.Zero(t, m.provider.seen(text), text)
			default:
				t.Errorf("%s ended as %s", text, got.GetStatus())
			}
		}
	})
}

func TestAnAttachmentIsSent(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	m.run()
	ref, err := m.bucket.Store(t.Context(), m.subject, &pb.AttachmentRef{Id: "a1", Kind: "image", ContentType: "image/png"}, bytesOf("picture"))
	require.NoError(t, err)
	cmd := m.command("file", func(c *pb.Command) { c.Kind, c.Attachment = pb.CommandKind_COMMAND_KIND_ATTACHMENT, ref })
	cmd.Content = m.seal(pb.Category_CATEGORY_CONTENT, seal.OriginCommand("file", 0, 1), &pb.Content{
		Text: "file", Attachments: []*pb.Attachment{{Id: "a0", Name: "other"}, {Id: "a1", Name: "holiday.png"}},
	})
	m.order(cmd)
	m.outcome("file")
	m.provider.mu.Lock()
	a := m.provider.last.Attachment
	m.provider.mu.Unlock()
	require.Equal(t, "holiday.png", a.Name)
	require.Equal(t, "image/png", a.ContentType)
	require.EqualValues(t, 7, a.Size)
	r, err := a.Open(t.Context())
	require.NoError(t, err)
	require.Equal(t, "picture", readAll(t, r))
}

// TestLogsAndReceiptsTellNothingOfPersons: texts and addresses stand in the errors of HTTP clients and
// in panics, and must not get further.
func TestLogsAndReceiptsTellNothingOfPersons(t *testing.T) {
	m := newMesh(t, bustest.EmbeddedCluster(t))
	var log lockedBuffer
	tel, err := telemetry.New(telemetry.Config{Service: "model", LogLevel: "debug", LogOutput: &log})
	require.NoError(t, err)
	m.provider.answer("canary", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	})
	m.provider.profile = func(id channel.Identity) (channel.Profile, bool, error) { panic(id.Value) }
	m.run(func(_ *Config, d *Deps) { d.Telemetry = tel })
	cmd := m.command("cut")
	cmd.Content = m.seal(pb.Category_CATEGORY_CONTENT, seal.OriginCommand("cut", 0, 1), &pb.Content{Text: "canary"})
	cmd.Address = m.seal(pb.Category_CATEGORY_PROFILE, seal.OriginProfile(m.subject.ID), &pb.Profile{IdentityValue: "canary"})
	m.order(cmd)
	require.Equal(t, pb.Status_STATUS_UNKNOWN, m.outcome("cut").GetStatus())
	event := m.said("e1", "http://canary.invalid/canary")
	event.Parts[1] = m.seal(pb.Category_CATEGORY_PROFILE, seal.OriginProfile(m.subject.ID), &pb.Profile{IdentityValue: "canary"})
	m.publish(event)
	require.NotEmpty(t, m.attachment(event).GetFailed())
	bustest.Eventually(t, "the panic", func() bool { return strings.Contains(log.String(), "panicked") })
	require.NotContains(t, log.String(), "canary")
	for _, e := range append(m.eventsOf(pb.EventType_EVENT_TYPE_RECEIPT), m.eventsOf(pb.EventType_EVENT_TYPE_ATTACHMENT)...) {
		value, err := proto.Marshal(e)
		require.NoError(t, err)
		require.NotContains(t, string(value), "canary")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A channel that only takes in has nothing to do here, and is not done before its time.
func TestAChannelThatNeitherSendsNorFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- (&Egress{}).Run(ctx) }()
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("ended before its time")
		default:
		}
		stop()
		require.NoError(t, <-ended)
	})
}

func TestFaultsOfTheSettingsAreNamed(t *testing.T) {
	_, err := New(Config{}, Deps{})
	require.Error(t, err)
	cfg := Config{Late: -1, Calls: -1}
	err = cfg.complete("model")
	require.ErrorContains(t, err, "Late")
	require.ErrorContains(t, err, "Calls")
}
