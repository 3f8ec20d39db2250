package egress

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// mesh is what surrounds an Egress: a cluster, a registry, a provider, accounts, and what was said on the
// inbound topic.
type mesh struct {
	t        *testing.T
	cluster  *bustest.Cluster
	bus      *bus.Bus
	keys     *seal.Client
	registry *sealtest.Registry
	subject  seal.Subject
	provider *provider
	accounts *accountsFake
	bucket   *media.Bucket
	position int64

	mu     sync.Mutex
	events []*pb.ChannelEvent
}

func newMesh(t *testing.T, c *bustest.Cluster) *mesh {
	m := &mesh{t: t, cluster: c, bus: c.Open(t), provider: newProvider(t), accounts: newAccounts()}
	m.keys, m.registry = sealtest.New(t)
	subjects, err := m.keys.Acquire(t.Context(), []seal.Act{{Identity: seal.Identity{Workspace: "w1", Kind: "model_user", Value: "U1"}}})
	require.NoError(t, err)
	m.subject = subjects[0]
	m.bucket, err = media.OpenBucket(t.Context(), "mem://")
	require.NoError(t, err)
	t.Cleanup(func() { m.bucket.Close() })
	require.NoError(t, m.bus.EnsureTopics(t.Context(), bus.Topic{Name: "inbound.model", Partitions: 2}, bus.Topic{Name: "fetch.model", Partitions: 2}, bus.Topic{Name: "revocations", Partitions: 1}, bus.Topic{Name: "outbound.model", Partitions: 1}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.bus.Subscribe(ctx, bus.Subscription{Group: "listener", Topics: []string{"inbound.model"}, Handle: m.listen})
	}()
	t.Cleanup(func() { stop(); <-done })
	return m
}

func (m *mesh) listen(_ context.Context, records []bus.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		e := &pb.ChannelEvent{}
		if err := proto.Unmarshal(r.Value, e); err != nil {
			return err
		}
		if r.Key != inbound.Message(e, nil, nil).Key {
			m.t.Errorf("event %s is keyed by %q", e.GetId(), r.Key)
		}
		if !slices.ContainsFunc(m.events, func(known *pb.ChannelEvent) bool { return known.GetId() == e.GetId() }) {
			m.events = append(m.events, e)
		}
	}
	return nil
}

func (m *mesh) eventsOf(t pb.EventType) []*pb.ChannelEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	var of []*pb.ChannelEvent
	for _, e := range m.events {
		if e.GetType() == t {
			of = append(of, e)
		}
	}
	return of
}

// receipts of a message, in the order of their arrival, `sending` left out.
func (m *mesh) outcomes(message string) []*pb.Receipt {
	var of []*pb.Receipt
	for _, e := range m.eventsOf(pb.EventType_EVENT_TYPE_RECEIPT) {
		if e.GetReceipt().GetMessageId() == message && e.GetReceipt().GetStatus() != pb.Status_STATUS_SENDING {
			of = append(of, e.GetReceipt())
		}
	}
	return of
}

func (m *mesh) announced(message string) bool {
	return slices.ContainsFunc(m.eventsOf(pb.EventType_EVENT_TYPE_RECEIPT), func(e *pb.ChannelEvent) bool {
		return e.GetReceipt().GetMessageId() == message && e.GetReceipt().GetStatus() == pb.Status_STATUS_SENDING
	})
}

// outcome waits for the one outcome of a message.
func (m *mesh) outcome(message string) *pb.Receipt {
	m.t.Helper()
	bustest.Eventually(m.t, "an outcome of "+message, func() bool { return len(m.outcomes(message)) > 0 })
	require.True(m.t, m.announced(message), "%s has an outcome and was never sending", message)
	all := m.outcomes(message)
	require.Len(m.t, all, 1)
	return all[0]
}

// run starts an Egress; stop is TERM, and waits.
func (m *mesh) run(change ...func(*Config, *Deps)) (stop func()) {
	m.t.Helper()
	cfg := Config{PublicURL: "https://mesh.example/", Hold: 200 * time.Millisecond, StopWithin: 5 * time.Second}
	deps := Deps{
		Adapter: m.provider, Bus: m.bus, Keys: m.keys, Accounts: m.accounts, Clock: &clock.Clock{}, Telemetry: telemetry.Discard(),
		Bucket: m.bucket, Media: media.NewClient(media.ClientConfig{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, MaxBytes: 1 << 20}),
	}
	for _, f := range change {
		f(&cfg, &deps)
	}
	e, err := New(cfg, deps)
	require.NoError(m.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				m.t.Errorf("egress ended: %v", err)
			}
		case <-time.After(30 * time.Second):
			m.t.Error("egress does not end")
		}
	})
	m.t.Cleanup(stop)
	return stop
}

// command makes a command as the conversation service does, with the next position.
func (m *mesh) command(message string, change ...func(*pb.Command)) *pb.Command {
	m.t.Helper()
	m.position = max(m.position+1, time.Now().UnixMicro())
	cmd := &pb.Command{
		Id: channel.CommandID(message, 0, 1), WorkspaceId: "w1", ConnectionId: "c1", Channel: "model", ConversationKey: "conversation-" + message,
		MessageId: message, Attempt: 1, Kind: pb.CommandKind_COMMAND_KIND_TEXT, Position: m.position, SubjectId: m.subject.ID,
		Thread: &pb.Thread{Id: "T1"},
	}
	for _, f := range change {
		f(cmd)
	}
	cmd.Content = m.seal(pb.Category_CATEGORY_CONTENT, seal.OriginCommand(message, cmd.GetPart(), cmd.GetAttempt()), &pb.Content{Text: message})
	cmd.Address = m.seal(pb.Category_CATEGORY_PROFILE, seal.OriginProfile(m.subject.ID), &pb.Profile{IdentityKind: "model_user", IdentityValue: "U1"})
	return cmd
}

