package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/store"
)

// tell puts events into the outbox in one transaction, and lets the relay place them.
func (h *house) tell(workspace, conversation string, messages ...string) {
	h.Helper()
	entries := make([]store.Entry, len(messages))
	for i, message := range messages {
		entries[i] = store.Told(&pb.ConversationEvent{Type: "message.created",
			WorkspaceId: workspace, ConversationId: conversation, MessageId: message, Direction: pb.Direction_DIRECTION_INBOUND, OrderUs: 1}, "")
	}
	if err := h.db.Tx(context.Background(), func(tx *sqldb.Tx) error {
		return store.Append(context.Background(), tx, h.time().UnixMicro(), entries...)
	}); err != nil {
		h.Fatal(err)
	}
	if _, err := h.relay.Once(context.Background()); err != nil {
		h.Fatal(err)
	}
}

// client reads a stream.
type client struct {
	*testing.T
	body *http.Response
	in   *bufio.Scanner
	last string
}

type event struct{ id, name, data string }

// follow opens a stream at a server of its own.
func (h *house) follow(t *testing.T, server *httptest.Server, last string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	w, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if w.StatusCode != http.StatusOK || w.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("answered %d %v", w.StatusCode, w.Header)
	}
	t.Cleanup(func() { _ = w.Body.Close() })
	c := &client{T: t, body: w, in: bufio.NewScanner(w.Body), last: last}
	c.until(func() bool { return c.last != "" }) // the first block gives the place to come back to
	return c
}

// resume comes back with an id, and gives the first event that is dispatched.
func (h *house) resume(t *testing.T, server *httptest.Server, last string) event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", last)
	w, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Body.Close() }()
	return (&client{T: t, body: w, in: bufio.NewScanner(w.Body)}).next()
}

// until reads blocks, and gives the first dispatched event, or nothing where done becomes true first.
func (c *client) until(done func() bool) (e event) {
	c.Helper()
	for c.in.Scan() {
		field, value, _ := strings.Cut(c.in.Text(), ": ")
		switch field {
		case "id":
			c.last, e.id = value, value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if e.data != "" || done() {
				return e
			}
			e = event{}
		}
	}
	c.Fatalf("the stream ended: %v", c.in.Err())
	return e
}

func (c *client) next() event {
	c.Helper()
	return c.until(func() bool { return false })
}

func (h *house) serve(t *testing.T, workspace string) *httptest.Server {
	server := httptest.NewServer(apitest.Handler(h.api.Routes(), apitest.Owner(workspace)))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

func TestAStreamTellsEachEventOnceAcrossReconnections(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		stranger := h.person(others, "+41790000001", "Eve", 1)
		theirs := h.talk(stranger, 5_000_000, nil)
		var said []string
		for i := range 8 {
			said = append(said, h.says(p, c, int64(i+1), text("hello"), nil))
		}
		server := h.serve(t, us)
		h.tell(us, c, said[0]) // before anybody listens
		first := h.follow(t, server, "")
		start := first.last
		h.tell(others, theirs, h.says(stranger, theirs, 1, text("not yours"), nil))
		h.tell(us, c, said[1])
		e := first.next()
		if e.name != "message.created" || !strings.Contains(e.data, said[1]) || strings.Contains(e.data, "hello") {
			t.Fatalf("got %+v", e)
		}
		_ = first.body.Body.Close()
		h.tell(us, c, said[2])
		h.tell(us, c, said[3])
		second := h.follow(t, server, e.id)
		for _, want := range said[2:4] {
			if e := second.next(); !strings.Contains(e.data, want) {
				t.Fatalf("got %+v, want %s", e, want)
			}
		}
		// Whoever was cut off before the first event has missed nothing either.
		third := h.follow(t, server, start)
		for _, want := range said[1:4] {
			if e := third.next(); !strings.Contains(e.data, want) {
				t.Fatalf("got %+v, want %s", e, want)
			}
		}
		// Nor whoever was cut off between two events of one transaction.
		h.tell(us, c, said[4:]...)
		within := map[string]bool{}
		for _, client := range []*client{second, third} {
			for _, want := range said[4:] {
				if e = client.next(); !strings.Contains(e.data, want) {
					t.Fatalf("got %+v, want %s", e, want)
				}
				within[e.id] = true
			}
		}
		if len(within) != 4 {
			t.Fatalf("the four events of a transaction have the ids %v", within)
		}
		for i := 5; i < len(said); i++ {
			last, err := strconv.ParseInt(e.id, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			fourth := h.follow(t, server, strconv.FormatInt(last-int64(len(said)-i), 10))
			for _, want := range said[i:] {
				if e := fourth.next(); !strings.Contains(e.data, want) {
					t.Fatalf("got %+v, want %s", e, want)
				}
			}
		}
	})
}

