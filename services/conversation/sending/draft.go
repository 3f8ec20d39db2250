package sending

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/store"
)

// MaxTextBytes and MaxAttachments bound one message.
const (
	MaxTextBytes   = 64 << 10
	MaxAttachments = 10
)

// ConversationKind is the identity kind of a group conversation itself: what members write there is
// sealed for it, and so outlives any one of its people.
const ConversationKind = "conversation"

// Draft is a message being prepared: everything that needs the key registry happens here, before the
// transaction that posts it.
//
//bound:exempt one message
type Draft struct {
	// MessageID is the id that the message will have.
	MessageID string
	// Subject seals the message, and its attachments' keys. It holds a plain key: keep it no longer than
	// the draft.
	Subject seal.Subject

	conversation *store.Conversation
	features     channel.Features
	message      Message
	orderUS      int64
	replyTo      string
	content      *pb.SealedPart
	parts        []draftPart
	traceparent  string
}

type draftPart struct {
	kind       pb.CommandKind
	attachment string
	sealed     *pb.SealedPart
}

// Message is what a member, or an automation, writes.
type Message struct {
	Text string
	// Attachments already lie in the bucket, sealed, their keys wrapped for Draft.Subject.
	Attachments []Attachment
	// ReplyTo is the id of the message answered; empty for none.
	ReplyTo string
	// MemberID is empty where automation writes.
	MemberID string
	// Note: private to the members; it is never sent.
	Note bool
}

// Attachment of a message to be posted. Key seals its data key (category content,
// OriginAttachment(ID)).
type Attachment struct {
	ID, Name, Kind, ContentType string
	Size                        int64
	Object                      string
	Key                         *pb.SealedPart
}

