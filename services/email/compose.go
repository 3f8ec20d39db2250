package email

import (
	"bytes"
	"context"
	"html"
	"io"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// composed is an outbound mail before it is in anybody's form.
type composed struct {
	messageID             string // without brackets
	from, fromName        string
	to, replyTo           string
	subject, text, html   string
	inReplyTo             string
	references            []string
	automatic             bool
	files                 []composedFile
	at                    time.Time
	conversation, message string
	part, attempt         int32
}

type composedFile struct {
	name, contentType string
	data              []byte
}

// compose a mail and read its files. Nothing of what a person wrote becomes a header's structure: line ends are taken
// out of subjects and names.
func (a *Adapter) compose(ctx context.Context, out *channel.Outgoing) (*composed, error) {
	k, mailbox := a.keyed(out.Connection.ID), out.Connection.ExternalID
	m := &composed{
		messageID: k.messageID(out.MessageID, out.Part, out.Attempt, out.ConversationKey, mailbox),
		from:      mailbox, fromName: out.Connection.Settings["from_name"],
		to: out.To, replyTo: k.replyAddress(mailbox, out.ConversationKey),
		subject: strings.Join(strings.Fields(out.Subject), " "), text: out.Text, html: paragraphs(out.Text),
		automatic: !out.ByMember, at: out.Now,
		conversation: out.ConversationKey, message: out.MessageID, part: out.Part, attempt: out.Attempt,
	}
	for _, id := range out.References {
		if id = strings.Join(strings.Fields(id), ""); id != "" && !strings.ContainsAny(id, "<>") && isASCII(id) {
			m.references = append(m.references, id)
		}
	}
	if n := len(m.references); n > 0 {
		m.inReplyTo = m.references[n-1]
	}
	files := out.Attachments
	if out.Attachment != nil {
		files = append([]*channel.OutgoingAttachment{out.Attachment}, files...)
	}
	for _, f := range files {
		data, err := read(ctx, f)
		if err != nil {
			return nil, &channel.Error{Class: channel.ClassRetry, Code: "attachment_unavailable", NotTaken: true}
		}
		contentType := mediaType(f.ContentType)
		name := fileName(file{name: strings.Join(strings.Fields(f.Name), " "), contentType: contentType})
		if strings.HasPrefix(contentType, "message/") || strings.HasPrefix(contentType, "multipart/") {
			contentType = "application/octet-stream" // a mail in a mail may not be base64 (RFC 2046, 5.2.1)
		}
		m.files = append(m.files, composedFile{name: name, contentType: contentType, data: data})
	}
	return m, nil
}

// read a file that Check found to be small enough; one that grew since is not.
func read(ctx context.Context, f *channel.OutgoingAttachment) ([]byte, error) {
	r, err := f.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxOutgoing+1))
	if err == nil && len(data) > maxOutgoing {
		err = io.ErrShortBuffer
	}
	return data, err
}

// paragraphs is text as HTML: escaped, its lines kept.
func paragraphs(text string) string {
	if text == "" {
		return ""
	}
	var out bytes.Buffer
	out.WriteString("<!DOCTYPE html>\n<html><body>\n")
	for paragraph := range strings.SplitSeq(strings.Trim(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n\n") {
		out.WriteString("<p>" + strings.ReplaceAll(html.EscapeString(strings.Trim(paragraph, "\n")), "\n", "<br>\n") + "</p>\n")
	}
	out.WriteString("</body></html>\n")
	return out.String()
}
