package erase

import (
	"context"
	"maps"
	"slices"

	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// Holdings are what this service declares to store of people.
func Holdings() []*pb.Holder_Holding {
	hold := func(storeName string, category pb.Category, purpose string) *pb.Holder_Holding {
		return &pb.Holder_Holding{Store: storeName, Category: category, Purpose: purpose}
	}
	const content, profile = pb.Category_CATEGORY_CONTENT, pb.Category_CATEGORY_PROFILE
	return []*pb.Holder_Holding{
		hold("messages", content, "conversations with a workspace, both directions, and members' notes"),
		hold("edits", content, "earlier wordings of messages, as long as a copy may come"),
		hold("reactions", content, "reactions to messages"),
		hold("attachments", content, "files of messages; the files lie in the bucket under attachments/"),
		hold("uploads", content, "files that members have uploaded to send to the person"),
		hold("contacts", profile, "who a workspace is in conversation with"),
		hold("identities", profile, "how a person is addressed on a channel"),
		hold("profiles", profile, "names and pictures that a person's provider gives"),
		hold("commerce", pb.Category_CATEGORY_COMMERCE, "orders, carts, refunds and fulfilments of the shops that a workspace has connected"),
		hold("unknown_events", content, "events that this version can't read, kept as they came"),
		hold("consents", profile, "whether a person may be written to: ids and times, kept as a record"),
		hold("outbox", content, "commands on their way to the provider, for 7 days"),
	}
}

// erasure of one subject in one transaction.
//
//bound:exempt what one command deletes
type erasure struct {
	tx                          *sqldb.Tx
	workspace, subject, contact string
	now                         int64
	ack                         *pb.PrivacyAck

	// direct are the person's one-to-one conversations, orphaned the groups that nobody else alive is in.
	direct, orphaned []string
	// own are the messages to be deleted: those of the former, and the person's own in other groups.
	own []string
}

// begin gives the erasure its transaction, and the answer that it fills.
func (e *erasure) begin(tx *sqldb.Tx, now int64, ack *pb.PrivacyAck) {
	ack.Found, ack.Deleted, ack.Kept = map[string]int64{}, map[string]int64{}, map[string]int64{}
	e.tx, e.now, e.ack = tx, now, ack
	e.direct, e.orphaned, e.own = nil, nil, nil
}

// carryOut does what a command asks, and gives what is to be told beside the answer.
func (e *erasure) carryOut(ctx context.Context, kind pb.PrivacyCommand_Kind) ([]store.Entry, error) {
	switch kind {
	case pb.PrivacyCommand_KIND_FREEZE:
		return []store.Entry{e.closed()}, e.freeze(ctx)
	case pb.PrivacyCommand_KIND_COLLECT:
		if err := e.find(ctx); err != nil {
			return nil, err
		}
		return nil, e.addLedger(ctx)
	case pb.PrivacyCommand_KIND_ERASE:
		if _, err := e.erase(ctx); err != nil {
			return nil, err
		}
		return []store.Entry{e.closed()}, e.addLedger(ctx)
	default:
		e.ack.Failed = "unsupported"
		return nil, nil
	}
}

// freeze closes the contact: it is shown nowhere any more, and nothing leaves for it.
func (e *erasure) freeze(ctx context.Context) error {
	if _, err := e.tx.ExecContext(ctx, `INSERT INTO subjects (id, workspace_id, frozen) VALUES ($1, $2, 1)
		ON CONFLICT (id) DO UPDATE SET frozen = 1`, e.subject, e.workspace); err != nil {
		return err
	}
	if _, err := e.tx.ExecContext(ctx, "UPDATE contacts SET frozen = 1 WHERE id = $1", e.contact); err != nil {
		return err
	}
	_, err := e.tx.ExecContext(ctx, "UPDATE conversations SET frozen = 1, next_us = 0 WHERE contact_id = $1", e.contact)
	return err
}

// erase sets gone on the subject's row, which may not be there yet: what comes for it later finds it. Then
// it deletes. did is false where the subject was gone already.
func (e *erasure) erase(ctx context.Context) (did bool, err error) {
	if err := sqldb.Query(ctx, e.tx, `INSERT INTO subjects (id, workspace_id, frozen, gone) VALUES ($1, $2, 1, 1)
		ON CONFLICT (id) DO UPDATE SET gone = 1, frozen = 1 WHERE subjects.gone = 0 RETURNING 1`, []any{e.subject, e.workspace}, func(sqldb.Row) error {
		did = true
		return nil
	}); err != nil {
		return did, err
	}
	if err := e.lock(ctx); err != nil {
		return did, err
	}
	if err := e.find(ctx); err != nil {
		return did, err
	}
	return did, e.delete(ctx)
}

// lock locks the conversations that the person is in: of two people of a group who are erased at the same
// time, the one that comes second finds nobody else there.
func (e *erasure) lock(ctx context.Context) error {
	var ids []string
	if err := e.list(ctx, &ids, `SELECT id FROM conversations WHERE contact_id = $1 UNION SELECT id FROM conversations WHERE own_subject = $2
		UNION SELECT conversation_id FROM participants WHERE subject_id = $2 ORDER BY 1`, e.contact, e.subject); err != nil {
		return err
	}
	for _, id := range ids { // one by one, and so in order
		if _, err := store.LockConversations(ctx, e.tx, []string{id}); err != nil {
			return err
		}
	}
	return nil
}

// closed tells that the contact is closed.
func (e *erasure) closed() store.Entry {
	return store.Entry{Topic: store.TopicContacts, Key: e.contact, Type: "contact", Workspace: e.workspace,
		Payload: &pb.ContactRecord{Id: e.contact, WorkspaceId: e.workspace, SubjectIds: []string{e.subject}, Closed: true}}
}

// find collects and counts what there is of the subject.
func (e *erasure) find(ctx context.Context) error {
	if err := e.list(ctx, &e.direct, "SELECT id FROM conversations WHERE contact_id = $1 ORDER BY id", e.contact); err != nil {
		return err
	}
	// A group's own subject is nobody's; what members wrote under it is counted when asked for.
	var groups, owned []string
	if err := e.list(ctx, &owned, "SELECT id FROM conversations WHERE own_subject = $1 ORDER BY id", e.subject); err != nil {
		return err
	}
	if err := e.list(ctx, &groups, "SELECT conversation_id FROM participants WHERE subject_id = $1 ORDER BY conversation_id", e.subject); err != nil {
		return err
	}
	messages := map[string]bool{}
	for _, conversation := range slices.Concat(e.direct, owned) {
		if err := e.messagesOf(ctx, messages, "conversation_id = $1", conversation); err != nil {
			return err
		}
	}
	for _, group := range groups {
		if err := e.group(ctx, messages, group); err != nil {
			return err
		}
	}
	e.own = slices.Sorted(maps.Keys(messages))
	e.ack.Found["messages"] = int64(len(e.own))
	e.ack.Found["conversations"] = int64(len(e.direct) + len(e.orphaned))
	for what, query := range map[string]string{
		"edits":          "SELECT COUNT(*) FROM edits WHERE content_subject = $1 OR author_subject = $1",
		"reactions":      "SELECT COUNT(*) FROM reactions WHERE author_subject = $1",
		"attachments":    "SELECT COUNT(*) FROM attachments WHERE subject_id = $1",
		"uploads":        "SELECT COUNT(*) FROM uploads WHERE subject_id = $1",
		"identities":     "SELECT COUNT(*) FROM identities WHERE subject_id = $1",
		"profiles":       "SELECT COUNT(*) FROM profiles WHERE subject_id = $1",
		"commerce":       "SELECT COUNT(*) FROM commerce WHERE subject_id = $1",
		"contacts":       "SELECT COUNT(*) FROM contacts WHERE subject_id = $1",
		"unknown_events": "SELECT COUNT(*) FROM unknown_events WHERE subject_id = $1",
	} {
		var n int64
		if err := e.tx.QueryRowContext(ctx, query, e.subject).Scan(&n); err != nil {
			return err
		}
		e.ack.Found[what] = n
	}
	if e.ack.Kind == pb.PrivacyCommand_KIND_COLLECT && e.ack.Found["contacts"] == 0 && len(e.own) == 0 {
		// Media or a profile of somebody who never acted here (a copy of what an erased person did, under a new
		// subject) wait for what will not come; the day they are pruned is no reason to keep the key till then.
		e.ack.Found["attachments"], e.ack.Found["profiles"] = 0, 0
	}
	var consents int64
	if err := e.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM consents WHERE subject_id = $1", e.subject).Scan(&consents); err != nil {
		return err
	}
	if consents > 0 {
		e.ack.Kept["consents"] = consents
	}
	return nil
}

