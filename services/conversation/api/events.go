package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/store"
)

// Event is the data of a server-sent event: ids and states, no words.
type Event struct {
	Type           string `json:"type"`
	ConversationID string `json:"conversation_id"`
	MessageID      string `json:"message_id"`
	ContactID      string `json:"contact_id"`
	Direction      string `json:"direction,omitempty"`
	Status         string `json:"status,omitempty"`
	At             string `json:"at,omitempty"`
}

const (
	// eventBatch is how many events are read at a time.
	eventBatch = 200
	// eventsKept is how far back a client may resume: what the relay keeps, but for what clocks may differ.
	eventsKept = relay.Retention - time.Minute
	// The least time between two looks of a stream, however often it is woken: pauseEach for every open stream,
	// so that all together look a thousand times a second at most, but within pauseLeast and pauseMost.
	pauseEach  = time.Millisecond
	pauseLeast = 2 * time.Millisecond
	pauseMost  = 50 * time.Millisecond
)

// streamEvents follows the outbox by position (WHATWG HTML, 9.2: server-sent events). Every event has its
// position as id, so a client cut off anywhere comes back with Last-Event-ID and goes on behind it.
func (a *API) streamEvents(w http.ResponseWriter, r *http.Request) {
	//bound:timeout a live stream | {Limits.StreamLife} | it ends; its client comes back
	ctx, cancel := context.WithTimeout(r.Context(), a.StreamLife)
	defer cancel()
	s, err := a.openStream(ctx, w, r)
	if err != nil {
		problem.Write(ctx, w, err)
		return
	}
	defer a.streams.leave(s.workspace)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	if err := s.run(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errClientGone) {
		telemetry.From(ctx).Log.WarnContext(ctx, "event stream ended", "workspace_id", s.workspace, "error", err)
	}
}

// stream is one client's.
type stream struct {
	api       *API
	workspace string
	// last is the position up to which the client has everything.
	last  int64
	reset bool
	w     http.ResponseWriter
	rc    *http.ResponseController
	//bound:queue events written to a stream at once | {eventBatch} | the others wait in the outbox
	buf bytes.Buffer
}

// lastEventID is the parameter by which browsers' libraries that send an Authorization resume.
const lastEventID = "lastEventId"

var errClientGone = errors.New("api: the client is gone or does not keep up")

func (a *API) openStream(ctx context.Context, w http.ResponseWriter, r *http.Request) (*stream, error) {
	if err := access.Require(ctx, access.ConversationsRead); err != nil {
		return nil, err
	}
	caller, _ := access.From(ctx)
	s := &stream{api: a, workspace: caller.WorkspaceID, w: w, rc: http.NewResponseController(w)}
	since, resumed := int64(0), false
	query := r.URL.Query()
	text := cmp.Or(r.Header.Get("Last-Event-ID"), query.Get(lastEventID))
	query.Del(lastEventID)
	for name := range query { // who asks for it by another name would miss events
		return nil, problem.Invalid(map[string]string{name: "is unknown"})
	}
	if text != "" {
		var err error
		if since, err = strconv.ParseInt(text, 10, 64); err != nil || since < 0 {
			return nil, problem.Invalid(map[string]string{"Last-Event-ID": "is not the id of an event"})
		}
		resumed = true
	}
	if err := a.streams.enter(caller.WorkspaceID, a.Limits); err != nil {
		return nil, err
	}
	newest, missing, err := a.span(ctx)
	if err != nil {
		a.streams.leave(caller.WorkspaceID)
		return nil, err
	}
	// A position not given yet is of before a restore.
	lost := since > newest || since < newest && since < missing
	if s.last = since; !resumed || lost {
		s.last, s.reset = newest, resumed
	}
	return s, nil
}

// newestPosition is the last one given; what has it, and all below, is there to read.
const newestPosition = "SELECT COALESCE(MAX(position), 0) FROM leases WHERE name = 'relay'"

// missingPosition is the last one that may be missing: what was pruned, or is any moment.
const missingPosition = `SELECT COALESCE(MAX(p.position), 0) FROM (SELECT position FROM leases WHERE name = 'pruned'
	UNION ALL SELECT MAX(position) FROM outbox WHERE position < $1) AS p`

// span gives the newest position, and up to where events may be missing.
func (a *API) span(ctx context.Context) (newest, missing int64, err error) {
	err = a.DB.View(ctx, func(tx *sqldb.Tx) error {
		if err := tx.QueryRowContext(ctx, newestPosition).Scan(&newest); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, missingPosition, a.Clock.Now().Add(-eventsKept).UnixMicro()).Scan(&missing)
	})
	return newest, missing, err
}

