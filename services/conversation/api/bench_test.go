package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/store"
)

// One conversation of 100,000 messages: what a page and a whole search of it cost.
func BenchmarkALongConversation(b *testing.B) {
	h := newHouse(b, sqltest.SQLite(b, store.Migrations()), api.Limits{})
	p := h.person(us, "+41790000001", "Ada", 1)
	c := h.talk(p, 5_000_000, nil)
	const many = 100_000
	for first := 0; first < many; first += 5000 {
		var rows [][]any
		for i := first; i < first+5000; i++ {
			id, order := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), int64(i+1)
			content, err := proto.Marshal(text("what one person says to another in a conversation that goes on for years"))
			if err != nil {
				b.Fatal(err)
			}
			part, err := seal.Seal(p.Subject, pb.Category_CATEGORY_CONTENT, seal.OriginContent(id, order), content)
			if err != nil {
				b.Fatal(err)
			}
			rows = append(rows, []any{id, us, c, connection, "inbound", p.ID, order, p.ID, p.KeyID, id, order, part.GetCiphertext()})
		}
		if err := h.db.Tx(context.Background(), func(tx *sqldb.Tx) error {
			return sqldb.InsertRows(context.Background(), tx, "messages", []string{"id", "workspace_id", "conversation_id", "connection_id", "direction",
				"author_subject", "order_us", "content_subject", "content_key", "content_id", "content_order", "ciphertext"}, rows, "", nil)
		}); err != nil {
			b.Fatal(err)
		}
	}
	for name, path := range map[string]string{
		"page":   "/v1/conversations/" + c + "/messages",
		"item":   "/v1/conversations/" + c,
		"list":   "/v1/conversations",
		"search": "/v1/messages/search?q=nowhere",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				h.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
