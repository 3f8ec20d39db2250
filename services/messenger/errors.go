package messenger

import (
	"net/http"
	"strconv"
	"time"

	"tributary.dev/libs/channel"
)

// graphError is how the Graph API refuses, whatever the status beside it.
type graphError struct {
	Code      int  `json:"code"`
	Subcode   int  `json:"error_subcode"`
	Transient bool `json:"is_transient"`
}

// Codes and subcodes of errors
// (https://developers.facebook.com/documentation/business-messaging/messenger-platform/error-codes).
const (
	codeUnknown     = 1
	codeService     = 2
	codeAppCalls    = 4
	codePermission  = 10
	codeUserCalls   = 17
	codePageCalls   = 32
	codeParameter   = 100
	codeSession     = 102
	codeToken       = 190
	codeNotAllowed  = 200
	codeUnreachable = 551
	codeCustomCalls = 613
	codeTemporary   = 1200
	codeUseCase     = 80006 // the business use case limit of Messenger

	subcodeWindow    = 2018278
	subcodeOldWindow = 2018065
	subcodeReceives  = 2018108
	subcodeNobody    = 2018001
	subcodeUpload    = 2018047
)

// mapped sorts Meta's errors, once. Texts of Meta's never pass: only codes do. What is not named is refused for good,
// unless Meta or its status says that it may pass.
func (g *graphError) mapped(response *http.Response) *channel.Error {
	e := &channel.Error{Class: channel.ClassReject, Code: g.name(), Sentence: g.sentence()}
	switch {
	case g.Code == codeToken, g.Code == codeSession:
		e.Class = channel.ClassReauthorise
	case g.Code == codePermission && (g.Subcode == subcodeWindow || g.Subcode == subcodeOldWindow):
		e.Class = channel.ClassWindowClosed
	case g.Code == codeAppCalls, g.Code == codeUserCalls, g.Code == codePageCalls, g.Code == codeCustomCalls, g.Code == codeUseCase:
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, pause(response.Header)
	case g.Code == codeTemporary, g.Code == codeService, g.Code == codeParameter && g.Subcode == subcodeUpload:
		e.Class, e.NotTaken = channel.ClassRetry, true // "please try again later": Meta's word that it did not take it
	case g.Code == codeUnknown, g.Transient, response.StatusCode >= 500:
		e.Class = channel.ClassRetry // what became of it nobody knows: Meta has taken messages and answered so
	}
	return e
}

func (g *graphError) name() string {
	if g.Subcode == 0 {
		return strconv.Itoa(g.Code)
	}
	return strconv.Itoa(g.Code) + "/" + strconv.Itoa(g.Subcode)
}

func (g *graphError) sentence() string {
	switch {
	case g.Code == codeToken, g.Code == codeSession:
		return "Meta no longer accepts this connection's token: connect the Page again."
	case g.Code == codePermission && (g.Subcode == subcodeWindow || g.Subcode == subcodeOldWindow):
		return "Messenger no longer allows an answer: the person must write first."
	case g.Code == codeUnreachable, g.Subcode == subcodeReceives:
		return "The person can't be reached on Messenger at present."
	case g.Subcode == subcodeNobody:
		return "Messenger does not know the person any more."
	case g.Code == codePermission, g.Code == codeNotAllowed:
		return "The app has no permission for this on the Page."
	}
	return ""
}

// statusError maps an answer that is not the Graph API's own.
func statusError(response *http.Response) *channel.Error {
	status := response.StatusCode
	e := &channel.Error{Class: channel.ClassReject, Code: "http_" + strconv.Itoa(status)}
	switch {
	case status == http.StatusTooManyRequests:
		e.Class, e.NotTaken, e.RetryAfter = channel.ClassRetry, true, pause(response.Header)
	case status == http.StatusRequestTimeout, status >= 500, status < 400:
		e.Class = channel.ClassRetry
	}
	return e
}

// longestPause that a header may ask for.
const longestPause = 24 * time.Hour

// pause that Meta asks for: Retry-After in seconds, or the minutes until the business's calls are free again
// (https://developers.facebook.com/docs/graph-api/overview/rate-limiting#headers-2). Zero where it names none.
func pause(h http.Header) time.Duration {
	longest := time.Duration(0)
	if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil && seconds > 0 {
		longest = min(time.Duration(seconds)*time.Second, longestPause)
	}
	var usage map[string][]struct {
		Minutes int `json:"estimated_time_to_regain_access"`
	}
	if channel.DecodeObject([]byte(h.Get("X-Business-Use-Case-Usage")), &usage) != nil {
		return longest
	}
	for _, limits := range usage {
		for _, limit := range limits {
			if limit.Minutes > 0 && limit.Minutes <= int(longestPause/time.Minute) {
				longest = max(longest, time.Duration(limit.Minutes)*time.Minute)
			}
		}
	}
	return longest
}