func (s *stream) run(ctx context.Context) error {
	// A client that is cut off before the first event knows from where to go on.
	fmt.Fprintf(&s.buf, "retry: 1000\nid: %d\n", s.last)
	if s.reset {
		s.buf.WriteString("event: reset\ndata: {}\n")
	}
	s.buf.WriteString("\n")
	poll, beat := time.NewTicker(s.api.StreamPoll), time.NewTicker(s.api.StreamBeat)
	defer poll.Stop()
	defer beat.Stop()
	for {
		woken := s.api.streams.next() // before reading: no wake in between is missed
		more, err := s.read(ctx)
		if err != nil {
			return err
		}
		if err := s.flush(); err != nil {
			return err
		}
		if more && ctx.Err() == nil {
			continue
		}
		if !s.pause(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.api.streams.ended:
			return nil
		case <-woken:
		case <-poll.C:
		case <-beat.C:
			// Nothing but an id: it is dispatched to nobody, and a client of a quiet workspace still
			// comes back from where it was.
			fmt.Fprintf(&s.buf, ": beat\nid: %d\n\n", s.last)
		}
	}
}

// pause keeps a stream that is woken all the time from asking the database all the time; false when the
// stream is to end.
func (s *stream) pause(ctx context.Context) bool {
	//bound:retry looking for a stream's events, however often it is woken | every {pauseLeast}, with many open ones every {pauseMost} | the events come together
	t := time.NewTimer(s.api.streams.pause())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.api.streams.ended:
		return false
	case <-t.C:
		return true
	}
}

// A row's position is that of its last entry: it may begin before what the client has.
const (
	eventRows   = "FROM outbox WHERE workspace_id = $1 AND topic = $2 AND position > $3 AND position <= $4 ORDER BY position"
	eventsAfter = "SELECT position, entries " + eventRows + " LIMIT $5"
	eventsUpTo  = "SELECT position, entries, payload " + eventRows
)

// read writes the next events into the buffer; more says that others wait behind them.
func (s *stream) read(ctx context.Context) (more bool, err error) {
	rows, upTo, more, known := s.api.streams.after(s.last)
	if known {
		events, shown, err := s.handed(rows)
		switch {
		case err != nil:
		case shown:
			err = s.tell(ctx, nil, events)
		default:
			err = s.api.DB.Read(ctx, func(tx *sqldb.Tx) error { return s.tell(ctx, tx, events) })
		}
		if err == nil {
			s.last = upTo
		}
		return more, err
	}
	err = s.api.DB.View(ctx, func(tx *sqldb.Tx) error {
		var newest int64
		if err := tx.QueryRowContext(ctx, newestPosition).Scan(&newest); err != nil || newest <= s.last {
			upTo, more = s.last, false
			return err
		}
		if upTo, more, err = s.reach(ctx, tx, newest); err != nil {
			return err
		}
		events, err := s.events(ctx, tx, upTo)
		if err != nil {
			return err
		}
		return s.tell(ctx, tx, events)
	})
	if err != nil {
		return false, err
	}
	s.last = upTo
	return more, nil
}

// shownFor is how long what a transaction knew to be shown is told of without looking: so old may be what is told of
// somebody who has been hidden since.
//
//bound:timeout telling of what was shown when it was written | {} | it is looked at first
const shownFor = 100 * time.Millisecond

// handed gives the events of rows that the relay has handed over, those of the stream's workspace, and whether all are known
// to be shown.
func (s *stream) handed(rows []store.Row) (events []store.Placed, shown bool, err error) {
	shown = true
	for _, row := range rows {
		if row.Workspace != s.workspace {
			continue
		}
		entries, err := store.Entries(row.Entries, row.Position, &pb.OutboxEntries_Entry{Payload: row.Payload})
		if err != nil {
			return nil, false, err
		}
		shown = shown && time.Since(row.Shown) < shownFor
		events = append(events, entries...)
	}
	return slices.DeleteFunc(events, func(e store.Placed) bool { return e.Position <= s.last }), shown, nil
}

// tell writes what is shown of events into the buffer: all, where there is no transaction to look with.
func (s *stream) tell(ctx context.Context, tx *sqldb.Tx, events []store.Placed) error {
	told := make([]*pb.ConversationEvent, len(events))
	for i, e := range events {
		told[i] = &pb.ConversationEvent{}
		if err := proto.Unmarshal(e.GetPayload(), told[i]); err != nil {
			return err
		}
	}
	var visible seen
	if tx != nil {
		var err error
		if visible, err = look(ctx, tx, told); err != nil {
			return err
		}
	}
	for i, e := range events {
		if tx == nil || visible.shows(told[i]) {
			s.write(e.Position, told[i])
		}
	}
	return nil
}

