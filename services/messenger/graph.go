package messenger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tributary.dev/libs/channel"
)

// body of a call: how it is read, its size, its type, and what became of reading a file for it.
type body struct {
	io.Reader
	size        int64
	contentType string
	file        *watched
}

func jsonBody(v any) *body {
	data, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil { // maps and strings always encode
		panic(err)
	}
	return &body{Reader: bytes.NewReader(data), size: int64(len(data)), contentType: "application/json"}
}

// formBody is the fields of m as JSON texts, and the file. The file is streamed: its size is known, so that the whole's is.
func formBody(m outbound, file *channel.OutgoingAttachment, content io.Reader) *body {
	var head bytes.Buffer
	form := multipart.NewWriter(&head)
	field := func(name, value string) { _ = form.WriteField(name, value) } // a Buffer takes everything
	text := func(v any) string {
		data, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	field("recipient", text(m.Recipient))
	field("messaging_type", m.MessagingType)
	if m.Tag != "" {
		field("tag", m.Tag)
	}
	if m.ReplyTo != nil {
		field("reply_to", text(m.ReplyTo))
	}
	field("message", text(m.Message))
	_, _ = form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("filedata", fileName(file.Name))},
		"Content-Type":        {mediaType(file.ContentType)},
	})
	tail := "\r\n--" + form.Boundary() + "--\r\n"
	watch := &watched{Reader: io.LimitReader(content, file.Size)}
	return &body{
		Reader: io.MultiReader(&head, watch, strings.NewReader(tail)), size: int64(head.Len()) + file.Size + int64(len(tail)),
		contentType: form.FormDataContentType(), file: watch,
	}
}

// watched keeps the error that reading ended with.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

func fileName(name string) string {
	if name == "" {
		return "file"
	}
	return strings.ToValidUTF8(name, "_")
}

// mediaType of a file in a form, without parameters.
func mediaType(contentType string) string {
	parsed, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "application/octet-stream"
	}
	return parsed
}

// call posts to the Graph API and reads its answer.
func (a *Adapter) call(ctx context.Context, conn *channel.Connection, target string, b *body, answer any) error {
	err := a.do(ctx, conn, http.MethodPost, target, nil, b, answer)
	if err != nil && b.file != nil && b.file.err != nil { // what Meta got of it was not whole
		return &channel.Error{Class: channel.ClassRetry, Code: "file_unreadable", NotTaken: true}
	}
	return err
}

// maxAnswer of the Graph API in bytes: what it says of a message or a person is far less.
//
//bound:limit an answer of Meta's Graph API | {} | the rest is not read
const maxAnswer = 256 << 10

// do makes one call. The token goes in a header and never in an address, and a proof with it that whoever calls has
// the app's secret too (https://developers.facebook.com/docs/graph-api/guides/secure-requests).
func (a *Adapter) do(ctx context.Context, conn *channel.Connection, method, target string, query url.Values, b *body, answer any) error {
	if conn.AppSecret == "" { // the app's record may only be on its way
		return &channel.Error{Class: channel.ClassRetry, Code: "no_app_secret", NotTaken: true}
	}
	token := conn.Credentials["page_token"]
	if query == nil {
		query = url.Values{}
	}
	query.Set("appsecret_proof", hex.EncodeToString(keyed(conn.AppSecret, []byte(token))))
	if b == nil {
		b = &body{Reader: http.NoBody}
	}
	request, err := http.NewRequestWithContext(ctx, method, a.graphURL+target+"?"+query.Encode(), b.Reader)
	if err != nil {
		return &channel.Error{Class: channel.ClassRetry, Code: "request", NotTaken: true}
	}
	request.ContentLength = b.size
	request.Header.Set("Authorization", "Bearer "+token)
	if b.contentType != "" {
		request.Header.Set("Content-Type", b.contentType)
	}
	response, err := a.http.Do(request)
	if err != nil {
		return channel.NetworkError(err)
	}
	defer response.Body.Close()
	data, readErr := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	var refused struct {
		Error *graphError `json:"error"`
	}
	if channel.DecodeObject(data, &refused) == nil && refused.Error != nil && refused.Error.Code != 0 {
		return refused.Error.mapped(response)
	}
	switch {
	case response.StatusCode != http.StatusOK:
		return statusError(response)
	case readErr != nil:
		return channel.NetworkError(readErr)
	case channel.DecodeObject(data, answer) != nil:
		return &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return nil
}

// isRefusal tells an error of Meta's by its code.
func isRefusal(err error, codes ...string) bool {
	var e *channel.Error
	if !errors.As(err, &e) {
		return false
	}
	code, _, _ := strings.Cut(e.Code, "/")
	for _, c := range codes {
		if code == c {
			return true
		}
	}
	return false
}
