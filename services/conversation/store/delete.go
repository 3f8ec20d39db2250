package store

import (
	"context"
	"maps"
	"slices"

	"tributary.dev/libs/sqldb"
)

// DeleteAttachments deletes the attachments of messages, and notes their objects for deletion.
func DeleteAttachments(ctx context.Context, tx *sqldb.Tx, nowUS int64, messages []string) error {
	var objects []string
	for _, chunk := range Chunks(messages) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, tx, "DELETE FROM attachments WHERE message_id IN ("+list+") RETURNING object", args, func(rows sqldb.Row) error {
			var object string
			err := rows.Scan(&object)
			objects = append(objects, object)
			return err
		}); err != nil {
			return err
		}
	}
	return DeleteObjects(ctx, tx, nowUS, objects)
}

// DeleteContent deletes what messages said and what hangs on them; that they were there remains.
func DeleteContent(ctx context.Context, tx *sqldb.Tx, nowUS int64, messages []string) error {
	if err := DeleteAttachments(ctx, tx, nowUS, messages); err != nil {
		return err
	}
	return each(ctx, tx, messages,
		"DELETE FROM edits WHERE message_id IN (",
		"DELETE FROM reactions WHERE message_id IN (",
		"UPDATE message_parts SET ciphertext = NULL WHERE message_id IN (",
		"UPDATE messages SET ciphertext = NULL WHERE id IN (")
}

// DeleteMessages deletes messages altogether, and gives the conversations that they were in.
func DeleteMessages(ctx context.Context, tx *sqldb.Tx, nowUS int64, messages []string) (conversations []string, err error) {
	if err := DeleteContent(ctx, tx, nowUS, messages); err != nil {
		return nil, err
	}
	if err := each(ctx, tx, messages,
		"DELETE FROM message_parts WHERE message_id IN (",
		"DELETE FROM external_refs WHERE message_id IN ("); err != nil {
		return nil, err
	}
	of := map[string]bool{}
	for _, chunk := range Chunks(messages) {
		list, args := sqldb.In(1, chunk)
		if err := sqldb.Query(ctx, tx, "DELETE FROM messages WHERE id IN ("+list+") RETURNING conversation_id", args, func(rows sqldb.Row) error {
			var id string
			err := rows.Scan(&id)
			of[id] = true
			return err
		}); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(of)), nil
}

// each runs statements that end in an open list for all ids.
func each(ctx context.Context, tx *sqldb.Tx, ids []string, statements ...string) error {
	for _, chunk := range Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		for _, statement := range statements {
			if _, err := tx.ExecContext(ctx, statement+list+")", args...); err != nil {
				return err
			}
		}
	}
	return nil
}
