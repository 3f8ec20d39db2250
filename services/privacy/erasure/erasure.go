package erasure

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/privacy/certificate"
)

// Keys is what erasure needs of the key registry.
type Keys interface {
	// Freeze gives no key of the subjects out any more and detaches their identities. It answers when
	// that happened first: for a subject that is frozen already, then.
	Freeze(ctx context.Context, workspaceID, requestID string, subjectIDs []string) (time.Time, error)
	// LedgerAcked: the erasure ledger holds all of the subjects, acknowledged by the broker.
	LedgerAcked(ctx context.Context, subjectIDs []string) (bool, error)
	// Destroy makes the keys of frozen subjects unrecoverable from the living registry.
	Destroy(ctx context.Context, subjectIDs []string) error
	// BackupsUnreadableFrom is the end of the next epoch turn that will have begun after now.
	BackupsUnreadableFrom(ctx context.Context) (time.Time, error)
	// SigningKey of certificates.
	SigningKey(ctx context.Context) (ed25519.PrivateKey, error)
}

// Publisher is the bus, to command holders.
type Publisher interface {
	Publish(ctx context.Context, msgs ...bus.Message) error
}

// Directory is what erasure reads of others' topics.
type Directory interface {
	// Contact by id, as the topic contacts has it.
	Contact(id string) (*pb.ContactRecord, bool)
	// Confirm that Contact misses nothing of before since.
	Confirm(ctx context.Context, since time.Time) error
	// Holders that store personal data.
	Holders() []string
}

// Asker asks the holders themselves.
type Asker interface {
	// Knows tells whether a holder has a contact, also one that has reached no topic yet.
	Knows(ctx context.Context, workspaceID, contactID string) (bool, error)
}

// Config of the service.
type Config struct {
	// CacheTTL is how long a plain key may live in any process of the mesh.
	CacheTTL time.Duration
	// CacheMargin is added to it.
	CacheMargin time.Duration
	// AskAgain is the pause before a holder that has not answered, or has failed, is asked again.
	AskAgain time.Duration
	// Poll is after how long open requests are looked at when nothing wakes them; where none is open, what another replica
	// may have left is looked for after five times that.
	Poll time.Duration
	// SeenFor, TopicsFor, DeadFor, SpoolFor and ErasedListFor are what a certificate says of the copies that are left.
	SeenFor, TopicsFor, DeadFor, SpoolFor, ErasedListFor time.Duration
}

// Service carries out erasures.
type Service struct {
	cfg   Config
	store store
	keys  Keys
	bus   Publisher
	dir   Directory
	ask   Asker
	now   func() time.Time
	log   *slog.Logger
	wake  chan struct{}
	//bound:cache when the holders of a request were asked | one a request that waits for them | goes when all have answered
	asked map[string]time.Time // request id: when its holders were last asked; of the one Run goroutine
}

// New makes the service on its own database (see Migrations).
func New(cfg Config, db *sqldb.DB, keys Keys, b Publisher, dir Directory, ask Asker, now func() time.Time, log *slog.Logger) *Service {
	return &Service{cfg: cfg, store: store{db}, keys: keys, bus: b, dir: dir, ask: ask, now: now, log: log,
		//bound:queue wake-ups of who carries requests on | {} | the next is dropped: one is enough
		wake: make(chan struct{}, 1), asked: map[string]time.Time{}}
}

// begin keeps a request to erase a contact, or finds the one that there is.
func (s *Service) begin(ctx context.Context, tx *sqldb.Tx, id, workspaceID, contactID, by string) (request, error) {
	return s.store.insert(ctx, tx, request{
		ID: id, WorkspaceID: workspaceID, Type: TypeErasure, ContactID: contactID,
		Status: statusRunning, Step: freezing, RequestedBy: by, Received: s.now().UnixMicro(),
	})
}

// Run carries open requests on until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	//bound:timeout between two looks at open requests | a second, or five where none is open | looked at again
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		open, err := s.store.open(ctx, 100)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "open requests can't be read", "error", err)
		}
		progress := false
		for _, r := range open {
			moved, err := s.advance(ctx, r)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "request waits", "request_id", r.ID, "step", string(r.Step), "error", err)
			}
			progress = progress || moved
		}
		if progress {
			continue
		}
		pause := s.cfg.Poll
		if len(open) == 0 && err == nil {
			pause *= 5
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.wake:
		}
	}
}

// Running are the ids of the requests that are not completed.
func (s *Service) Running(ctx context.Context) (map[string]bool, error) {
	ids, err := s.store.names(ctx, `SELECT id FROM requests WHERE step <> $1`, string(done))
	running := make(map[string]bool, len(ids))
	for _, id := range ids {
		running[id] = true
	}
	return running, err
}

// Wake has open requests looked at now.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// advance does one step of a request, and tells whether it was completed.
func (s *Service) advance(ctx context.Context, r request) (moved bool, err error) {
	switch r.Step {
	case freezing:
		return s.freeze(ctx, r)
	case closing:
		return s.close(ctx, r)
	case waiting:
		return s.wait(ctx, r)
	case erasing:
		return s.erase(ctx, r)
	case destroying:
		return s.destroy(ctx, r)
	case certifying:
		return s.certify(ctx, r)
	}
	return false, fmt.Errorf("request in unknown step %q", r.Step)
}

