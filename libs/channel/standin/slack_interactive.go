package standin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Deny has a method answered with an error of Slack's ("token_revoked"), without carrying it out; "*" is all methods,
// an empty code ends it.
func (s *Slack) Deny(method, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[method] = code
}

// Hold has files.info tell where a file lies: at /files/ and path. It is what Slack Connect asks for.
func (s *Slack) Hold(fileID, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[fileID] = path
}

// carry is the server's, where the method is not denied.
func (s *Slack) carry(w http.ResponseWriter, r *http.Request, method string, do func() (status int, answer any)) {
	s.server.carry(w, r, method, func() (int, any) {
		s.mu.Lock()
		code := s.denied[method]
		if code == "" {
			code = s.denied["*"]
		}
		s.mu.Unlock()
		if code != "" {
			return http.StatusOK, map[string]any{"ok": false, "error": code}
		}
		return do()
	})
}

// SlackFormHeader signs a form as Slack does: an interaction or a slash command.
func SlackFormHeader(signingSecret string, body []byte, at time.Time) http.Header {
	h := SlackHeader(signingSecret, body, at)
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	return h
}

// SlackButton makes the body of a block_actions interaction: a person uses a button of the message ts, which our app
// posted. triggerID is Slack's own; at is the action's ts.
func SlackButton(team, appID, channel, user, ts, threadTS, triggerID, at, label, value string) []byte {
	container := map[string]any{"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": false}
	message := map[string]any{"type": "message", "user": "U0BOT", "bot_id": "B0BOT", "app_id": appID, "ts": ts, "team": team, "text": ""}
	if threadTS != "" {
		container["thread_ts"], message["thread_ts"] = threadTS, threadTS
	}
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "token": "legacy", "api_app_id": appID, "trigger_id": triggerID, "is_enterprise_install": false,
		"user": map[string]any{"id": user, "team_id": team}, "team": map[string]any{"id": team}, "enterprise": nil,
		"channel": map[string]any{"id": channel}, "container": container, "message": message,
		"response_url": "https://hooks.slack.com/actions/" + team + "/1/secret",
		"actions": []any{map[string]any{
			"type": "button", "block_id": "b1", "action_id": "a1", "action_ts": at, "value": value,
			"text": map[string]any{"type": "plain_text", "text": label, "emoji": true},
		}},
	})
	if err != nil {
		panic(err) // maps of strings always encode
	}
	return []byte(url.Values{"payload": {string(payload)}}.Encode())
}

// SlackCommand makes the body of a slash command ("/ask") that a person gives in a channel.
func SlackCommand(team, appID, channel, user, triggerID, command, text string) []byte {
	return []byte(url.Values{
		"token": {"legacy"}, "team_id": {team}, "team_domain": {"standin"}, "channel_id": {channel}, "channel_name": {"standin"},
		"user_id": {user}, "user_name": {"standin"}, "command": {command}, "text": {text}, "api_app_id": {appID},
		"is_enterprise_install": {"false"}, "trigger_id": {triggerID}, "response_url": {"https://hooks.slack.com/commands/" + team + "/1/secret"},
	}.Encode())
}
