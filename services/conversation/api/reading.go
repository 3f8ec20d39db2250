package api

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// messageRow is a message as it is stored, not opened yet.
//
//bound:exempt what one answer shows
type messageRow struct {
	id, conversation, connection  string
	direction, author, member     string
	automated                     bool
	order                         int64
	externalID, replyTo           string
	content                       sealedColumns
	contentID                     string
	contentOrder, edited, deleted int64
	status                        pb.Status
	errorClass                    pb.ErrorClass
	errorCode                     string
	workspace                     string
	attachments                   []attachmentRow
	reactions                     []reactionRow
	parts                         []Part
	text                          pb.Content
	state                         string
}

type attachmentRow struct {
	id, kind, contentType, object, failed string
	size                                  int64
}

type reactionRow struct {
	store.Reaction
	emoji string
}

// selectMessages is followed by a condition on m and c (its conversation). Content is bound to the message
// that shows it, so that one moved to another message with all that its row says of it does not open. Only an
// edit that names a message of our own by the provider's id is bound to the id that follows from that.
const selectMessages = `SELECT m.id, m.workspace_id, m.conversation_id, m.connection_id, m.direction, m.author_subject, m.member_id,
	m.automated, m.order_us, m.external_id,
	CASE WHEN m.reply_to = '' THEN '' ELSE COALESCE((SELECT r.message_id FROM external_refs r
		WHERE r.connection_id = m.connection_id AND r.external_id = m.reply_to), '') END,
	m.content_subject, m.content_key, m.ciphertext,
	CASE WHEN m.head_event = '' AND m.edited_us > 0 THEN m.content_id ELSE m.id END, m.content_order, m.edited_us, m.deleted_us,
	m.status, m.error_class, m.error_code
	FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE `

// shown keeps out what belongs to frozen and gone persons. It says so as an absence: a planner takes that
// for rare, as it is, and goes on reading along the list's index.
const shown = `c.frozen = 0 AND ` + authorShown

const authorShown = `NOT EXISTS (SELECT 1 FROM subjects a WHERE a.id = m.author_subject AND (a.frozen = 1 OR a.gone = 1))`

func queryMessages(ctx context.Context, tx *sqldb.Tx, condition string, args ...any) ([]*messageRow, error) {
	var found []*messageRow
	err := sqldb.Query(ctx, tx, selectMessages+condition, args, func(rows sqldb.Row) error {
		var m messageRow
		var automated int
		if err := rows.Scan(&m.id, &m.workspace, &m.conversation, &m.connection, &m.direction, &m.author, &m.member,
			&automated, &m.order, &m.externalID, &m.replyTo,
			&m.content.subject, &m.content.key, &m.content.ciphertext, &m.contentID, &m.contentOrder, &m.edited, &m.deleted,
			&m.status, &m.errorClass, &m.errorCode); err != nil {
			return err
		}
		m.automated = automated != 0
		if m.deleted != 0 {
			m.content, m.state = sealedColumns{}, contentDeleted
		}
		found = append(found, &m)
		return nil
	})
	return found, err
}

// view reads messages with everything that hangs on them, in one state of the database, and opens them.
// read gives the messages' rows, in the order that they are to be answered in.
func (a *API) view(ctx context.Context, workspace string, purpose pb.Purpose, read func(tx *sqldb.Tx) ([]*messageRow, error)) ([]Message, error) {
	var rows []*messageRow
	var persons people
	err := a.DB.View(ctx, func(tx *sqldb.Tx) (err error) {
		if rows, err = read(tx); err != nil {
			return err
		}
		persons = people{}
		return attach(ctx, tx, rows, persons)
	})
	if err != nil {
		return nil, err
	}
	o := &opening{workspace: workspace}
	for _, m := range rows {
		m.ask(o)
	}
	persons.ask(o, acting(rows))
	if err := o.open(ctx, a.Seal, purpose); err != nil {
		return nil, err
	}
	found, err := a.findMentioned(ctx, o, rows)
	if err != nil {
		return nil, err
	}
	if err := a.nameMentioned(ctx, o, purpose, found, persons); err != nil {
		return nil, err
	}
	subject := func(mark *pb.Mention) string { return found[o.identity(mark)] }
	messages := make([]Message, len(rows))
	for i, m := range rows {
		messages[i] = m.message(subject, persons)
	}
	return messages, nil
}

