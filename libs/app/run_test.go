package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// diary keeps what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// job writes when it starts and ends.
func (d *diary) job(name string) app.Job {
	return app.Job{Name: name, Run: func(ctx context.Context) error {
		d.write("start " + name)
		<-ctx.Done()
		d.write("stop " + name)
		return nil
	}}
}

func (d *diary) close(name string) func() error {
	return func() error { d.write("close " + name); return nil }
}

// platform on brokers, on ports of its own.
func platform(t *testing.T, brokers []string, change ...func(*app.Common)) *app.Platform {
	t.Helper()
	common := app.Defaults()
	common.Data = t.TempDir()
	common.Listen, common.Registry.Listen = "127.0.0.1:0", "127.0.0.1:0"
	common.Kafka.Brokers, common.Kafka.Partitions, common.Kafka.Prefix = brokers, 1, "test."
	common.LogLevel, common.StopDelay = "error", 0
	for _, f := range change {
		f(&common)
	}
	require.NoError(t, common.Validate())
	p, err := app.Open(t.Context(), "test", common)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, p.Close(ctx))
	})
	return p
}

// running is a platform's Run under way.
type running struct {
	url  string
	stop func() error
}

func run(t *testing.T, p *app.Platform, units ...app.Unit) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr, done := make(chan net.Addr, 1), make(chan error, 1)
	p.Started = func(a net.Addr) { addr <- a }
	go func() { done <- p.Run(ctx, units...) }()
	var once sync.Once
	var result error
	r := &running{stop: func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}}
	t.Cleanup(func() { _ = r.stop() })
	select {
	case a := <-addr:
		r.url = "http://" + a.String()
	case err := <-done:
		t.Fatalf("did not start: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("did not start in 30 s")
	}
	return r
}

func unit(name string, parts *app.Parts) app.Unit {
	return app.Unit{Service: app.Service{Name: name, Build: func(context.Context, *app.Deps) (*app.Parts, error) { return parts, nil }}}
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body), resp.Header
}

func TestRunStartsInOrderAndStopsInReverse(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	p := platform(t, c.Addrs)
	var d diary
	topic := bus.Topic{Name: "things", Retention: time.Hour}
	var r *running
	preStop := make(chan struct{})
	r = run(t, p,
		unit("a", &app.Parts{
			Topics: []bus.Topic{topic},
			Jobs:   []app.Job{d.job("a-job")},
			Subscriptions: []bus.Subscription{{Group: "a", Topics: []string{"things"}, Handle: func(context.Context, []bus.Record) error {
				d.write("handled")
				return nil
			}}},
			GRPC: func(l net.Listener) (app.Job, error) {
				j := d.job("registry")
				return app.Job{Name: j.Name, Run: func(ctx context.Context) error { defer l.Close(); return j.Run(ctx) }}, nil
			},
			PreStop: func(context.Context) error {
				status, body, _ := get(t, r.url+"/readyz")
				require.Equal(t, http.StatusServiceUnavailable, status)
				require.Contains(t, body, "stopping")
				d.write("drain")
				close(preStop)
				return nil
			},
			Close: d.close("a"),
		}),
		unit("b", &app.Parts{Topics: []bus.Topic{topic}, Jobs: []app.Job{d.job("b-job")}, Close: d.close("b")}),
	)
	require.NoError(t, p.Bus.Publish(t.Context(), bus.Message{Topic: "things", Key: "k", Value: []byte("v")}))
	bustest.Eventually(t, "the record is handled", func() bool { return slices.Contains(d.read(), "handled") })
	require.NoError(t, r.stop())
	<-preStop

	lines := d.read()
	before := func(first, second string) {
		t.Helper()
		i, j := slices.Index(lines, first), slices.Index(lines, second)
		require.True(t, i >= 0 && j >= 0 && i < j, "%s before %s in %v", first, second, lines)
	}
	before("handled", "drain")
	before("drain", "stop a-job")
	before("stop a-job", "stop registry")
	before("stop b-job", "stop registry")
	before("stop registry", "close b")
	before("close b", "close a")
	_, err := http.Get(r.url + "/healthz")
	require.Error(t, err, "nothing listens any more")
}