func over(connection string) func(*pb.Command) {
	return func(c *pb.Command) { c.ConnectionId = connection }
}

func (m *mesh) seal(category pb.Category, origin seal.Origin, msg proto.Message) *pb.SealedPart {
	m.t.Helper()
	plain, err := proto.Marshal(msg)
	require.NoError(m.t, err)
	part, err := seal.Seal(m.subject, category, origin, plain)
	require.NoError(m.t, err)
	return part
}

func (m *mesh) order(cmds ...*pb.Command) {
	m.t.Helper()
	msgs := make([]bus.Message, len(cmds))
	for i, c := range cmds {
		value, err := proto.Marshal(c)
		require.NoError(m.t, err)
		msgs[i] = bus.Message{Topic: "outbound.model", Key: c.GetConversationKey(), Value: value}
	}
	require.Empty(m.t, m.bus.PublishPartitions(m.t.Context(), "outbound.model", map[int][]bus.Message{0: msgs}))
}

// provider is a channel whose provider is an HTTP server; the path of a message's text decides nothing,
// what answer says does.
type provider struct {
	server *httptest.Server

	mu       sync.Mutex
	offered  map[string]int
	answers  map[string]func(http.ResponseWriter, *http.Request)
	pace     channel.Pace
	profiles int
	locate   func(channel.MediaRef) (channel.MediaRef, error)
	located  int
	profile  func(channel.Identity) (channel.Profile, bool, error)
	last     *channel.Outgoing
}

func newProvider(t *testing.T) *provider {
	p := &provider{offered: map[string]int{}, answers: map[string]func(http.ResponseWriter, *http.Request){}}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := r.URL.Query().Get("text")
		p.mu.Lock()
		p.offered[text]++
		answer := p.answers[text]
		p.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "x-" + text})
	}))
	t.Cleanup(p.server.Close)
	return p
}

// answer decides what the provider does with a message.
func (p *provider) answer(text string, f func(http.ResponseWriter, *http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[text] = f
}

// seen is how often a message was offered.
func (p *provider) seen(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offered[text]
}

func status(code int, retryAfter ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, v := range retryAfter {
			w.Header().Set("Retry-After", v)
		}
		w.WriteHeader(code)
	}
}

func (p *provider) Name() string                                           { return "model" }
func (p *provider) Verify(*channel.Request, channel.Secrets) error         { return errors.New("not called") }
func (p *provider) Normalise(*channel.Request) (r channel.Result, _ error) { return r, nil }

func (p *provider) Check(out *channel.Outgoing) error {
	if out.Text == "forbidden" {
		return &channel.Error{Class: channel.ClassWindowClosed, Code: "window"}
	}
	return nil
}

func (p *provider) Pace(*channel.Outgoing) channel.Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pace
}

func (p *provider) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	p.mu.Lock()
	p.last = out
	p.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.server.URL+"/send?text="+out.Text, nil)
	if err != nil {
		return channel.Sent{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return channel.Sent{}, err
	}
	defer resp.Body.Close()
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	switch resp.StatusCode {
	case http.StatusOK:
		var taken struct{ ID string }
		if err := json.NewDecoder(resp.Body).Decode(&taken); err != nil {
			return channel.Sent{}, err
		}
		return channel.Sent{ExternalID: taken.ID, Order: 7}, nil
	case http.StatusTooManyRequests:
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "rate", NotTaken: true, RetryAfter: time.Duration(after) * time.Second}
	case http.StatusUnauthorized:
		return channel.Sent{}, &channel.Error{Class: channel.ClassReauthorise, Code: "token_revoked"}
	case http.StatusBadRequest:
		return channel.Sent{}, &channel.Error{Class: channel.ClassReject, Code: "no_such_thread"}
	}
	return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "server"}
}

func (p *provider) Media(_ *channel.Connection, ref channel.MediaRef) (channel.MediaRequest, error) {
	return channel.MediaRequest{URL: ref.URL}, nil
}

func (p *provider) Locate(_ context.Context, _ *channel.Connection, ref channel.MediaRef) (channel.MediaRef, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.located++
	if p.locate == nil {
		return ref, nil
	}
	return p.locate(ref)
}

func (p *provider) Profile(_ context.Context, _ *channel.Connection, id channel.Identity) (channel.Profile, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.profiles++
	if p.profile == nil {
		return channel.Profile{}, false, nil
	}
	return p.profile(id)
}

// accountsFake knows connections c1 and c2 of workspace w1.
type accountsFake struct {
	mu  sync.Mutex
	all map[string]*pb.Connection
	// behind: what is only shown once Confirm was asked.
	behind map[string]*pb.Connection
}

func newAccounts() *accountsFake {
	a := &accountsFake{all: map[string]*pb.Connection{}, behind: map[string]*pb.Connection{}}
	for _, id := range []string{"c1", "c2"} {
		a.set(id, pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
	}
	return a
}

func (a *accountsFake) set(id string, s pb.ConnectionStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[id] = &pb.Connection{Id: id, WorkspaceId: "w1", Channel: "model", Status: s}
}

func (a *accountsFake) Connection(id string) (*pb.Connection, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.all[id]
	return c, ok
}

func (a *accountsFake) Confirm(context.Context, time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, c := range a.behind {
		a.all[id] = c
	}
	return nil
}

func (a *accountsFake) Opened(_ context.Context, c *pb.Connection) (*channel.Connection, error) {
	return &channel.Connection{ID: c.GetId(), WorkspaceID: c.GetWorkspaceId(), Channel: c.GetChannel()}, nil
}
