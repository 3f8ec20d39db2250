package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/deploy/mesh"
	"tributary.dev/deploy/providers"
)

// The mesh is any server here: what the real one makes of the webhooks is shown by the demo.
func TestTheDeskConnectsAndLetsPeopleWrite(t *testing.T) {
	hooks := make(chan string, 100)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/webhooks/") {
			hooks <- r.URL.Path
			return
		}
		if r.Header.Get("Authorization") != "Bearer trb_key" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"an-id"}`)
	}))
	defer fake.Close()
	all, err := providers.Start(&providers.Host{Public: fake.URL})
	require.NoError(t, err)
	defer func() { require.NoError(t, providers.Close(all)) }()
	d := &desk{all: all, api: mesh.NewClient(fake.URL), connected: map[string]bool{}}
	ask := func(path, body string) (int, string) {
		w := httptest.NewRecorder()
		d.routes().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	for _, p := range all {
		status, answer := ask("/say", `{"provider":"`+p.Name()+`","text":"hello"}`)
		require.Equal(t, http.StatusConflict, status, answer)
		status, answer = ask("/connect", `{"provider":"`+p.Name()+`","key":"trb_key"}`)
		require.Equal(t, http.StatusOK, status, answer)
		status, answer = ask("/say", `{"provider":"`+strings.ToLower(p.Name())+`","person":3,"text":"hello"}`)
		require.Equal(t, http.StatusOK, status, answer)
		require.Contains(t, answer, `"answered":200`)
		require.Contains(t, <-hooks, "/webhooks/"+p.Channel()+"/")
	}
	for _, p := range all {
		_, tells := p.(providers.Teller)
		status, answer := ask("/tell", `{"provider":"`+p.Name()+`","status":"delivered"}`)
		require.Equal(t, map[bool]int{true: http.StatusNotFound, false: http.StatusConflict}[tells], status, answer)
		status, answer = ask("/fail", `{"provider":"`+p.Name()+`","calls":1,"refuse":429,"retry_after":7}`)
		require.Equal(t, map[bool]int{true: http.StatusConflict, false: http.StatusOK}[p.Name() == "SMTP"], status, answer)
	}
	twilio := all[slices.IndexFunc(all, func(p providers.Provider) bool { return p.Name() == "Twilio" })]
	send := func() *http.Response {
		const account = "AC0000000000000000000000000000057a"
		call, err := http.NewRequestWithContext(t.Context(), http.MethodPost, twilio.Settings()["TRIBUTARY_SMS_TWILIO_URL"]+"/2010-04-01/Accounts/"+account+"/Messages.json",
			strings.NewReader(url.Values{"To": {"+41790000001"}, "Body": {"Hello"}}.Encode()))
		require.NoError(t, err)
		call.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		call.SetBasicAuth(account, twilio.Secret())
		answer, err := http.DefaultClient.Do(call)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer
	}
	refused := send()
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.Equal(t, "7", refused.Header.Get("Retry-After"))
	require.NotEqual(t, http.StatusTooManyRequests, send().StatusCode, "one call, and no more")
	for _, o := range []string{`"calls":-1`, `"calls":1,"refuse":200`, `"calls":1,"delay_ms":-1`} {
		status, answer := ask("/fail", `{"provider":"Twilio",`+o+`}`)
		require.Equal(t, http.StatusBadRequest, status, answer)
	}
	status, answer := ask("/withdraw", `{"provider":"Messenger","erase":true}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, `"webhook":"/webhooks/messenger/standin?callback=data_deletion"`)
	require.Equal(t, "/webhooks/messenger/standin", <-hooks)
	status, _ = ask("/withdraw", `{"provider":"Slack"}`)
	require.Equal(t, http.StatusConflict, status)
	for path, body := range map[string]string{"/say": `{"provider":"Pigeon"}`, "/connect": `hello`} {
		status, _ := ask(path, body)
		require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, status)
	}
	w := httptest.NewRecorder()
	d.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/taken", nil))
	var taken map[string][]providers.Message
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &taken))
	require.Len(t, taken, len(all))

	var said strings.Builder
	d.greet(&said, "http://desk")
	for _, p := range all {
		for name, value := range p.Settings() {
			require.Contains(t, said.String(), "export "+name+"="+value+"\n")
		}
	}
}