// TestWhatStopsServesUntilItIsHeardOf: whoever routes by /readyz refuses nobody, and streams end only then.
func TestWhatStopsServesUntilItIsHeardOf(t *testing.T) {
	const delay = time.Second
	p := platform(t, bustest.EmbeddedCluster(t).Addrs, func(c *app.Common) { c.StopDelay = delay })
	drained := make(chan struct{})
	streaming, streamed := make(chan struct{}), make(chan struct{})
	r := run(t, p, unit("a", &app.Parts{
		Routes: []app.Route{
			{Pattern: "GET /v1/x", Public: true, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
			{Pattern: "GET /v1/stream", Public: true, Stream: true, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(streaming)
				<-r.Context().Done()
			})},
		},
		PreStop: func(context.Context) error { close(drained); return nil },
	}))
	go func() {
		defer close(streamed)
		get(t, r.url+"/v1/stream")
	}()
	<-streaming
	began, stopped := time.Now(), make(chan error, 1)
	go func() { stopped <- r.stop() }()
	require.Eventually(t, func() bool {
		status, _, _ := get(t, r.url+"/readyz")
		return status == http.StatusServiceUnavailable
	}, delay/2, time.Millisecond)
	for time.Since(began) < delay*3/4 {
		status, _, _ := get(t, r.url+"/v1/x")
		require.Equal(t, http.StatusOK, status)
		select {
		case <-drained:
			t.Fatal("it drains while it is still given requests")
		case <-streamed:
			t.Fatal("the stream ended while its client would come back here")
		default:
		}
	}
	<-streamed
	require.NoError(t, <-stopped)
	require.GreaterOrEqual(t, time.Since(began), delay)
	<-drained
}

// TestAClockThatIsWrongIsSetByTheRegistry: whatever this machine's clock says.
func TestAClockThatIsWrongIsSetByTheRegistry(t *testing.T) {
	p := platform(t, []string{"127.0.0.1:1"}, func(c *app.Common) { c.ClockOffset = -time.Hour })
	require.WithinDuration(t, time.Now().Add(-time.Hour), p.Clock.Now(), time.Minute)
	p.Clock.Observe(p.Clock.Sent(), time.Now())
	require.WithinDuration(t, time.Now(), p.Clock.Now(), time.Second)
}

func TestRunUnwindsWhatItStarted(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	t.Run("when a service cannot be built", func(t *testing.T) {
		var d diary
		p := platform(t, c.Addrs)
		broken := app.Unit{Service: app.Service{Name: "b", Build: func(context.Context, *app.Deps) (*app.Parts, error) {
			return nil, errors.New("no disk")
		}}}
		err := p.Run(t.Context(), unit("a", &app.Parts{Jobs: []app.Job{d.job("a-job")}, Close: d.close("a")}), broken)
		require.ErrorContains(t, err, "b: no disk")
		require.Equal(t, []string{"close a"}, d.read(), "no job was started, what was built is closed")
	})
	t.Run("when the port is taken", func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer taken.Close()
		var d diary
		p := platform(t, c.Addrs, func(c *app.Common) { c.Listen = taken.Addr().String() })
		err = p.Run(t.Context(), unit("a", &app.Parts{Jobs: []app.Job{d.job("a-job")}, Close: d.close("a")}))
		require.ErrorContains(t, err, "TRIBUTARY_LISTEN")
		lines := d.read()
		require.Equal(t, "close a", lines[len(lines)-1])
		require.Equal(t, slices.Contains(lines, "start a-job"), slices.Contains(lines, "stop a-job"), "a job that began has ended")
	})
	t.Run("when two services claim one route", func(t *testing.T) {
		p := platform(t, c.Addrs)
		route := []app.Route{{Pattern: "GET /v1/x", Handler: http.NotFoundHandler()}}
		err := p.Run(t.Context(), unit("a", &app.Parts{Routes: route}), unit("b", &app.Parts{Routes: route}))
		require.ErrorContains(t, err, "b: route GET /v1/x")
	})
}

func TestRunLeavesBehindWhatDoesNotStop(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	p := platform(t, c.Addrs, func(c *app.Common) { c.StopTimeout = 50 * time.Millisecond })
	began, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	r := run(t, p, unit("a", &app.Parts{Jobs: []app.Job{{Name: "deaf", Run: func(context.Context) error {
		close(began)
		<-release
		return nil
	}}}}))
	<-began
	require.ErrorContains(t, r.stop(), "a/deaf")
}

