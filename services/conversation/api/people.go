package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// people are the persons that a page speaks of, by subject.
type people map[string]*person

// person is what is shown of a subject. A hidden one (frozen or gone) is shown nowhere.
type person struct {
	subject, contact  string
	channel, kind     string
	hidden            bool
	identity, profile sealedColumns
	profileOrder      int64
	profileEvent      string
	opened            pb.Profile // the newest profile
	known             pb.Profile // what came with the person's first act
}

// load reads the persons of subjects that are not there yet.
func (p people) load(ctx context.Context, tx *sqldb.Tx, subjects []string) error {
	var missing []string
	for _, id := range subjects {
		if _, ok := p[id]; id != "" && !ok {
			p[id] = &person{subject: id}
			missing = append(missing, id)
		}
	}
	for _, chunk := range store.Chunks(missing) {
		list, args := sqldb.In(1, chunk)
		err := sqldb.Query(ctx, tx, `SELECT s.id, s.frozen, s.gone, COALESCE(i.contact_id, ''), COALESCE(i.channel, ''),
			COALESCE(i.kind, ''), COALESCE(i.key_id, ''), i.ciphertext
			FROM subjects s LEFT JOIN identities i ON i.subject_id = s.id WHERE s.id IN (`+list+`)`, args, func(rows sqldb.Row) error {
			var id, contact, channel, kind, key string
			var frozen, gone int
			var ciphertext []byte
			if err := rows.Scan(&id, &frozen, &gone, &contact, &channel, &kind, &key, &ciphertext); err != nil {
				return err
			}
			q := p[id]
			q.contact, q.channel, q.kind = contact, channel, kind
			q.identity, q.hidden = sealedColumns{id, key, ciphertext}, frozen != 0 || gone != 0
			return nil
		})
		if err != nil {
			return err
		}
		err = sqldb.Query(ctx, tx, `SELECT p.subject_id, p.order_us, p.event_id, p.key_id, p.ciphertext FROM profiles p
			WHERE p.subject_id IN (`+list+`) AND NOT EXISTS (SELECT 1 FROM profiles n WHERE n.subject_id = p.subject_id
			AND (n.order_us > p.order_us OR (n.order_us = p.order_us AND n.event_id > p.event_id)))`, args, func(rows sqldb.Row) error {
			var id, key, event string
			var order int64
			var ciphertext []byte
			if err := rows.Scan(&id, &order, &event, &key, &ciphertext); err != nil {
				return err
			}
			q := p[id]
			q.profile, q.profileOrder, q.profileEvent = sealedColumns{id, key, ciphertext}, order, event
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ask adds to o what tells the persons' names.
func (p people) ask(o *opening, subjects []string) {
	asked := map[string]bool{}
	for _, id := range subjects {
		q := p[id]
		if q == nil || q.hidden || asked[id] {
			continue
		}
		asked[id] = true
		into := func(profile *pb.Profile) func([]byte, error) {
			return func(plain []byte, err error) {
				if err != nil || proto.Unmarshal(plain, profile) != nil {
					proto.Reset(profile)
				}
			}
		}
		o.add(q.identity, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(id), into(&q.known))
		o.add(q.profile, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(id), into(&q.opened))
	}
}

// hides tells whether what the subject did is shown nowhere.
func (p people) hides(subject string) bool {
	q := p[subject]
	return q != nil && q.hidden
}

// sender is who a subject is; of nobody known, nobody.
func (p people) sender(subject string) Sender {
	q := p[subject]
	if q == nil || q.hidden {
		return Sender{}
	}
	return Sender{ContactID: q.contact, Name: q.name()}
}

// name is what the person is called today; empty where it is not known or does not open.
func (q *person) name() string {
	for _, profile := range []*pb.Profile{&q.opened, &q.known} {
		if profile.GetName() != "" {
			return profile.GetName()
		}
		if profile.GetHandle() != "" {
			return profile.GetHandle()
		}
	}
	return ""
}
