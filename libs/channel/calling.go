package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strconv"
	"time"
)

// NetworkError maps what came of a call that got no answer. It tells what surely never left (the name did not resolve,
// nobody took the connection, or it was not the provider who did) from what nobody knows. The text of err, which may
// have an address with a credential in it, goes no further.
func NetworkError(err error) *Error {
	var dial *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial", errors.As(err, &name), errors.As(err, &certificate):
		return &Error{Class: ClassRetry, Code: "unreachable", NotTaken: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Class: ClassRetry, Code: "timeout"}
	}
	return &Error{Class: ClassRetry, Code: "no_answer"}
}

// RetryAfter is the pause that an answer asks for, in seconds or as a date (RFC 9110, 10.2.3), of a day at most; 0 where
// it asks for none.
func RetryAfter(h http.Header) time.Duration {
	const longest = 24 * time.Hour
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(longest/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		return min(max(at.Sub(sent), 0), longest)
	}
	return 0
}

// Form is the body of a call, multipart/form-data, with its size in bytes.
type Form struct {
	io.Reader
	ContentType string
	Size        int64
	file        io.Closer
}

// NewForm makes a form of fields and, last, in fileField, a file, which is read while the form is; nil leaves it out. An
// error is an *Error: the file could not be opened, so nothing was sent.
func NewForm(ctx context.Context, fields map[string]string, fileField string, file *OutgoingAttachment) (*Form, error) {
	var head, tail bytes.Buffer
	w := multipart.NewWriter(&head)
	for name, value := range fields {
		_ = w.WriteField(name, value) // a buffer takes everything
	}
	f := &Form{ContentType: w.FormDataContentType()}
	if file == nil {
		_ = w.Close()
		f.Reader, f.Size = &head, int64(head.Len())
		return f, nil
	}
	name := file.Name
	if name == "" {
		name = "file"
	}
	_, _ = w.CreateFormFile(fileField, name)
	tail.WriteString("\r\n--" + w.Boundary() + "--\r\n")
	content, err := file.Open(ctx)
	if err != nil {
		return nil, &Error{Class: ClassRetry, Code: "file_unreadable", NotTaken: true}
	}
	f.Size = int64(head.Len()) + file.Size + int64(tail.Len())
	f.Reader, f.file = io.MultiReader(&head, content, &tail), content
	return f, nil
}

// maxAnswer of a provider is as much as is read of it.
//
//bound:limit a provider's answer to a call | {bytes} | cut, and so unreadable
const maxAnswer = 1 << 20

// Post sends the form to an address and reads the JSON of what is answered. A status that is no 2xx is no error. An error
// is an *Error: no answer, or a 2xx that is no JSON, so that nobody can say what happened.
func (f *Form) Post(ctx context.Context, client *http.Client, address string, answer any) (status int, header http.Header, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, f)
	if err != nil {
		return 0, nil, &Error{Class: ClassReject, Code: "no_address"}
	}
	request.ContentLength, request.Header = f.Size, http.Header{"Content-Type": {f.ContentType}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, NetworkError(err)
	}
	defer response.Body.Close()
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer)
	if err != nil && response.StatusCode/100 == 2 {
		return 0, nil, &Error{Class: ClassRetry, Code: "unreadable_answer"}
	}
	return response.StatusCode, response.Header, nil
}

// Close closes the file.
func (f *Form) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
