// Package sealtest is a key registry in memory for the tests of other packages: the cryptography is the
// real one, the states and the erased list behave as the registry's, the failures are the test's to choose.
package sealtest

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// New makes a registry and a client of it. The client caches for the usual TTL: Freeze and Destroy are
// seen after Client.Evict, as in the mesh.
func New(t testing.TB) (*seal.Client, *Registry) {
	t.Helper()
	private, public, err := seal.NewSpoolKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{
		now:        time.Now,
		identities: map[identity]string{}, subjects: map[string]*subject{}, byKey: map[string]*subject{},
		erased: map[identity]time.Time{}, calls: map[string]int{},
		spoolPrivate: private,
		spoolKey:     &pb.SpoolKey{Id: uuid.NewString(), PublicKey: public, NotBeforeUs: time.Now().UnixMicro()},
	}
	return r.Client(seal.Config{}), r
}

// Registry is a key registry in memory. Safe for concurrent use. It is a pb.KeyRegistryClient.
type Registry struct {
	mu           sync.Mutex
	now          func() time.Time
	fail         error
	identities   map[identity]string // to subject id
	subjects     map[string]*subject
	byKey        map[string]*subject
	erased       map[identity]time.Time
	calls        map[string]int
	spoolKey     *pb.SpoolKey
	spoolPrivate []byte // nil once lost
}

var _ pb.KeyRegistryClient = (*Registry)(nil)

type identity struct{ workspace, kind, value string }

type subject struct {
	id, keyID, workspace string
	key                  []byte
	state                pb.SubjectState
	identity             identity
}

// Client makes a further client of the registry, with a cache of its own.
func (r *Registry) Client(cfg seal.Config) *seal.Client {
	return r.ClientWithClock(cfg, nil)
}

// ClientWithClock makes a client that tells onTime (clock.Clock's Observe) of the registry's time.
func (r *Registry) ClientWithClock(cfg seal.Config, onTime func(sent, registry time.Time)) *seal.Client {
	return seal.NewClient(r, cfg, onTime)
}

// SetNow sets the registry's time.
func (r *Registry) SetNow(now func() time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

// FailWith makes every call fail with err; nil ends that.
func (r *Registry) FailWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// Freeze freezes subjects, detaches their identities and lists them as erased now.
func (r *Registry) Freeze(subjectIDs ...string) {
	r.each(subjectIDs, func(s *subject) {
		if s.state == pb.SubjectState_SUBJECT_STATE_DESTROYED || s.state == pb.SubjectState_SUBJECT_STATE_FROZEN {
			return
		}
		s.state = pb.SubjectState_SUBJECT_STATE_FROZEN
		delete(r.identities, s.identity)
		r.erased[s.identity] = r.now()
	})
}

// Destroy destroys the subjects' keys.
func (r *Registry) Destroy(subjectIDs ...string) {
	r.Freeze(subjectIDs...)
	r.each(subjectIDs, func(s *subject) { s.state, s.key = pb.SubjectState_SUBJECT_STATE_DESTROYED, nil })
}

// Restrict lets the subjects' keys be had for storage and legal alone.
func (r *Registry) Restrict(subjectIDs ...string) {
	r.each(subjectIDs, func(s *subject) { s.state = pb.SubjectState_SUBJECT_STATE_RESTRICTED })
}

// Unrestrict ends Restrict.
func (r *Registry) Unrestrict(subjectIDs ...string) {
	r.each(subjectIDs, func(s *subject) { s.state = pb.SubjectState_SUBJECT_STATE_ACTIVE })
}

// SpoolKey is the public half of the spool key of the day.
func (r *Registry) SpoolKey() *pb.SpoolKey { return proto.CloneOf(r.spoolKey) }

// LoseSpoolKey destroys its private half: spool entries answer as lost.
func (r *Registry) LoseSpoolKey() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spoolPrivate = nil
}

// Subjects is the number of subjects ever made.
func (r *Registry) Subjects() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subjects)
}

// Calls is how often a method ("Acquire", "Find", "Unwrap", "OpenSpool") was called.
func (r *Registry) Calls(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[method]
}

func (r *Registry) each(subjectIDs []string, f func(*subject)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range subjectIDs {
		if s := r.subjects[id]; s != nil {
			f(s)
		}
	}
}

// Acquire implements pb.KeyRegistryClient.
func (r *Registry) Acquire(ctx context.Context, in *pb.AcquireRequest, _ ...grpc.CallOption) (*pb.AcquireResponse, error) {
	out := &pb.AcquireResponse{}
	err := r.call(ctx, "Acquire", func() {
		out.NowUs = r.now().UnixMicro()
		for _, item := range in.GetItems() {
			out.Subjects = append(out.Subjects, r.acquire(key(item.GetIdentity()), item.GetActedAtUs()))
		}
	})
	return out, err
}

