package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Slack stands in for Slack's Web API: chat.postMessage, the steps of a file's upload and where it was
// shared, file download, users.info, auth.test and OAuth.
type Slack struct {
	*server

	posts []SlackPost
	users map[string]string
	files map[string][]byte
	// shared is the message that an uploaded file became, by the file's id.
	shared map[string]SlackPost
	// held are files that files.info tells of, by id, as paths of files; denied the errors of methods.
	held, denied map[string]string
	next         int64
	// OAuth is how a workspace's owner installs the app.
	OAuth *SlackOAuth
	// Posted is called after a message was taken, in a goroutine of the call: the place to send its echo.
	Posted func(SlackPost)
}

// SlackPost is a message or file that Slack took.
type SlackPost struct {
	Method, Channel, Text, ThreadTS, TS string
	// Metadata as sent: event_type and event_payload.
	Metadata json.RawMessage
	FileName string
	File     []byte
}

// NewSlack starts one on address; files are what can be downloaded, by path; users are display names by id.
func NewSlack(address string, users map[string]string, files map[string][]byte) (*Slack, error) {
	s := &Slack{server: newServer(), users: map[string]string{}, files: map[string][]byte{}, shared: map[string]SlackPost{}, held: map[string]string{}, denied: map[string]string{}, next: time.Now().Unix()}
	maps.Copy(s.files, files)
	maps.Copy(s.users, users)
	s.mux.HandleFunc("POST /api/chat.postMessage", s.postMessage)
	s.mux.HandleFunc("POST /api/files.getUploadURLExternal", s.uploadURL)
	s.mux.HandleFunc("POST /upload/{id}", s.upload)
	s.mux.HandleFunc("POST /api/files.completeUploadExternal", s.completeUpload)
	s.mux.HandleFunc("POST /api/files.info", s.fileInfo)
	s.mux.HandleFunc("/api/users.info", s.userInfo)
	s.mux.HandleFunc("/api/auth.test", func(w http.ResponseWriter, r *http.Request) {
		if !authorised(w, r) {
			return
		}
		s.carry(w, r, "auth.test", func() (int, any) {
			if answer, ok := s.OAuth.who(tokenOf(r)); ok {
				return 200, answer
			}
			return 200, map[string]any{"ok": true} // a token that was pasted: of whichever team
		})
	})
	s.OAuth = newSlackOAuth(s.mux, SlackOAuthConfig{ClientID: "1.2", ClientSecret: "canary-client", AppID: "A1", Team: "T0OAUTH", TeamName: "Acme"}, s.carry)
	s.mux.HandleFunc("GET /files/{path...}", s.download)
	return s, s.start(address)
}

// APIURL is what an adapter is configured with.
func (s *Slack) APIURL() string { return s.URL + "/api/" }

// Posts are the messages taken so far, in order.
func (s *Slack) Posts() []SlackPost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

// Know tells of a user, by the display name.
func (s *Slack) Know(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[id] = name
}