// Draft begins a message to a conversation: 404 where the workspace has no such, 410 where its person
// is being erased, 503 where the registry can't be asked.
func (s *Sending) Draft(ctx context.Context, workspace, conversation string) (*Draft, error) {
	d := &Draft{traceparent: traceparent(ctx)}
	var keyID string
	err := s.db.View(ctx, func(tx *sqldb.Tx) (err error) {
		if d.conversation, err = conversationOf(ctx, tx, workspace, conversation); err != nil || d.conversation.Group {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT key_id FROM subjects WHERE id = $1 AND gone = 0", d.conversation.ContactSubject).Scan(&keyID)
	})
	if errors.Is(err, sql.ErrNoRows) || err == nil && d.conversation.Frozen {
		return nil, problem.Gone("conversation")
	}
	if err != nil {
		return nil, err
	}
	var known bool
	if d.features, known = channel.Lookup(d.conversation.Channel); !known {
		return nil, problem.Conflict("the channel of this conversation is not installed")
	}
	if conn, ok := s.connections.Get(d.conversation.Connection); ok {
		d.features = d.features.For(conn.GetSettings())
	}
	if d.Subject, err = s.subject(ctx, d.conversation, keyID); err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	d.MessageID = id.String()
	d.orderUS = s.clock.NowMicros()
	return d, nil
}

// subject is whose key seals what is written to a conversation: the contact's, or the group's own.
func (s *Sending) subject(ctx context.Context, c *store.Conversation, keyID string) (seal.Subject, error) {
	if c.Group {
		subjects, err := s.keys.Acquire(ctx, []seal.Act{{Identity: seal.Identity{Workspace: c.Workspace, Kind: ConversationKind, Value: c.ID}}})
		if err != nil {
			return seal.Subject{}, keyProblem(err)
		}
		if len(subjects) != 1 || len(subjects[0].Key) == 0 {
			return seal.Subject{}, problem.Gone("conversation")
		}
		return subjects[0], nil
	}
	keys, faults, err := s.keys.Keys(ctx, c.Workspace, pb.Purpose_PURPOSE_CONVERSATION, []string{keyID})
	if err != nil {
		return seal.Subject{}, keyProblem(err)
	}
	if key, ok := keys[keyID]; ok {
		return key, nil
	}
	return seal.Subject{}, keyProblem(faults[keyID])
}

func keyProblem(err error) error {
	switch {
	case errors.Is(err, seal.ErrUnavailable):
		return problem.Unavailable("the key registry")
	case errors.Is(err, seal.ErrRestricted):
		return problem.Conflict("the processing of this person's data is restricted")
	case errors.Is(err, seal.ErrGone), errors.Is(err, seal.ErrErased), err == nil:
		return problem.Gone("conversation")
	}
	return err
}

// Compose fills the draft: it splits the text as the channel takes it and seals every part. 422 names
// the fields at fault.
func (s *Sending) Compose(ctx context.Context, d *Draft, m Message) error {
	faults := map[string]string{}
	if m.Text == "" && len(m.Attachments) == 0 {
		faults["text"] = "is required where there is no attachment"
	}
	if len(m.Text) > MaxTextBytes {
		faults["text"] = "is longer than " + strconv.Itoa(MaxTextBytes) + " bytes"
	}
	if !utf8.ValidString(m.Text) {
		faults["text"] = "is not UTF-8"
	}
	if len(m.Attachments) > MaxAttachments {
		faults["attachments"] = "are more than " + strconv.Itoa(MaxAttachments)
	}
	if m.ReplyTo != "" {
		if err := s.answered(ctx, d, m.ReplyTo); errors.Is(err, sql.ErrNoRows) {
			faults["reply_to"] = "is no message of this conversation"
		} else if err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return problem.Invalid(faults)
	}
	d.message = m
	content := &pb.Content{Text: m.Text}
	for _, a := range m.Attachments {
		content.Attachments = append(content.Attachments, &pb.Attachment{Id: a.ID, Name: a.Name})
	}
	var err error
	if d.content, err = d.seal(content, seal.OriginContent(d.MessageID, d.orderUS)); err != nil || m.Note {
		return err
	}
	if d.features.Whole {
		return s.addWhole(ctx, d, content)
	}
	if m.Text != "" {
		for _, text := range channel.Split(m.Text, d.features.TextLimit, d.features.TextUnit) {
			if err := d.addPart(pb.CommandKind_COMMAND_KIND_TEXT, "", &pb.Content{Text: text}); err != nil {
				return err
			}
		}
	}
	for _, a := range content.Attachments {
		one := &pb.Content{Attachments: []*pb.Attachment{a}}
		if err := d.addPart(pb.CommandKind_COMMAND_KIND_ATTACHMENT, a.Id, one); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sending) answered(ctx context.Context, d *Draft, id string) error {
	return s.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT external_id FROM messages WHERE id = $1 AND conversation_id = $2 AND deleted_us = 0",
			id, d.conversation.ID).Scan(&d.replyTo)
	})
}

func (d *Draft) addPart(kind pb.CommandKind, attachment string, content *pb.Content) error {
	sealed, err := d.seal(content, seal.OriginCommand(d.MessageID, int32(len(d.parts)), 1))
	d.parts = append(d.parts, draftPart{kind, attachment, sealed})
	return err
}

func (d *Draft) seal(content *pb.Content, origin seal.Origin) (*pb.SealedPart, error) {
	plain, err := proto.Marshal(content)
	if err != nil {
		return nil, err
	}
	return seal.Seal(d.Subject, pb.Category_CATEGORY_CONTENT, origin, plain)
}

// conversationOf reads a conversation of a workspace; 404 where there is none, 410 where it was erased.
func conversationOf(ctx context.Context, tx *sqldb.Tx, workspace, id string) (*store.Conversation, error) {
	c, err := store.ScanConversation(tx.QueryRowContext(ctx,
		"SELECT "+store.ConversationColumns+" FROM conversations WHERE id = $1 AND workspace_id = $2", id, workspace))
	if !errors.Is(err, sql.ErrNoRows) {
		return c, err
	}
	return nil, store.Missing(ctx, tx, workspace, store.KindConversation, id)
}

// optedOut is the answer to writing to somebody who asked not to be written to.
func optedOut() error {
	return &problem.Problem{Status: http.StatusUnprocessableEntity, Code: "opted_out", Title: "This person has opted out",
		Detail: "the person asked not to be written to"}
}

func traceparent(ctx context.Context) string {
	for _, h := range telemetry.Inject(ctx, []bus.Header{}) {
		if h.Key == "traceparent" {
			return string(h.Value)
		}
	}
	return ""
}
