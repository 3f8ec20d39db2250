package egress

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	// profileEvery is how often a person's profile is asked for, by one process at most; profileAgain how
	// soon after a try that failed.
	profileEvery = 24 * time.Hour
	profileAgain = 10 * time.Minute
	// askTimeout bounds one question.
	//bound:timeout asking for a profile, or where a file lies | {} | tried again; then after {profileAgain}, by the person's next event; the attachment failed
	askTimeout = 15 * time.Second
	//bound:cache persons whose profile was asked for | {}, for {profileEvery} each | forgotten: asked again
	maxAsked = 50_000
)

// newAsked keeps whose profile was asked for of late: subject ids and nothing else.
func newAsked() *otter.Cache[string, struct{}] {
	//bound:exempt maxAsked says it
	return otter.Must(&otter.Options[string, struct{}]{
		//bound:exempt maxAsked says it
		MaximumSize: maxAsked, ExpiryCalculator: otter.ExpiryWriting[string, struct{}](profileEvery),
	})
}

// wantsProfile: a person did something, the event names them as the provider does, and their profile has
// not been asked for lately. It counts as asked for from here on.
func (f *fetcher) wantsProfile(e *pb.ChannelEvent) bool {
	if inbound.ProfileOfAuthor(e) == nil {
		return false
	}
	_, first := f.asked.SetIfAbsent(e.GetAuthorSubject(), struct{}{})
	return first
}

// fetchProfile asks the provider about an event's author. What fails is asked again after a while, by the
// person's next event.
func (f *fetcher) fetchProfile(ctx context.Context, event *pb.ChannelEvent) error {
	ctx, span := f.tracer.Start(ctx, "profile "+f.channel)
	defer span.End()
	part := inbound.ProfileOfAuthor(event)
	result, err := f.askProfile(ctx, event, part)
	if err != nil {
		f.asked.Invalidate(event.GetAuthorSubject())
		return err
	}
	if result == "failed" {
		f.asked.SetExpiresAfter(event.GetAuthorSubject(), profileAgain)
	}
	f.meters.fetched(ctx, "profile", result)
	return nil
}

func (f *fetcher) askProfile(ctx context.Context, event *pb.ChannelEvent, part *pb.SealedPart) (result string, err error) {
	origin := seal.OriginProfile(part.GetSubjectId())
	profile := &pb.Profile{}
	if ok, err := f.open(ctx, event, part, origin, profile); err != nil || !ok {
		return "gone", err
	}
	if profile.GetIdentityValue() == "" {
		return "nobody", nil
	}
	conn, err := f.connection(ctx, event)
	if err != nil || conn == nil {
		return "failed", err
	}
	got, refusal := f.askProvider(ctx, conn, channel.Identity{Kind: profile.GetIdentityKind(), Value: profile.GetIdentityValue()})
	switch {
	case ctx.Err() != nil:
		return "failed", ctx.Err()
	case refusal != nil:
		return "failed", f.revoked(ctx, event, refusal)
	case got == nil:
		return "nobody", nil
	}
	subject, ok, err := f.subject(ctx, event, part)
	if err != nil || !ok {
		return "gone", err
	}
	valid := channel.Legible
	plain, err := proto.Marshal(&pb.Profile{
		Name: valid(got.Name), AvatarUrl: valid(got.AvatarURL), Email: valid(got.Email), Phone: valid(got.Phone),
		Handle: valid(got.Handle), Locale: valid(got.Locale), TimeZone: valid(got.TimeZone),
		IdentityValue: profile.GetIdentityValue(), IdentityKind: profile.GetIdentityKind(),
	})
	if err != nil {
		return "", err
	}
	sealed, err := seal.Seal(subject, pb.Category_CATEGORY_PROFILE, origin, plain)
	if err != nil {
		return "", err
	}
	out := f.event(event, pb.EventType_EVENT_TYPE_PROFILE)
	day := f.clock.Now().Unix() / int64(profileEvery/time.Second)
	out.Id = channel.EventID(event.GetConnectionId(), channel.TypeProfile, "egress/"+part.GetSubjectId()+"/"+strconv.FormatInt(day, 10), time.Time{})
	out.Parts = []*pb.SealedPart{sealed}
	return "fetched", f.publisher.publish(ctx, out)
}

// askProvider gives nil where the provider has no profile of the person.
func (f *fetcher) askProvider(ctx context.Context, conn *channel.Connection, identity channel.Identity) (p *channel.Profile, refusal *channel.Error) {
	refusal = f.insist(ctx, func() error {
		got, ok, err := f.askOnce(ctx, conn, identity)
		if err == nil && ok {
			p = &got
		}
		return err
	})
	if refusal != nil {
		f.log.InfoContext(ctx, "egress: profile not fetched", "channel", f.channel, "connection", conn.ID, "class", string(refusal.Class), "code", refusal.Code)
	}
	return p, refusal
}

// insist asks a provider, and meets passing failures FetchTries times.
func (f *fetcher) insist(ctx context.Context, ask func() error) *channel.Error {
	for try := 1; ; try++ {
		err := ask()
		if err == nil {
			return nil
		}
		refusal := &channel.Error{Class: channel.ClassRetry, Code: codeNoAnswer}
		_ = errors.As(err, &refusal) // else the provider said nothing
		pause := max(fetchPause<<(try-1), refusal.RetryAfter)
		if refusal.Class != channel.ClassRetry || try >= f.cfg.FetchTries || pause > askTimeout || f.sleep(ctx, pause) != nil {
			return refusal
		}
	}
}

func (f *fetcher) askOnce(ctx context.Context, conn *channel.Connection, identity channel.Identity) (p channel.Profile, ok bool, err error) {
	//bound:exempt askTimeout says it
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	defer recovered(ctx, f.log, conn, &err)
	return f.provider.Profile(ctx, conn, identity)
}
