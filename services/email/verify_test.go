package email

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func TestARawMailIsSignedWithItsTime(t *testing.T) {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	request := func(at time.Time, change func(*channel.Request)) *channel.Request {
		r := &channel.Request{Body: []byte("From: ada@example.com\n\nx"), ReceivedAt: now, LocalTime: now}
		r.Header = standin.RawMailHeader("secret", r.Body, at)
		if change != nil {
			change(r)
		}
		return r
	}
	a := made(t, nil)
	for _, at := range []time.Time{now, now.Add(-skew), now.Add(skew)} {
		assert.NoError(t, a.Verify(request(at, nil), channel.Secrets{"secret"}))
	}
	for name, r := range map[string]*channel.Request{
		"too old":             request(now.Add(-skew-time.Second), nil),
		"too new":             request(now.Add(skew+time.Second), nil),
		"a time that is none": request(now, func(r *channel.Request) { r.Header.Set(TimestampHeader, "now") }),
		"another time":        request(now, func(r *channel.Request) { r.Header.Set(TimestampHeader, "1773500967") }),
		"no hexadecimal":      request(now, func(r *channel.Request) { r.Header.Set(SignatureHeader, "sha256=x") }),
		"the secret by itself": request(now, func(r *channel.Request) {
			r.Header = standin.PostmarkAuthorisation("secret")
			r.Header.Set("Content-Type", "message/rfc822")
		}),
		"what Postmark's bears": request(now, func(r *channel.Request) { r.Header.Del(SignatureHeader); r.URL = &url.URL{RawQuery: "token=secret"} }),
	} {
		assert.Error(t, a.Verify(r, channel.Secrets{"secret"}), name)
	}
}

func TestPostmarkRepeatsTheSecret(t *testing.T) {
	a := made(t, nil)
	for name, c := range map[string]struct {
		header http.Header
		query  string
		want   bool
	}{
		"as a password": {standin.PostmarkAuthorisation("secret"), "", true}, "in the URL": {http.Header{}, "token=secret", true},
		"another password": {standin.PostmarkAuthorisation("other"), "", false}, "another token": {http.Header{}, "token=other", false},
		"another password and the token": {standin.PostmarkAuthorisation("other"), "token=secret", false},
		"nothing":                        {http.Header{}, "", false}, "a part of it": {http.Header{}, "token=secre", false},
	} {
		err := a.Verify(&channel.Request{Header: c.header, URL: &url.URL{RawQuery: c.query}, Body: []byte("{}")}, channel.Secrets{"new", "secret"})
		assert.Equal(t, c.want, err == nil, name)
	}
	assert.Error(t, a.Verify(&channel.Request{Header: http.Header{}, Body: []byte("{}")}, channel.Secrets{""}))
}
