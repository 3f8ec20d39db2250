package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// caller makes calls whose answers are JSON.
type caller struct{ http *http.Client }

// maxAnswer bounds what is read of a provider's answer.
//
//bound:limit a provider's answer that connect reads | {bytes} | it can't be read: the call failed
const maxAnswer = 4 << 20

// request of a provider. Secrets go into header or body: addresses end up in other people's logs.
type request struct {
	method, url string
	header      http.Header
	// form or body; neither: none.
	form url.Values
	body any
}

// do makes the call and decodes a 2xx into out, where it is not nil. Of any other answer the status and the body are
// given, for the provider's own words; err is nil then.
func (c caller) do(ctx context.Context, r request, out any) (status int, refusal []byte, err error) {
	var body io.Reader
	contentType := ""
	switch {
	case r.form != nil:
		body, contentType = strings.NewReader(r.form.Encode()), "application/x-www-form-urlencoded"
	case r.body != nil:
		raw, err := json.Marshal(r.body)
		if err != nil {
			return 0, nil, err
		}
		body, contentType = bytes.NewReader(raw), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		return 0, nil, &Fault{Code: "bad_address"}
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, err
	}
	if resp.StatusCode/100 != 2 {
		return resp.StatusCode, raw, nil
	}
	if out != nil && json.Unmarshal(raw, out) != nil {
		return 0, nil, &Fault{Code: "unreadable_answer"}
	}
	return resp.StatusCode, nil, nil
}

// statusFault is for answers in which the provider has no word of its own.
func statusFault(status int) *Fault { return &Fault{Code: "http_" + strconv.Itoa(status)} }

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

var codeWord = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// word lets through what is one of a provider's vocabulary, and no text.
func word(code string) string {
	if !codeWord.MatchString(code) {
		return "refused"
	}
	return code
}

// cancelled tells an owner who said no from any other answer without a code (RFC 6749, 4.1.2.1).
func cancelled(answer url.Values) error {
	switch code := answer.Get("error"); {
	case code == "access_denied":
		return &Fault{Code: "cancelled"}
	case code != "":
		return &Fault{Code: word(code)}
	case answer.Get("code") == "":
		return &Fault{Code: "no_code"}
	}
	return nil
}

// done: what is void need not be taken back.
func done(err error) error {
	var f *Fault
	if errors.As(err, &f) && f.Void {
		return nil
	}
	return err
}