// reach gives how far to read at a time, and whether there is more: some rows, and no more than one that
// takes them past eventBatch events.
func (s *stream) reach(ctx context.Context, tx *sqldb.Tx, newest int64) (upTo int64, more bool, err error) {
	rows, events := 0, 0
	err = sqldb.Query(ctx, tx, eventsAfter, []any{s.workspace, store.TopicConversations, s.last, newest, eventBatch}, func(r sqldb.Row) error {
		var position int64
		var count int
		err := r.Scan(&position, &count)
		if events < eventBatch {
			upTo = position
		} else {
			more = true
		}
		rows, events = rows+1, events+count
		return err
	})
	if more = more || rows == eventBatch; !more {
		upTo = newest
	}
	return upTo, more, err
}

// events behind the last that the client has, up to a position.
func (s *stream) events(ctx context.Context, tx *sqldb.Tx, upTo int64) (events []store.Placed, err error) {
	err = sqldb.Query(ctx, tx, eventsUpTo, []any{s.workspace, store.TopicConversations, s.last, upTo}, func(r sqldb.Row) error {
		var position int64
		var count int
		row := &pb.OutboxEntries_Entry{}
		if err := r.Scan(&position, &count, &row.Payload); err != nil {
			return err
		}
		entries, err := store.Entries(count, position, row)
		for _, e := range entries {
			if e.Position > s.last {
				events = append(events, e)
			}
		}
		return err
	})
	return events, err
}

func (s *stream) write(position int64, e *pb.ConversationEvent) {
	event := Event{Type: e.GetType(), ConversationID: e.GetConversationId(), MessageID: e.GetMessageId(), ContactID: e.GetContactId()}
	switch e.GetDirection() {
	case pb.Direction_DIRECTION_INBOUND:
		event.Direction = "inbound"
	case pb.Direction_DIRECTION_OUTBOUND:
		event.Direction = "outbound"
	}
	if e.GetStatus() != pb.Status_STATUS_UNSPECIFIED {
		event.Status = statusWord(e.GetStatus())
	}
	if e.GetOrderUs() != 0 {
		event.At = timeText(e.GetOrderUs())
	}
	data, err := json.Marshal(event)
	if err != nil {
		panic(err) // a struct of strings always encodes
	}
	fmt.Fprintf(&s.buf, "id: %d\nevent: %s\ndata: %s\n\n", position, event.Type, data)
}

// flush hands the buffer to the client, who has StreamWrite to take it.
func (s *stream) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	if err := s.rc.SetWriteDeadline(time.Now().Add(s.api.StreamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClientGone
	}
	_, err := s.w.Write(s.buf.Bytes())
	s.buf.Reset()
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return errClientGone
	}
	return nil
}

// seen is what of the events' subjects is shown: nothing frozen, gone or erased is.
type seen map[string]bool

func look(ctx context.Context, tx *sqldb.Tx, events []*pb.ConversationEvent) (seen, error) {
	shownIDs := seen{"": true}
	// A message is hidden with its conversation, and that with its contact.
	ofNone := func(id func(*pb.ConversationEvent) string) func(*pb.ConversationEvent) string {
		return func(e *pb.ConversationEvent) string {
			if e.GetMessageId() != "" {
				return ""
			}
			return id(e)
		}
	}
	for _, of := range []struct {
		id    func(*pb.ConversationEvent) string
		query string
	}{
		{ofNone((*pb.ConversationEvent).GetConversationId), "SELECT c.id FROM conversations c WHERE c.frozen = 0 AND c.id IN "},
		{ofNone((*pb.ConversationEvent).GetContactId), "SELECT c.id FROM contacts c WHERE c.frozen = 0 AND c.id IN "},
		{(*pb.ConversationEvent).GetMessageId, `SELECT m.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
			WHERE ` + shown + " AND m.id IN "},
	} {
		var ids []string
		for _, e := range events {
			if id := of.id(e); id != "" {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		list, args := sqldb.In(1, ids)
		if err := tx.Queue(ctx, of.query+"("+list+")", args, func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			shownIDs[id] = true
			return err
		}); err != nil {
			return nil, err
		}
	}
	return shownIDs, tx.Send(ctx)
}

func (s seen) shows(e *pb.ConversationEvent) bool {
	if e.GetMessageId() != "" {
		return s[e.GetMessageId()]
	}
	return s[e.GetConversationId()] && s[e.GetContactId()] && s[e.GetMessageId()]
}