func (r *Registry) acquire(id identity, actedAt int64) *pb.SubjectKey {
	if at, ok := r.erased[id]; ok && actedAt != 0 && actedAt <= at.UnixMicro() {
		return &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_ERASED, WorkspaceId: id.workspace}
	}
	if s, ok := r.subjects[r.identities[id]]; ok {
		return s.proto()
	}
	s := &subject{
		id: uuid.NewString(), keyID: uuid.NewString(), workspace: id.workspace, key: make([]byte, seal.KeySize),
		state: pb.SubjectState_SUBJECT_STATE_ACTIVE, identity: id,
	}
	rand.Read(s.key)
	r.identities[id], r.subjects[s.id], r.byKey[s.keyID] = s.id, s, s
	return s.proto()
}

// Find implements pb.KeyRegistryClient.
func (r *Registry) Find(ctx context.Context, in *pb.FindRequest, _ ...grpc.CallOption) (*pb.FindResponse, error) {
	out := &pb.FindResponse{}
	err := r.call(ctx, "Find", func() {
		out.NowUs = r.now().UnixMicro()
		for _, id := range in.GetIdentities() {
			found := &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_NONE, WorkspaceId: id.GetWorkspaceId()}
			if s, ok := r.subjects[r.identities[key(id)]]; ok {
				found = s.proto()
			}
			out.Subjects = append(out.Subjects, found)
		}
	})
	return out, err
}

// Unwrap implements pb.KeyRegistryClient.
func (r *Registry) Unwrap(ctx context.Context, in *pb.UnwrapRequest, _ ...grpc.CallOption) (*pb.UnwrapResponse, error) {
	out := &pb.UnwrapResponse{}
	err := r.call(ctx, "Unwrap", func() {
		out.NowUs = r.now().UnixMicro()
		for _, id := range in.GetKeyIds() {
			out.Subjects = append(out.Subjects, r.unwrap(id, in.GetWorkspaceId(), in.GetPurpose()))
		}
	})
	return out, err
}

func (r *Registry) unwrap(keyID, workspace string, purpose pb.Purpose) *pb.SubjectKey {
	s := r.byKey[keyID]
	if s == nil || workspace != "" && workspace != s.workspace {
		return &pb.SubjectKey{State: pb.SubjectState_SUBJECT_STATE_NONE, KeyId: keyID}
	}
	k := s.proto()
	storing := purpose == pb.Purpose_PURPOSE_STORAGE || purpose == pb.Purpose_PURPOSE_LEGAL
	if s.state == pb.SubjectState_SUBJECT_STATE_RESTRICTED && !storing {
		k.Key = nil
	}
	return k
}

// OpenSpool implements pb.KeyRegistryClient.
func (r *Registry) OpenSpool(ctx context.Context, in *pb.OpenSpoolRequest, _ ...grpc.CallOption) (*pb.OpenSpoolResponse, error) {
	out := &pb.OpenSpoolResponse{}
	err := r.call(ctx, "OpenSpool", func() {
		out.NowUs = r.now().UnixMicro()
		for _, item := range in.GetItems() {
			answer := &pb.OpenSpoolResponse_Item{Lost: true}
			if item.GetSpoolKeyId() == r.spoolKey.GetId() && r.spoolPrivate != nil {
				if k, err := seal.OpenSpoolKey(r.spoolPrivate, r.spoolKey.GetId(), item.GetEnc(), item.GetSealedKey()); err == nil {
					answer = &pb.OpenSpoolResponse_Item{Key: k}
				}
			}
			out.Items = append(out.Items, answer)
		}
	})
	return out, err
}

func (r *Registry) call(ctx context.Context, method string, f func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[method]++
	if r.fail != nil {
		return r.fail
	}
	f()
	return nil
}

// proto gives the key as long as the state lets it.
func (s *subject) proto() *pb.SubjectKey {
	k := &pb.SubjectKey{State: s.state, SubjectId: s.id, KeyId: s.keyID, WorkspaceId: s.workspace}
	switch s.state {
	case pb.SubjectState_SUBJECT_STATE_ACTIVE, pb.SubjectState_SUBJECT_STATE_RESTRICTED:
		k.Key = append([]byte(nil), s.key...)
	}
	return k
}

func key(id *pb.Identity) identity {
	return identity{id.GetWorkspaceId(), id.GetKind(), id.GetValue()}
}

// Now implements pb.KeyRegistryClient.
func (r *Registry) Now(ctx context.Context, _ *pb.NowRequest, _ ...grpc.CallOption) (*pb.NowResponse, error) {
	out := &pb.NowResponse{}
	err := r.call(ctx, "Now", func() { out.NowUs = r.now().UnixMicro() })
	return out, err
}
