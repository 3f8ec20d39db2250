package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/store"
)

func (h *house) count(query string, args ...any) (n int) {
	h.Helper()
	if err := h.db.View(context.Background(), func(tx *sqldb.Tx) error { return tx.QueryRowContext(context.Background(), query, args...).Scan(&n) }); err != nil {
		h.Fatal(err)
	}
	return n
}

// made reads the answer of a POST that creates.
func made[T any](a answer) (v T) {
	a.h.Helper()
	a.is(http.StatusCreated).read(&v)
	return v
}

func TestAPostedMessageIsQueuedOnceHoweverOftenItIsPosted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		said := h.says(p, c, 1_000_000, text("hello"), nil)
		key := header("Idempotency-Key", "one")
		body := `{"text":"good day","reply_to":"` + said + `"}`
		m := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", body, key))
		if m.Text != "good day" || m.Direction != "outbound" || *m.Status != "queued" || m.Sender.MemberID != "member" || *m.ReplyTo != said ||
			len(m.Parts) != 1 || m.Parts[0] != (api.Part{Attempt: 1, Status: "queued"}) {
			t.Fatalf("got %+v", m)
		}
		h.pass(time.Minute)
		if again := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", body, key)); again.ID != m.ID {
			t.Fatalf("a second message: %+v", again)
		}
		h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"something else"}`, key).problem(409, "conflict")
		if n := h.count("SELECT count(*) FROM messages WHERE direction = 'outbound'"); n != 1 {
			t.Fatalf("%d messages", n)
		}
		if n := h.count("SELECT count(*) FROM outbox WHERE topic = 'outbound.sms'"); n != 1 {
			t.Fatalf("%d commands", n)
		}
		h.do("POST", "/v1/messages/"+m.ID+"/retry", "").problem(409, "conflict")
		h.exec("UPDATE message_parts SET status = $1", int(pb.Status_STATUS_UNKNOWN))
		h.exec("UPDATE messages SET status = $1 WHERE id = $2", int(pb.Status_STATUS_UNKNOWN), m.ID)
		unknown := read[api.Message](h.get("/v1/messages/" + m.ID))
		if *unknown.Status != "unknown" || unknown.Error == nil || unknown.Error.Class != "unknown" || unknown.Error.Code != "no_answer" ||
			unknown.Error.Sentence == "" || unknown.Parts[0].Error == nil || *unknown.Parts[0].Error != *unknown.Error {
			t.Fatalf("got %+v", unknown)
		}
		h.exec("UPDATE message_parts SET status = 5, error_class = 3, error_code = '30003'")
		h.exec("UPDATE messages SET status = 5, error_class = 3, error_code = '30003' WHERE id = $1", m.ID)
		h.exec("UPDATE conversations SET out_message = ''")
		failed := read[api.Message](h.get("/v1/messages/" + m.ID))
		if *failed.Status != "failed" || failed.Error == nil || failed.Error.Class != "reject" || failed.Error.Code != "30003" || failed.Error.Sentence == "" {
			t.Fatalf("got %+v", failed)
		}
		retried := read[api.Message](h.do("POST", "/v1/messages/"+m.ID+"/retry", ""))
		if *retried.Status != "queued" || retried.Error != nil || retried.Parts[0].Attempt != 2 {
			t.Fatalf("got %+v", retried)
		}
		h.do("POST", "/v1/messages/"+m.ID+"/retry", "").problem(409, "conflict")
	})
}

func TestANoteGoesToNobody(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		m := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"call her back","type":"note"}`))
		if m.Direction != "note" || m.Status != nil || len(m.Parts) != 0 {
			t.Fatalf("got %+v", m)
		}
		if n := h.count("SELECT count(*) FROM outbox WHERE topic <> 'conversations'"); n != 0 {
			t.Fatalf("%d commands", n)
		}
	})
}

