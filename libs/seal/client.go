package seal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"math"
	"time"

	"go.opentelemetry.io/otel/metric"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// Identity is who acted, as a provider names them. Value is normalised by the channel and holds
// whatever it is unique in ("T012:U345", "+41791234567").
type Identity struct {
	Workspace string
	Kind      string
	Value     string
}

// Act is an identity and when it acted; At zero where the provider signs no time (then the erased list
// is not consulted).
type Act struct {
	Identity Identity
	At       time.Time
}

func (a Act) micros() int64 {
	if a.At.IsZero() {
		return 0
	}
	return a.At.UnixMicro()
}

// Config of a Client.
type Config struct {
	// Address of the registry (host:port) and the token of this service. For Dial.
	Address string
	Token   string
	// TLS of the connection; for Dial.
	TLS TLS
	// TTL bounds how long a plain key is used, counted from when the request was sent; 0 is 45 s.
	TTL time.Duration
	// Timeout of one call; 0 is 2 s. Callers may leave earlier by their context.
	Timeout time.Duration
	// CacheSize bounds the number of keys, and of identities, kept; 0 is 100,000.
	CacheSize int
	// Meter counts look-ups and calls; nil: nothing is counted.
	Meter metric.Meter
	// Now stands in for time.Now in tests.
	Now func() time.Time
}

// Client talks to the key registry, and keeps what it answered for at most the TTL. Safe for concurrent
// use.
type Client struct {
	reg    pb.KeyRegistryClient
	cfg    Config
	onTime func(sent, registry time.Time)
	meters meters
	closer io.Closer // the connection, where Dial made it

	hashKey    string // under which identities are cache keys
	identities *cache[identityHash]
	keys       *cache[keyPurpose]
	acquires   batcher[acquireQuestion, Subject]
	finds      batcher[findQuestion, Subject]
	unwraps    batcher[unwrapQuestion, Subject]
}

type identityHash [sha256.Size]byte

type keyPurpose struct {
	keyID   string
	purpose pb.Purpose
}

// Questions carry the cache's generation, so that nobody who asks after an eviction is given an answer
// that was asked for before.
type acquireQuestion struct {
	identity   Identity
	atMicros   int64
	generation uint64
}

type findQuestion struct {
	identity   Identity
	generation uint64
}

type unwrapQuestion struct {
	keyID      string
	purpose    pb.Purpose
	workspace  string
	generation uint64
}

const defaultCacheSize = 100_000

