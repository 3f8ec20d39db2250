package slack

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/slack-go/slack"
	"tributary.dev/libs/channel"
)

// longestText in characters: beyond, Slack cuts the text without a word.
const longestText = 40_000

// largestFile in bytes (https://slack.com/help/articles/201330736).
const largestFile = 1 << 30

// Check refuses what Slack would, or what it would mangle.
func (a *Adapter) Check(out *channel.Outgoing) error {
	channelID, _ := place(out.Thread.ID)
	switch {
	case out.Connection.Credentials["bot_token"] == "":
		return &channel.Error{Class: channel.ClassReauthorise, Code: "no_bot_token", Sentence: "The connection has no token: connect the workspace again."}
	case !isID(channelID):
		return reject("no_channel", "The conversation names no Slack channel.")
	case out.Attachment == nil && strings.TrimSpace(out.Text) == "":
		return reject("no_text", "The message is empty.")
	case out.Attachment != nil && out.Attachment.Size <= 0:
		return reject("empty_file", "The file is empty.")
	case out.Attachment != nil && out.Attachment.Size > largestFile:
		return reject("file_too_large", "The file is larger than Slack takes.")
	case utf8.RuneCountInString(out.Text) > longestText:
		return reject("msg_too_long", "The message is longer than Slack takes.")
	}
	return nil
}

// Pace is about one message a second in a channel, with short bursts
// (https://docs.slack.dev/apis/web-api/rate-limits).
func (a *Adapter) Pace(out *channel.Outgoing) channel.Pace {
	channelID, _ := place(out.Thread.ID)
	return channel.Pace{Key: channelID, Every: time.Second, Burst: 3}
}

// Send posts a text or shares a file. The text carries, as metadata, which part of which message it is, so
// that its echo can be joined even when the answer to this call never came.
func (a *Adapter) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	if err := a.Check(out); err != nil {
		return channel.Sent{}, err
	}
	if out.Attachment != nil {
		return a.share(ctx, out)
	}
	channelID, threadTS := place(out.Thread.ID)
	options := []slack.MsgOption{
		slack.MsgOptionText(out.Text, true),
		slack.MsgOptionMetadata(slack.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{
			"message_id": out.MessageID, "part": out.Part, "attempt": out.Attempt, "conversation_key": out.ConversationKey,
		}}),
	}
	if threadTS != "" {
		options = append(options, slack.MsgOptionTS(threadTS))
	}
	postedIn, ts, err := a.client(out.Connection).PostMessageContext(ctx, channelID, options...)
	if err != nil {
		return channel.Sent{}, callError(err)
	}
	order, ok := parseTS(ts)
	if !ok { // a 200 that is not Slack's: nobody can say what happened
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return channel.Sent{ExternalID: externalID(postedIn, ts), Order: order}, nil
}

// place splits a thread's id into its channel and, where it is one, its first message.
func place(threadID string) (channelID, threadTS string) {
	channelID, threadTS, _ = strings.Cut(threadID, ":")
	return channelID, threadTS
}

func reject(code, sentence string) *channel.Error {
	return &channel.Error{Class: channel.ClassReject, Code: code, Sentence: sentence}
}