// freeze freezes the contact's subjects, those it has now and those noted before.
func (s *Service) freeze(ctx context.Context, r request) (bool, error) {
	contact, ok := s.dir.Contact(r.ContactID)
	if !ok {
		return false, errors.New("the contact's subjects are not known yet")
	}
	if err := s.store.addSubjects(ctx, r.ID, contact.SubjectIds); err != nil {
		return false, err
	}
	subjects, err := s.store.subjects(ctx, r.ID)
	if err != nil {
		return false, err
	}
	at, err := s.keys.Freeze(ctx, r.WorkspaceID, r.ID, subjects)
	if err != nil {
		return false, err
	}
	return true, s.store.move(ctx, r, closing, map[string]any{"frozen_us": max(at.UnixMicro(), r.Frozen)})
}

// close waits for the ledger, and until the contact takes no new subject; one that was linked before is
// frozen too.
func (s *Service) close(ctx context.Context, r request) (bool, error) {
	subjects, err := s.store.subjects(ctx, r.ID)
	if err != nil {
		return false, err
	}
	acked, err := s.keys.LedgerAcked(ctx, subjects)
	if err != nil || !acked {
		return false, err
	}
	contact, ok := s.dir.Contact(r.ContactID)
	if ok && !contact.Closed {
		return false, nil // the conversation service has not taken the freeze in yet
	}
	if ok && slices.ContainsFunc(contact.SubjectIds, func(id string) bool { return !slices.Contains(subjects, id) }) {
		return true, s.store.move(ctx, r, freezing, nil)
	}
	return true, s.store.move(ctx, r, waiting, nil)
}

func (s *Service) wait(ctx context.Context, r request) (bool, error) {
	empty := micros(r.Frozen).Add(s.cfg.CacheTTL + s.cfg.CacheMargin)
	if s.now().Before(empty) {
		return false, nil
	}
	holders := s.dir.Holders()
	if len(holders) == 0 {
		return false, errors.New("no holder has declared itself")
	}
	if err := s.store.addHolders(ctx, r.ID, holders); err != nil {
		return false, err
	}
	return true, s.store.move(ctx, r, erasing, map[string]any{"empty_us": empty.UnixMicro()})
}

// erase asks the holders until each has answered for each subject without fault.
func (s *Service) erase(ctx context.Context, r request) (bool, error) {
	subjects, err := s.store.subjects(ctx, r.ID)
	if err != nil {
		return false, err
	}
	missing, failed, err := s.unanswered(ctx, r.ID, subjects)
	if err != nil {
		return false, err
	}
	if len(missing) == 0 {
		delete(s.asked, r.ID)
		r.Status = statusRunning
		return true, s.store.move(ctx, r, destroying, nil)
	}
	if failed != "" && failed != r.Failed {
		if err := s.store.fail(ctx, r.ID, failed); err != nil {
			return false, err
		}
	}
	if last, ok := s.asked[r.ID]; ok && s.now().Sub(last) < s.cfg.AskAgain {
		return false, nil
	}
	if err := s.command(ctx, r, missing); err != nil {
		return false, err
	}
	s.asked[r.ID] = s.now()
	return false, nil
}

// unanswered are the subjects for which a holder's good answer is missing; failed names the first holder
// whose answer was a fault.
func (s *Service) unanswered(ctx context.Context, id string, subjects []string) (missing []string, failed string, err error) {
	holders, err := s.store.holders(ctx, id)
	if err != nil {
		return nil, "", err
	}
	answers, err := s.store.answers(ctx, id)
	if err != nil {
		return nil, "", err
	}
	good := map[[2]string]bool{}
	for _, a := range answers {
		if a.Failed != "" {
			if failed == "" {
				failed = a.Holder + ": " + a.Failed
			}
			continue
		}
		good[[2]string{a.Holder, a.SubjectID}] = true
	}
	for _, subject := range subjects {
		if slices.ContainsFunc(holders, func(h string) bool { return !good[[2]string{h, subject}] }) {
			missing = append(missing, subject)
		}
	}
	return missing, failed, nil
}

// fault of an answer: the holder's own word, or that it left something.
func fault(ack *pb.PrivacyAck) string {
	if ack.Failed != "" {
		return ack.Failed
	}
	for _, what := range slices.Sorted(maps.Keys(ack.Found)) {
		if ack.Deleted[what] < ack.Found[what] {
			return "left " + what
		}
	}
	return ""
}

