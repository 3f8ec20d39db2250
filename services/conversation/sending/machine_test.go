package sending_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

const (
	perConnection = 2
	otherConn     = "33333333-3333-4333-8333-333333333333"
)

// mesh is sending with the test as its adapters and providers.
type mesh struct {
	*projecttest.World
	conversations []string
	connection    map[string]string
	commands      map[string]*pb.Command // issued, by id
	issued        []*pb.Command          // in the order of the outbox
	receipts      []*pb.ChannelEvent     // fed so far
	posted        map[string][]string    // by conversation, in order
	retried       map[string]int         // accepted retries, by message
	before        map[string]attempt     // as they were at the last check, by command id
	seq           int
}

func newMesh(w *projecttest.World) *mesh {
	w.Helper()
	w.Empty()
	m := &mesh{World: w, connection: map[string]string{}, commands: map[string]*pb.Command{}, posted: map[string][]string{}, retried: map[string]int{},
		before: map[string]attempt{}}
	for _, connection := range []string{projecttest.SlackConnection, otherConn} {
		w.Connect(connection, pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
		for n := range 3 {
			e := w.Says("ada", fmt.Sprint(connection[:4], n), "message", "hello", int64(n))
			e.ConnectionId, e.Thread.Id = connection, fmt.Sprintf("C%d:1", n)
			e.ConversationKey = channel.GroupKey(connection, e.Thread.Id)
			w.Feed(e)
			m.conversations = append(m.conversations, e.ConversationKey)
			m.connection[e.ConversationKey] = connection
		}
	}
	return m
}

// post writes a message of one to three parts.
func (m *mesh) post(conversation string, parts int) {
	m.Helper()
	m.seq++
	m.Pass(time.Millisecond)
	id := projecttest.ID(m.seq)
	m.Posted(conversation, id, strings.Repeat("word ", 1+850*(parts-1)))
	m.posted[conversation] = append(m.posted[conversation], id)
}

// take reads the commands that have left since.
func (m *mesh) take() {
	m.Helper()
	m.Exec(func(tx *sqldb.Tx) error {
		return sqldb.Query(context.Background(), tx, "SELECT payload FROM outbox WHERE topic LIKE 'outbound.%' ORDER BY seq, id", nil, func(rows sqldb.Row) error {
			var raw []byte
			cmd := &pb.Command{}
			if err := errors.Join(rows.Scan(&raw), proto.Unmarshal(raw, cmd)); err != nil {
				return err
			}
			if m.commands[cmd.Id] == nil {
				m.commands[cmd.Id], m.issued = cmd, append(m.issued, cmd)
			}
			return nil
		})
	})
}

// report feeds what became of a command.
func (m *mesh) report(cmd *pb.Command, r *pb.Receipt, order int64) {
	m.Helper()
	m.seq++
	r.MessageId, r.Part, r.Attempt = cmd.MessageId, cmd.Part, cmd.Attempt
	e := m.Receipt(fmt.Sprint("r", m.seq), order, r)
	e.ConnectionId, e.ConversationKey = cmd.ConnectionId, cmd.ConversationKey
	m.receipts = append(m.receipts, e)
	m.Feed(e)
}

// attempt as the database has it.
type attempt struct {
	message       string
	part, attempt int32
	conversation  string
	status        pb.Status
	deferred      int
}

func (m *mesh) attempts() (all []attempt) {
	m.Helper()
	m.Exec(func(tx *sqldb.Tx) error {
		all = nil
		return sqldb.Query(context.Background(), tx, "SELECT message_id, part, attempt, conversation_id, status, deferred FROM message_parts ORDER BY 1, 2, 3", nil,
			func(rows sqldb.Row) error {
				var a attempt
				err := rows.Scan(&a.message, &a.part, &a.attempt, &a.conversation, &a.status, &a.deferred)
				all = append(all, a)
				return err
			})
	})
	return all
}

func (a attempt) open() bool { return a.status < pb.Status_STATUS_UNKNOWN && a.deferred == 0 }

// check holds what must hold at every moment.
func (m *mesh) check(t fataler) {
	m.Helper()
	m.take()
	out := map[string]string{} // the outstanding command, by conversation
	m.Exec(func(tx *sqldb.Tx) error {
		clear(out)
		return sqldb.Query(context.Background(), tx, "SELECT id, out_message, out_part, out_attempt FROM conversations WHERE out_message <> ''", nil, func(rows sqldb.Row) error {
			var id, message string
			var part, attempt int32
			err := rows.Scan(&id, &message, &part, &attempt)
			out[id] = channel.CommandID(message, part, attempt)
			return err
		})
	})
	perConnectionOut := map[string]int{}
	attempts := m.attempts()
	byID := map[string]attempt{}
	for _, a := range attempts {
		id := channel.CommandID(a.message, a.part, a.attempt)
		byID[id] = a
		if m.commands[id] != nil && a.open() && out[a.conversation] != id {
			t.Fatalf("%s/%d/%d is outstanding beside %q", a.message, a.part, a.attempt, out[a.conversation])
		}
		if was := m.before[id]; a.deferred > was.deferred && was.status >= pb.Status_STATUS_UNKNOWN {
			t.Fatalf("%s/%d/%d was %v and is deferred", a.message, a.part, a.attempt, was.status)
		}
		if was := m.before[id]; a.status < was.status {
			t.Fatalf("%s/%d/%d was %v and is %v", a.message, a.part, a.attempt, was.status, a.status)
		}
		if before, ok := byID[channel.CommandID(a.message, a.part, a.attempt-1)]; ok && before.deferred == 0 && m.retried[a.message] == 0 {
			t.Fatalf("%s/%d: attempt %d after one that is %v", a.message, a.part, a.attempt, before.status)
		}
	}
	for conversation, id := range out {
		perConnectionOut[m.connection[conversation]]++
		if m.commands[id] == nil || !byID[id].open() {
			t.Fatalf("conversation %s holds a slot for %v, which was issued: %v", conversation, byID[id], m.commands[id] != nil)
		}
	}
	m.before = byID
	for connection, n := range perConnectionOut {
		if n > perConnection {
			t.Fatalf("%d commands of %s are outstanding", n, connection)
		}
	}
}

// line checks that the first attempts of a conversation's parts left in the order of the line.
func (m *mesh) line(t fataler) {
	m.Helper()
	last := map[string]string{}
	for _, cmd := range m.issued {
		if cmd.Attempt > 1 {
			continue
		}
		at := fmt.Sprintf("%s/%03d", cmd.MessageId, cmd.Part)
		if at < last[cmd.ConversationKey] {
			t.Fatalf("%s left after %s", at, last[cmd.ConversationKey])
		}
		last[cmd.ConversationKey] = at
	}
}

type fataler interface{ Fatalf(string, ...any) }

func TestWhateverBecomesOfCommandsOneIsOutstandingAndAllEnd(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := projecttest.New(t, db, projecttest.Holding{Sending: sending.Config{PerConnection: perConnection}})
		ctx := context.Background()
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			if runs++; db.Dialect() == "postgres" && runs > 8 {
				return // each costs more there, and differs in locks alone
			}
			m := newMesh(w)
			any := func() *pb.Command {
				if len(m.issued) == 0 {
					rt.Skip("nothing issued")
				}
				return m.issued[rapid.IntRange(max(0, len(m.issued)-12), len(m.issued)-1).Draw(rt, "command")]
			}
			status := func(s pb.Status) func(*rapid.T) {
				return func(rt *rapid.T) {
					m.report(any(), &pb.Receipt{Status: s, ErrorClass: pb.ErrorClass_ERROR_CLASS_REJECT}, rapid.Int64Range(1, 1000).Draw(rt, "order"))
				}
			}
			must := func(err error) {
				if err != nil {
					rt.Fatal(err)
				}
			}
			post := func(rt *rapid.T) {
				m.post(rapid.SampledFrom(m.conversations).Draw(rt, "conversation"), rapid.IntRange(1, 3).Draw(rt, "parts"))
			}
			for range rapid.IntRange(0, 8).Draw(rt, "waiting") {
				post(rt)
			}
			rt.Repeat(map[string]func(*rapid.T){
				"":        func(rt *rapid.T) { m.check(rt) },
				"post":    post,
				"sending": status(pb.Status_STATUS_SENDING), "sent": status(pb.Status_STATUS_SENT), "failed": status(pb.Status_STATUS_FAILED),
				"delivered": status(pb.Status_STATUS_DELIVERED), "unknown": status(pb.Status_STATUS_UNKNOWN),
				"deferred": func(rt *rapid.T) {
					r := &pb.Receipt{Status: pb.Status_STATUS_DEFERRED}
					switch rapid.IntRange(0, 2).Draw(rt, "how") {
					case 1:
						r.NotBeforeUs = m.Clock.NowMicros() + rapid.Int64Range(0, 600_000_000).Draw(rt, "until")
					case 2:
						r.UntilActive = true
					}
					m.report(any(), r, rapid.Int64Range(1, 1000).Draw(rt, "order"))
				},
				"again": func(rt *rapid.T) {
					if len(m.receipts) > 0 {
						m.Feed(m.receipts[rapid.IntRange(0, len(m.receipts)-1).Draw(rt, "receipt")])
					}
				},
				"connection": func(rt *rapid.T) {
					m.Connect(rapid.SampledFrom([]string{projecttest.SlackConnection, otherConn}).Draw(rt, "connection"),
						rapid.SampledFrom([]pb.ConnectionStatus{pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE, pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE}).Draw(rt, "status"))
				},
				"retry": func(rt *rapid.T) {
					id := any().MessageId
					var told *problem.Problem
					if err := m.Send.Retry(ctx, projecttest.Workspace, id); err == nil {
						m.retried[id]++
					} else if !errors.As(err, &told) {
						rt.Fatal(err)
					}
				},
				"pump":  func(*rapid.T) { must(m.Send.PumpOnce(ctx)) },
				"sweep": func(*rapid.T) { must(m.Send.SweepOnce(ctx)) },
				"pass": func(rt *rapid.T) {
					m.Pass(time.Duration(rapid.IntRange(1, 600).Draw(rt, "seconds")) * time.Second)
				},
			})
			m.line(rt)
			m.drain(rt)
		})
	})
}

