package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// subjects gives conversations of mail the subject line of their first message, as far as it can be read.
func (a *API) subjects(ctx context.Context, workspace string, conversations ...*Conversation) error {
	mails := map[string]*Conversation{}
	var ids []string
	for _, c := range conversations {
		if f, ok := channel.Lookup(c.Channel); ok && f.Whole {
			mails[c.ID] = c
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	o := &opening{workspace: workspace}
	if err := a.DB.View(ctx, func(tx *sqldb.Tx) error {
		*o = opening{workspace: workspace}
		for _, chunk := range store.Chunks(ids) {
			list, args := sqldb.In(1, chunk)
			if err := sqldb.Query(ctx, tx, `SELECT m.conversation_id, m.content_subject, m.content_key, m.ciphertext, m.content_id, m.content_order
				FROM messages m WHERE m.conversation_id IN (`+list+`) AND m.id = (SELECT f.id FROM messages f
					WHERE f.conversation_id = m.conversation_id ORDER BY f.order_us, f.id LIMIT 1)`, args, func(row sqldb.Row) error {
				var id, contentID string
				var order int64
				var sealed sealedColumns
				err := row.Scan(&id, &sealed.subject, &sealed.key, &sealed.ciphertext, &contentID, &order)
				o.add(sealed, pb.Category_CATEGORY_CONTENT, seal.OriginContent(contentID, order), func(plain []byte, err error) {
					content := &pb.Content{}
					if err == nil && proto.Unmarshal(plain, content) == nil {
						mails[id].Subject = content.GetSubject()
					}
				})
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return o.open(ctx, a.Seal, pb.Purpose_PURPOSE_CONVERSATION)
}
