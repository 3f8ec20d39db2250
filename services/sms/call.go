package sms

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"tributary.dev/libs/channel"
)

// maxAnswer bounds what is read of a provider's answers.
const maxAnswer = 1 << 20

// refused maps a provider's answer that is no 2xx by its status, and by the class of the provider's own code. A
// provider took the message only with a 2xx, but what a broken server did before it failed nobody knows.
func refused(response *http.Response, class channel.Class, code, sentence string) *channel.Error {
	e := &channel.Error{Class: class, Code: code, Sentence: sentence}
	if code == "" {
		e.Code = "http_" + strconv.Itoa(response.StatusCode)
	}
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		e.Class = channel.ClassReauthorise
	case response.StatusCode == http.StatusTooManyRequests:
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, retryAfter(response.Header)
	case response.StatusCode >= 500, response.StatusCode < 400, response.StatusCode == http.StatusRequestTimeout:
		e.Class = channel.ClassRetry
	case e.Class == channel.ClassRetry:
		e.NotTaken, e.RetryAfter = true, retryAfter(response.Header)
	}
	return e
}

// retryAfter in seconds or as a date (RFC 9110, 10.2.3).
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		return max(at.Sub(sent), 0)
	}
	return 0
}

// networkError tells what surely never left (the name did not resolve, nobody took the connection, or it
// was not the provider who did) from what nobody knows.
func networkError(err error) *channel.Error {
	var dial *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial", errors.As(err, &name), errors.As(err, &certificate):
		return &channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &channel.Error{Class: channel.ClassRetry, Code: "timeout"}
	}
	return &channel.Error{Class: channel.ClassRetry, Code: "no_answer"}
}
