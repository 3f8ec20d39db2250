package sending_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/project/projecttest"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

func each(t *testing.T, test func(t *testing.T, m *mesh)) {
	t.Helper()
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		test(t, newMesh(projecttest.New(t, db, projecttest.Holding{Sending: sending.Config{PerConnection: perConnection}})))
	})
}

// status of a message's part's newest attempt, with its error code.
func (m *mesh) status(message string, part int) (status pb.Status, code string) {
	m.Helper()
	m.Exec(func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(context.Background(), `SELECT status, error_code FROM message_parts WHERE message_id = $1 AND part = $2 ORDER BY attempt DESC LIMIT 1`,
			message, part).Scan(&status, &code)
	})
	return status, code
}

func (m *mesh) is(message string, part int, want pb.Status, code string) {
	m.Helper()
	if status, got := m.status(message, part); status != want || got != code {
		m.Errorf("%s/%d is %v %q, want %v %q", message, part, status, got, want, code)
	}
}

// look runs the jobs once.
func (m *mesh) look() {
	m.Helper()
	if err := errors.Join(m.Send.PumpOnce(context.Background()), m.Send.SweepOnce(context.Background())); err != nil {
		m.Fatal(err)
	}
	m.take()
}

func TestARevokedConnectionParksWhatWaitsUntilItWasChanged(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		c := m.conversations[0]
		revoked := m.Event(pb.EventType_EVENT_TYPE_REVOCATION, "", "revoked", m.Now().UnixMicro()-projecttest.Base)
		revoked.ConnectionId, revoked.Reason = m.connection[c], "uninstalled"
		m.Feed(revoked)
		m.post(c, 2)
		id := m.posted[c][0]
		m.look()
		if len(m.issued) != 0 || m.Count("conversations WHERE parked = 1") != 1 {
			t.Fatalf("%d commands left over a revoked connection", len(m.issued))
		}
		// Connected again before the revocation came: what we know of the connection is older than it.
		m.look()
		if len(m.issued) != 0 {
			t.Fatal("a revocation was overlooked")
		}
		m.Pass(time.Second)
		m.Connect(m.connection[c], pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
		m.look()
		if len(m.issued) != 1 || m.issued[0].MessageId != id {
			t.Fatalf("issued %v after the connection came back", m.issued)
		}
		m.Connect(m.connection[c], pb.ConnectionStatus_CONNECTION_STATUS_DISABLED)
		d, err := m.Send.Draft(t.Context(), projecttest.Workspace, c)
		if err == nil {
			if err = m.Send.Compose(t.Context(), d, sending.Message{Text: "hello"}); err == nil {
				err = m.DB.Tx(t.Context(), func(tx *sqldb.Tx) error { return m.Send.Post(t.Context(), tx, d) })
			}
		}
		refused(t, err, http.StatusConflict)
	})
}

func refused(t *testing.T, err error, status int) {
	t.Helper()
	var told *problem.Problem
	if !errors.As(err, &told) || told.Status != status {
		t.Errorf("refused with %v, want %d", err, status)
	}
}

func TestWhoOptedOutIsNotWrittenTo(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		m.Feed(m.Direct("cai", "s1", "hello", 1_000_000))
		cai := channel.DirectKey(m.People["cai"].ID, projecttest.SMSConnection)
		m.connection[cai] = projecttest.SMSConnection
		m.post(cai, 1)
		m.post(cai, 1)
		m.take()
		consent := func(action string, order int64) {
			e := m.Event(pb.EventType_EVENT_TYPE_CONSENT, "cai", action, order)
			e.ConnectionId, e.Channel, e.Consent = projecttest.SMSConnection, "sms", &pb.Consent{Action: action, Source: "STOP"}
			m.Feed(e)
		}
		consent("opt_out", 5_000_000)
		m.look()
		m.is(m.posted[cai][0], 0, pb.Status_STATUS_QUEUED, "") // on its way: the adapter's answer tells
		m.report(m.issued[0], &pb.Receipt{Status: pb.Status_STATUS_SENT}, 6_000_000)
		m.look()
		m.is(m.posted[cai][1], 0, pb.Status_STATUS_FAILED, "opted_out")
		if len(m.issued) != 1 {
			t.Errorf("%d commands left", len(m.issued))
		}
		refused(t, m.Send.Retry(t.Context(), projecttest.Workspace, m.posted[cai][1]), http.StatusUnprocessableEntity)
		consent("opt_out_late", 0) // of another action: changes nothing
		consent("opt_in", 7_000_000)
		if err := m.Send.Retry(t.Context(), projecttest.Workspace, m.posted[cai][1]); err != nil {
			t.Fatal(err)
		}
		m.look()
		if len(m.issued) != 2 || m.issued[1].Attempt != 2 {
			t.Errorf("issued %v after opting in again", m.issued)
		}
	})
}

