package media

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

func TestALinkGivesTheFileForAnHourToWhoeverHasIt(t *testing.T) {
	keys, registry := sealtest.New(t)
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	bucket, err := OpenBucket(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bucket.Close() })
	subjects, err := keys.Acquire(t.Context(), []seal.Act{{Identity: seal.Identity{Workspace: "w", Kind: "phone", Value: "+41791234567"}}})
	if err != nil {
		t.Fatal(err)
	}
	const plain = "a photo of somebody"
	if _, err := bucket.Store(t.Context(), subjects[0], &pb.AttachmentRef{Id: "a1", ContentType: "image/jpeg"}, strings.NewReader(plain)); err != nil {
		t.Fatal(err)
	}
	links := NewLinks("https://mesh.example/media/sms/", []byte("secret"), bucket, keys, func() time.Time { return now })
	mux := http.NewServeMux()
	mux.Handle("GET /media/sms/{token}", links)
	get := func(url string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
		return w
	}

	url := links.URL("w", "a1")
	if w := get(url); w.Code != 200 || w.Body.String() != plain || w.Header().Get("Content-Type") != "image/jpeg" {
		t.Fatalf("%d %q %v", w.Code, w.Body, w.Header())
	}
	for name, bad := range map[string]string{
		"altered": url[:len(url)-2] + "AA", "cut": url[:len(url)-4], "nonsense": "https://mesh.example/media/sms/x",
		"of another secret": NewLinks("https://mesh.example/media/sms", []byte("other"), bucket, keys, func() time.Time { return now }).URL("w", "a1"),
		"of no file":        links.URL("w", "a2"), "of another workspace": links.URL("v", "a1"),
	} {
		if w := get(bad); w.Code != 404 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	registry.FailWith(errors.New("away"))
	keys.Evict(subjects[0].ID)
	if w := get(url); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("with the registry away: %d", w.Code)
	}
	registry.FailWith(nil)
	now = now.Add(LinkFor)
	if w := get(url); w.Code != 404 {
		t.Errorf("after its time: %d", w.Code)
	}
	now = now.Add(-LinkFor)
	registry.Freeze(subjects[0].ID)
	keys.Evict(subjects[0].ID)
	if w := get(url); w.Code != 404 {
		t.Errorf("of somebody who was erased: %d", w.Code)
	}
	if NewLinks("", nil, bucket, keys, time.Now).URL("w", "a1") != "" {
		t.Error("a mesh without a public address made one")
	}
}
