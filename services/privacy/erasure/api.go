package erasure

import (
	"context"
	"errors"
	"math"
	"net/http"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/access"
	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/endpointx"
	"tributary.dev/libs/sqldb"
	pb "tributary.dev/proto/gen/tributary/v1"
	"tributary.dev/services/privacy/certificate"
)

// TypeErasure is the type of request that this service carries out.
const TypeErasure = "erasure"

// Request as the API shows it.
type Request struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	ContactID string `json:"contact_id"`
	// Status: running, failed (a holder failed; it is asked again) or completed.
	Status string `json:"status"`
	// Step that it is at; see the package documentation.
	Step        string     `json:"step"`
	CreatedAt   time.Time  `json:"created_at"`
	FrozenAt    *time.Time `json:"frozen_at"`
	CompletedAt *time.Time `json:"completed_at"`
	// Failed names the holder that failed and the class of why; empty otherwise.
	Failed string `json:"failed"`
	// Certificate is where the signed certificate lies, once there is one.
	Certificate string `json:"certificate,omitempty"`
}

type createRequest struct {
	Type      string `json:"type"`
	ContactID string `json:"contact_id"`
}

// Validate implements endpointx.Validator.
func (r *createRequest) Validate() error {
	fields := map[string]string{}
	if r.Type != TypeErasure {
		fields["type"] = `must be "erasure"`
	}
	if r.ContactID == "" || len(r.ContactID) > 64 {
		fields["contact_id"] = "must be a contact's id"
	}
	if len(fields) > 0 {
		return endpointx.Invalid(fields)
	}
	return nil
}

type byID struct {
	ID string `path:"id"`
}

type listRequest struct {
	endpointx.Paging
}

// Routes of the API.
func (s *Service) Routes(idempotency *endpointx.Idempotency) []app.Route {
	return []app.Route{
		{Pattern: "POST /v1/privacy/requests", Handler: endpointx.JSON(endpointx.Options{
			Scope: access.PrivacyWrite, Idempotency: idempotency, Rate: askRate}, s.create(idempotency))},
		{Pattern: "GET /v1/privacy/requests", Handler: endpointx.JSON(endpointx.Options{Scope: access.PrivacyRead}, s.page)},
		{Pattern: "GET /v1/privacy/requests/{id}", Handler: endpointx.JSON(endpointx.Options{Scope: access.PrivacyRead}, s.show)},
		{Pattern: "GET /v1/privacy/requests/{id}/certificate", Handler: http.HandlerFunc(s.file)},
		{Pattern: "GET /v1/privacy/certificate-key", Handler: http.HandlerFunc(s.publicKey), Public: true},
	}
}

// created is a request that was made now (201), or that there was (200).
type created struct {
	Request
	joined bool
}

// StatusCode implements go-kit's StatusCoder.
func (c created) StatusCode() int {
	if c.joined {
		return http.StatusOK
	}
	return http.StatusCreated
}

func (s *Service) create(idempotency *endpointx.Idempotency) func(context.Context, createRequest) (created, error) {
	return func(ctx context.Context, req createRequest) (created, error) {
		caller, _ := access.From(ctx)
		if err := s.known(ctx, caller.WorkspaceID, req.ContactID); err != nil {
			return created{}, err
		}
		var id string
		joined := false
		err := s.store.db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
			id, _, err = idempotency.Do(ctx, tx, func() (string, error) {
				wanted := uuid.NewString()
				r, err := s.begin(ctx, tx, wanted, caller.WorkspaceID, req.ContactID, caller.KeyID)
				joined = r.ID != wanted
				return r.ID, err
			})
			return err
		})
		if err != nil {
			return created{}, err
		}
		s.Wake()
		r, err := s.show(ctx, byID{ID: id})
		return created{r, joined}, err
	}
}

// askWithin bounds how long holders are asked about a contact.
const askWithin = 5 * time.Second

// Each contact that is not known is asked about at every holder, on a topic that keeps it for months.
//
//bound:limit requests to erase somebody, of one workspace | {} a second | 429
const askRate = 20