func TestTheSweeperWaitsUntilNobodyCanCallAnyMore(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		c := m.conversations[0]
		m.post(c, 1)
		m.post(c, 1)
		m.take()
		m.Pass(23 * time.Hour)
		m.look()
		m.is(m.posted[c][0], 0, pb.Status_STATUS_QUEUED, "") // no adapter has taken it up: it may still
		m.report(m.issued[0], &pb.Receipt{Status: pb.Status_STATUS_SENDING}, 1)
		m.look()
		m.is(m.posted[c][0], 0, pb.Status_STATUS_UNKNOWN, "")
		if len(m.issued) != 2 {
			t.Fatalf("%d commands: the next leaves with the unknown one", len(m.issued))
		}
		// What came back after all: not called.
		m.report(m.issued[0], &pb.Receipt{Status: pb.Status_STATUS_DEFERRED}, 2)
		m.is(m.posted[c][0], 0, pb.Status_STATUS_FAILED, "not_called")
		m.Pass(time.Hour) // the second was never taken up
		m.look()
		m.is(m.posted[c][1], 0, pb.Status_STATUS_UNKNOWN, "")
		m.post(c, 1)
		m.take()
		m.report(m.issued[2], &pb.Receipt{Status: pb.Status_STATUS_SENDING}, 3)
		m.Pass(5 * time.Minute)
		m.look()
		m.is(m.posted[c][2], 0, pb.Status_STATUS_SENDING, "") // it may be in a call
		m.Pass(5 * time.Minute)
		m.look()
		m.is(m.posted[c][2], 0, pb.Status_STATUS_UNKNOWN, "")
		m.post(c, 1)
		m.take()
		m.report(m.issued[3], &pb.Receipt{Status: pb.Status_STATUS_UNKNOWN, ErrorClass: pb.ErrorClass_ERROR_CLASS_RETRY, ErrorCode: "cut_off"}, 4)
		m.is(m.posted[c][3], 0, pb.Status_STATUS_UNKNOWN, "cut_off") // how the call ended
		if n := m.Count("conversations WHERE out_message <> ''"); n != 0 {
			t.Errorf("%d slots are held", n)
		}
	})
}

func TestWhatWaitsTooLongExpires(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		c := m.conversations[0]
		m.Connect(m.connection[c], pb.ConnectionStatus_CONNECTION_STATUS_REAUTHORISE)
		m.post(c, 2)
		id := m.posted[c][0]
		m.Pass(24 * time.Hour)
		m.look()
		m.is(id, 0, pb.Status_STATUS_FAILED, "expired")
		m.is(id, 1, pb.Status_STATUS_FAILED, "expired")
		m.Connect(m.connection[c], pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE)
		if err := m.Send.Retry(t.Context(), projecttest.Workspace, id); err != nil {
			t.Fatal(err)
		}
		m.look()
		m.is(id, 0, pb.Status_STATUS_QUEUED, "") // a person's decision begins the day anew
		if len(m.issued) != 1 || m.issued[0].Attempt != 2 || m.issued[0].Content == nil {
			t.Fatalf("issued %v", m.issued)
		}
		m.Pass(24 * time.Hour)
		m.report(m.issued[0], &pb.Receipt{Status: pb.Status_STATUS_DEFERRED}, 1)
		m.is(id, 0, pb.Status_STATUS_FAILED, "expired") // what comes back after a day does not go again
	})
}

func TestARestoredServiceEndsWhatWasOutstandingAndLearnsFromReplays(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		c := m.conversations[0]
		m.post(c, 3)
		m.take()
		id := m.posted[c][0]
		if n, err := m.Send.EndOutstanding(t.Context()); n != 1 || err != nil {
			t.Fatalf("ended %d, %v", n, err)
		}
		m.is(id, 0, pb.Status_STATUS_UNKNOWN, "")
		// Replays tell what had happened after the backup: this one, and more that the backup never issued.
		m.report(m.issued[0], &pb.Receipt{Status: pb.Status_STATUS_SENT}, 1)
		m.is(id, 0, pb.Status_STATUS_SENT, "")
		m.report(&pb.Command{MessageId: id, Part: 2, Attempt: 1, ConnectionId: m.connection[c], ConversationKey: c}, &pb.Receipt{Status: pb.Status_STATUS_SENDING}, 2)
		m.look()
		if len(m.issued) != 2 || m.issued[1].Part != 1 {
			t.Fatalf("issued %v", m.issued)
		}
		m.report(m.issued[1], &pb.Receipt{Status: pb.Status_STATUS_SENT}, 3)
		m.Pass(25 * time.Hour)
		m.look()
		m.is(id, 2, pb.Status_STATUS_UNKNOWN, "") // it was on its way when the log ended
		if len(m.issued) != 2 {
			t.Errorf("a part that was on its way left again: %v", m.issued)
		}
	})
}

func TestWhoeverComesAtOnceOneIsOutstanding(t *testing.T) {
	each(t, func(t *testing.T, m *mesh) {
		c := m.conversations[0]
		var writers sync.WaitGroup
		for n := range 6 {
			id := projecttest.ID(100 + n)
			writers.Go(func() { m.Posted(c, id, "hello") })
		}
		writers.Wait()
		for range 6 {
			m.check(t)
			if n := m.Count("conversations WHERE out_message <> ''"); n != 1 {
				t.Fatalf("%d are outstanding", n)
			}
			last := m.issued[len(m.issued)-1]
			var closing sync.WaitGroup // an outcome, its double, the sweeper and the pump at once
			for n := range 2 {
				e := m.Receipt(fmt.Sprint("sent", last.MessageId, n), int64(n), &pb.Receipt{MessageId: last.MessageId, Attempt: 1, Status: pb.Status_STATUS_SENT})
				e.ConnectionId, e.ConversationKey = last.ConnectionId, last.ConversationKey
				closing.Go(func() { m.Feed(e) })
			}
			closing.Go(func() {
				if err := errors.Join(m.Send.PumpOnce(context.Background()), m.Send.SweepOnce(context.Background())); err != nil {
					t.Error(err)
				}
			})
			closing.Wait()
			m.take()
		}
		if m.check(t); len(m.issued) != 6 || m.Count("conversations WHERE out_message <> ''") != 0 {
			t.Errorf("%d commands left of 6", len(m.issued))
		}
	})
}
