package slack

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"

	"github.com/slack-go/slack"
	"tributary.dev/libs/channel"
)

// callError maps what came of a call, once (https://docs.slack.dev/reference/methods/chat.postMessage#errors).
// Texts of Slack and of the network never pass: only codes do.
func callError(err error) *channel.Error {
	var limited *slack.RateLimitedError
	var refused slack.SlackErrorResponse
	var status slack.StatusCodeError
	switch {
	case errors.As(err, &limited):
		return &channel.Error{Class: channel.ClassRetry, Code: "ratelimited", NotTaken: true, RetryAfter: limited.RetryAfter}
	case errors.As(err, &refused):
		return refusal(refused.Err)
	case errors.As(err, &status):
		return statusError(status.Code)
	case neverSent(err):
		return &channel.Error{Class: channel.ClassRetry, Code: "unreachable", NotTaken: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &channel.Error{Class: channel.ClassRetry, Code: "timeout"}
	}
	return &channel.Error{Class: channel.ClassRetry, Code: "no_answer"}
}

// refusal maps the error of an answer with "ok": false. Nearly all are refusals; after the few that are
// not, Slack itself says that some of it may have happened.
func refusal(code string) *channel.Error {
	e := &channel.Error{Class: channel.ClassReject, Code: word(code)}
	switch code {
	case "invalid_auth", "token_revoked", "account_inactive", "token_expired", "not_authed":
		e.Class, e.Sentence = channel.ClassReauthorise, "Slack no longer accepts this connection's token: connect the workspace again."
	case "ratelimited", "rate_limited", "request_timeout":
		e.Class, e.NotTaken = channel.ClassRetry, true
	case "team_added_to_org", "org_login_required": // the workspace is moving into an organisation: nothing works meanwhile
		e.Class, e.NotTaken = channel.ClassRetry, true
	case "fatal_error", "internal_error", "service_unavailable":
		e.Class = channel.ClassRetry
	case "channel_not_found":
		e.Sentence = "The channel does not exist any more, or the app may not see it."
	case "not_in_channel":
		e.Sentence = "The app is not in the channel: invite it there."
	case "is_archived":
		e.Sentence = "The channel is archived."
	case "msg_too_long":
		e.Sentence = "The message is longer than Slack takes."
	case "missing_scope", "not_allowed_token_type", "no_permission", "access_denied", "ekm_access_denied":
		e.Sentence = "The app has no permission for this in the workspace."
	case "restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel",
		"restricted_action_non_threadable_channel", "restricted_action_thread_locked", "posting_to_channel_denied", "posting_to_general_channel_denied":
		e.Sentence = "The workspace does not let the app write there."
	case "team_access_not_granted", "enterprise_is_restricted", "team_not_found":
		e.Sentence = "The organisation has not let the app into this workspace."
	case "message_limit_exceeded":
		e.Sentence = "The workspace has sent more messages than it may."
	case "user_disabled", "cannot_dm_bot", "user_is_restricted", "messages_tab_disabled":
		e.Sentence = "The person can't be written to."
	case "storage_limit_reached":
		e.Sentence = "The workspace has no room for files."
	case "blocked_file_type", "file_type_not_allowed", "slack_connect_file_upload_sharing_blocked", "slack_connect_blocked_file_type":
		e.Sentence = "The workspace does not take this file."
	case "cannot_reply_to_message", "thread_not_found":
		e.Sentence = "The thread can't be answered any more."
	}
	return e
}

func statusError(status int) *channel.Error {
	e := &channel.Error{Class: channel.ClassReject, Code: "http_" + strconv.Itoa(status)}
	switch {
	case status == http.StatusTooManyRequests:
		e.Class, e.NotTaken = channel.ClassRetry, true
	case status == http.StatusRequestTimeout, status >= 500, status < 400:
		e.Class = channel.ClassRetry
	}
	return e
}

// neverSent tells that no byte of the request left: the name did not resolve, nobody took the connection,
// or it was not the provider who did.
func neverSent(err error) bool {
	var dial *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &name) || errors.As(err, &certificate)
}
