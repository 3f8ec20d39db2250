package project

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Dying remembers whose a record is that becomes a dead letter. Brought back it is theirs still. Where a
// provider gives no time, a webhook that is sent again after an erasure makes a subject anew: the event then
// comes as somebody else's, and is not to be shown as theirs.
func (p *Projector) Dying(ctx context.Context, r bus.Record) error {
	e := &event{ChannelEvent: &pb.ChannelEvent{}}
	if err := proto.Unmarshal(r.Value, e.ChannelEvent); err != nil {
		e.ChannelEvent = &pb.ChannelEvent{}
	}
	if e.GetId() == "" || e.person() == "" {
		return nil // it is nobody's
	}
	err := p.db.Tx(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO seen_events (id, at_us, dead_subject) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
			e.GetId(), p.clock.NowMicros(), e.person())
		return err
	})
	if sqldb.IsDataFault(err) {
		return nil // an id that no database takes
	}
	return err
}

// person is whose an event is: its author's, else its one-to-one partner's.
func (e *event) person() string { return cmp.Or(e.GetAuthorSubject(), e.GetContactSubject()) }

// revive finds the dead letters among events that were seen: revived are handled now, strange ones are not
// the person's that they were.
func (b *batch) revive(ctx context.Context, seen []string) (revived, strange map[string]bool, err error) {
	if len(seen) == 0 {
		return nil, nil, nil
	}
	revived, strange = map[string]bool{}, map[string]bool{}
	var back []string
	list, args := sqldb.In(1, seen)
	if err := sqldb.Query(ctx, b.tx, "SELECT id, dead_subject FROM seen_events WHERE dead_subject <> '' AND id IN ("+list+") ORDER BY id", args,
		func(rows sqldb.Row) error {
			var id, subject string
			err := rows.Scan(&id, &subject)
			switch {
			case b.all[id].person() != subject:
				strange[id] = true
			case !b.gone(subject):
				back = append(back, id)
			}
			return err
		}); err != nil || len(back) == 0 {
		return revived, strange, err
	}
	list, args = sqldb.In(1, back)
	// Another transaction may have handled one meanwhile: that is not returned.
	return revived, strange, sqldb.Query(ctx, b.tx, "UPDATE seen_events SET dead_subject = '' WHERE dead_subject <> '' AND id IN ("+list+") RETURNING id", args,
		func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			revived[id] = true
			return err
		})
}