func TestHTTP(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	p := platform(t, c.Addrs, func(c *app.Common) { c.MaxRequests = 2 })
	var notReady atomic.Bool
	hold, held := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	r := run(t, p, unit("a", &app.Parts{
		Ready: []app.Check{{Name: "accounts", Ready: func() error {
			if notReady.Load() {
				return errors.New("the connections are not read yet")
			}
			return nil
		}}},
		Routes: []app.Route{
			{Pattern: "GET /v1/private", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				caller, _ := access.From(r.Context())
				_, _ = io.WriteString(w, caller.WorkspaceID)
			})},
			{Pattern: "GET /public", Public: true, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
			{Pattern: "GET /panic", Public: true, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("canary") })},
			{Pattern: "GET /hold", Public: true, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				held <- struct{}{}
				<-hold
			})},
			{Pattern: "GET /stream", Public: true, Stream: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "hello\n")
				if err := http.NewResponseController(w).Flush(); err != nil {
					panic(err)
				}
				<-r.Context().Done()
				_, _ = io.WriteString(w, "bye\n")
			})},
		},
	}))
	bustest.Eventually(t, "ready", func() bool { status, _, _ := get(t, r.url+"/readyz"); return status == http.StatusOK })

	t.Run("only public routes go without an API key", func(t *testing.T) {
		status, body, header := get(t, r.url+"/v1/private")
		require.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, "application/problem+json", header.Get("Content-Type"))
		var doc struct {
			RequestID string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &doc))
		require.Equal(t, header.Get("X-Request-Id"), doc.RequestID)
		require.NotEmpty(t, doc.RequestID)
		status, _, _ = get(t, r.url+"/public")
		require.Equal(t, http.StatusOK, status)

		id, text, hash := access.NewKey()
		value, err := proto.Marshal(&pb.AccessKey{Id: id, WorkspaceId: "w1", Role: access.Agent, Hash: hash})
		require.NoError(t, err)
		require.NoError(t, p.Bus.Publish(t.Context(), bus.Message{Topic: access.Topic().Name, Key: id, Value: value}))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/v1/private", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+text)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "w1", string(answer))
	})
	t.Run("readyz names what is not ready", func(t *testing.T) {
		notReady.Store(true)
		defer notReady.Store(false)
		status, body, _ := get(t, r.url+"/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.JSONEq(t, `{"ready":false,"not_ready":{"a/accounts":"the connections are not read yet"}}`, body)
		status, _, _ = get(t, r.url+"/healthz")
		require.Equal(t, http.StatusOK, status)
	})
	t.Run("a panic is a 500 that says nothing", func(t *testing.T) {
		status, body, _ := get(t, r.url+"/panic")
		require.Equal(t, http.StatusInternalServerError, status)
		require.NotContains(t, body, "canary")
	})
	t.Run("metrics tell of routes and not of callers", func(t *testing.T) {
		_, body, _ := get(t, r.url+"/metrics")
		require.Contains(t, body, `http_route="/public"`)
		require.NotContains(t, body, "127.0.0.1")
		require.Contains(t, body, "go_goroutines")
	})
	t.Run("too many requests at once are refused, probes are not", func(t *testing.T) {
		var calls sync.WaitGroup
		for range 2 {
			calls.Go(func() {
				resp, err := http.Get(r.url + "/hold")
				if err == nil {
					_ = resp.Body.Close()
				}
			})
			<-held
		}
		status, _, header := get(t, r.url+"/public")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Equal(t, "1", header.Get("Retry-After"))
		status, _, _ = get(t, r.url+"/healthz")
		require.Equal(t, http.StatusOK, status)
		release()
		calls.Wait()
	})
	t.Run("a stream ends when the process stops, and does not hold it up", func(t *testing.T) {
		resp, err := http.Get(r.url + "/stream")
		require.NoError(t, err)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		require.True(t, lines.Scan())
		began := time.Now()
		require.NoError(t, r.stop())
		require.Less(t, time.Since(began), 10*time.Second)
		require.True(t, lines.Scan())
		require.Equal(t, "bye", lines.Text())
	})
}

