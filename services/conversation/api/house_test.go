package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/endpointx/openapitest"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/api"
	"tributary.dev/services/conversation/api/apitest"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/sending"
	"tributary.dev/services/conversation/store"
)

// house is an API on a database of its own, with people in it.
type house struct {
	testing.TB
	db       *sqldb.DB
	keys     *seal.Client
	registry *sealtest.Registry
	api      *api.API
	bucket   *blob.Bucket
	relay    *relay.Relay
	logs     *buffer
	tel      *telemetry.Telemetry
	doc      *openapi3.T
	patterns *http.ServeMux
	h        http.Handler

	mu  sync.Mutex
	now time.Time
}

const (
	us         = "workspace-a"
	others     = "workspace-b"
	connection = "11111111-1111-4111-8111-111111111111"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func each(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	sqltest.Each(t, store.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, newHouse(t, db, api.Limits{})) })
}

func newHouse(t testing.TB, db *sqldb.DB, limits api.Limits) *house {
	t.Helper()
	h := &house{TB: t, db: db, now: start, bucket: memblob.OpenBucket(nil), logs: &buffer{}, doc: document(t), patterns: http.NewServeMux()}
	h.keys, h.registry = sealtest.New(t)
	clk := &clock.Clock{Local: h.time}
	tel, err := telemetry.New(telemetry.Config{Service: "conversation", LogLevel: "debug", LogOutput: h.logs})
	if err != nil {
		t.Fatal(err)
	}
	h.tel = tel
	send, err := sending.New(db, h.keys, connections{}, clk, tel, sending.Config{}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	h.api, err = api.New(api.Config{
		DB: db, Seal: h.keys, Clock: clk, Sending: send, Bucket: media.NewBucket(h.bucket), Committed: func() {}, Limits: limits,
		Idempotency: endpointx.NewIdempotency(db, []byte("secret"), h.time),
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.relay, err = relay.New(db, nowhere{}, clk, tel, 0, "", h.api.Placed); err != nil {
		t.Fatal(err)
	}
	for _, r := range h.api.Routes() {
		h.patterns.Handle(r.Pattern, r.Handler)
	}
	h.as(apitest.Owner(us))
	t.Cleanup(func() {
		h.api.Close()
		_ = h.bucket.Close()
		_ = h.relay.Close()
	})
	return h
}

func document(t testing.TB) *openapi3.T {
	t.Helper()
	raw, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// connections are all active.
type connections struct{}

func (connections) Get(id string) (*pb.Connection, bool) {
	return &pb.Connection{Id: id, Status: pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE}, true
}

// nowhere acknowledges everything.
type nowhere struct{}

func (nowhere) PartitionFor(context.Context, string, string) (int, error) { return 0, nil }
func (nowhere) PublishPartitions(context.Context, string, map[int][]bus.Message) map[int]error {
	return nil
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (h *house) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// as makes the requests that follow those of a caller.
func (h *house) as(c access.Caller) {
	served := apitest.Handler(h.api.Routes(), c)
	h.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.ServeHTTP(w, r.WithContext(telemetry.With(r.Context(), h.tel)))
	})
}

// answer of a request.
type answer struct {
	*httptest.ResponseRecorder
	h *house
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// do makes a request, and holds its answer against the document.
func (h *house) do(method, path, body string, with ...func(*http.Request)) answer {
	h.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, in)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, f := range with {
		f(r)
	}
	w := httptest.NewRecorder()
	h.h.ServeHTTP(w, r)
	h.documented(r, w)
	return answer{w, h}
}

func (h *house) get(path string) answer {
	h.Helper()
	return h.do(http.MethodGet, path, "")
}

func (h *house) documented(r *http.Request, w *httptest.ResponseRecorder) {
	h.Helper()
	_, pattern := h.patterns.Handler(r)
	openapitest.Check(h, h.doc, pattern, r, w)
}

// is checks the status and gives the body, or fails.
func (a answer) is(status int) answer {
	a.h.Helper()
	if a.Code != status {
		a.h.Fatalf("answered %d, want %d: %s", a.Code, status, a.Body)
	}
	return a
}

// problem checks that the answer is one, and that it names the fields.
func (a answer) problem(status int, code string, fields ...string) {
	a.h.Helper()
	a.is(status)
	var p struct {
		Code   string            `json:"code"`
		Fields map[string]string `json:"fields"`
	}
	a.read(&p)
	if a.Header().Get("Content-Type") != "application/problem+json" || p.Code != code {
		a.h.Fatalf("got %s %s", a.Header().Get("Content-Type"), a.Body)
	}
	got := slices.Sorted(maps.Keys(p.Fields))
	slices.Sort(fields)
	if !slices.Equal(got, fields) {
		a.h.Fatalf("names %v, want %v", got, fields)
	}
}

func (a answer) read(into any) {
	a.h.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), into); err != nil {
		a.h.Fatal(err)
	}
}

func read[T any](a answer) (v T) {
	a.h.Helper()
	a.is(http.StatusOK).read(&v)
	return v
}

type page[T any] struct {
	Items      []T
	NextCursor string `json:"next_cursor"`
	Complete   bool
	Scanned    int
}

func (h *house) exec(query string, args ...any) {
	h.Helper()
	if err := h.db.Tx(context.Background(), func(tx *sqldb.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	}); err != nil {
		h.Fatal(err)
	}
}

func (h *house) insert(table string, row map[string]any) {
	h.Helper()
	columns := slices.Sorted(maps.Keys(row))
	var marks []string
	var args []any
	for i, c := range columns {
		marks = append(marks, fmt.Sprintf("$%d", i+1))
		args = append(args, row[c])
	}
	h.exec("INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(marks, ", ")+")", args...)
}

func (h *house) seal(s seal.Subject, category pb.Category, origin seal.Origin, m proto.Message) []byte {
	h.Helper()
	plain, err := proto.Marshal(m)
	if err != nil {
		h.Fatal(err)
	}
	part, err := seal.Seal(s, category, origin, plain)
	if err != nil {
		h.Fatal(err)
	}
	return part.GetCiphertext()
}

type human struct {
	seal.Subject
	contact, conversation string
}

// person makes a contact with a phone number and, where given, a name.
func (h *house) person(workspace, number, name string, created int64) human {
	h.Helper()
	subjects, err := h.keys.Acquire(context.Background(), []seal.Act{{Identity: seal.Identity{Workspace: workspace, Kind: "phone", Value: number}}})
	if err != nil {
		h.Fatal(err)
	}
	p := human{Subject: subjects[0], contact: uuid.NewString(), conversation: uuid.NewString()}
	h.insert("subjects", map[string]any{"id": p.ID, "workspace_id": workspace, "key_id": p.KeyID})
	h.insert("contacts", map[string]any{"id": p.contact, "workspace_id": workspace, "subject_id": p.ID, "created_us": created})
	profile := func(m *pb.Profile) []byte {
		return h.seal(p.Subject, pb.Category_CATEGORY_PROFILE, seal.OriginProfile(p.ID), m)
	}
	h.insert("identities", map[string]any{"subject_id": p.ID, "workspace_id": workspace, "contact_id": p.contact, "channel": "sms",
		"connection_id": connection, "kind": "phone", "key_id": p.KeyID, "order_us": created, "event_id": "e",
		"ciphertext": profile(&pb.Profile{IdentityKind: "phone", IdentityValue: number})})
	if name != "" {
		h.insert("profiles", map[string]any{"subject_id": p.ID, "event_id": "old", "workspace_id": workspace, "order_us": 1, "key_id": p.KeyID,
			"ciphertext": profile(&pb.Profile{Name: "formerly " + name})})
		h.insert("profiles", map[string]any{"subject_id": p.ID, "event_id": "new", "workspace_id": workspace, "order_us": 2, "key_id": p.KeyID,
			"ciphertext": profile(&pb.Profile{Name: name, Locale: "de-CH"})})
	}
	return p
}

// talk makes the person's conversation.
func (h *house) talk(p human, last int64, more map[string]any) string {
	h.Helper()
	row := map[string]any{"id": p.conversation, "workspace_id": p.Workspace, "channel": "sms", "connection_id": connection,
		"contact_id": p.contact, "contact_subject": p.ID, "first_us": 1_000_000, "last_us": last, "last_inbound_us": last}
	maps.Copy(row, more)
	h.insert("conversations", row)
	return p.conversation
}

// group makes a conversation of several.
func (h *house) group(workspace string, last int64) string {
	h.Helper()
	id := uuid.NewString()
	h.insert("conversations", map[string]any{"id": id, "workspace_id": workspace, "channel": "slack", "connection_id": connection, "is_group": 1,
		"first_us": 1_000_000, "last_us": last, "last_inbound_us": last})
	return id
}

// says makes an inbound message and gives its id.
func (h *house) says(p human, conversation string, order int64, c *pb.Content, more map[string]any) string {
	h.Helper()
	id := uuid.NewString()
	row := map[string]any{"id": id, "workspace_id": p.Workspace, "conversation_id": conversation, "connection_id": connection,
		"direction": "inbound", "author_subject": p.ID, "order_us": order, "external_id": "x-" + id,
		"content_subject": p.ID, "content_key": p.KeyID, "content_id": id, "content_order": order,
		"ciphertext": h.seal(p.Subject, pb.Category_CATEGORY_CONTENT, seal.OriginContent(id, order), c)}
	maps.Copy(row, more)
	h.insert("messages", row)
	h.insert("external_refs", map[string]any{"connection_id": connection, "external_id": "x-" + id, "message_id": id, "at_us": order})
	return id
}

func text(s string) *pb.Content { return &pb.Content{Text: s} }