// Keep has a file that can be downloaded from /files/ and path.
func (s *Slack) Keep(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

func (s *Slack) take(p SlackPost) SlackPost {
	s.mu.Lock()
	s.next = max(s.next+1, time.Now().Unix()) // later than what was said to it, and than the one before
	p.TS = fmt.Sprintf("%d.%06d", s.next, len(s.posts)+1)
	s.posts = append(s.posts, p)
	posted := s.Posted
	s.mu.Unlock()
	if posted != nil {
		posted(p)
	}
	return p
}

func (s *Slack) postMessage(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.carry(w, r, "chat.postMessage", func() (int, any) {
		p := s.take(SlackPost{
			Method: "chat.postMessage", Channel: r.FormValue("channel"), Text: r.FormValue("text"),
			ThreadTS: r.FormValue("thread_ts"), Metadata: json.RawMessage(r.FormValue("metadata")),
		})
		return 200, map[string]any{"ok": true, "channel": p.Channel, "ts": p.TS, "message": map[string]any{"text": p.Text, "ts": p.TS}}
	})
}

func (s *Slack) uploadURL(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.carry(w, r, "files.getUploadURLExternal", func() (int, any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.next++
		id := "F" + strconv.FormatInt(s.next, 36)
		return 200, map[string]any{"ok": true, "upload_url": s.URL + "/upload/" + strings.ToUpper(id), "file_id": strings.ToUpper(id)}
	})
}

func (s *Slack) upload(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if file, _, err := r.FormFile("file"); err == nil {
		body = file
	}
	data, err := io.ReadAll(io.LimitReader(body, 64<<20))
	if err != nil {
		http.Error(w, "read", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.files["upload/"+r.PathValue("id")] = data
	s.mu.Unlock()
}

func (s *Slack) completeUpload(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.carry(w, r, "files.completeUploadExternal", func() (int, any) {
		var files []struct{ ID, Title string }
		if err := json.Unmarshal([]byte(r.FormValue("files")), &files); err != nil || len(files) != 1 {
			return 200, map[string]any{"ok": false, "error": "invalid_arguments"}
		}
		s.mu.Lock()
		data := s.files["upload/"+files[0].ID]
		s.mu.Unlock()
		p := s.take(SlackPost{
			Method: "files.completeUploadExternal", Channel: r.FormValue("channel_id"), ThreadTS: r.FormValue("thread_ts"),
			Text: r.FormValue("initial_comment"), FileName: files[0].Title, File: data,
		})
		s.mu.Lock()
		s.shared[files[0].ID] = p
		s.mu.Unlock()
		return 200, map[string]any{"ok": true, "files": []any{map[string]any{"id": files[0].ID, "title": files[0].Title}}}
	})
}

func (s *Slack) fileInfo(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.carry(w, r, "files.info", func() (int, any) {
		s.mu.Lock()
		p, ok := s.shared[r.FormValue("file")]
		path, held := s.held[r.FormValue("file")]
		s.mu.Unlock()
		if held {
			return 200, map[string]any{"ok": true, "file": map[string]any{
				"id": r.FormValue("file"), "mode": "hosted", "file_access": "visible", "url_private": s.URL + "/files/" + path,
			}}
		}
		if !ok {
			return 200, map[string]any{"ok": false, "error": "file_not_found"}
		}
		return 200, map[string]any{"ok": true, "file": map[string]any{
			"id":     r.FormValue("file"),
			"shares": map[string]any{"private": map[string]any{p.Channel: []any{map[string]any{"ts": p.TS, "thread_ts": p.ThreadTS}}}},
		}}
	})
}

func (s *Slack) userInfo(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.carry(w, r, "users.info", func() (int, any) {
		id := r.FormValue("user")
		s.mu.Lock()
		name, ok := s.users[id]
		s.mu.Unlock()
		if !ok {
			return 200, map[string]any{"ok": false, "error": "user_not_found"}
		}
		return 200, map[string]any{"ok": true, "user": map[string]any{
			"id": id, "name": strings.ToLower(name), "real_name": name, "tz": "Europe/Zurich",
			"profile": map[string]any{"real_name": name, "display_name": name},
		}}
	})
}

func (s *Slack) download(w http.ResponseWriter, r *http.Request) {
	if !authorised(w, r) {
		return
	}
	s.mu.Lock()
	data, ok := s.files[r.PathValue("path")]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(data)
}

// authorised wants a bot's token, in the header or in the form; Slack refuses with a 200.
func authorised(w http.ResponseWriter, r *http.Request) bool {
	if token := strings.TrimPrefix(tokenOf(r), "xoxe."); strings.HasPrefix(token, "xoxb-") {
		return true
	}
	w.Header().Set("Content-Type", "application/json")
	code := "invalid_auth"
	if tokenOf(r) == "" {
		code = "not_authed"
	}
	_, _ = io.WriteString(w, `{"ok":false,"error":"`+code+`"}`)
	return false
}

// SlackHeader signs a webhook's body as Slack does at a time.
func SlackHeader(signingSecret string, body []byte, at time.Time) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(signingSecret))
	fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	return http.Header{
		"Content-Type":              {"application/json"},
		"X-Slack-Request-Timestamp": {stamp},
		"X-Slack-Signature":         {"v0=" + hex.EncodeToString(mac.Sum(nil))},
	}
}

// SlackEvent makes the body of an event_callback. eventID is Slack's own ("Ev…").
func SlackEvent(team, appID, eventID string, at time.Time, event map[string]any) []byte {
	body, err := json.Marshal(map[string]any{
		"token": "legacy", "type": "event_callback", "team_id": team, "api_app_id": appID,
		"event_id": eventID, "event_time": at.Unix(), "event": event,
		"authorizations": []any{map[string]any{"team_id": team, "user_id": "U0BOT", "is_bot": true}},
	})
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return body
}

// SlackMessage is a message event; channelType is channel, group, im or mpim.
func SlackMessage(channel, channelType, user, ts, threadTS, text string) map[string]any {
	m := map[string]any{
		"type": "message", "channel": channel, "channel_type": channelType, "user": user,
		"ts": ts, "event_ts": ts, "text": text,
	}
	if threadTS != "" {
		m["thread_ts"] = threadTS
	}
	return m
}

// SlackEdit is the message_changed event that gives the message ts a new text at editTS.
func SlackEdit(channel, channelType, user, ts, threadTS, editTS, before, after string) map[string]any {
	nested := func(text string) map[string]any { return SlackMessage(channel, "", user, ts, threadTS, text) }
	now := nested(after)
	now["edited"] = map[string]any{"user": user, "ts": editTS}
	for _, m := range []string{"channel", "channel_type", "event_ts"} {
		delete(now, m)
	}
	return map[string]any{
		"type": "message", "subtype": "message_changed", "channel": channel, "channel_type": channelType,
		"ts": editTS, "event_ts": editTS, "message": now, "previous_message": nested(before),
	}
}

// SlackDeletion is the message_deleted event of the message ts.
func SlackDeletion(channel, channelType, user, ts, at string) map[string]any {
	return map[string]any{
		"type": "message", "subtype": "message_deleted", "channel": channel, "channel_type": channelType,
		"ts": at, "event_ts": at, "deleted_ts": ts,
		"previous_message": map[string]any{"type": "message", "user": user, "ts": ts},
	}
}

// SlackReaction is reaction_added (or, removed, reaction_removed) on the message ts.
func SlackReaction(channel, user, ts, at, emoji string, removed bool) map[string]any {
	typ := "reaction_added"
	if removed {
		typ = "reaction_removed"
	}
	return map[string]any{
		"type": typ, "user": user, "reaction": emoji, "item_user": "U0OTHER", "event_ts": at,
		"item": map[string]any{"type": "message", "channel": channel, "ts": ts},
	}
}

// SlackEcho is the message event by which an app sees a post of its own, with the post's metadata.
func SlackEcho(appID, channelType string, p SlackPost) map[string]any {
	m := SlackMessage(p.Channel, channelType, "U0BOT", p.TS, p.ThreadTS, p.Text)
	m["bot_id"], m["app_id"] = "B0BOT", appID
	return m
}

// SlackMetadataPosted is the message_metadata_posted event of a post.
func SlackMetadataPosted(appID string, p SlackPost) map[string]any {
	return map[string]any{
		"type": "message_metadata_posted", "app_id": appID, "bot_id": "B0BOT", "user_id": "U0BOT", "team_id": "",
		"channel_id": p.Channel, "message_ts": p.TS, "event_ts": p.TS, "metadata": p.Metadata,
	}
}