func TestProfilesAreServedWhereTheyAreAskedForAlone(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	r := run(t, platform(t, c.Addrs, func(c *app.Common) { c.ProfileListen = address }))
	status, text, _ := get(t, "http://"+address+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "goroutine profile")
	status, _, _ = get(t, r.url+"/debug/pprof/")
	require.Equal(t, http.StatusNotFound, status)
	require.NoError(t, r.stop())
	_, err = http.Get("http://" + address + "/debug/pprof/")
	require.Error(t, err)
}

func TestConnectionsAreBounded(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	r := run(t, platform(t, c.Addrs, func(c *app.Common) { c.MaxRequests = 2 }))
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: mesh\r\n\r\n")
		require.NoError(t, err)
		return conn
	}
	answered := func(conn net.Conn, within time.Duration) error {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(within)))
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	var open []net.Conn
	for range 4 {
		open = append(open, dial())
		require.NoError(t, answered(open[len(open)-1], 10*time.Second))
	}
	further := dial()
	require.ErrorIs(t, answered(further, 200*time.Millisecond), os.ErrDeadlineExceeded, "it waits while as many are open as may be")
	open[0].Close()
	require.NoError(t, answered(further, 10*time.Second))
	require.NoError(t, r.stop())
}

func TestJobsThatFailAreStartedAgain(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	p := platform(t, c.Addrs)
	var calls atomic.Int64
	r := run(t, p, unit("a", &app.Parts{Jobs: []app.Job{{Name: "shaky", Run: func(ctx context.Context) error {
		switch calls.Add(1) {
		case 1:
			return errors.New("broken")
		case 2:
			panic("broken")
		case 3:
			return nil
		}
		<-ctx.Done()
		return nil
	}}}}))
	bustest.Eventually(t, "the job runs a fourth time", func() bool { return calls.Load() == 4 })
	_, body, _ := get(t, r.url+"/metrics")
	require.Contains(t, body, `tributary_job_restarts_total{job="shaky",service="a"} 3`)
}

func TestRunStartsWhileTheBrokersAreAway(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	topic := bus.Topic{Name: "late", Retention: time.Hour}
	var r *running
	var p *app.Platform
	var handled atomic.Bool
	c.Restart(t, func() {
		p = platform(t, c.Addrs)
		r = run(t, p, unit("a", &app.Parts{
			Topics: []bus.Topic{topic},
			Subscriptions: []bus.Subscription{{Group: "a", Topics: []string{"late"}, Handle: func(context.Context, []bus.Record) error {
				handled.Store(true)
				return nil
			}}},
		}))
		status, body, _ := get(t, r.url+"/readyz")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, body, "access")
		status, _, _ = get(t, r.url+"/healthz")
		require.Equal(t, http.StatusOK, status)
	})
	bustest.Eventually(t, "ready once they are back", func() bool { status, _, _ := get(t, r.url+"/readyz"); return status == http.StatusOK })
	bustest.Eventually(t, "the topic is there and read", func() bool {
		_ = p.Bus.Publish(t.Context(), bus.Message{Topic: "late", Key: "k", Value: []byte("v")})
		return handled.Load()
	})
}

// registry counts what it is asked.
type registry struct {
	pb.UnimplementedKeyRegistryServer
	finds atomic.Int64
}

func (r *registry) Now(context.Context, *pb.NowRequest) (*pb.NowResponse, error) {
	return &pb.NowResponse{NowUs: time.Now().UnixMicro()}, nil
}

func (r *registry) Find(_ context.Context, req *pb.FindRequest) (*pb.FindResponse, error) {
	r.finds.Add(1)
	resp := &pb.FindResponse{NowUs: time.Now().UnixMicro()}
	for range req.GetIdentities() {
		resp.Subjects = append(resp.Subjects, &pb.SubjectKey{
			State: pb.SubjectState_SUBJECT_STATE_ACTIVE, SubjectId: "s1", KeyId: "k1", Key: bytes.Repeat([]byte{1}, 32), WorkspaceId: "w1",
		})
	}
	return resp, nil
}

