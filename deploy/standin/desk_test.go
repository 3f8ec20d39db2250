package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
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
