package relay

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"tributary.dev/libs/sqldb"
	"tributary.dev/services/conversation/store"
)

// placeBatch rows are given their positions at once, each as many as it has entries.
//
//bound:queue outbox rows that get positions at once | {} | the others wait in the database
const placeBatch = 1000

// handedOver is the largest payload of a row, in bytes, that goes to the live stream without being read again.
//
//bound:limit a row's payload that is handed to the live streams | {} bytes | they read it, and what is behind it, from the database
const handedOver = 4 << 10

// placeWaiting places what is new. Whoever looks without being woken looks first whether something is: who has
// nothing to do writes nothing.
func (r *Relay) placeWaiting(ctx context.Context, woken bool) (found, again bool, err error) {
	waits := woken
	if !waits {
		err = r.db.Read(ctx, func(tx *sqldb.Tx) error {
			return sqldb.Query(ctx, tx, "SELECT EXISTS (SELECT 1 FROM outbox WHERE position IS NULL)", nil, func(row sqldb.Row) error { return row.Scan(&waits) })
		})
	}
	if err != nil || !waits {
		return false, false, err
	}
	if err := r.leased(ctx); err != nil {
		return false, false, err
	}
	page, placed, err := r.place(ctx)
	if err != nil {
		return false, false, err
	}
	if placed > 0 {
		r.placed(page)
		wakeUp(r.ready)
	}
	return placed > 0, placed == placeBatch, nil
}

// Turn lets a transaction try to place what it appends, where this process has the lease; whoever does renews it.
func (r *Relay) Turn() *store.Turn {
	if r.renewed.Load() == nil {
		return &store.Turn{}
	}
	return &store.Turn{Token: r.token, Until: r.until(), Number: turnNumber()}
}

// turnNumber is one that no other turn has: of an earlier one's number it would be taken for that.
func turnNumber() int64 { return rand.Int64() }

// Committed is Wake where the transaction had a turn.
func (r *Relay) Committed(turn *store.Turn) {
	before, rows := turn.Placed()
	if len(rows) == 0 {
		r.Wake()
		return
	}
	page := Page{From: before}
	page.take(rows)
	r.placed(page)
	wakeUp(r.ready)
}

// Page is what was placed at once, as far as it is handed over: the rows of topic conversations behind From and up
// to UpTo. From is the last position that had been given before, and End the last one given now.
type Page struct {
	From, UpTo, End int64
	//bound:exempt no more than placeBatch
	Rows []store.Row
}

// place gives rows their positions: the last one plus one, or the clock in microseconds where that is
// more, so that positions rise after a restore too.
func (r *Relay) place(ctx context.Context) (page Page, placed int, err error) {
	held := false
	var rows []store.Row
	turn := turnNumber()
	if err := r.db.Tx(ctx, func(tx *sqldb.Tx) error {
		held, rows = false, nil
		if err := tx.Queue(ctx, "SELECT COUNT(*) > 0 FROM leases WHERE name = 'relay' AND token = $1", []any{r.token},
			func(row sqldb.Row) error { return row.Scan(&held) }); err != nil {
			return err
		}
		// The lease is locked before anything is placed: what follows sees all that another holder did, and none does
		// anything meanwhile. Where nothing waits nothing is written.
		if err := tx.Queue(ctx, `UPDATE leases SET turn = $2 WHERE name = 'relay' AND token = $1
			AND EXISTS (SELECT 1 FROM outbox WHERE position IS NULL) RETURNING position`, []any{r.token, turn},
			func(row sqldb.Row) error { return row.Scan(&page.From) }); err != nil {
			return err
		}
		if err := tx.Queue(ctx, `UPDATE outbox SET position = base.position + line.n
			FROM (SELECT id, SUM(entries) OVER (ORDER BY seq, id) AS n FROM outbox WHERE position IS NULL ORDER BY seq, id LIMIT $2) AS line,
			(SELECT CASE WHEN position > $3 THEN position ELSE $3 END AS position FROM leases WHERE name = 'relay' AND token = $1 AND turn = $6) AS base
			WHERE outbox.id = line.id
			RETURNING topic, workspace_id, outbox.position, entries, CASE WHEN topic = $4 AND LENGTH(payload) <= $5 THEN payload END`,
			[]any{r.token, placeBatch, r.clock.NowMicros() - 1, store.TopicConversations, handedOver, turn}, func(row sqldb.Row) error {
				var p store.Row
				err := row.Scan(&p.Topic, &p.Workspace, &p.Position, &p.Entries, &p.Payload)
				rows = append(rows, p)
				return err
			}); err != nil {
			return err
		}
		return tx.Queue(ctx, `UPDATE leases SET position = (SELECT MAX(position) FROM outbox) WHERE name = 'relay' AND token = $1
			AND turn = $2 AND position < (SELECT MAX(position) FROM outbox)`, []any{r.token, turn}, nil)
	}); err != nil {
		return Page{}, 0, err
	}
	if !held {
		r.renewed.Store(nil)
		return Page{}, 0, errLost
	}
	page.take(rows)
	return page, len(rows), nil
}

// take takes the rows before the first whose payload is too large to be handed over.
func (p *Page) take(rows []store.Row) {
	slices.SortFunc(rows, func(a, b store.Row) int { return cmp.Compare(a.Position, b.Position) })
	p.UpTo, p.End = p.From, p.From
	if len(rows) > 0 {
		p.End = rows[len(rows)-1].Position
	}
	for _, row := range rows {
		if row.Topic == store.TopicConversations {
			if row.Payload == nil || len(row.Payload) > handedOver {
				return
			}
			p.Rows = append(p.Rows, row)
		}
		p.UpTo = row.Position
	}
}