func TestAStreamLeavesOutWhatIsFrozenOrErased(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ada, bob := h.person(us, "+41790000001", "Ada", 1), h.person(us, "+41790000002", "Bob", 1)
		a, g := h.talk(ada, 5_000_000, nil), h.group(us, 5_000_000)
		frozen := h.says(ada, a, 1, text("x"), nil)
		gone := h.says(bob, g, 1, text("x"), nil)
		kept := h.says(h.person(us, "+41790000003", "Cy", 1), g, 2, text("x"), nil)
		server := h.serve(t, us)
		stream := h.follow(t, server, "")
		h.exec("UPDATE conversations SET frozen = 1 WHERE id = $1", a)
		h.exec("UPDATE subjects SET gone = 1 WHERE id = $1", bob.ID)
		h.tell(us, a, frozen)
		h.tell(us, g, gone)
		h.tell(us, g, "0195ffff-0000-7000-8000-000000000000") // erased
		h.tell(us, g, kept)
		if e := stream.next(); !strings.Contains(e.data, kept) {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestAStreamOpenedBeforeAnythingHappenedGoesOnFromTheBeginning(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		m := h.says(p, c, 1, text("x"), nil)
		server := h.serve(t, us)
		beginning := h.follow(t, server, "").last
		for range 2 { // the second time, days after
			h.tell(us, c, m)
			if e := h.resume(t, server, beginning); e.name != "message.created" {
				t.Fatalf("got %+v", e)
			}
			h.pass(6 * 24 * time.Hour)
		}
		// The first event is about to be pruned, and then is.
		if e := h.resume(t, server, beginning); e.name != "reset" {
			t.Fatalf("got %+v", e)
		}
		if _, err := h.relay.Prune(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := h.count("SELECT COUNT(*) FROM outbox"); n != 1 {
			t.Fatalf("%d events are left", n)
		}
		if e := h.resume(t, server, beginning); e.name != "reset" {
			t.Fatalf("got %+v", e)
		}
	})
}

func TestAStreamThatMissedTooMuchIsToldToStartAnew(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		m := h.says(p, c, 1, text("x"), nil)
		server := h.serve(t, us)
		h.tell(us, c, m)
		position := h.count("SELECT position FROM leases")
		newest := strconv.Itoa(position)
		// Everything up to the newest was had: nothing is lost, however old.
		h.pass(8 * 24 * time.Hour)
		current := h.follow(t, server, newest)
		if _, err := h.relay.Prune(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, last := range []string{"1", strconv.Itoa(position - 1), strconv.Itoa(position + 1)} {
			if e := h.resume(t, server, last); e.name != "reset" || e.id != newest {
				t.Fatalf("%s: got %+v", last, e)
			}
		}
		h.tell(us, c, m)
		if e := current.next(); e.name != "message.created" {
			t.Fatalf("got %+v", e)
		}
		h.do(http.MethodGet, "/v1/events", "", header("Last-Event-ID", "x")).problem(422, "invalid", "Last-Event-ID")
		h.do(http.MethodGet, "/v1/events?last_event_id=1", "").problem(422, "invalid", "last_event_id")
		h.do(http.MethodGet, "/v1/events?lastEventId=x", "").problem(422, "invalid", "Last-Event-ID")
	})
}

