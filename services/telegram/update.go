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
		ID        int64  `json:"id"`
		IsBot     bool   `json:"is_bot"`
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Username  string `json:"username"`
		Language  string `json:"language_code"`
		Phone     string `json:"phone_number"` // of a contact that was shared
	}
	chat struct {
		ID       int64  `json:"id"`
		Type     string `json:"type"`
		Title    string `json:"title"`
		Username string `json:"username"`
	}
	message struct {
		ID        int64    `json:"message_id"`
		Topic     int64    `json:"message_thread_id"`
		InTopic   bool     `json:"is_topic_message"`
		Forwarded bool     `json:"is_automatic_forward"`
		From      user     `json:"from"`
		AsChat    chat     `json:"sender_chat"`
		Chat      chat     `json:"chat"`
		Date      int64    `json:"date"`
		EditDate  int64    `json:"edit_date"`
		ReplyTo   *message `json:"reply_to_message"`
		Buttons   struct {
			Rows [][]struct {
				Text string `json:"text"`
				Data string `json:"callback_data"`
			} `json:"inline_keyboard"`
		} `json:"reply_markup"`
		Text      string `json:"text"`
		Caption   string `json:"caption"`
		Animation *file  `json:"animation"`
		Audio     *file  `json:"audio"`
		Document  *file  `json:"document"`
		Photo     []file `json:"photo"`
		Sticker   *file  `json:"sticker"`
		Video     *file  `json:"video"`
		VideoNote *file  `json:"video_note"`
		Voice     *file  `json:"voice"`
		Contact   user   `json:"contact"`
		Dice      struct {
			Emoji string `json:"emoji"`
		} `json:"dice"`
		Poll struct {
			Question string `json:"question"`
		} `json:"poll"`
		Location struct {
			Latitude  *float64 `json:"latitude"`
			Longitude *float64 `json:"longitude"`
		} `json:"location"`
	}
	file struct {
		ID     string `json:"file_id"`
		Name   string `json:"file_name"`
		Type   string `json:"mime_type"`
		Size   int64  `json:"file_size"`
		Width  int64  `json:"width"`
		Height int64  `json:"height"`
		Emoji  string `json:"emoji"`
	}
	reaction struct {
		message
		User  user     `json:"user"`
		Actor chat     `json:"actor_chat"`
		Old   []letter `json:"old_reaction"`
		New   []letter `json:"new_reaction"`
	}
	letter struct {
		Type  string `json:"type"`
		Emoji string `json:"emoji"`
	}
	callback struct {
		ID      string  `json:"id"`
		Data    string  `json:"data"`
		From    user    `json:"from"`
		Message message `json:"message"`
	}
	membership struct {
		message
		New struct {
			Status string `json:"status"`
		} `json:"new_chat_member"`
	}
)

// content of a message; nil where there is nothing that a person wrote: a service message.
func (m *message) content() *channel.Content {
	c := &channel.Content{Text: cmp.Or(m.Text, m.Caption), Attachments: m.attachments()}
	if payload, ok := strings.CutPrefix(m.Text, "/start "); ok { // by a link to the bot
		c.Payload = payload
	}
	c.Text = cmp.Or(c.Text, m.Dice.Emoji, m.Poll.Question, strings.TrimSpace(m.Contact.name()+" "+m.Contact.Phone))
	if at := m.Location; at.Latitude != nil && at.Longitude != nil {
		c.Text = fmt.Sprintf("(%.6f, %.6f)", *at.Latitude, *at.Longitude)
	} else if m.Sticker != nil {
		c.Text = cmp.Or(m.Sticker.Emoji, c.Text)
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
