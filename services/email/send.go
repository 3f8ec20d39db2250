package email

import (
	"context"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// What providers take: 25 MiB is what most receivers do, and Postmark's 10 MB are counted after base64
// (https://postmarkapp.com/support/article/1056-what-are-the-attachment-and-email-size-limits).
const (
	maxOutgoing         = 25 << 20
	maxOutgoingPostmark = 10_000_000
)

// Check refuses what no provider could do.
func (a *Adapter) Check(out *channel.Outgoing) error {
	settings, to := out.Connection.Settings, strings.TrimSpace(out.To)
	normal, isAddress := address(to)
	smtp := settings["provider"] == "smtp"
	switch {
	case settings["provider"] != "" && settings["provider"] != "postmark" && !smtp:
		return reject("unknown_provider", "The connection names a provider that is not supported.")
	case smtp && (out.Connection.Credentials["smtp_username"] == "" || out.Connection.Credentials["smtp_password"] == ""),
		!smtp && out.Connection.Credentials["server_token"] == "":
		return &channel.Error{Class: channel.ClassReauthorise, Code: "no_credentials", Sentence: "The connection has no credentials: connect the mailbox again."}
	case smtp && settings["smtp_host"] == "":
		return reject("no_server", "The connection names no server to send through: set smtp_host.")
	case !isAddress:
		return reject("no_address", "The contact has no mail address.")
	case normal == out.Connection.ExternalID || untagged(normal) == out.Connection.ExternalID:
		return reject("own_address", "This is the mailbox's own address: the mail would come back.")
	case strings.TrimSpace(out.Text) == "" && len(out.Attachments) == 0 && out.Attachment == nil:
		return reject("nothing_to_send", "The message is empty.")
	case size(out) > limit(smtp):
		return reject("too_large", "The message and its files are larger than "+megabytes(smtp)+" MB, which mail does not carry.")
	}
	return nil
}

// size in bytes: of the files, and of the text twice, which goes as HTML too.
func size(out *channel.Outgoing) int64 {
	n := 2 * int64(len(out.Text))
	for _, f := range out.Attachments {
		n += max(f.Size, 0)
	}
	if out.Attachment != nil {
		n += max(out.Attachment.Size, 0)
	}
	return n
}

// limit of what is sent, before base64 makes four bytes of three.
func limit(smtp bool) int64 {
	if smtp {
		return maxOutgoing
	}
	return maxOutgoingPostmark * 3 / 4
}

func megabytes(smtp bool) string { return strconv.FormatInt(limit(smtp)/1_000_000, 10) }

// Pace is the mailbox's, where its connection's setting messages_per_second says so.
func (a *Adapter) Pace(out *channel.Outgoing) channel.Pace {
	pace := channel.Pace{Key: out.Connection.ExternalID}
	if perSecond, err := strconv.ParseFloat(out.Connection.Settings["messages_per_second"], 64); err == nil && perSecond >= 0.01 && perSecond <= 1000 {
		pace.Every, pace.Burst = time.Duration(float64(time.Second)/perSecond), 1
	}
	return pace
}

// Send hands the mail to the connection's provider.
func (a *Adapter) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	if err := a.Check(out); err != nil {
		return channel.Sent{}, err
	}
	m, err := a.compose(ctx, out)
	if err != nil {
		return channel.Sent{}, err
	}
	if out.Connection.Settings["provider"] == "smtp" {
		err = a.submit(ctx, out.Connection, m)
	} else {
		err = a.post(ctx, out.Connection, m)
	}
	if err != nil {
		return channel.Sent{}, err
	}
	return channel.Sent{ExternalID: a.keyed(out.Connection.ID).mail(m.messageID)}, nil
}

func reject(code, sentence string) *channel.Error {
	return &channel.Error{Class: channel.ClassReject, Code: code, Sentence: sentence}
}
