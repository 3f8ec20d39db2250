package standin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Telegram stands in for the Bot API of one bot: sendMessage, sendPhoto, sendDocument, getFile and its files.
type Telegram struct {
	*server

	token string
	posts []TelegramPost
	files map[string][]byte
	// blocked are chats whose person has blocked the bot.
	blocked map[string]bool
	next    int64
}

// TelegramPost is a message that the bot sent.
type TelegramPost struct {
	Method, ChatID, Topic, Text string
	// ReplyTo is the number of the message that is answered; 0 for none.
	ReplyTo  int64
	ID       int64
	FileName string
	File     []byte
}

// NewTelegram starts one on address, for the bot with this token ("<id>:<secret>").
func NewTelegram(address, token string) (*Telegram, error) {
	t := &Telegram{server: newServer(), token: token, files: map[string][]byte{}, blocked: map[string]bool{}}
	t.mux.HandleFunc("POST /{bot}/{method}", t.method)
	t.mux.HandleFunc("GET /file/{bot}/files/{id}", t.download)
	return t, t.start(address)
}

// Posts are the messages taken so far, in order.
func (t *Telegram) Posts() []TelegramPost {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.posts)
}

// Keep has a file that can be asked for by its id.
func (t *Telegram) Keep(fileID string, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[fileID] = data
}

// Block has a person block the bot.
func (t *Telegram) Block(chatID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blocked[chatID] = true
}

func (t *Telegram) method(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("bot") != "bot"+t.token {
		t.answer(w, http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized))
		return
	}
	method := r.PathValue("method")
	t.carry(w, r, method, func() (int, any) {
		if err := r.ParseMultipartForm(64 << 20); err != nil && !errors.Is(err, http.ErrNotMultipart) {
			return telegramFault(http.StatusBadRequest, "Bad Request: can't parse the form")
		}
		switch method {
		case "getMe":
			id, _ := strconv.ParseInt(t.BotID(), 10, 64)
			return http.StatusOK, map[string]any{"ok": true, "result": map[string]any{"id": id, "is_bot": true, "first_name": "Stand-in"}}
		case "sendMessage", "sendPhoto", "sendDocument":
			return t.send(method, r)
		case "getFile":
			t.mu.Lock()
			data, ok := t.files[r.FormValue("file_id")]
			t.mu.Unlock()
			if !ok {
				return telegramFault(http.StatusBadRequest, "Bad Request: wrong file_id or the file is temporarily unavailable")
			}
			return http.StatusOK, map[string]any{"ok": true, "result": map[string]any{
				"file_id": r.FormValue("file_id"), "file_size": len(data), "file_path": path.Join("files", r.FormValue("file_id")),
			}}
		}
		return telegramFault(http.StatusNotFound, "Not Found: method not found")
	})
}

func (t *Telegram) send(method string, r *http.Request) (int, any) {
	p := TelegramPost{Method: method, ChatID: r.FormValue("chat_id"), Topic: r.FormValue("message_thread_id"), Text: r.FormValue("text")}
	if method != "sendMessage" {
		file, header, err := r.FormFile(map[string]string{"sendPhoto": "photo", "sendDocument": "document"}[method])
		if err != nil {
			return telegramFault(http.StatusBadRequest, "Bad Request: there is no file in the request")
		}
		if p.File, err = io.ReadAll(file); err != nil {
			return telegramFault(http.StatusBadRequest, "Bad Request: the file is not whole")
		}
		p.FileName, p.Text = header.Filename, r.FormValue("caption")
	}
	var reply struct {
		ID int64 `json:"message_id"`
	}
	if text := r.FormValue("reply_parameters"); text != "" && json.Unmarshal([]byte(text), &reply) != nil {
		return telegramFault(http.StatusBadRequest, "Bad Request: can't parse reply parameters JSON object")
	}
	chatID, err := strconv.ParseInt(p.ChatID, 10, 64)
	if err != nil {
		return telegramFault(http.StatusBadRequest, "Bad Request: chat not found")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocked[p.ChatID] {
		return telegramFault(http.StatusForbidden, "Forbidden: bot was blocked by the user")
	}
	t.next++
	p.ReplyTo, p.ID = reply.ID, 1000+t.next
	t.posts = append(t.posts, p)
	kind := "private"
	if chatID < 0 {
		kind = "supergroup"
	}
	return http.StatusOK, map[string]any{"ok": true, "result": map[string]any{
		"message_id": p.ID, "date": time.Now().Unix(), "text": p.Text, "chat": map[string]any{"id": chatID, "type": kind},
	}}
}

func telegramFault(status int, description string) (int, any) {
	return status, map[string]any{"ok": false, "error_code": status, "description": description}
}

func (t *Telegram) answer(w http.ResponseWriter, status int, description string) {
	_, fault := telegramFault(status, description)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(fault) // a caller that left is the caller's affair
}

func (t *Telegram) download(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	data, ok := t.files[r.PathValue("id")]
	t.mu.Unlock()
	if !ok || r.PathValue("bot") != "bot"+t.token {
		t.answer(w, http.StatusNotFound, "Not Found")
		return
	}
	_, _ = w.Write(data)
}

// BotID is the bot's id: what its token begins with.
func (t *Telegram) BotID() string {
	id, _, _ := strings.Cut(t.token, ":")
	return id
}

// TelegramHeader is what a webhook of Telegram's carries: the secret that setWebhook was given.
func TelegramHeader(secretToken string) http.Header {
	return http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secretToken}}
}

// TelegramUpdate makes the body of an update of a kind: message, edited_message, message_reaction …
func TelegramUpdate(updateID int64, kind string, of map[string]any) []byte {
	body, err := json.Marshal(map[string]any{"update_id": updateID, kind: of})
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return body
}

// TelegramMessage is a message that a person wrote to the bot, in private.
func TelegramMessage(id, from int64, name string, at time.Time, text string) map[string]any {
	return map[string]any{
		"message_id": id, "date": at.Unix(), "text": text,
		"from": map[string]any{"id": from, "is_bot": false, "first_name": name, "language_code": "en"},
		"chat": map[string]any{"id": from, "type": "private", "first_name": name},
	}
}