// TestAServiceThatAsksTheRegistryForNothingGoesByItsClock from the moment that it is ready.
func TestAServiceThatAsksTheRegistryForNothingGoesByItsClock(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	pb.RegisterKeyRegistryServer(server, &registry{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		p := platform(t, bustest.EmbeddedCluster(t).Addrs, func(c *app.Common) {
			c.Registry.Address, c.ClockOffset = listener.Addr().String(), off
		})
		r := run(t, p, unit("connect", &app.Parts{}))
		bustest.Eventually(t, "it is ready", func() bool { status, _, _ := get(t, r.url+"/readyz"); return status == http.StatusOK })
		require.WithinDuration(t, time.Now(), p.Clock.Now(), time.Minute)
		require.NoError(t, r.stop())
	}
}

func TestServicesReachTheRegistryAndForgetAFrozenSubject(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := platform(t, c.Addrs, func(c *app.Common) { c.Registry.Address = listener.Addr().String() })
	p.RegistryListener = listener
	var keys registry
	var sealer *seal.Client
	r := run(t, p,
		unit("privacy", &app.Parts{GRPC: func(l net.Listener) (app.Job, error) {
			return app.Job{Name: "registry", Run: func(ctx context.Context) error {
				server := grpc.NewServer()
				pb.RegisterKeyRegistryServer(server, &keys)
				context.AfterFunc(ctx, server.Stop)
				return server.Serve(l)
			}}, nil
		}}),
		app.Unit{Service: app.Service{Name: "a", Build: func(_ context.Context, d *app.Deps) (*app.Parts, error) {
			sealer = d.Seal
			return &app.Parts{Holds: []*pb.Holder_Holding{{Store: "messages", Category: pb.Category_CATEGORY_CONTENT, Purpose: "showing them"}}}, nil
		}}},
	)
	id := []seal.Identity{{Workspace: "w1", Kind: "phone", Value: "+41791234567"}}
	for range 3 {
		found, err := sealer.Find(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "s1", found[0].ID)
	}
	require.EqualValues(t, 1, keys.finds.Load(), "answers are kept")

	freeze, err := proto.Marshal(&pb.PrivacyCommand{Kind: pb.PrivacyCommand_KIND_FREEZE, SubjectId: "s1"})
	require.NoError(t, err)
	bustest.Eventually(t, "a freeze is heard and the subject forgotten", func() bool {
		require.NoError(t, p.Bus.Publish(t.Context(), bus.Message{Topic: "privacy.commands", Key: "s1", Value: freeze}))
		_, err := sealer.Find(t.Context(), id)
		require.NoError(t, err)
		return keys.finds.Load() > 1
	})

	holders := bus.NewTable(p.Bus, bus.TableConfig[*pb.Holder]{Topic: "holders", Decode: func(b []byte) (*pb.Holder, error) {
		h := &pb.Holder{}
		return h, proto.Unmarshal(b, h)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- holders.Run(ctx) }()
	defer func() { cancel(); <-done }()
	bustest.Eventually(t, "what is held is declared", func() bool { h, ok := holders.Get("a"); return ok && h.GetHoldings()[0].GetStore() == "messages" })
	_, declared := holders.Get("privacy")
	require.False(t, declared, "who holds nothing is no holder")
	require.NoError(t, r.stop())
}

func TestSecretsStayTheSame(t *testing.T) {
	c := bustest.EmbeddedCluster(t)
	secrets := func(change func(*app.Common)) (a, b []byte) {
		p := platform(t, c.Addrs, change)
		var d *app.Deps
		r := run(t, p, app.Unit{Service: app.Service{Name: "a", Build: func(_ context.Context, deps *app.Deps) (*app.Parts, error) {
			d = deps
			return &app.Parts{}, nil
		}}})
		require.NoError(t, r.stop())
		return d.Secret("x"), d.Secret("y")
	}
	dir := t.TempDir()
	x1, y1 := secrets(func(c *app.Common) { c.Data = dir })
	x2, _ := secrets(func(c *app.Common) { c.Data = dir })
	require.Equal(t, x1, x2, "kept in the data folder")
	require.NotEqual(t, x1, y1, "one purpose's says nothing of another's")
	x3, _ := secrets(func(c *app.Common) { c.Secret = "0123456789abcdef0123456789abcdef" })
	x4, _ := secrets(func(c *app.Common) { c.Secret = "0123456789abcdef0123456789abcdef" })
	require.Equal(t, x3, x4, "shared by replicas")
	require.NotEqual(t, x1, x3)
}
