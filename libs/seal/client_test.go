package seal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"tributary.dev/libs/seal"
	"tributary.dev/libs/seal/sealtest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const ttl = 45 * time.Second

func id(value string) seal.Identity {
	return seal.Identity{Workspace: "w1", Kind: "phone", Value: value}
}

func acquire(t *testing.T, c *seal.Client, value string) seal.Subject {
	t.Helper()
	s, err := c.Acquire(t.Context(), []seal.Act{{Identity: id(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return s[0]
}

func sealed(t *testing.T, s seal.Subject) seal.Sealed {
	t.Helper()
	p, err := seal.Seal(s, pb.Category_CATEGORY_CONTENT, "content/m/1", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	return seal.Sealed{Workspace: s.Workspace, Part: p, Origin: "content/m/1"}
}

func open(t *testing.T, c *seal.Client, parts ...seal.Sealed) ([]seal.Opened, error) {
	t.Helper()
	return c.Open(t.Context(), pb.Purpose_PURPOSE_CONVERSATION, parts)
}

func TestAKeyIsNotUsedLaterThanItsTTLAfterTheRequestWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, reg := sealtest.New(t)
		slow := &slowRegistry{Registry: reg}
		c := seal.NewClient(slow, seal.Config{TTL: ttl, Timeout: 5 * time.Second}, nil)
		part := sealed(t, acquire(t, c, "+1"))

		slow.delay = 4 * time.Second // the answer takes this long, and is worth that much less
		if o, err := open(t, c, part); err != nil || o[0].Err != nil {
			t.Fatal(o, err)
		}
		reg.FailWith(errors.New("away"))
		slow.delay = 0
		for range 4 { // reading extends nothing
			time.Sleep(10 * time.Second)
			if o, err := open(t, c, part); err != nil || string(o[0].Plain) != "hello" {
				t.Fatal(o, err)
			}
		}
		time.Sleep(time.Second) // 4 + 40 + 1
		if _, err := open(t, c, part); !errors.Is(err, seal.ErrUnavailable) {
			t.Fatalf("a key was used after its TTL: %v", err)
		}
		if _, err := c.Acquire(t.Context(), []seal.Act{{Identity: id("+1")}}); !errors.Is(err, seal.ErrUnavailable) {
			t.Fatalf("an identity was used after its TTL: %v", err)
		}
	})
}

func TestAMachineThatSleptDoesNotStretchTheTTL(t *testing.T) {
	_, reg := sealtest.New(t)
	now := time.Now().Round(0)
	c := reg.Client(seal.Config{TTL: ttl, Now: func() time.Time { return now }})
	part := sealed(t, acquire(t, c, "+1"))
	if _, err := open(t, c, part); err != nil {
		t.Fatal(err)
	}
	reg.FailWith(errors.New("away"))
	now = now.Add(ttl)
	if _, err := open(t, c, part); !errors.Is(err, seal.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestAfterFreezeAndEvictionNothingOpens(t *testing.T) {
	c, reg := sealtest.New(t)
	a, b := acquire(t, c, "+1"), acquire(t, c, "+2")
	parts := []seal.Sealed{sealed(t, a), sealed(t, b)}
	if o, err := open(t, c, parts...); err != nil || o[0].Err != nil || o[1].Err != nil {
		t.Fatal(o, err)
	}
	reg.Freeze(a.ID)
	c.Evict(a.ID)
	o, err := open(t, c, parts...)
	if err != nil || !errors.Is(o[0].Err, seal.ErrGone) || o[0].Plain != nil {
		t.Fatalf("the frozen one: %v, %v", o[0], err)
	}
	if o[1].Err != nil {
		t.Fatalf("a bystander: %v", o[1].Err)
	}
	if again := acquire(t, c, "+1"); again.ID == a.ID {
		t.Error("who writes again is not new")
	}
}

func TestAnAnswerThatCrossedAnEvictionIsNotKept(t *testing.T) {
	c0, reg := sealtest.New(t)
	part := sealed(t, acquire(t, c0, "+1"))
	held := &heldRegistry{Registry: reg, arrived: make(chan struct{}), release: make(chan struct{})}
	c := seal.NewClient(held, seal.Config{}, nil)
	crossed := make(chan error, 1)
	go func() {
		_, err := c.Open(context.Background(), pb.Purpose_PURPOSE_CONVERSATION, []seal.Sealed{part})
		crossed <- err
	}()
	<-held.arrived // answered by the registry, not yet here
	reg.Freeze(part.Part.GetSubjectId())
	c.Evict(part.Part.GetSubjectId())

	asked := make(chan seal.Opened, 1)
	go func() { // who asks after the eviction is not given the answer from before
		o, err := c.Open(context.Background(), pb.Purpose_PURPOSE_CONVERSATION, []seal.Sealed{part})
		if err != nil {
			o = []seal.Opened{{Err: err}}
		}
		asked <- o[0]
	}()
	<-held.arrived
	close(held.release)
	if err := <-crossed; err != nil {
		t.Fatal(err)
	}
	if o := <-asked; !errors.Is(o.Err, seal.ErrGone) {
		t.Fatalf("asked after the eviction: %v", o)
	}
	if o, err := open(t, c, part); err != nil || !errors.Is(o[0].Err, seal.ErrGone) {
		t.Fatal(o, err)
	}
}

func TestRestrictedKeysServeStorageAlone(t *testing.T) {
	c, reg := sealtest.New(t)
	s := acquire(t, c, "+1")
	part := sealed(t, s)
	reg.Restrict(s.ID)
	c.Evict(s.ID)
	if o, err := open(t, c, part); err != nil || !errors.Is(o[0].Err, seal.ErrRestricted) {
		t.Fatal(o, err)
	}
	o, err := c.Open(t.Context(), pb.Purpose_PURPOSE_STORAGE, []seal.Sealed{part})
	if err != nil || o[0].Err != nil {
		t.Fatal(o, err)
	}
	if s := acquire(t, c, "+1"); s.State != pb.SubjectState_SUBJECT_STATE_RESTRICTED || s.Key == nil {
		t.Error("no key for storing")
	}
	reg.Unrestrict(s.ID)
	if o, err := open(t, c, part); err != nil || o[0].Err != nil { // a refusal is not cached
		t.Fatal(o, err)
	}
}

func TestAnotherWorkspacesKeyIsGone(t *testing.T) {
	c, _ := sealtest.New(t)
	s := acquire(t, c, "+1")
	for range 2 { // asked, then cached
		if _, err := open(t, c, sealed(t, s)); err != nil {
			t.Fatal(err)
		}
		_, errs, err := c.Keys(t.Context(), "w2", pb.Purpose_PURPOSE_CONVERSATION, []string{s.KeyID, "", "\xff"})
		if err != nil || !errors.Is(errs[s.KeyID], seal.ErrGone) || !errors.Is(errs[""], seal.ErrGone) || !errors.Is(errs["\xff"], seal.ErrGone) {
			t.Fatal(errs, err)
		}
	}
	foreign := sealed(t, s)
	foreign.Workspace = "w2"
	o, err := open(t, c, sealed(t, s), foreign)
	if err != nil || o[0].Err != nil || !errors.Is(o[1].Err, seal.ErrGone) {
		t.Fatal(o, err)
	}
}

func TestTheErasedListIsAskedWheneverTheCacheCantKnow(t *testing.T) {
	c, reg := sealtest.New(t)
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	reg.SetNow(func() time.Time { return at(10) })
	act := func(s int) seal.Subject {
		t.Helper()
		got, err := c.Acquire(t.Context(), []seal.Act{{Identity: id("+1"), At: at(s)}})
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	old := act(1)
	reg.Freeze(old.ID) // at 10
	c.Evict(old.ID)
	again := act(20)
	if again.ID == old.ID || again.State != pb.SubjectState_SUBJECT_STATE_ACTIVE {
		t.Fatal("who writes again is not new")
	}
	if s := act(5); s.State != pb.SubjectState_SUBJECT_STATE_ERASED || s.Key != nil {
		t.Fatalf("an act from before the erasure: %v", s.State)
	}
	asked := reg.Calls("Acquire")
	if act(15).ID != again.ID || reg.Calls("Acquire") != asked+1 {
		t.Error("an act between the erasure and the cached one was not asked for")
	}
	if act(15).ID != again.ID || act(16).ID != again.ID || act(30).ID != again.ID || reg.Calls("Acquire") != asked+1 {
		t.Error("an act after the cached one was asked for")
	}
}

func TestCachedAsksNobody(t *testing.T) {
	c, reg := sealtest.New(t)
	at := time.Now()
	known := seal.Act{Identity: id("+1"), At: at}
	if _, ok := c.Cached([]seal.Act{known}); ok {
		t.Error("somebody is known who was not asked about")
	}
	want := acquire(t, c, "+1")
	later := seal.Act{Identity: id("+1"), At: at.Add(time.Hour)}
	if _, ok := c.Cached([]seal.Act{later}); ok {
		t.Error("the erased list was not asked")
	}
	if _, err := c.Acquire(t.Context(), []seal.Act{known}); err != nil {
		t.Fatal(err)
	}
	calls := reg.Calls("Acquire")
	if s, ok := c.Cached([]seal.Act{known, later}); !ok || s[0].ID != want.ID || s[1].ID != want.ID {
		t.Error("who is known is not", s, ok)
	}
	if _, ok := c.Cached([]seal.Act{known, {Identity: id("+2")}}); ok {
		t.Error("one of two is not known")
	}
	if reg.Calls("Acquire") != calls {
		t.Error("the registry was asked")
	}
	c.Evict(want.ID)
	if _, ok := c.Cached([]seal.Act{known}); ok {
		t.Error("known after an eviction")
	}
}

func TestFindMakesNoSubject(t *testing.T) {
	c, reg := sealtest.New(t)
	for range 2 {
		s, err := c.Find(t.Context(), []seal.Identity{id("+1")})
		if err != nil || s[0].State != pb.SubjectState_SUBJECT_STATE_NONE {
			t.Fatal(s, err)
		}
	}
	if reg.Subjects() != 0 || reg.Calls("Find") != 2 {
		t.Error("a subject was made, or its absence cached")
	}
	made := acquire(t, c, "+1")
	if s, err := c.Find(t.Context(), []seal.Identity{id("+1")}); err != nil || s[0].ID != made.ID {
		t.Fatal(s, err)
	}
}

func TestCallersThatAskAtOnceShareCallsAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, reg := sealtest.New(t)
		held := &heldRegistry{Registry: reg, arrived: make(chan struct{}, 1000), release: make(chan struct{})}
		c := seal.NewClient(held, seal.Config{}, nil)
		const callers = 200
		var wg sync.WaitGroup
		var mu sync.Mutex
		subjects := map[string]int{}
		for i := range callers {
			wg.Go(func() {
				s, err := c.Acquire(context.Background(), []seal.Act{{Identity: id(fmt.Sprint("+", i%20))}, {Identity: id("+all")}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				subjects[s[0].ID]++
				subjects[s[1].ID]++
			})
		}
		synctest.Wait() // all have asked
		close(held.release)
		wg.Wait()
		if len(subjects) != 21 {
			t.Errorf("%d subjects", len(subjects))
		}
		if n := reg.Calls("Acquire"); n > 5 {
			t.Errorf("%d calls for %d callers", n, callers)
		}
	})
}

func TestOneCallersFaultFailsNobodyElse(t *testing.T) {
	c, reg := sealtest.New(t)
	for _, bad := range []seal.Identity{
		{}, {Workspace: "w", Kind: "k"}, {Workspace: "w", Kind: "k", Value: "\xff"}, {Workspace: "w", Kind: "k", Value: "a\x00b"},
		{Workspace: "w", Kind: "k", Value: string(make([]byte, 2000))},
	} {
		if _, err := c.Acquire(t.Context(), []seal.Act{{Identity: bad}}); !errors.Is(err, seal.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
		if _, err := c.Find(t.Context(), []seal.Identity{bad}); !errors.Is(err, seal.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if reg.Calls("Acquire")+reg.Calls("Find") != 0 {
		t.Error("the registry was asked")
	}
}

func TestACallerLeavesByItsOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, reg := sealtest.New(t)
		c := seal.NewClient(&slowRegistry{Registry: reg, delay: time.Second}, seal.Config{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := c.Acquire(ctx, []seal.Act{{Identity: id("+1")}})
		if !errors.Is(err, seal.ErrUnavailable) || time.Since(start) != 400*time.Millisecond {
			t.Fatal(err, time.Since(start))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		acquire(t, c, "+1") // the call went on, and its answer is there
		if reg.Calls("Acquire") != 1 {
			t.Error("asked again")
		}
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	_, reg := sealtest.New(t)
	c := reg.Client(seal.Config{CacheSize: 10})
	for i := range 50 {
		acquire(t, c, fmt.Sprint("+", i))
	}
	before := reg.Calls("Acquire")
	for i := 49; i >= 40; i-- {
		acquire(t, c, fmt.Sprint("+", i))
	}
	if reg.Calls("Acquire") != before {
		t.Error("the newest were not kept")
	}
	acquire(t, c, "+0")
	if reg.Calls("Acquire") != before+1 {
		t.Error("more than the bound was kept")
	}
}

func TestEveryAnswerTellsTheRegistrysTime(t *testing.T) {
	_, reg := sealtest.New(t)
	want := time.Date(2031, 1, 2, 3, 4, 5, 6000, time.UTC)
	reg.SetNow(func() time.Time { return want })
	var told []time.Time
	c := reg.ClientWithClock(seal.Config{}, func(_, registry time.Time) { told = append(told, registry.UTC()) })
	acquire(t, c, "+1")
	if _, err := c.Find(t.Context(), []seal.Identity{id("+2")}); err != nil {
		t.Fatal(err)
	}
	if len(told) != 2 || !told[0].Equal(want) || !told[1].Equal(want) {
		t.Fatal(told)
	}
}

func TestSpoolEntriesOpenThroughTheRegistry(t *testing.T) {
	c, reg := sealtest.New(t)
	enc, sealedKey, body, err := seal.SealSpool(reg.SpoolKey(), []byte("entry"))
	if err != nil {
		t.Fatal(err)
	}
	items := make([]*pb.OpenSpoolRequest_Item, seal.MaxItems+5)
	for i := range items {
		items[i] = &pb.OpenSpoolRequest_Item{SpoolKeyId: reg.SpoolKey().GetId(), Enc: enc, SealedKey: sealedKey}
	}
	items[1] = &pb.OpenSpoolRequest_Item{SpoolKeyId: "gone", Enc: enc, SealedKey: sealedKey}
	got, err := c.OpenSpool(t.Context(), items)
	if err != nil || len(got) != len(items) || !got[1].GetLost() {
		t.Fatal(len(got), err)
	}
	if plain, err := seal.OpenSpoolEntry(got[len(got)-1].GetKey(), body); err != nil || string(plain) != "entry" {
		t.Fatal(string(plain), err)
	}
}

// slowRegistry answers after delay.
type slowRegistry struct {
	*sealtest.Registry
	delay time.Duration
}

func (r *slowRegistry) wait(ctx context.Context) error {
	select {
	case <-time.After(r.delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *slowRegistry) Acquire(ctx context.Context, in *pb.AcquireRequest, o ...grpc.CallOption) (*pb.AcquireResponse, error) {
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	return r.Registry.Acquire(ctx, in, o...)
}

func (r *slowRegistry) Unwrap(ctx context.Context, in *pb.UnwrapRequest, o ...grpc.CallOption) (*pb.UnwrapResponse, error) {
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	return r.Registry.Unwrap(ctx, in, o...)
}

// heldRegistry has answered, says so, and lets the answer go when released.
type heldRegistry struct {
	*sealtest.Registry
	arrived, release chan struct{}
}

func (r *heldRegistry) Acquire(ctx context.Context, in *pb.AcquireRequest, o ...grpc.CallOption) (*pb.AcquireResponse, error) {
	out, err := r.Registry.Acquire(ctx, in, o...)
	r.arrived <- struct{}{}
	<-r.release
	return out, err
}

func (r *heldRegistry) Unwrap(ctx context.Context, in *pb.UnwrapRequest, o ...grpc.CallOption) (*pb.UnwrapResponse, error) {
	out, err := r.Registry.Unwrap(ctx, in, o...)
	select {
	case r.arrived <- struct{}{}:
		<-r.release
	case <-r.release:
	}
	return out, err
}

func TestWhoIsInUseIsAskedAboutBeforeTheyAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, reg := sealtest.New(t)
		c := reg.Client(seal.Config{TTL: ttl})
		var acts []seal.Act
		for n := range 20 {
			acts = append(acts, seal.Act{Identity: id(fmt.Sprintf("+%d", n)), At: time.Now()})
		}
		subjects, err := c.Acquire(t.Context(), acts)
		if err != nil {
			t.Fatal(err)
		}
		part := sealed(t, subjects[0])
		if o, err := open(t, c, part); err != nil || o[0].Err != nil {
			t.Fatal(o, err)
		}
		time.Sleep(20 * time.Second)
		c.Cached(acts) // soon enough: nobody is asked
		time.Sleep(11 * time.Second)
		for range 3 {
			if _, ok := c.Cached(acts[:19]); !ok {
				t.Fatal("forgotten early")
			}
			if o, err := open(t, c, part); err != nil || o[0].Err != nil {
				t.Fatal(o, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(19 * time.Second) // 50 s
		if _, ok := c.Cached(acts[:19]); !ok {
			t.Error("who is in use was forgotten")
		}
		if _, ok := c.Cached(acts[19:]); ok {
			t.Error("who was not looked for is remembered beyond the TTL")
		}
		if o, err := open(t, c, part); err != nil || o[0].Err != nil {
			t.Error(o, err)
		}
		if a, f, u := reg.Calls("Acquire"), reg.Calls("Find"), reg.Calls("Unwrap"); a != 2 || f != 0 || u != 2 {
			t.Errorf("%d calls of Acquire, %d of Find, %d of Unwrap", a, f, u)
		}
	})
}

func TestWhoIsAskedAboutAheadAndFrozenIsNotOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, reg := sealtest.New(t)
		c := reg.Client(seal.Config{TTL: ttl})
		s := acquire(t, c, "+1")
		part := sealed(t, s)
		if o, err := open(t, c, part); err != nil || o[0].Err != nil {
			t.Fatal(o, err)
		}
		reg.Freeze(s.ID)
		time.Sleep(31 * time.Second)
		c.Cached([]seal.Act{{Identity: id("+1")}})
		if o, err := open(t, c, part); err != nil || o[0].Err != nil { // within the TTL
			t.Fatal(o, err)
		}
		time.Sleep(time.Second)
		if o, err := open(t, c, part); err != nil || !errors.Is(o[0].Err, seal.ErrGone) {
			t.Error(o, err)
		}
		time.Sleep(13 * time.Second) // 45 s
		if _, ok := c.Cached([]seal.Act{{Identity: id("+1")}}); ok {
			t.Error("a frozen person's key is kept beyond its TTL")
		}
	})
}
