package channel_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

func TestAFormCarriesAFileWithItsLength(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength <= 0 || r.ParseMultipartForm(1<<20) != nil || r.FormValue("chat_id") != "7" {
			http.Error(w, "not the form", http.StatusBadRequest)
			return
		}
		file, header, err := r.FormFile("document")
		if err != nil {
			_, _ = io.WriteString(w, `"no file"`)
			return
		}
		content, _ := io.ReadAll(file)
		_ = json.NewEncoder(w).Encode(header.Filename + "=" + string(content))
	}))
	defer s.Close()
	post := func(file *channel.OutgoingAttachment) string {
		form, err := channel.NewForm(t.Context(), map[string]string{"chat_id": "7"}, "document", file)
		require.NoError(t, err)
		defer form.Close()
		var said string
		status, _, err := form.Post(t.Context(), http.DefaultClient, s.URL, &said)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		return said
	}
	require.Equal(t, "no file", post(nil))
	require.Equal(t, `a "1".txt=hello`, post(file(`a "1".txt`, "hello", nil)))
	require.Equal(t, "file=hello", post(file("", "hello", nil)))

	_, err := channel.NewForm(t.Context(), nil, "document", file("a", "b", errors.New("CANARY")))
	var e *channel.Error
	require.ErrorAs(t, err, &e)
	require.True(t, e.NotTaken)
}

func file(name, content string, fails error) *channel.OutgoingAttachment {
	return &channel.OutgoingAttachment{Name: name, Size: int64(len(content)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), fails
	}}
}

func TestWhatNeverLeftIsToldFromWhatNobodyKnows(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer silent.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer page.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for code, c := range map[string]struct {
		ctx      context.Context
		url      string
		notTaken bool
	}{
		"unreachable":       {t.Context(), gone.URL, true},
		"no_answer":         {t.Context(), silent.URL, false},
		"timeout":           {ended, silent.URL, false},
		"unreadable_answer": {t.Context(), page.URL, false},
	} {
		form, err := channel.NewForm(c.ctx, nil, "", nil)
		require.NoError(t, err)
		_, _, err = form.Post(c.ctx, http.DefaultClient, c.url+"/CANARY", nil)
		require.Equal(t, &channel.Error{Class: channel.ClassRetry, Code: code, NotTaken: c.notTaken}, err)
	}
}

func TestThePauseThatAnAnswerAsksFor(t *testing.T) {
	require.Equal(t, 90*time.Second, channel.RetryAfter(http.Header{
		"Date": {"Sat, 14 Mar 2026 15:00:00 GMT"}, "Retry-After": {"Sat, 14 Mar 2026 15:01:30 GMT"},
	}))
	require.Equal(t, 24*time.Hour, channel.RetryAfter(http.Header{"Retry-After": {"999999999999"}}))
	require.Zero(t, channel.RetryAfter(http.Header{"Retry-After": {"soon"}}))
	require.Zero(t, channel.RetryAfter(http.Header{"Retry-After": {"-1"}}))
}