// group collects the person's messages in a group, or all of them where nobody else alive is in it. What
// others wrote there stays, and is counted.
func (e *erasure) group(ctx context.Context, messages map[string]bool, group string) error {
	var others int64
	if err := e.tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM participants p JOIN subjects s ON s.id = p.subject_id
		WHERE p.conversation_id = $1 AND p.subject_id <> $2 AND s.gone = 0`, group, e.subject).Scan(&others); err != nil {
		return err
	}
	if others == 0 {
		e.orphaned = append(e.orphaned, group)
		return e.messagesOf(ctx, messages, "conversation_id = $1", group)
	}
	if err := e.messagesOf(ctx, messages, "conversation_id = $1 AND author_subject = $2", group, e.subject); err != nil {
		return err
	}
	var kept int64
	err := e.tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE conversation_id = $1 AND direction <> 'inbound' AND author_subject = ''", group).Scan(&kept)
	if kept > 0 {
		e.ack.Kept["group_content"] += kept
	}
	return err
}

// delete deletes all that find found, and notes it. Objects of the bucket are deleted after the commit.
func (e *erasure) delete(ctx context.Context) error {
	whole := slices.Sorted(slices.Values(slices.Concat(e.direct, e.orphaned)))
	moved, err := store.DeleteMessages(ctx, e.tx, e.now, e.own)
	if err != nil {
		return err
	}
	for _, table := range []string{"attachments", "uploads"} {
		var objects []string
		if err := e.list(ctx, &objects, "DELETE FROM "+table+" WHERE subject_id = $1 RETURNING object", e.subject); err != nil {
			return err
		}
		if err := store.DeleteObjects(ctx, e.tx, e.now, objects); err != nil {
			return err
		}
	}
	for _, statement := range []string{
		"DELETE FROM edits WHERE content_subject = $1 OR author_subject = $1",
		"DELETE FROM reactions WHERE author_subject = $1",
		"DELETE FROM identities WHERE subject_id = $1",
		"DELETE FROM profiles WHERE subject_id = $1",
		"DELETE FROM commerce WHERE subject_id = $1",
		"DELETE FROM contacts WHERE subject_id = $1",
		"DELETE FROM unknown_events WHERE subject_id = $1",
		"DELETE FROM participants WHERE subject_id = $1",
	} {
		if _, err := e.tx.ExecContext(ctx, statement, e.subject); err != nil {
			return err
		}
	}
	for _, chunk := range store.Chunks(whole) {
		list, args := sqldb.In(1, chunk)
		for _, statement := range []string{
			"DELETE FROM outbox WHERE conversation_id IN (" + list + ") AND topic LIKE 'outbound.%'",
			"DELETE FROM participants WHERE conversation_id IN (" + list + ")",
			"DELETE FROM conversations WHERE id IN (" + list + ")",
		} {
			if _, err := e.tx.ExecContext(ctx, statement, args...); err != nil {
				return err
			}
		}
	}
	maps.Copy(e.ack.Deleted, e.ack.Found)
	if err := store.Bounds(ctx, e.tx, moved); err != nil {
		return err
	}
	return e.keepGone(ctx)
}

// keepGone remembers what is gone, so that it is told from what never was.
func (e *erasure) keepGone(ctx context.Context) error {
	if err := store.KeepGone(ctx, e.tx, e.workspace, store.KindContact, e.contact); err != nil {
		return err
	}
	return store.KeepGone(ctx, e.tx, e.workspace, store.KindConversation, e.direct...)
}

func (e *erasure) messagesOf(ctx context.Context, into map[string]bool, where string, args ...any) error {
	var ids []string
	err := e.list(ctx, &ids, "SELECT id FROM messages WHERE "+where, args...)
	for _, id := range ids {
		into[id] = true
	}
	return err
}

// list appends the one column of a statement to into.
func (e *erasure) list(ctx context.Context, into *[]string, query string, args ...any) error {
	return sqldb.Query(ctx, e.tx, query, args, func(rows sqldb.Row) error {
		var value string
		err := rows.Scan(&value)
		*into = append(*into, value)
		return err
	})
}