// NewClient makes a client on the registry's gRPC client. onTime (may be nil) is told of every answer:
// when it was asked for, and the registry's time in it. See Dial for a client of an address.
func NewClient(reg pb.KeyRegistryClient, cfg Config, onTime func(sent, registry time.Time)) *Client {
	if cfg.TTL <= 0 {
		cfg.TTL = 45 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = defaultCacheSize
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{
		reg: reg, cfg: cfg, onTime: onTime, meters: newMeters(cfg.Meter),
		identities: newCache[identityHash](cfg.TTL, cfg.CacheSize, cfg.Now),
		keys:       newCache[keyPurpose](cfg.TTL, cfg.CacheSize, cfg.Now),
	}
	c.hashKey = rand.Text()
	c.acquires.ask = c.askAcquire
	c.finds.ask = c.askFind
	c.unwraps.ask = c.askUnwrap
	c.unwraps.group = func(q unwrapQuestion) any {
		q.keyID, q.generation = "", 0
		return q
	}
	return c
}

// Close closes the connection that Dial made.
func (c *Client) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// Evict forgets the subjects' keys and identities at once, answers on their way included.
func (c *Client) Evict(subjectIDs ...string) {
	c.identities.evict(subjectIDs)
	c.keys.evict(subjectIDs)
}

// Acquire finds or makes the subjects of the acts, in order. A result's State is ACTIVE (Key set),
// RESTRICTED (Key set: storing is allowed), or ERASED (no subject). ErrInvalid before anything is asked,
// ErrUnavailable when the registry could not be.
func (c *Client) Acquire(ctx context.Context, acts []Act) ([]Subject, error) {
	generation := c.identities.currentGeneration()
	subjects, asked := c.cached(acts)
	questions := make([]acquireQuestion, len(asked))
	for j, i := range asked {
		if !acts[i].Identity.valid() {
			return nil, ErrInvalid
		}
		questions[j] = acquireQuestion{acts[i].Identity, acts[i].micros(), generation}
	}
	c.meters.looked("identity", len(acts)-len(asked), len(asked))
	answers, err := c.acquires.do(ctx, questions)
	if err != nil {
		return nil, unavailable(err)
	}
	for j, i := range asked {
		subjects[i] = answers[j]
	}
	return subjects, nil
}

// undated acts of people: whoever is cached is them, whenever they acted.
func undated(ids []Identity) []Act {
	acts := make([]Act, len(ids))
	for i, id := range ids {
		acts[i].Identity = id
	}
	return acts
}

// Cached is Acquire without waiting for anybody, and Find for acts without a time; false where the registry would have to be
// asked.
func (c *Client) Cached(acts []Act) ([]Subject, bool) {
	subjects, missing := c.cached(acts)
	if len(missing) > 0 {
		return nil, false
	}
	c.meters.looked("identity", len(acts), 0)
	return subjects, true
}

// cached gives the subjects that are known without asking, and which are not.
func (c *Client) cached(acts []Act) (subjects []Subject, missing []int) {
	subjects = make([]Subject, len(acts))
	for i, act := range acts {
		// The registry said that the identity was not erased since e.since: so it was not since any
		// later time either.
		e, ok, ageing := c.identities.get(c.hash(act.Identity))
		if ageing {
			c.renew(act.Identity, e.since)
		}
		if at := act.micros(); ok && (at == 0 || at >= e.since) {
			subjects[i] = e.subject
		} else {
			missing = append(missing, i)
		}
	}
	return subjects, missing
}

// renew asks about an identity as it was asked about: by Acquire since when somebody acted by it, so that the registry
// knows that they are in use; by Find where nobody did.
func (c *Client) renew(id Identity, since int64) {
	generation := c.identities.currentGeneration()
	if since == math.MaxInt64 {
		c.finds.soon(findQuestion{id, generation})
		return
	}
	c.acquires.soon(acquireQuestion{id, since, generation})
}

// Find finds subjects of identities, in order; State NONE where there is none. Makes none.
func (c *Client) Find(ctx context.Context, ids []Identity) ([]Subject, error) {
	generation := c.identities.currentGeneration()
	subjects, asked := c.cached(undated(ids))
	questions := make([]findQuestion, len(asked))
	for j, i := range asked {
		if !ids[i].valid() {
			return nil, ErrInvalid
		}
		questions[j] = findQuestion{ids[i], generation}
	}
	c.meters.looked("identity", len(ids)-len(asked), len(asked))
	answers, err := c.finds.do(ctx, questions)
	if err != nil {
		return nil, unavailable(err)
	}
	for j, i := range asked {
		subjects[i] = answers[j]
	}
	return subjects, nil
}

// Keys gives the subjects' keys by key id for a purpose; the map misses what is gone, and errs by key id
// says why (ErrGone, ErrRestricted). workspace "" is for adapters, who serve all.
func (c *Client) Keys(ctx context.Context, workspace string, purpose pb.Purpose, keyIDs []string) (keys map[string]Subject, errs map[string]error, err error) {
	generation := c.keys.currentGeneration()
	keys, errs = make(map[string]Subject, len(keyIDs)), map[string]error{}
	seen := make(map[string]bool, len(keyIDs))
	var questions []unwrapQuestion
	for _, id := range keyIDs {
		if seen[id] {
			continue
		}
		seen[id] = true
		if !ValidID(id) {
			errs[id] = ErrGone
			continue
		}
		e, ok, ageing := c.keys.get(keyPurpose{id, purpose})
		if ageing {
			c.unwraps.soon(unwrapQuestion{id, purpose, workspace, generation})
		}
		if ok {
			sort(id, workspace, e.subject, keys, errs)
			continue
		}
		questions = append(questions, unwrapQuestion{id, purpose, workspace, generation})
	}
	c.meters.looked("key", len(seen)-len(questions), len(questions))
	answers, err := c.unwraps.do(ctx, questions)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	for i, s := range answers {
		sort(questions[i].keyID, workspace, s, keys, errs)
	}
	return keys, errs, nil
}

// sort puts a subject among the keys, or says why not.
func sort(keyID, workspace string, s Subject, keys map[string]Subject, errs map[string]error) {
	switch {
	case workspace != "" && s.Workspace != workspace:
		errs[keyID] = ErrGone
	case s.Key != nil:
		keys[keyID] = s
	case s.State == pb.SubjectState_SUBJECT_STATE_RESTRICTED:
		errs[keyID] = ErrRestricted
	default:
		errs[keyID] = ErrGone
	}
}

// Sealed names a part together with where it was found.
type Sealed struct {
	Workspace string
	Part      *pb.SealedPart
	Origin    Origin
}

// Opened is the plaintext, or why there is none.
type Opened struct {
	Plain []byte
	Err   error
}

// Open opens many parts with one registry call at most for every MaxItems keys; results in order. err is
// ErrUnavailable (and nothing is opened).
func (c *Client) Open(ctx context.Context, purpose pb.Purpose, parts []Sealed) ([]Opened, error) {
	ids := make([]string, len(parts))
	workspace := ""
	for i, p := range parts {
		ids[i] = p.Part.GetKeyId()
		if i == 0 {
			workspace = p.Workspace
		} else if workspace != p.Workspace {
			workspace = "" // parts of several; each is compared below
		}
	}
	keys, errs, err := c.Keys(ctx, workspace, purpose, ids)
	if err != nil {
		return nil, err
	}
	opened := make([]Opened, len(parts))
	for i, p := range parts {
		key, ok := keys[ids[i]]
		switch {
		case !ok:
			opened[i].Err = errs[ids[i]]
		case p.Workspace != key.Workspace:
			opened[i].Err = ErrGone
		default:
			opened[i].Plain, opened[i].Err = OpenWith(key, p.Part, p.Origin)
		}
	}
	return opened, nil
}

// hash is an identity as a cache key: nobody who reads the memory finds the value in it.
func (c *Client) hash(id Identity) identityHash {
	var room [256]byte // enough for most
	return sha256.Sum256(lengthPrefixed(room[:0], c.hashKey, id.Workspace, id.Kind, id.Value))
}