// drain lets every connection work and every command succeed: all must end, and all slots come free.
func (m *mesh) drain(t fataler) {
	m.Helper()
	ctx := context.Background()
	for _, connection := range []string{projecttest.SlackConnection, otherConn} {
		m.Connect(connection, pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
	}
	open := func() (n int) {
		for _, a := range m.attempts() {
			if a.open() {
				n++
			}
		}
		return n
	}
	for turn := 0; open() > 0; turn++ {
		if turn > 500 {
			t.Fatalf("%d parts never end", open())
		}
		m.Pass(time.Minute) // past every time that a deferral named
		if err := errors.Join(m.Send.PumpOnce(ctx), m.Send.SweepOnce(ctx)); err != nil {
			t.Fatalf("%v", err)
		}
		m.check(t)
		state := map[string]attempt{}
		for _, a := range m.attempts() {
			state[channel.CommandID(a.message, a.part, a.attempt)] = a
		}
		for _, id := range slices.Sorted(maps.Keys(m.commands)) {
			if state[id].open() {
				m.report(m.commands[id], &pb.Receipt{Status: pb.Status_STATUS_SENT}, 2000)
			}
		}
		m.check(t)
	}
	if n := m.Count("conversations WHERE out_message <> '' OR next_us > 0 OR parked <> 0"); n > 0 {
		t.Fatalf("%d conversations hold or await a slot with nothing to send", n)
	}
}