func TestAMessageThatCantBePostedNamesWhy(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		for body, field := range map[string]string{
			`{"text":" \n\t\u00a0"}`: "text", `{"text":"a\u0000b"}`: "text", `{"text":"a\u001bb"}`: "text",
			`{}`: "text", `{"text":"x","type":"memo"}`: "type", `{"text":"x","reply_to":"y"}`: "reply_to",
			`{"text":"x","attachments":["y"]}`: "attachments", `{"text":1}`: "text", `{"words":"x"}`: "words",
			`{"attachments":["y","y"]}`:                                       "attachments",
			`{"text":"` + strings.Repeat("x", 64<<10+1) + `"}`:                "text",
			`{"attachments":["1","2","3","4","5","6","7","8","9","10","11"]}`: "attachments",
		} {
			h.do("POST", "/v1/conversations/"+c+"/messages", body).problem(422, "invalid", field)
		}
		h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"x"}`, header("Content-Type", "text/plain")).problem(415, "unsupported_type")
		h.registry.FailWith(errors.New("away"))
		h.keys.Evict(p.ID)
		h.do("POST", "/v1/conversations/"+c+"/messages", `{"text":"x"}`).problem(503, "unavailable")
		if n := h.count("SELECT count(*) FROM messages"); n != 0 {
			t.Fatalf("%d messages", n)
		}
	})
}

func (h *house) upload(conversation, name, content string) answer {
	h.Helper()
	return h.do("POST", "/v1/conversations/"+conversation+"/attachments", content, header("Content-Disposition", `attachment; filename="`+name+`"`))
}

func TestAFileIsSealedWhenUploadedAndGoesWithOneMessage(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		elsewhere := h.talk(h.person(us, "+41790000002", "Bob", 1), 5_000_000, nil)
		content := "%PDF-1.7 canary-of-a-file " + strings.Repeat("x", 200<<10)
		at := made[api.Attachment](h.upload(c, `..\\..\\etc/offer.pdf`, content))
		if at.ContentType != "application/pdf" || at.Kind != "file" || at.Size != int64(len(content)) || at.URL != nil || at.Name != "offer.pdf" {
			t.Fatalf("got %+v", at)
		}
		h.get("/v1/attachments/"+at.ID+"/content").problem(404, "not_found")
		body := `{"attachments":["` + at.ID + `"]}`
		h.do("POST", "/v1/conversations/"+elsewhere+"/messages", body).problem(422, "invalid", "attachments")
		key := header("Idempotency-Key", "file")
		m := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", body, key))
		if len(m.Attachments) != 1 || m.Attachments[0].Name != "offer.pdf" || m.Attachments[0].URL == nil || m.Type != "file" {
			t.Fatalf("got %+v", m)
		}
		if again := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", body, key)); again.ID != m.ID {
			t.Fatalf("a repetition made %s", again.ID)
		}
		h.do("POST", "/v1/conversations/"+c+"/messages", body).problem(422, "invalid", "attachments")

		w := h.get(*m.Attachments[0].URL).is(http.StatusOK)
		if w.Body.String() != content || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
			w.Header().Get("Content-Disposition") != "attachment; filename=offer.pdf" || w.Header().Get("Content-Type") != "application/pdf" {
			t.Fatalf("got %d bytes, %v", w.Body.Len(), w.Header())
		}
		for object := range h.objects() {
			if bytes.Contains(h.object(object), []byte("canary-of-a-file")) {
				t.Fatal("the file lies open in the bucket")
			}
		}
		h.registry.Destroy(p.ID)
		h.keys.Evict(p.ID)
		h.get(*m.Attachments[0].URL).problem(410, "gone")
		h.registry.FailWith(errors.New("away"))
		h.keys.Evict(p.ID)
		h.get(*m.Attachments[0].URL).problem(503, "unavailable")
	})
}

func (h *house) objects() map[string]bool {
	h.Helper()
	found := map[string]bool{}
	list := h.bucket.List(nil)
	for {
		o, err := list.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			h.Fatal(err)
		}
		found[o.Key] = true
	}
}

func (h *house) object(key string) []byte {
	h.Helper()
	raw, err := h.bucket.ReadAll(context.Background(), key)
	if err != nil {
		h.Fatal(err)
	}
	return raw
}

func TestAnObjectThatWasCutIsNotServedAsWhole(t *testing.T) {
	h := newHouse(t, sqltest.SQLite(t, store.Migrations()), api.Limits{})
	p := h.person(us, "+41790000001", "Ada", 1)
	c := h.talk(p, 5_000_000, nil)
	at := made[api.Attachment](h.upload(c, "x.txt", strings.Repeat("hello ", 50_000)))
	m := made[api.Message](h.do("POST", "/v1/conversations/"+c+"/messages", `{"attachments":["`+at.ID+`"]}`))
	for object := range h.objects() {
		if err := h.bucket.WriteAll(context.Background(), object, h.object(object)[:150_000], &blob.WriterOptions{ContentType: "application/octet-stream"}); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if v := recover(); v != any(http.ErrAbortHandler) {
			t.Fatalf("the connection was not ended: %v", v)
		}
	}()
	h.get(*m.Attachments[0].URL)
}

func TestATooLargeOrEmptyFileLeavesNothing(t *testing.T) {
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, api.Limits{UploadBytes: 1 << 10})
		p := h.person(us, "+41790000001", "Ada", 1)
		c := h.talk(p, 5_000_000, nil)
		chunked := func(r *http.Request) { r.ContentLength = -1 }
		big := strings.Repeat("x", 1<<10+1)
		h.do("POST", "/v1/conversations/"+c+"/attachments", big).problem(413, "too_large")
		h.do("POST", "/v1/conversations/"+c+"/attachments", big, chunked).problem(413, "too_large")
		h.do("POST", "/v1/conversations/"+c+"/attachments", "").problem(400, "malformed")
		h.do("POST", "/v1/conversations/"+c+"/attachments", "x", header("Content-Disposition", "attachment; filename=")).problem(422, "invalid", "Content-Disposition")
		made[api.Attachment](h.do("POST", "/v1/conversations/"+c+"/attachments", big[1:], chunked))
		if n := len(h.objects()); n != 1 {
			t.Fatalf("%d objects", n)
		}
		h.pass(25 * time.Hour)
		if err := h.api.SweepUploads(context.Background()); err != nil {
			t.Fatal(err)
		}
		if h.count("SELECT count(*) FROM uploads") != 0 || h.count("SELECT count(*) FROM object_deletions") != 1 {
			t.Fatal("a file that no message took is not given up")
		}
	})
}
