package seal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// OpenSpool asks the registry for the keys of spool entries, in order.
func (c *Client) OpenSpool(ctx context.Context, items []*pb.OpenSpoolRequest_Item) ([]*pb.OpenSpoolResponse_Item, error) {
	//bound:exempt as many as were asked for
	var opened []*pb.OpenSpoolResponse_Item
	for len(items) > 0 {
		n := min(len(items), MaxItems)
		err := c.call(ctx, "OpenSpool", func(ctx context.Context, _ time.Time) (int64, error) {
			r, err := c.reg.OpenSpool(ctx, &pb.OpenSpoolRequest{Items: items[:n]})
			if err != nil {
				return 0, err
			}
			opened = append(opened, r.GetItems()...)
			return r.GetNowUs(), complete(len(r.GetItems()), n)
		})
		if err != nil {
			return nil, unavailable(err)
		}
		items = items[n:]
	}
	return opened, nil
}

// AskTime has the registry tell its time, as every other call does that it answers.
func (c *Client) AskTime(ctx context.Context) error {
	err := c.call(ctx, "Now", func(ctx context.Context, _ time.Time) (int64, error) {
		r, err := c.reg.Now(ctx, &pb.NowRequest{})
		return r.GetNowUs(), err
	})
	if err != nil {
		return unavailable(err)
	}
	return nil
}

func (c *Client) askAcquire(ctx context.Context, questions []acquireQuestion) ([]Subject, error) {
	req := &pb.AcquireRequest{Items: make([]*pb.AcquireRequest_Item, len(questions))}
	for i, q := range questions {
		req.Items[i] = &pb.AcquireRequest_Item{Identity: q.identity.proto(), ActedAtUs: q.atMicros}
	}
	var subjects []Subject
	err := c.call(ctx, "Acquire", func(ctx context.Context, sent time.Time) (int64, error) {
		r, err := c.reg.Acquire(ctx, req)
		if err != nil {
			return 0, err
		}
		subjects = fromProto(r.GetSubjects())
		for i, s := range subjects[:min(len(subjects), len(questions))] {
			q := questions[i]
			since := q.atMicros
			if since == 0 {
				since = math.MaxInt64 // the erased list was not consulted
			}
			c.keepIdentity(q.identity, s, since, sent, q.generation)
		}
		return r.GetNowUs(), complete(len(subjects), len(questions))
	})
	return subjects, err
}

func (c *Client) askFind(ctx context.Context, questions []findQuestion) ([]Subject, error) {
	req := &pb.FindRequest{Identities: make([]*pb.Identity, len(questions))}
	for i, q := range questions {
		req.Identities[i] = q.identity.proto()
	}
	var subjects []Subject
	err := c.call(ctx, "Find", func(ctx context.Context, sent time.Time) (int64, error) {
		r, err := c.reg.Find(ctx, req)
		if err != nil {
			return 0, err
		}
		subjects = fromProto(r.GetSubjects())
		for i, s := range subjects[:min(len(subjects), len(questions))] {
			c.keepIdentity(questions[i].identity, s, math.MaxInt64, sent, questions[i].generation)
		}
		return r.GetNowUs(), complete(len(subjects), len(questions))
	})
	return subjects, err
}

// keepIdentity keeps those that have a key: that nobody has an identity may change at once.
func (c *Client) keepIdentity(id Identity, s Subject, since int64, sent time.Time, generation uint64) {
	if s.Key != nil {
		c.identities.put(entry[identityHash]{key: c.hash(id), subject: s, since: since, sent: sent}, generation)
	}
}

func (c *Client) askUnwrap(ctx context.Context, questions []unwrapQuestion) ([]Subject, error) {
	req := &pb.UnwrapRequest{Purpose: questions[0].purpose, WorkspaceId: questions[0].workspace, KeyIds: make([]string, len(questions))}
	for i, q := range questions {
		req.KeyIds[i] = q.keyID
	}
	var subjects []Subject
	err := c.call(ctx, "Unwrap", func(ctx context.Context, sent time.Time) (int64, error) {
		r, err := c.reg.Unwrap(ctx, req)
		if err != nil {
			return 0, err
		}
		subjects = fromProto(r.GetSubjects())
		for i, s := range subjects[:min(len(subjects), len(questions))] {
			q := questions[i]
			final := s.State == pb.SubjectState_SUBJECT_STATE_FROZEN || s.State == pb.SubjectState_SUBJECT_STATE_DESTROYED
			if s.Key != nil || final {
				c.keys.put(entry[keyPurpose]{key: keyPurpose{q.keyID, q.purpose}, subject: s, sent: sent}, q.generation)
			}
		}
		return r.GetNowUs(), complete(len(subjects), len(questions))
	})
	return subjects, err
}

// call makes one call with its deadline, reports the registry's time, and counts.
func (c *Client) call(ctx context.Context, method string, ask func(ctx context.Context, sent time.Time) (nowMicros int64, err error)) error {
	//bound:timeout a call of the registry | {TRIBUTARY_REGISTRY_TIMEOUT} | it counts as unavailable
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	sent := c.cfg.Now()
	now, err := ask(ctx, sent)
	c.meters.called(ctx, method, c.cfg.Now().Sub(sent), err)
	if err == nil && now != 0 && c.onTime != nil {
		c.onTime(sent, time.UnixMicro(now))
	}
	return err
}

func (id Identity) proto() *pb.Identity {
	return &pb.Identity{WorkspaceId: id.Workspace, Kind: id.Kind, Value: id.Value}
}

func fromProto(keys []*pb.SubjectKey) []Subject {
	subjects := make([]Subject, len(keys))
	for i, k := range keys {
		subjects[i] = Subject{ID: k.GetSubjectId(), KeyID: k.GetKeyId(), Workspace: k.GetWorkspaceId(), State: k.GetState()}
		if len(k.GetKey()) == KeySize {
			subjects[i].Key, subjects[i].shared = k.GetKey(), &sharedCipher{}
		}
	}
	return subjects
}

var errOverloaded = errors.New("too many questions wait")

func complete(got, want int) error {
	if got != want {
		return fmt.Errorf("%d answers to %d questions", got, want)
	}
	return nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
