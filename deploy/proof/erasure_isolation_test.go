package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

// isolation: every operation of the API's document that takes an id in its path answers another workspace's as
// one that never was, with 404; so do those that take one in their body or query.
func provesIsolation(t *testing.T) {
	const nobody = "00000000-0000-4000-8000-000000000000"
	w := newSwiftWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.slackGuest(), w.slackGuest()
	w.slack.Keep("file", []byte("a file"))
	words, bens := anna.words(), ben.words()
	message := standin.SlackMessage(anna.room, "im", anna.user, anna.stamp(), "", words)
	message["subtype"], message["files"] = "file_share", []any{map[string]any{
		"id": "F0001", "name": "file.txt", "mimetype": "text/plain", "url_private_download": w.slack.URL + "/files/file"}}
	check(t, anna.tell(ctx, message), ben.says(ctx, bens))
	conversation, contact, err := w.arrived(ctx, words)
	check(t, err)
	_, bystander, err := w.arrived(ctx, bens)
	check(t, err)
	request, err := w.erase(ctx, bystander)
	check(t, err, w.completed(ctx, request, 20*time.Second))
	theirs := map[string]string{"conversations": conversation, "contacts": contact, "privacy/requests": request}
	within(t, 10*time.Second, func() error {
		m := w.must(t, "GET", "/v1/conversations/"+conversation+"/messages", nil, 200).List("items")[0]
		a := m.List("attachments")[0]
		theirs["messages"], theirs["attachments"] = m.Text("id"), a.Text("id")
		if a.Text("state") != "stored" {
			return fmt.Errorf("the file is %s", a.Text("state"))
		}
		return nil
	})
	for _, kind := range []string{"connections", "apps", "keys", "members"} {
		theirs[kind] = w.must(t, "GET", "/v1/"+kind, nil, 200).List("items")[0].Text("id")
	}
	installed := w.must(t, "POST", "/v1/apps", mesh.Object{"channel": "slack", "name": "installed", "client_id": "1.2",
		"secrets": mesh.Object{"signing_secret": secret, "client_secret": "client"}}, 201).Text("id")
	theirs["connections/authorisations"] = w.must(t, "POST", "/v1/connections/authorisations",
		mesh.Object{"channel": "slack", "app_id": installed}, 201).Text("id")
	stranger := mesh.NewClient(w.URL)
	made := w.must(t, "POST", "/v1/workspaces", mesh.Object{"name": "Another"}, 201)
	if key, ok := made["api_key"].(map[string]any); ok {
		stranger.Key = mesh.Object(key).Text("key")
	}
	if stranger.Key == "" {
		t.Fatalf("no key in %v", made)
	}

	// ask gives an answer without what tells the request.
	ask := func(method, path string, body any) (int, string) {
		t.Helper()
		status, answer, err := stranger.Raw(ctx, method, path, body)
		if strings.HasSuffix(path, "/attachments") {
			status, answer, err = stranger.Send(ctx, method, path, http.Header{"Content-Type": {"text/plain"}, "Authorization": {"Bearer " + stranger.Key},
				"Content-Disposition": {`attachment; filename="f.txt"`}}, strings.NewReader("f"))
		}
		check(t, err)
		var o map[string]any
		if json.Unmarshal(answer, &o) != nil {
			return status, string(answer)
		}
		delete(o, "request_id")
		text, err := json.Marshal(o)
		check(t, err)
		return status, string(text)
	}
	neverWas := func(what string, want int, ask func(id string) (int, string), id string) {
		t.Helper()
		status, answer := ask(id)
		never, nothing := ask(nobody)
		if status != want || never != want || strings.ReplaceAll(answer, id, nobody) != nothing {
			t.Errorf("%s: of another workspace %d %s, of what never was %d %s; want %d", what, status, answer, never, nothing, want)
		}
	}

	_, document, err := w.api.Raw(ctx, "GET", "/v1/openapi.yaml", nil)
	check(t, err)
	api, err := openapi3.NewLoader().LoadFromData(document)
	check(t, err)
	bodies := map[string]any{
		"PATCH /v1/conversations/{id}": mesh.Object{"status": "resolved"}, "POST /v1/conversations/{id}/read": mesh.Object{},
		"POST /v1/conversations/{id}/messages": mesh.Object{"text": "hello"}, "POST /v1/messages/{id}/retry": mesh.Object{},
		"PATCH /v1/connections/{id}": mesh.Object{"name": "mine"}, "PATCH /v1/apps/{id}": mesh.Object{"client_id": "mine"},
		"PUT /v1/connections/{id}/orders/{order_id}/note": mesh.Object{"text": "mine"}, "PUT /v1/connections/{id}/customers/{customer_id}/tags": mesh.Object{"tags": []string{"mine"}},
	}
	shops := strings.NewReplacer("{order_id}", "1", "{customer_id}", "1") // the shop's own ids
	tried := 0
	for _, path := range slices.Sorted(maps.Keys(api.Paths.Map())) {
		kind, _, takesID := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/{id}")
		if strings.Contains(path, "{") && !takesID {
			t.Errorf("%s takes something else than an id: it is not tried", path)
		}
		if !takesID {
			continue
		}
		if theirs[kind] == "" {
			t.Errorf("%s: nothing of that kind was made", path)
			continue
		}
		for method := range api.Paths.Map()[path].Operations() {
			neverWas(method+" "+path, http.StatusNotFound, func(id string) (int, string) {
				return ask(method, shops.Replace(strings.Replace(path, "{id}", id, 1)), bodies[method+" "+path])
			}, theirs[kind])
			tried++
		}
	}
	if tried < 17 {
		t.Errorf("only %d operations take an id", tried)
	}
	neverWas("erasing a contact", http.StatusNotFound, func(id string) (int, string) {
		return ask("POST", "/v1/privacy/requests", mesh.Object{"type": "erasure", "contact_id": id})
	}, theirs["contacts"])
	neverWas("connecting over an app", http.StatusUnprocessableEntity, func(id string) (int, string) {
		return ask("POST", "/v1/connections", mesh.Object{"channel": "slack", "name": "x", "external_id": "T0OTHER", "app_id": id,
			"credentials": mesh.Object{"bot_token": "xoxb-another-token"}})
	}, theirs["apps"])
	if status, answer := ask("POST", "/v1/connections", mesh.Object{"channel": "sms", "name": "mine", "external_id": number,
		"credentials": mesh.Object{"account_sid": accountSID, "auth_token": authToken}}); status/100 == 2 {
		t.Errorf("another's number can be taken over: %d %s", status, answer)
	}

	// Lists, whatever they are filtered by, hold nothing of another's.
	for _, path := range []string{
		"/v1/conversations", "/v1/conversations?contact_id=" + contact, "/v1/conversations?connection_id=" + theirs["connections"],
		"/v1/contacts", "/v1/contacts?identity_kind=slack_user&identity=" + team + ":" + anna.user, "/v1/connections", "/v1/privacy/requests",
		"/v1/messages/search?q=Ich", "/v1/messages/search?q=Ich&conversation_id=" + conversation, "/v1/messages/search?q=Ich&contact_id=" + contact,
	} {
		status, answer := ask("GET", path, nil)
		o, _ := object([]byte(answer))
		if status != http.StatusNotFound && (status != http.StatusOK || len(o.List("items")) > 0) {
			t.Errorf("%s is answered %d %s", path, status, answer)
		}
	}
	for _, path := range []string{"/v1/apps", "/v1/keys", "/v1/members"} {
		if _, answer := ask("GET", path, nil); strings.Contains(answer, theirs[strings.TrimPrefix(path, "/v1/")]) {
			t.Errorf("%s shows another's: %s", path, answer)
		}
	}
	w.must(t, "GET", "/v1/contacts/"+contact, nil, 200) // it was there all the time
}
