package store

import (
	"cmp"
	"context"
	"slices"

	"tributary.dev/libs/sqldb"
)

// Reaction as it stands on a message. Its emoji opens with OriginReaction(Key, ContentOrder).
type Reaction struct {
	Message, Key, Author, KeyID string
	Ciphertext                  []byte
	OrderUS, ContentOrder       int64
}

// Reactions that stand on the messages: of each key the newest by (order, event), unless it took the
// reaction away. Sorted by order and key.
func Reactions(ctx context.Context, tx *sqldb.Tx, messages []string) ([]Reaction, error) {
	type latest struct {
		Reaction
		event   string
		removed bool
	}
	newest := map[string]latest{}
	for _, chunk := range Chunks(messages) {
		list, args := sqldb.In(1, chunk)
		err := sqldb.Query(ctx, tx, `SELECT event_id, message_id, reaction_key, author_subject, key_id, ciphertext, order_us,
			content_order, removed FROM reactions WHERE message_id IN (`+list+`) AND message_id <> ''`, args, func(rows sqldb.Row) error {
			var r latest
			var removed int
			if err := rows.Scan(&r.event, &r.Message, &r.Key, &r.Author, &r.KeyID, &r.Ciphertext, &r.OrderUS, &r.ContentOrder, &removed); err != nil {
				return err
			}
			r.removed = removed == 1
			at := r.Message + "/" + r.Key
			if old, ok := newest[at]; !ok || r.OrderUS > old.OrderUS || r.OrderUS == old.OrderUS && r.event > old.event {
				newest[at] = r
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var stand []Reaction
	for _, r := range newest {
		if !r.removed {
			stand = append(stand, r.Reaction)
		}
	}
	slices.SortFunc(stand, func(a, b Reaction) int {
		return cmp.Or(cmp.Compare(a.OrderUS, b.OrderUS), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Key, b.Key))
	})
	return stand, nil
}