// known is nil for a contact of the workspace, or one that was; 404 only once the contacts are confirmed
// to be current, and no holder has it: one that is shown already may not have reached the topic.
func (s *Service) known(ctx context.Context, workspaceID, contactID string) error {
	asked := s.now()
	for confirmed := false; ; confirmed = true {
		if c, ok := s.dir.Contact(contactID); ok && c.WorkspaceId == workspaceID {
			return nil
		} else if ok {
			return endpointx.NotFound("contact")
		}
		if _, err := s.store.ofContact(ctx, workspaceID, TypeErasure, contactID); !errors.Is(err, errNoRequest) {
			return err
		}
		if confirmed {
			break
		}
		if err := s.dir.Confirm(ctx, asked); err != nil {
			return endpointx.Unavailable("contacts")
		}
	}
	//bound:timeout holders who are asked whom a contact id means | {} | 503
	within, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	known, err := s.ask.Knows(within, workspaceID, contactID)
	switch {
	case err != nil:
		return endpointx.Unavailable("contacts")
	case !known:
		return endpointx.NotFound("contact")
	}
	return nil
}

func (s *Service) show(ctx context.Context, req byID) (Request, error) {
	caller, _ := access.From(ctx)
	r, err := s.store.get(ctx, caller.WorkspaceID, req.ID)
	if errors.Is(err, errNoRequest) {
		return Request{}, endpointx.NotFound("request")
	}
	return shown(r), err
}

func (s *Service) page(ctx context.Context, req listRequest) (endpointx.Page[Request], error) {
	caller, _ := access.From(ctx)
	received, id := int64(math.MaxInt64), ""
	if err := req.Behind(&received, &id); err != nil {
		return endpointx.Page[Request]{}, err
	}
	found, err := s.store.list(ctx, caller.WorkspaceID, received, id, req.Size()+1)
	page := endpointx.Page[Request]{Items: []Request{}}
	for i, r := range found {
		if i == req.Size() {
			last := found[i-1]
			page.NextCursor = req.Next(last.Received, last.ID)
			break
		}
		page.Items = append(page.Items, shown(r))
	}
	return page, err
}

func shown(r request) Request {
	at := func(us int64) *time.Time {
		if us == 0 {
			return nil
		}
		t := micros(us)
		return &t
	}
	out := Request{
		ID: r.ID, Type: r.Type, ContactID: r.ContactID, Status: r.Status, Step: string(r.Step),
		CreatedAt: micros(r.Received), FrozenAt: at(r.Frozen), CompletedAt: at(r.Completed), Failed: r.Failed,
	}
	if r.Step == done {
		out.Certificate = "/v1/privacy/requests/" + r.ID + "/certificate"
	}
	return out
}

// file gives the certificate as it was signed, byte for byte.
func (s *Service) file(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if err := access.Require(ctx, access.PrivacyRead); err != nil {
		endpointx.WriteProblem(ctx, w, err)
		return
	}
	caller, _ := access.From(ctx)
	file, err := s.store.certificate(ctx, caller.WorkspaceID, r.PathValue("id"))
	switch {
	case errors.Is(err, errNoRequest):
		err = endpointx.NotFound("request")
	case err == nil && file == nil:
		err = endpointx.NotFound("certificate (the request is not completed)")
	}
	if err != nil {
		endpointx.WriteProblem(ctx, w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(file) // the caller has gone; there is nobody to tell
}

// publicKey is what certificates are checked with.
func (s *Service) publicKey(w http.ResponseWriter, r *http.Request) {
	text, err := s.PublicKey(r.Context())
	if err != nil {
		endpointx.WriteProblem(r.Context(), w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(text) // the caller has gone; there is nobody to tell
}

// PublicKey is the key that certificates are checked with, as PEM.
func (s *Service) PublicKey(ctx context.Context) ([]byte, error) {
	key, err := s.keys.SigningKey(ctx)
	if err != nil {
		return nil, err
	}
	return certificate.EncodeKey(publicOf(key))
}

// Answers is the subscription that takes in what holders answer.
func (s *Service) Answers() bus.Subscription {
	return bus.Subscription{Group: "privacy-requests", Topics: []string{"privacy.acks"}, Handle: s.takeAnswers}
}

func (s *Service) takeAnswers(ctx context.Context, batch []bus.Record) error {
	acks := make([]*pb.PrivacyAck, 0, len(batch))
	for _, r := range batch {
		ack := &pb.PrivacyAck{}
		if err := proto.Unmarshal(r.Value, ack); err != nil {
			return bus.DataFault("undecodable", err)
		}
		if ack.Kind == pb.PrivacyCommand_KIND_ERASE {
			acks = append(acks, ack)
		}
	}
	err := s.store.db.Tx(ctx, func(tx *sqldb.Tx) error {
		for _, ack := range acks {
			if err := s.store.answered(ctx, tx, ack, fault(ack)); err != nil {
				return err
			}
		}
		return nil
	})
	if sqldb.IsDataFault(err) {
		return bus.DataFault("constraint", err)
	}
	if err == nil {
		s.Wake()
	}
	return err
}
