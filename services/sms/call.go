package sms

import (
	"net/http"
	"strconv"

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
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, channel.RetryAfter(response.Header)
	case response.StatusCode >= 500, response.StatusCode < 400, response.StatusCode == http.StatusRequestTimeout:
		e.Class = channel.ClassRetry
	case e.Class == channel.ClassRetry:
		e.NotTaken, e.RetryAfter = true, channel.RetryAfter(response.Header)
	}
	return e
}
