package standin

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Postmark stands in for Postmark's API, for one server.
type Postmark struct {
	*server

	token   string
	mails   []PostmarkMail
	refused map[string]int
}

// PostmarkMail is a mail that Postmark took.
type PostmarkMail struct {
	// ID is Postmark's own.
	ID                 string `json:"-"`
	From, To, ReplyTo  string
	Subject            string
	TextBody, HtmlBody string
	MessageStream      string
	TrackOpens         bool
	TrackLinks         string
	Headers            []PostmarkHeader
	Attachments        []PostmarkFile
	Metadata           map[string]string
}

// PostmarkHeader is a header field.
type PostmarkHeader struct{ Name, Value string }

// PostmarkFile is an attachment; Content is base64 in JSON.
type PostmarkFile struct {
	Name, ContentType, ContentID string
	Content                      []byte
}

// Header of the mail; empty where it has none of the name.
func (m PostmarkMail) Header(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// NewPostmark starts one on address, for one server's token.
func NewPostmark(address, serverToken string) (*Postmark, error) {
	p := &Postmark{server: newServer(), token: serverToken, refused: map[string]int{}}
	p.mux.HandleFunc("POST /email", p.send)
	p.mux.HandleFunc("GET /server", p.about)
	return p, p.start(address)
}

// Mails are those taken so far, in order.
func (p *Postmark) Mails() []PostmarkMail {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.mails)
}

// Refuse mails to an address with one of Postmark's error codes (406: inactive); 0 ends it.
func (p *Postmark) Refuse(address string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[address] = code
}

func (p *Postmark) authorised(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("X-Postmark-Server-Token") == p.token {
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"ErrorCode":10,"Message":"No Account or Server API tokens were supplied in the HTTP headers."}`))
	return false
}

// about answers what a connection check asks (https://postmarkapp.com/developer/api/server-api).
func (p *Postmark) about(w http.ResponseWriter, r *http.Request) {
	if p.authorised(w, r) {
		p.carry(w, r, "server", func() (int, any) {
			return http.StatusOK, map[string]any{"ID": 1, "Name": "stand-in", "DeliveryType": "Live"}
		})
	}
}

func (p *Postmark) send(w http.ResponseWriter, r *http.Request) {
	if !p.authorised(w, r) {
		return
	}
	var mail PostmarkMail
	err := json.NewDecoder(r.Body).Decode(&mail)
	p.carry(w, r, "email", func() (int, any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		code := p.refused[mail.To]
		switch {
		case err != nil:
			code = 402
		case mail.From == "" || mail.To == "" || mail.TextBody == "" && mail.HtmlBody == "":
			code = 300
		}
		if code != 0 {
			return http.StatusUnprocessableEntity, map[string]any{"ErrorCode": code, "Message": "refused"}
		}
		mail.ID = fmt.Sprintf("00000000-0000-4000-8000-%012x", len(p.mails)+1)
		p.mails = append(p.mails, mail)
		return http.StatusOK, map[string]any{"To": mail.To, "SubmittedAt": "2026-03-14T15:09:26.5358979Z", "MessageID": mail.ID, "ErrorCode": 0, "Message": "OK"}
	})
}

// PostmarkAuthorisation is the header of Postmark's webhooks whose URL has a secret for password.
func PostmarkAuthorisation(secret string) http.Header {
	r := http.Request{Header: http.Header{"Content-Type": {"application/json"}}}
	r.SetBasicAuth("postmark", secret)
	return r.Header
}

// PostmarkInbound is the body of an inbound webhook.
func PostmarkInbound(messageID, from, to, subject, text string, more map[string]string, files ...PostmarkFile) []byte {
	type address struct{ Email, Name, MailboxHash string }
	headers := []PostmarkHeader{{"MIME-Version", "1.0"}, {"Message-ID", "<" + messageID + ">"}}
	for name, value := range more {
		headers = append(headers, PostmarkHeader{name, value})
	}
	type file struct {
		Name, Content, ContentType, ContentID string
		ContentLength                         int
	}
	attached := []file{}
	for _, f := range files {
		attached = append(attached, file{f.Name, base64.StdEncoding.EncodeToString(f.Content), f.ContentType, f.ContentID, len(f.Content)})
	}
	body, _ := json.Marshal(map[string]any{ // of strings: nothing can fail
		"FromName": "", "MessageStream": "inbound", "From": from, "FromFull": address{Email: from}, "To": to, "ToFull": []address{{Email: to}},
		"Cc": "", "CcFull": []address{}, "Bcc": "", "BccFull": []address{}, "OriginalRecipient": to, "Subject": subject,
		"MessageID": "22c74902-a0c1-4511-804f-341342852c90", "ReplyTo": "", "MailboxHash": "", "Date": "Sat, 14 Mar 2026 15:00:00 +0000",
		"TextBody": text, "HtmlBody": "", "StrippedTextReply": "", "Tag": "", "Headers": headers, "Attachments": attached,
	})
	return body
}

// PostmarkRecord is the body of a webhook about a mail that went out: Bounce (kind is its type, as HardBounce), Delivery,
// SpamComplaint.
func PostmarkRecord(record, kind string, m PostmarkMail) []byte {
	body, _ := json.Marshal(map[string]any{
		"RecordType": record, "MessageStream": "outbound", "ID": 42, "Type": kind, "TypeCode": 1, "Name": kind, "Tag": "", "MessageID": m.ID,
		"Metadata": m.Metadata, "ServerID": 1234, "Description": "", "Details": "", "Email": m.To, "Recipient": m.To, "From": m.From,
		"BouncedAt": "2026-03-14T15:10:00Z", "DeliveredAt": "2026-03-14T15:10:00Z", "DumpAvailable": false, "Inactive": false, "CanActivate": true, "Subject": m.Subject,
	})
	return body
}
