package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/conversation/relay"
	"tributary.dev/services/conversation/sending"
)

// Sending posts messages and tries them again; *sending.Sending does.
type Sending interface {
	Draft(ctx context.Context, workspace, conversation string) (*sending.Draft, error)
	Compose(ctx context.Context, d *sending.Draft, m sending.Message) error
	Post(ctx context.Context, tx *sqldb.Tx, d *sending.Draft) error
	Retry(ctx context.Context, workspace, message string) error
}

// Config of an API. What is zero below Limits takes its default.
type Config struct {
	DB          *sqldb.DB
	Seal        *seal.Client
	Clock       *clock.Clock
	Sending     Sending
	Idempotency *endpointx.Idempotency
	// Bucket holds attachments, sealed.
	Bucket *media.Bucket
	// Committed wakes the relay after a commit that wrote to the outbox.
	Committed func()

	Limits
}

// Limits of an API.
type Limits struct {
	// UploadBytes is the largest attachment taken; 0 is 25 MiB.
	UploadBytes int64
	// SearchTime is how long one search looks before it answers with what it has; 0 is 5 s.
	SearchTime time.Duration
	// SearchMost messages are looked through by one search, over all its pages; 0 is 100,000.
	SearchMost int
	// Streams that may be open at once, in all and of one workspace; 0 is 512 and 64.
	Streams, WorkspaceStreams int
	// StreamPoll is how often a stream looks without being woken; 0 is 1 s.
	StreamPoll time.Duration
	// StreamBeat is how long a stream is silent at most; 0 is 15 s.
	StreamBeat time.Duration
	// StreamWrite is how long a client may take to accept what is written; 0 is 10 s.
	StreamWrite time.Duration
	// StreamLife ends a stream, so that its key is checked again; 0 is 15 minutes.
	StreamLife time.Duration
}

func (l Limits) withDefaults() Limits {
	standard := Limits{
		UploadBytes: 25 << 20,
		SearchTime:  5 * time.Second,
		SearchMost:  100_000,
		Streams:     512, WorkspaceStreams: 64,
		StreamPoll:  time.Second,
		StreamBeat:  15 * time.Second,
		StreamWrite: 10 * time.Second,
		StreamLife:  15 * time.Minute,
	}
	return Limits{
		UploadBytes: or(l.UploadBytes, standard.UploadBytes),
		SearchTime:  or(l.SearchTime, standard.SearchTime),
		SearchMost:  or(l.SearchMost, standard.SearchMost),
		Streams:     or(l.Streams, standard.Streams), WorkspaceStreams: or(l.WorkspaceStreams, standard.WorkspaceStreams),
		StreamPoll:  or(l.StreamPoll, standard.StreamPoll),
		StreamBeat:  or(l.StreamBeat, standard.StreamBeat),
		StreamWrite: or(l.StreamWrite, standard.StreamWrite),
		StreamLife:  or(l.StreamLife, standard.StreamLife),
	}
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// API is safe for concurrent use, also by several processes on one database.
type API struct {
	Config
	streams *streams
}

// New makes an API. Close ends its streams.
func New(cfg Config) (*API, error) {
	if cfg.DB == nil || cfg.Seal == nil || cfg.Clock == nil || cfg.Sending == nil || cfg.Bucket == nil || cfg.Committed == nil {
		return nil, errors.New("api: DB, Seal, Clock, Sending, Bucket and Committed are needed")
	}
	cfg.Limits = cfg.withDefaults()
	return &API{Config: cfg, streams: newStreams()}, nil
}

// Routes are what the API serves; all need an API key.
func (a *API) Routes() []app.Route {
	reads := endpointx.Options{Scope: access.ConversationsRead}
	writes := endpointx.Options{Scope: access.ConversationsWrite}
	marks := endpointx.Options{Scope: access.ConversationsWrite, EmptyBody: true}
	contacts := endpointx.Options{Scope: access.ContactsRead}
	search := endpointx.Options{Scope: access.ConversationsRead, Timeout: a.SearchTime + 20*time.Second, Rate: 20}
	posts := endpointx.Options{Scope: access.ConversationsWrite, Status: http.StatusCreated, Idempotency: a.Idempotency}
	return []app.Route{
		{Pattern: "GET /v1/conversations", Handler: endpointx.JSON(reads, a.listConversations)},
		{Pattern: "GET /v1/conversations/{id}", Handler: endpointx.JSON(reads, a.getConversation)},
		{Pattern: "PATCH /v1/conversations/{id}", Handler: endpointx.JSON(writes, a.updateConversation)},
		{Pattern: "POST /v1/conversations/{id}/read", Handler: endpointx.JSON(marks, a.readConversation)},
		{Pattern: "GET /v1/conversations/{id}/messages", Handler: endpointx.JSON(reads, a.listMessages)},
		{Pattern: "POST /v1/conversations/{id}/messages", Handler: endpointx.JSON(posts, a.postMessage)},
		{Pattern: "POST /v1/conversations/{id}/attachments", Handler: http.HandlerFunc(a.uploadAttachment)},
		{Pattern: "GET /v1/attachments/{id}/content", Handler: http.HandlerFunc(a.downloadAttachment)},
		{Pattern: "GET /v1/messages/search", Handler: endpointx.JSON(search, a.searchMessages)},
		{Pattern: "GET /v1/messages/{id}", Handler: endpointx.JSON(reads, a.getMessage)},
		{Pattern: "POST /v1/messages/{id}/retry", Handler: endpointx.JSON(writes, a.retryMessage)},
		{Pattern: "POST /v1/letters/open", Handler: endpointx.JSON(endpointx.Options{Scope: access.LettersOpen, MaxBody: 2 << 20}, a.openLetter)},
		{Pattern: "GET /v1/contacts", Handler: endpointx.JSON(contacts, a.listContacts)},
		{Pattern: "GET /v1/contacts/{id}", Handler: endpointx.JSON(contacts, a.getContact)},
		{Pattern: "GET /v1/contacts/{id}/orders", Handler: endpointx.JSON(contacts, a.listOrders)},
		{Pattern: "GET /v1/events", Handler: http.HandlerFunc(a.streamEvents), Stream: true},
	}
}

// Placed makes the streams tell at once of what the relay of this process has placed.
func (a *API) Placed(page relay.Page) { a.streams.placed(page) }

// Published makes the streams look at once where a record of the topic of conversations is not of what Placed told of:
// another process's relay has placed it.
func (a *API) Published(value []byte) {
	e := &pb.ConversationEvent{}
	if err := proto.Unmarshal(value, e); err != nil || !a.streams.knows(e.GetPosition()) {
		a.streams.wake()
	}
}

// Close ends the streams: their clients come back, to another process or later.
func (a *API) Close() { a.streams.close() }

func traceparent(ctx context.Context) string {
	for _, h := range telemetry.Inject(ctx, []bus.Header{}) {
		if h.Key == "traceparent" {
			return string(h.Value)
		}
	}
	return ""
}
