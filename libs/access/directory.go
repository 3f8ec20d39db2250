package access

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/endpointx/problem"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Topic is the descriptor of the access topic: every service that checks keys ensures the same.
func Topic() bus.Topic {
	return bus.Topic{Name: "access", Partitions: 1, Compacted: true, MaxCompactionLag: time.Hour, Segment: time.Hour}
}

// Directory checks keys against the access Table. Safe for concurrent use.
type Directory struct {
	keys    *bus.Table[*pb.AccessKey]
	now     func() time.Time
	confirm confirmer
}

// NewDirectory makes one; Run keeps it. now is the clock that keys expire by.
func NewDirectory(b *bus.Bus, now func() time.Time) *Directory {
	keys := bus.NewTable(b, bus.TableConfig[*pb.AccessKey]{Topic: Topic().Name, Decode: decode})
	//bound:limit questions whether the list of keys is current, at once | {} | the others wait, and share the answer
	return &Directory{keys: keys, now: now, confirm: confirmer{ask: keys.Confirm, turn: make(chan struct{}, 1)}}
}

// Run keeps the table until ctx ends.
func (d *Directory) Run(ctx context.Context) error { return d.keys.Run(ctx) }

// Ready as bus.Table's.
func (d *Directory) Ready() bool { return d.keys.Ready() }

// Middleware authenticates (401 problem+json) and puts the Caller into the context.
func (d *Directory) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := d.Authenticate(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			problem.Write(r.Context(), w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(With(r.Context(), c)))
	})
}

// Authenticate gives the caller that an Authorization header names. The error is a Problem: 401, or 503
// where the key is not known and the Table can't be confirmed current.
func (d *Directory) Authenticate(ctx context.Context, authorization string) (Caller, error) {
	scheme, text, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		return Caller{}, problem.Unauthorised("send an API key: Authorization: Bearer trb_…")
	}
	id, secret, ok := Parse(strings.TrimSpace(text))
	if !ok {
		return Caller{}, refused()
	}
	if !d.keys.Ready() {
		return Caller{}, problem.Unavailable("the list of API keys")
	}
	key, known := d.keys.Get(id)
	if !known {
		if err := d.confirm.since(ctx, time.Now()); err != nil {
			return Caller{}, problem.Unavailable("the list of API keys")
		}
		key, known = d.keys.Get(id)
	}
	if !known || !d.valid(key, secret) {
		return Caller{}, refused()
	}
	return Caller{
		KeyID: key.GetId(), WorkspaceID: key.GetWorkspaceId(), Role: key.GetRole(), MemberID: key.GetMemberId(),
		Operator: key.GetOperator(),
		Scopes:   EffectiveScopes(key.GetRole(), key.GetScopes(), key.GetOperator()),
	}, nil
}

func (d *Directory) valid(key *pb.AccessKey, secret string) bool {
	same := subtle.ConstantTimeCompare(Hash(secret), key.GetHash()) == 1
	expired := key.GetExpiresAtUs() != 0 && d.now().UnixMicro() >= key.GetExpiresAtUs()
	return same && !key.GetRevoked() && !expired
}

// refused says the same of every key that is not valid.
func refused() error {
	p := problem.Unauthorised("this API key is not known, was revoked, or has expired")
	p.Authenticate += `, error="invalid_token"`
	return p
}

func decode(value []byte) (*pb.AccessKey, error) {
	var k pb.AccessKey
	if err := proto.Unmarshal(value, &k); err != nil {
		return nil, err
	}
	return &k, nil
}
