package telegram

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tributary.dev/libs/channel"
)

// What a call may carry (https://core.telegram.org/bots/api#sendmessage, #sending-files): UTF-16 code units, and bytes.
const longestText, largestFile, largestPhoto = 4096, 50 << 20, 10 << 20

// Check refuses what Telegram would.
func (a *Adapter) Check(out *channel.Outgoing) error {
	chatID, _ := place(out)
	switch {
	case chatID == "":
		return reject("no_chat", "The conversation names no chat of Telegram.")
	case out.Attachment == nil && strings.TrimSpace(out.Text) == "":
		return reject("no_text", "The message is empty.")
	case out.Attachment != nil && out.Attachment.Size <= 0:
		return reject("empty_file", "The file is empty.")
	case out.Attachment != nil && out.Attachment.Size > largestFile:
		return reject("file_too_large", "The file is larger than Telegram takes of a bot, 50 MB.")
	case channel.Length(out.Text, channel.UnitUTF16) > longestText:
		return reject("too_long", "The text is longer than Telegram takes.")
	}
	return nil
}

// Pace is one message a second in a chat, and twenty a minute in a group (https://core.telegram.org/bots/faq).
func (a *Adapter) Pace(out *channel.Outgoing) channel.Pace {
	pace := channel.Pace{Every: time.Second, Burst: 3}
	if pace.Key, _ = place(out); strings.HasPrefix(pace.Key, "-") {
		pace.Every = 3 * time.Second
	}
	return pace
}

// Send makes one call: of a text, or of a file, which goes as what Telegram can show.
func (a *Adapter) Send(ctx context.Context, out *channel.Outgoing) (channel.Sent, error) {
	if err := a.Check(out); err != nil {
		return channel.Sent{}, err
	}
	chatID, topic := place(out)
	method, field, text := "sendMessage", "", "text"
	if file := out.Attachment; file != nil {
		method, field, text = "sendDocument", "document", "caption"
		if (file.ContentType == "image/jpeg" || file.ContentType == "image/png") && file.Size <= largestPhoto {
			method, field = "sendPhoto", "photo"
		}
	}
	fields := map[string]string{"chat_id": chatID, text: out.Text}
	if topic != "" {
		fields["message_thread_id"] = topic
	}
	if id := out.ReplyTo[strings.LastIndexByte(out.ReplyTo, ':')+1:]; id != "" && !strings.Contains(id, "/") {
		fields["reply_parameters"] = `{"message_id":` + id + `,"allow_sending_without_reply":true}`
	}
	form, err := channel.NewForm(ctx, fields, field, out.Attachment)
	if err != nil {
		return channel.Sent{}, err
	}
	defer form.Close()
	var got message
	if err := a.call(ctx, out.Connection, method, form, &got); err != nil {
		return channel.Sent{}, err
	}
	if got.ID <= 0 || at(got.Date).IsZero() { // a 200 that is not Telegram's
		return channel.Sent{}, &channel.Error{Class: channel.ClassRetry, Code: "unreadable_answer"}
	}
	return channel.Sent{ExternalID: externalID(got.Chat, got.ID), Order: order(got.Date, got.ID)}, nil
}

// place is the chat that a conversation is in, and the topic.
func place(out *channel.Outgoing) (chatID, topic string) {
	if out.Thread.ID == "" {
		return out.To, ""
	}
	chatID, topic, _ = strings.Cut(out.Thread.ID, ":")
	return chatID, topic
}

// call a method as the bot. The token is in the address, which goes no further, nor does an error that has it.
func (a *Adapter) call(ctx context.Context, conn *channel.Connection, method string, form *channel.Form, result any) error {
	answer := struct {
		Result      any
		Description string
		Parameters  map[string]int64
	}{Result: result}
	status, header, err := form.Post(ctx, a.http, a.apiURL+"/bot"+conn.Credentials["bot_token"]+"/"+method, &answer)
	if err != nil || status == http.StatusOK {
		return err
	}
	pause, _ := strconv.ParseInt(header.Get("Retry-After"), 10, 64)
	return refusal(status, answer.Description, max(pause, answer.Parameters["retry_after"], 0))
}

// refusal maps an answer that is no 200, once (https://core.telegram.org/bots/api#making-requests). Telegram has no codes
// but HTTP's; its description is looked at and goes no further.
func refusal(status int, description string, pause int64) *channel.Error {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusNotFound: // 404: it has not even a token's form
		return &channel.Error{Class: channel.ClassReauthorise, Code: "token", Sentence: "Telegram no longer accepts the bot's token: connect the bot again."}
	case status == http.StatusTooManyRequests:
		return &channel.Error{Class: channel.ClassRetry, Code: "http_429", NotTaken: true, RetryAfter: time.Duration(min(pause, 86400)) * time.Second}
	case status == http.StatusRequestTimeout, status >= 500, status < 400:
		return &channel.Error{Class: channel.ClassRetry, Code: "http_" + strconv.Itoa(status)}
	case strings.Contains(description, "blocked by the user"):
		return &channel.Error{Class: channel.ClassOptedOut, Code: "blocked", Sentence: "The person has blocked the bot."}
	}
	for _, known := range [][3]string{
		{"user is deactivated", "deactivated", "The person has no account at Telegram any more."},
		{"Forbidden", "forbidden", "The bot may not write there: it was removed, or the person never wrote to it."},
		{"chat not found", "chat_not_found", "The chat does not exist any more, or the bot is not in it."},
		{"upgraded to a supergroup", "upgraded", "The group has become a supergroup, which is a conversation of its own."},
		{"file is too big", "file_too_large", "The file is larger than Telegram gives a bot, 20 MB."},
	} {
		if strings.Contains(description, known[0]) {
			return reject(known[1], known[2])
		}
	}
	return reject("http_"+strconv.Itoa(status), "")
}

func reject(code, sentence string) *channel.Error {
	return &channel.Error{Class: channel.ClassReject, Code: code, Sentence: sentence}
}
