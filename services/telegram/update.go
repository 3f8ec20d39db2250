package telegram

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tributary.dev/libs/channel"
)

// What is read of an update (https://core.telegram.org/bots/api#update).
type (
	user struct {
		ID        int64
		IsBot     bool   `json:"is_bot"`
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Username  string
		Language  string `json:"language_code"`
		Phone     string `json:"phone_number"` // of a contact that was shared
	}
	chat struct {
		ID                    int64
		Type, Title, Username string
	}
	message struct {
		ID        int64    `json:"message_id"`
		Topic     int64    `json:"message_thread_id"`
		InTopic   bool     `json:"is_topic_message"`
		Forwarded bool     `json:"is_automatic_forward"`
		AsChat    *chat    `json:"sender_chat"`
		EditDate  int64    `json:"edit_date"`
		ReplyTo   *message `json:"reply_to_message"`
		Buttons   struct {
			Rows [][]struct {
				Text string
				Data string `json:"callback_data"`
			} `json:"inline_keyboard"`
		} `json:"reply_markup"`
		From                                              *user
		Chat                                              chat
		Date                                              int64
		Text, Caption                                     string
		Photo                                             []file
		VideoNote                                         *file `json:"video_note"`
		Location                                          *struct{ Latitude, Longitude float64 }
		Contact                                           user
		Dice, Poll                                        struct{ Emoji, Question string }
		Animation, Audio, Document, Sticker, Video, Voice *file
	}
	file struct {
		ID            string `json:"file_id"`
		Name          string `json:"file_name"`
		Type          string `json:"mime_type"`
		Size          int64  `json:"file_size"`
		Width, Height int64
		Emoji         string
	}
	reaction struct {
		message
		User  *user
		Actor *chat                          `json:"actor_chat"`
		Old   []struct{ Type, Emoji string } `json:"old_reaction"`
		New   []struct{ Type, Emoji string } `json:"new_reaction"`
	}
	callback struct {
		ID, Data string
		From     user
		Message  message
	}
	membership struct {
		message
		New struct{ Status string } `json:"new_chat_member"`
	}
)

// content of a message; nil where there is nothing that a person wrote: a service message.
func (m *message) content() *channel.Content {
	c := &channel.Content{Text: cmp.Or(m.Text, m.Caption), Attachments: m.attachments()}
	if payload, ok := strings.CutPrefix(m.Text, "/start "); ok { // by a link to the bot
		c.Payload = payload
	}
	c.Text = cmp.Or(c.Text, m.Dice.Emoji, m.Poll.Question, strings.TrimSpace(m.Contact.name()+" "+m.Contact.Phone))
	if m.Location != nil {
		c.Text = fmt.Sprintf("(%.6f, %.6f)", m.Location.Latitude, m.Location.Longitude)
	} else if m.Sticker != nil {
		c.Text = m.Sticker.Emoji
	}
	if c.Text == "" && len(c.Attachments) == 0 {
		return nil
	}
	return c
}

// attachments are one at most: an album comes as a message for each. An animation is told as a document too. Ref is
// the file's id at Telegram, by which Locate asks where it lies.
func (m *message) attachments() []channel.Attachment {
	var photo *file
	if len(m.Photo) > 0 { // the same in several sizes
		largest := slices.MaxFunc(m.Photo, func(a, b file) int { return cmp.Compare(a.Width*a.Height, b.Width*b.Height) })
		photo = &largest
	}
	for _, is := range []struct {
		file              *file
		kind, contentType string
	}{
		{photo, "image", "image/jpeg"}, {m.Animation, "video", "video/mp4"}, {m.Sticker, "image", ""}, {m.Audio, "audio", ""},
		{m.Voice, "audio", "audio/ogg"}, {m.Video, "video", ""}, {m.VideoNote, "video", "video/mp4"}, {m.Document, "file", ""},
	} {
		if is.file != nil && isFileID(is.file.ID) {
			return []channel.Attachment{{
				Ref: is.file.ID, Kind: is.kind, ContentType: cmp.Or(is.file.Type, is.contentType),
				Name: is.file.Name, Size: max(is.file.Size, 0),
			}}
		}
	}
	return nil
}

func (u *user) name() string { return strings.TrimSpace(u.FirstName + " " + u.LastName) }

func isFileID(s string) bool {
	return s != "" && len(s) <= 256 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}
