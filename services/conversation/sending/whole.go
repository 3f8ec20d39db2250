package sending

import (
	"context"
	"database/sql"
	"errors"
	"regexp"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// maxReferences of an answer: the first, which names the thread, and the newest (RFC 5322, 3.6.4, lets them be cut).
const maxReferences = 50

// addWhole makes the one part that a message is where the channel sends it whole: with what it answers, as its
// channel names that.
func (s *Sending) addWhole(ctx context.Context, d *Draft, content *pb.Content) error {
	answered, err := s.answeredContent(ctx, d)
	if err != nil {
		return err
	}
	whole := &pb.Content{Text: content.GetText(), Attachments: content.GetAttachments(), Subject: answerTo(answered.GetSubject()), References: answered.GetReferences()}
	if id := answered.GetMailId(); id != "" {
		whole.References = append(whole.References, id)
	}
	if n := len(whole.References); n > maxReferences {
		whole.References = append(whole.References[:1:1], whole.References[n-maxReferences+1:]...)
	}
	return d.addPart(pb.CommandKind_COMMAND_KIND_WHOLE, "", whole)
}

// answeredContent opens what is answered: the message that the draft names, else the newest that the person wrote.
// Empty where there is none, or where it opens no more.
func (s *Sending) answeredContent(ctx context.Context, d *Draft) (*pb.Content, error) {
	part := &pb.SealedPart{Category: pb.Category_CATEGORY_CONTENT}
	var id string
	var order int64
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT content_subject, content_key, ciphertext, content_id, content_order FROM messages
			WHERE conversation_id = $1 AND ciphertext IS NOT NULL AND deleted_us = 0 AND (id = $2 OR ($2 = '' AND direction = 'inbound'))
			ORDER BY order_us DESC, id DESC LIMIT 1`, d.conversation.ID, d.message.ReplyTo).
			Scan(&part.SubjectId, &part.KeyId, &part.Ciphertext, &id, &order)
	})
	content := &pb.Content{}
	if errors.Is(err, sql.ErrNoRows) {
		return content, nil
	}
	if err != nil {
		return nil, err
	}
	keys, _, err := s.keys.Keys(ctx, d.conversation.Workspace, pb.Purpose_PURPOSE_CONVERSATION, []string{part.GetKeyId()})
	if err != nil {
		return nil, keyProblem(err)
	}
	key, ok := keys[part.GetKeyId()]
	if !ok {
		return content, nil
	}
	if plain, err := seal.OpenWith(key, part, seal.OriginContent(id, order)); err == nil && proto.Unmarshal(plain, content) == nil {
		return content, nil
	}
	return &pb.Content{}, nil
}

var isAnswer = regexp.MustCompile(`(?i)^\s*re\s*:`)

// answerTo is a subject as its answer has it (RFC 5322, 3.6.5); empty for an empty one.
func answerTo(subject string) string {
	if subject == "" || isAnswer.MatchString(subject) {
		return subject
	}
	return "Re: " + subject
}