func TestStreamsAreBoundedAndEndWithTheAPI(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, store.Migrations()), api.Limits{Streams: 3, WorkspaceStreams: 2, StreamBeat: 20 * time.Millisecond})
	ours, theirs := h.serve(t, us), h.serve(t, others)
	streams := []*client{h.follow(t, ours, ""), h.follow(t, ours, ""), h.follow(t, theirs, "")}
	h.get("/v1/events").problem(503, "unavailable")
	_ = streams[2].body.Body.Close()
	eventually(t, func() bool {
		w := httptest.NewRecorder()
		h.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/events", nil))
		return w.Code == http.StatusTooManyRequests
	})
	beats := 0
	streams[0].until(func() bool { beats++; return beats == 3 })
	h.api.Close()
	for _, s := range streams[:2] {
		for s.in.Scan() {
		}
		if err := s.in.Err(); err != nil {
			t.Fatal(err)
		}
	}
	h.get("/v1/events").problem(503, "unavailable")
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatal("did not come to be")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pipes is a listener whose connections hold nothing back: a write waits for its reader.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestAClientThatDoesNotReadIsCutOffAndGoesOnWhereItWas(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h = newHouse(t, h.db, api.Limits{StreamWrite: 50 * time.Millisecond, Streams: 1})
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		m := h.says(p, c, 1, text("x"), nil)
		h.tell(us, c, m)
		listener := make(pipes, 1)
		server := &http.Server{Handler: h.h}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { close(listener); _ = server.Close() })
		slow, end := net.Pipe()
		t.Cleanup(func() { _ = slow.Close() })
		listener <- end
		if _, err := fmt.Fprintf(slow, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := &client{T: t, in: bufio.NewScanner(slow)}
		in.until(func() bool { return in.last != "" })
		h.get("/v1/events").problem(503, "unavailable") // it has the only place
		for range 3 {
			h.tell(us, c, m)
		}
		// It reads no more. Its place becomes free, and whoever takes it goes on behind what it had.
		tcp := h.serve(t, us)
		eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			w := httptest.NewRecorder()
			h.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/events", nil).WithContext(ctx))
			return w.Code != http.StatusServiceUnavailable
		})
		again := h.follow(t, tcp, in.last)
		for range 3 {
			if e := again.next(); !strings.Contains(e.data, m) {
				t.Fatalf("got %+v", e)
			}
		}
	})
}

// What a transaction knew to be shown a moment ago is told of without asking the database, which does not know it here; what
// is older is not, nor what nothing was known of.
func TestWhatWasJustShownIsToldOfWithoutLooking(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		there := h.says(p, h.talk(p, 5_000_000, nil), 1, text("x"), nil)
		stream := h.follow(t, h.serve(t, us), "")
		at := int64(0)
		place := func(message string, shown time.Time) {
			t.Helper()
			payload, err := proto.Marshal(&pb.ConversationEvent{Type: "message.created", WorkspaceId: us, MessageId: message})
			if err != nil {
				t.Fatal(err)
			}
			h.api.Placed(relay.Page{From: at, UpTo: at + 1, End: at + 1, Rows: []store.Row{{Topic: store.TopicConversations, Workspace: us,
				Position: at + 1, Entries: 1, Payload: payload, Shown: shown}}})
			at++
		}
		next := func(want string) {
			t.Helper()
			if e := stream.next(); !strings.Contains(e.data, `"message_id":"`+want+`"`) {
				t.Fatalf("told of %+v, want %s", e, want)
			}
		}
		place("older", time.Now().Add(-time.Second))
		place(there, time.Time{})
		next(there)
		place("now", time.Now().Add(time.Minute)) // however long this takes
		next("now")
		place("unknown", time.Time{})
		place(there, time.Now().Add(time.Minute))
		next(there)
	})
}