// command tells all holders to erase the subjects. A holder that has done so answers again.
func (s *Service) command(ctx context.Context, r request, subjects []string) error {
	msgs := make([]bus.Message, len(subjects))
	for i, subject := range subjects {
		value, err := proto.Marshal(&pb.PrivacyCommand{
			Id:   uuid.NewSHA1(uuid.NameSpaceOID, []byte("erase/"+r.ID+"/"+subject)).String(),
			Kind: pb.PrivacyCommand_KIND_ERASE, RequestId: r.ID, WorkspaceId: r.WorkspaceID,
			SubjectId: subject, ContactId: r.ContactID, IssuedAtUs: s.now().UnixMicro(),
		})
		if err != nil {
			return err
		}
		msgs[i] = bus.Message{Topic: "privacy.commands", Key: subject, Value: value}
	}
	return s.bus.Publish(ctx, msgs...)
}

func (s *Service) destroy(ctx context.Context, r request) (bool, error) {
	subjects, err := s.store.subjects(ctx, r.ID)
	if err != nil {
		return false, err
	}
	if err := s.keys.Destroy(ctx, subjects); err != nil {
		return false, err
	}
	return true, s.store.move(ctx, r, certifying, map[string]any{"destroyed_us": s.now().UnixMicro()})
}

func (s *Service) certify(ctx context.Context, r request) (bool, error) {
	c, err := s.compose(ctx, r)
	if err != nil {
		return false, err
	}
	key, err := s.keys.SigningKey(ctx)
	if err != nil {
		return false, err
	}
	file, err := certificate.Sign(c, key)
	if err != nil {
		return false, err
	}
	r.Status = statusCompleted
	return true, s.store.move(ctx, r, done, map[string]any{"certificate": file, "completed_us": c.IssuedAt.UnixMicro()})
}

// compose makes the certificate of what was done.
func (s *Service) compose(ctx context.Context, r request) (certificate.Certificate, error) {
	subjects, err := s.store.subjects(ctx, r.ID)
	if err != nil {
		return certificate.Certificate{}, err
	}
	answers, err := s.store.answers(ctx, r.ID)
	if err != nil {
		return certificate.Certificate{}, err
	}
	backups, err := s.keys.BackupsUnreadableFrom(ctx)
	if err != nil {
		return certificate.Certificate{}, err
	}
	c := certificate.Certificate{
		Version: certificate.Version, RuleVersion: certificate.RuleVersion,
		RequestID: r.ID, WorkspaceID: r.WorkspaceID, ContactID: r.ContactID, SubjectIDs: subjects,
		ReceivedAt: micros(r.Received), FrozenAt: micros(r.Frozen), CachesEmptyAt: micros(r.Empty),
		DestroyedAt: micros(r.Destroyed), IssuedAt: micros(s.now().UnixMicro()),
		Holders: holders(answers), Exceptions: exceptions(answers), BackupsUnreadableFrom: micros(backups.UnixMicro()),
		OutOfReach: []string{"what others wrote about the person in their own messages", "what the person's and other members' own devices and the provider keep"},
	}
	at := func(d time.Duration) *time.Time { t := c.DestroyedAt.Add(d); return &t }
	c.Survives = []certificate.Survivor{
		{What: "events and commands sealed under the destroyed keys", Where: "topics", Until: at(s.cfg.TopicsFor)},
		{What: "those among them that a consumer could not handle: dead letters", Where: "topics", Until: at(s.cfg.DeadFor)},
		{What: "a copy of an old webhook sent again by a provider that signs no time: sealed, under a subject that nobody knows", Where: "topics", Until: at(s.cfg.TopicsFor)},
		{What: "events sealed to a day's spool key, dropped when drained", Where: "spools", Until: at(s.cfg.SpoolFor)},
		{What: "ids of events, to drop their repetition", Where: "databases", Until: at(s.cfg.SeenFor)},
		{What: "keyed hashes of the erased identities, to drop what they did before", Where: "key registry", Until: at(s.cfg.ErasedListFor)},
		{What: "subject ids in the erasure ledger", Where: "topics", Until: nil},
		{What: "this request: ids and counts", Where: "privacy service", Until: nil},
	}
	return c, nil
}

// holders sums the answers up by holder.
func holders(answers []answer) []certificate.Holder {
	var sums []certificate.Holder
	for _, a := range answers { // in the order of the holders' names
		if len(sums) == 0 || sums[len(sums)-1].Name != a.Holder {
			sums = append(sums, certificate.Holder{Name: a.Holder, Found: map[string]int64{}, Deleted: map[string]int64{}})
		}
		h := &sums[len(sums)-1]
		if at := micros(a.Answered); at.After(h.AnsweredAt) {
			h.AnsweredAt = at
		}
		for what, n := range a.Found {
			h.Found[what] += n
			h.Deleted[what] += a.Deleted[what]
		}
	}
	return sums
}

// reasons for what holders keep.
var reasons = map[string]string{
	"group_content": "written by members of the workspace in a group conversation; it goes with the group's last contact",
}

func exceptions(answers []answer) []certificate.Exception {
	kept := []certificate.Exception{}
	for _, a := range answers {
		for _, what := range slices.Sorted(maps.Keys(a.Kept)) {
			if a.Kept[what] > 0 {
				kept = append(kept, certificate.Exception{Holder: a.Holder, What: what, Count: a.Kept[what], Reason: reasons[what]})
			}
		}
	}
	return kept
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}