// attach reads what hangs on the messages.
func attach(ctx context.Context, tx *sqldb.Tx, rows []*messageRow, persons people) error {
	byID := make(map[string]*messageRow, len(rows))
	var ids []string
	for _, m := range rows {
		byID[m.id] = m
		if m.deleted == 0 {
			ids = append(ids, m.id)
		}
	}
	for _, chunk := range store.Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		err := sqldb.Query(ctx, tx, `SELECT message_id, id, kind, content_type, size, object, failed FROM attachments
			WHERE message_id IN (`+list+`) AND message_id <> '' AND declared = 1 ORDER BY message_id, position, id`, args, func(r sqldb.Row) error {
			var at attachmentRow
			var message string
			err := r.Scan(&message, &at.id, &at.kind, &at.contentType, &at.size, &at.object, &at.failed)
			if m := byID[message]; err == nil && m != nil {
				m.attachments = append(m.attachments, at)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := attachParts(ctx, tx, byID); err != nil {
		return err
	}
	reactions, err := store.Reactions(ctx, tx, ids)
	if err != nil {
		return err
	}
	for _, r := range reactions {
		byID[r.Message].reactions = append(byID[r.Message].reactions, reactionRow{Reaction: r})
	}
	return persons.load(ctx, tx, acting(rows))
}

// attachParts reads the newest attempt of each part of outbound messages.
func attachParts(ctx context.Context, tx *sqldb.Tx, byID map[string]*messageRow) error {
	var ids []string
	for id, m := range byID {
		if m.status != pb.Status_STATUS_UNSPECIFIED {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, chunk := range store.Chunks(ids) {
		list, args := sqldb.In(1, chunk)
		err := sqldb.Query(ctx, tx, `SELECT p.message_id, p.part, p.attempt, p.status, p.error_class, p.error_code FROM message_parts p
			WHERE p.message_id IN (`+list+`) AND NOT EXISTS (SELECT 1 FROM message_parts n
			WHERE n.message_id = p.message_id AND n.part = p.part AND n.attempt > p.attempt)
			ORDER BY p.message_id, p.part`, args, func(r sqldb.Row) error {
			var p Part
			var message, code string
			var status pb.Status
			var class pb.ErrorClass
			err := r.Scan(&message, &p.Part, &p.Attempt, &status, &class, &code)
			p.Status = statusWord(status)
			p.Error = sendError(status, class, code)
			byID[message].parts = append(byID[message].parts, p)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// acting are the subjects of those who wrote or reacted.
func acting(rows []*messageRow) []string {
	var subjects []string
	for _, m := range rows {
		subjects = append(subjects, m.author)
		for _, r := range m.reactions {
			subjects = append(subjects, r.Author)
		}
	}
	return subjects
}

// ask adds the message's sealed parts to o.
func (m *messageRow) ask(o *opening) {
	if m.state == "" {
		m.state = contentOpen
	}
	o.add(m.content, pb.Category_CATEGORY_CONTENT, seal.OriginContent(m.contentID, m.contentOrder), func(plain []byte, err error) {
		if err == nil {
			err = proto.Unmarshal(plain, &m.text)
		}
		m.state = contentState(err)
	})
	for i := range m.reactions {
		r := &m.reactions[i]
		o.add(sealedColumns{r.Author, r.KeyID, r.Ciphertext}, pb.Category_CATEGORY_CONTENT, seal.OriginReaction(r.Key, r.ContentOrder),
			func(plain []byte, err error) {
				var c pb.Content
				if err == nil && proto.Unmarshal(plain, &c) == nil {
					r.emoji = c.GetEmoji()
				}
			})
	}
}

func (m *messageRow) message(subject func(*pb.Mention) string, persons people) Message {
	text, mentions := resolve(m.text.GetText(), m.text.GetMentions(), subject, persons)
	out := Message{
		ID: m.id, ConversationID: m.conversation, ConnectionID: m.connection, Direction: m.direction,
		Type: "text", Content: m.state, Subject: m.text.GetSubject(), Text: text, FullText: m.text.GetFullText(), HTML: sanitised(m.text.GetHtml()), Payload: m.text.GetPayload(), Mentions: mentions,
		Attachments: make([]Attachment, 0, len(m.attachments)), Reactions: []Reaction{}, Parts: m.parts,
		Sender: persons.sender(m.author), ExternalID: m.externalID, ReplyTo: optional(m.replyTo),
		EditedAt: optionalTime(m.edited), DeletedAt: optionalTime(m.deleted), SentAt: timeText(m.order),
	}
	out.Sender.MemberID, out.Sender.Automated = m.member, m.automated
	if out.Parts == nil {
		out.Parts = []Part{}
	}
	if m.status != pb.Status_STATUS_UNSPECIFIED {
		out.Status = new(statusWord(m.status))
	}
	out.Error = sendError(m.status, m.errorClass, m.errorCode)
	for _, at := range m.attachments {
		if name, contentID, named := m.names(at.id); named {
			shown := at.attachment(name)
			shown.ContentID = contentID
			out.Attachments = append(out.Attachments, shown)
		}
	}
	if text == "" && out.HTML == "" && len(out.Attachments) > 0 {
		out.Type = out.Attachments[0].Kind
	}
	for _, r := range m.reactions {
		if r.emoji != "" && !persons.hides(r.Author) {
			out.Reactions = append(out.Reactions, Reaction{Emoji: r.emoji, Sender: persons.sender(r.Author), At: timeText(r.OrderUS)})
		}
	}
	return out
}

// names tells whether the message, as it was edited last, has an attachment, its name, and what its HTML calls it. One
// whose content does not open has all that its rows say, without names.
func (m *messageRow) names(attachment string) (name, contentID string, named bool) {
	if m.state != contentOpen || len(m.content.ciphertext) == 0 {
		return "", "", m.state != contentDeleted
	}
	for _, at := range m.text.GetAttachments() {
		if at.GetId() == attachment {
			if id, inline := strings.CutPrefix(at.GetExternalId(), "cid:"); inline {
				contentID = id
			}
			return at.GetName(), contentID, true
		}
	}
	return "", "", false
}

func (at attachmentRow) attachment(name string) Attachment {
	out := Attachment{ID: at.id, Kind: at.kind, Name: name, ContentType: at.contentType, Size: at.size, State: "pending"}
	if out.Kind == "" {
		out.Kind = "file"
	}
	switch {
	case at.object != "":
		out.State, out.URL = "stored", new("/v1/attachments/"+at.id+"/content")
	case at.failed != "":
		out.State, out.Failed = "failed", at.failed
	}
	return out
}
