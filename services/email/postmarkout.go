package email

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/mail"
	"strconv"
	"strings"

	"tributary.dev/libs/channel"
)

// postmarkMail is what POST /email takes (https://postmarkapp.com/developer/api/email-api).
type postmarkMail struct {
	From, To, ReplyTo  string
	Subject            string `json:",omitempty"`
	TextBody, HtmlBody string `json:",omitempty"`
	MessageStream      string
	TrackOpens         bool
	TrackLinks         string
	Headers            []postmarkHeader
	Attachments        []postmarkUpload `json:",omitempty"`
	Metadata           postmarkMetadata // comes back with what became of it
}

type postmarkUpload struct {
	Name, ContentType string
	Content           []byte
}

// maxAnswer bounds what is read of Postmark's answers.
const maxAnswer = 1 << 20

// post a mail to Postmark.
func (a *Adapter) post(ctx context.Context, conn *channel.Connection, m *composed) error {
	body, err := json.Marshal(m.postmark(conn.Settings["message_stream"]))
	if err != nil {
		return &channel.Error{Class: channel.ClassReject, Code: "request"}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.cfg.PostmarkURL+"/email", bytes.NewReader(body))
	if err != nil {
		return &channel.Error{Class: channel.ClassRetry, Code: "request", NotTaken: true}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Postmark-Server-Token", conn.Credentials["server_token"])
	response, err := a.deps.HTTP.Do(request)
	if err != nil {
		return channel.NetworkError(err)
	}
	defer response.Body.Close()
	var answer struct {
		ErrorCode *int
		MessageID string
	}
	readErr := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer)
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299 || readErr == nil && answer.ErrorCode != nil && *answer.ErrorCode != 0:
		return postmarkRefusal(response, answer.ErrorCode)
	case readErr != nil || answer.MessageID == "": // a 2xx that is not Postmark's: nobody can say what happened
		return &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return nil
}

// postmark is the mail in Postmark's form. It keeps our Message-ID where it is told to
// (https://postmarkapp.com/support/article/1008-what-are-the-x-pm-message-id-and-message-id-headers), and takes no mail
// without a body.
func (m *composed) postmark(stream string) postmarkMail {
	if stream == "" {
		stream = "outbound"
	}
	p := postmarkMail{
		From: (&mail.Address{Name: m.fromName, Address: m.from}).String(), To: m.to, ReplyTo: m.replyTo, Subject: m.subject,
		TextBody: m.text, HtmlBody: m.html, MessageStream: stream, TrackLinks: "None",
		Headers:  []postmarkHeader{{"Message-ID", bracketed(m.messageID)}, {"X-PM-KeepID", "true"}},
		Metadata: postmarkMetadata{Message: m.message, Part: decimal(m.part), Attempt: decimal(m.attempt), Conversation: m.conversation},
	}
	if m.fromName == "" {
		p.From = m.from
	}
	if m.inReplyTo != "" {
		p.Headers = append(p.Headers, postmarkHeader{"In-Reply-To", bracketed(m.inReplyTo)}, postmarkHeader{"References", bracketed(m.references...)})
	}
	if m.automatic {
		p.Headers = append(p.Headers, postmarkHeader{"Auto-Submitted", "auto-replied"})
	}
	var names []string
	for _, f := range m.files {
		p.Attachments = append(p.Attachments, postmarkUpload{Name: f.name, ContentType: f.contentType, Content: f.data})
		names = append(names, f.name)
	}
	if strings.TrimSpace(p.TextBody) == "" {
		p.TextBody, p.HtmlBody = strings.Join(names, "\n"), ""
	}
	return p
}

// postmarkRefusal maps an answer that says that the mail was not taken
// (https://postmarkapp.com/developer/api/overview#error-codes).
func postmarkRefusal(response *http.Response, errorCode *int) *channel.Error {
	code := 0
	if errorCode != nil {
		code = *errorCode
	}
	e := &channel.Error{Class: channel.ClassReject, Code: strconv.Itoa(code)}
	if code == 0 {
		e.Code = "http_" + strconv.Itoa(response.StatusCode)
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized || code == 10:
		e.Class, e.Sentence = channel.ClassReauthorise, "Postmark no longer accepts this connection's token: connect the mailbox again."
	case response.StatusCode == http.StatusTooManyRequests || code == 429:
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, channel.RetryAfter(response.Header)
	case code == 100: // maintenance
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, channel.RetryAfter(response.Header)
	case response.StatusCode >= 500, response.StatusCode < 400 && code == 0, response.StatusCode == http.StatusRequestTimeout:
		e.Class = channel.ClassRetry
	case code == 300:
		e.Sentence = "Postmark says that the address or the mail is not valid."
	case code == 400, code == 401:
		e.Sentence = "Postmark does not let this mailbox's address be sent from: confirm it there."
	case code == 405, code == 412, code == 413:
		e.Sentence = "Postmark does not let this account send at present."
	case code == 406: // it bounced for good, or somebody complained: which of them is not said
		e.Sentence = "Postmark no longer sends to this address: a mail to it came back, or was complained of."
	case code == 411:
		e.Sentence = "Postmark does not take files of this kind."
	case response.StatusCode == http.StatusRequestEntityTooLarge:
		e.Sentence = "The message and its files are larger than Postmark takes."
	}
	return e
}
