package egress

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/channel"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/inbound"
	"tributary.dev/libs/media"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// fetcher gets what events only name. Handling an event twice changes nothing: an attachment that lies in
// the bucket is not fetched again, and the events that come of it have the same ids.
type fetcher struct {
	cfg       Config
	channel   string
	provider  channel.Fetcher
	keys      Keys
	accounts  Accounts
	clock     *clock.Clock
	log       *slog.Logger
	tracer    trace.Tracer
	meters    *meters
	bucket    *media.Bucket
	media     *media.Client
	publisher publisher
	asked     *otter.Cache[string, struct{}]

	// sleep waits for d or until ctx ends.
	sleep func(ctx context.Context, d time.Duration) error
}

const (
	// fetchPause is the first of the pauses between tries; each is twice the last.
	//bound:retry fetching an attachment or profile | {Config.FetchTries} tries, {} apart and twice as long each time | the attachment failed; the profile is asked for again later
	fetchPause = 500 * time.Millisecond
	// reasonNotConnected: the connection was not active when the attachment was to be fetched.
	reasonNotConnected = "not_connected"
)

func newFetcher(cfg Config, name string, provider channel.Fetcher, deps Deps, in publisher, m *meters) *fetcher {
	return &fetcher{
		cfg: cfg, channel: name, provider: provider, keys: deps.Keys, accounts: deps.Accounts, clock: deps.Clock,
		log: deps.Telemetry.Log, tracer: deps.Telemetry.Tracer, meters: m, bucket: deps.Bucket, media: deps.Media,
		publisher: in, asked: newAsked(), sleep: sleep,
	}
}

// handle fetches what the events of one partition name, several at once. An error is a fault of the
// registry, the bucket or the broker, never of a provider: all is tried again then.
func (f *fetcher) handle(ctx context.Context, records []bus.Record) error {
	events := make([]*pb.ChannelEvent, len(records))
	for i, r := range records {
		events[i] = &pb.ChannelEvent{}
		if err := proto.Unmarshal(r.Value, events[i]); err != nil {
			return bus.DataFault("undecodable", err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.cfg.Fetches)
	for i, r := range records {
		event := events[i]
		files, person := inbound.NamesFiles(event), f.wantsProfile(event)
		if !files && !person {
			continue
		}
		ctx := telemetry.Extract(ctx, r.Headers)
		if person {
			//bound:goroutines fetching for one partition | {Config.Fetches} | the batch waits
			g.Go(func() error { return f.fetchProfile(ctx, event) })
		}
		if files {
			//bound:goroutines fetching for one partition | {Config.Fetches} | the batch waits
			g.Go(func() error { return f.fetchFiles(ctx, event) })
		}
	}
	return g.Wait()
}

// fetchFiles fetches the attachments of one event.
func (f *fetcher) fetchFiles(ctx context.Context, event *pb.ChannelEvent) error {
	ctx, span := f.tracer.Start(ctx, "fetch "+f.channel)
	defer span.End()
	refs := map[string]*pb.AttachmentRef{}
	for _, a := range event.GetAttachments() {
		if inbound.Unfetched(a) {
			refs[a.GetId()] = a
		}
	}
	for _, part := range event.GetParts() {
		if part.GetCategory() != pb.Category_CATEGORY_CONTENT {
			continue
		}
		content := &pb.Content{}
		if ok, err := f.open(ctx, event, part, seal.OriginContent(event.GetMessageId(), event.GetOrderUs()), content); err != nil {
			return err
		} else if !ok {
			continue
		}
		for _, named := range content.GetAttachments() {
			ref := refs[named.GetId()]
			if ref == nil {
				continue
			}
			delete(refs, named.GetId())
			got, err := f.fetchFile(ctx, event, part, ref, named)
			if err != nil {
				return err
			}
			if got == nil {
				continue
			}
			if err := f.publisher.publish(ctx, f.attachmentEvent(event, got)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetchFile gives an attachment completed, or with the reason why it will never be there; nil where its
// person is gone.
func (f *fetcher) fetchFile(ctx context.Context, event *pb.ChannelEvent, part *pb.SealedPart, ref *pb.AttachmentRef, named *pb.Attachment) (*pb.AttachmentRef, error) {
	object := media.ObjectName(event.GetWorkspaceId(), ref.GetId())
	found, err := f.bucket.Find(ctx, object)
	switch {
	case err == nil && found.GetKey().GetKeyId() == part.GetKeyId():
		f.meters.fetched(ctx, "attachment", "there")
		return found, nil
	case err == nil || errors.Is(err, seal.ErrForged): // not what it should be: it is replaced
		if err := f.bucket.Delete(ctx, object); err != nil {
			return nil, err
		}
	case !errors.Is(err, media.ErrNotFound):
		return nil, err
	}
	failed := func(reason string) (*pb.AttachmentRef, error) {
		f.meters.fetched(ctx, "attachment", reason)
		lost := proto.CloneOf(ref)
		lost.Failed = reason
		return lost, nil
	}
	conn, err := f.connection(ctx, event)
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return failed(reasonNotConnected)
	}
	at := channel.MediaRef{URL: named.GetUrl(), ExternalID: named.GetExternalId(), ContentType: ref.GetContentType()}
	if refusal := f.locate(ctx, conn, &at); refusal != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := f.revoked(ctx, event, refusal); err != nil {
			return nil, err
		}
		return failed(refused(refusal).GetErrorCode())
	}
	request, err := f.askMedia(ctx, conn, at)
	if err != nil {
		return failed(refused(err).GetErrorCode())
	}
	for try := 1; ; try++ {
		got, err := f.fetchOnce(ctx, event, part, ref, request)
		var failure *media.Failure
		switch {
		case err == nil && got == nil:
			return nil, nil
		case err == nil:
			f.meters.fetched(ctx, "attachment", "fetched")
			return got, nil
		case !errors.As(err, &failure):
			return nil, err
		case !failure.Transient || try >= f.cfg.FetchTries:
			f.log.InfoContext(ctx, "egress: attachment not fetched", "channel", f.channel, "attachment", ref.GetId(), "reason", failure.Reason)
			return failed(failure.Reason)
		}
		if err := f.sleep(ctx, fetchPause<<(try-1)); err != nil {
			return nil, err
		}
	}
}

// locate completes a ref that an event left without an address, where the provider can say more.
func (f *fetcher) locate(ctx context.Context, conn *channel.Connection, at *channel.MediaRef) *channel.Error {
	locator, ok := f.provider.(channel.Locator)
	if !ok || at.URL != "" {
		return nil
	}
	return f.insist(ctx, func() (err error) {
		//bound:exempt askTimeout says it
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		defer recovered(ctx, f.log, conn, &err)
		found, err := locator.Locate(ctx, conn, *at)
		if err == nil {
			*at = found
		}
		return err
	})
}

func (f *fetcher) askMedia(ctx context.Context, conn *channel.Connection, ref channel.MediaRef) (r channel.MediaRequest, err error) {
	defer recovered(ctx, f.log, conn, &err)
	return f.provider.Media(conn, ref)
}

// fetchOnce streams a file into the bucket. Nil where its person is gone.
func (f *fetcher) fetchOnce(ctx context.Context, event *pb.ChannelEvent, part *pb.SealedPart, ref *pb.AttachmentRef, request channel.MediaRequest) (*pb.AttachmentRef, error) {
	file, err := f.media.Fetch(ctx, request, ref.GetContentType())
	if err != nil {
		return nil, err
	}
	defer file.Body.Close()
	// The key is asked for only now: waiting for a provider may outlast what a key may be kept for.
	subject, ok, err := f.subject(ctx, event, part)
	if err != nil || !ok {
		return nil, err
	}
	completed := proto.CloneOf(ref)
	completed.ContentType = file.ContentType
	return f.bucket.Store(ctx, subject, completed, file.Body)
}

// subject gives a part's subject with its key; false where it is gone, restricted or another workspace's.
func (f *fetcher) subject(ctx context.Context, event *pb.ChannelEvent, part *pb.SealedPart) (seal.Subject, bool, error) {
	keys, _, err := f.keys.Keys(ctx, event.GetWorkspaceId(), pb.Purpose_PURPOSE_DELIVERY, []string{part.GetKeyId()})
	if err != nil {
		return seal.Subject{}, false, err
	}
	s, ok := keys[part.GetKeyId()]
	return s, ok && s.ID == part.GetSubjectId(), nil
}

// open opens a part into m; false where that can't ever be done.
func (f *fetcher) open(ctx context.Context, event *pb.ChannelEvent, part *pb.SealedPart, origin seal.Origin, m proto.Message) (bool, error) {
	opened, err := f.keys.Open(ctx, pb.Purpose_PURPOSE_DELIVERY, []seal.Sealed{{Workspace: event.GetWorkspaceId(), Part: part, Origin: origin}})
	if err != nil {
		return false, err
	}
	code := unopened(opened[0], m)
	if code == codeUnreadable {
		f.log.ErrorContext(ctx, "egress: an event's part does not open", "channel", f.channel, "event", event.GetId())
	}
	return code == "", nil
}

// connection gives an event's connection with credentials; nil where it is not active or has none.
func (f *fetcher) connection(ctx context.Context, event *pb.ChannelEvent) (*channel.Connection, error) {
	active := func() (*pb.Connection, bool) {
		c, ok := f.accounts.Connection(event.GetConnectionId())
		return c, ok && c.GetWorkspaceId() == event.GetWorkspaceId() && c.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE
	}
	c, ok := active()
	if !ok {
		if err := f.accounts.Confirm(ctx, time.Now()); err != nil {
			return nil, err
		}
		if c, ok = active(); !ok {
			return nil, nil
		}
	}
	if conn, err := f.accounts.Opened(ctx, c); err == nil {
		return conn, nil
	} else if ctx.Err() == nil {
		f.log.WarnContext(ctx, "egress: no credentials", "connection", c.GetId(), "error", err)
	}
	return nil, ctx.Err()
}

// attachmentEvent says what became of an attachment. The newest counts, so one that failed once may still
// be fetched by a replay; the id is made of what it says, so that a double is dropped as seen.
func (f *fetcher) attachmentEvent(of *pb.ChannelEvent, ref *pb.AttachmentRef) *pb.ChannelEvent {
	said := "failed/" + ref.GetFailed()
	if ref.GetFailed() == "" {
		sum := sha256.Sum256(ref.GetKey().GetCiphertext())
		said = "fetched/" + hex.EncodeToString(sum[:8])
	}
	e := f.event(of, pb.EventType_EVENT_TYPE_ATTACHMENT)
	e.Id = channel.EventID(of.GetConnectionId(), "attachment", ref.GetId()+"/"+said, time.Time{})
	e.MessageId, e.TargetExternalId = of.GetMessageId(), of.GetExternalId()
	if of.GetType() == pb.EventType_EVENT_TYPE_EDIT {
		e.TargetExternalId = of.GetTargetExternalId()
	}
	e.Attachments = []*pb.AttachmentRef{ref}
	return e
}

// revoked tells, as a send does, that the provider calls a connection's credentials void, where it refused for that.
func (f *fetcher) revoked(ctx context.Context, of *pb.ChannelEvent, refusal *channel.Error) error {
	if refusal.Class != channel.ClassReauthorise {
		return nil
	}
	f.log.WarnContext(ctx, "egress: the provider calls a connection's credentials void", "connection", of.GetConnectionId(), "code", refusal.Code)
	now := f.clock.NowMicros()
	return f.publisher.publish(ctx, &pb.ChannelEvent{
		Id:          channel.EventID(of.GetConnectionId(), channel.TypeRevocation, "egress/fetch/"+of.GetId(), time.Time{}),
		WorkspaceId: of.GetWorkspaceId(), ConnectionId: of.GetConnectionId(), Channel: f.channel,
		Type: pb.EventType_EVENT_TYPE_REVOCATION, OrderUs: now, ReceivedAtUs: now, OrderReceived: true, SourceType: "egress",
		Reason: refusal.Code,
	})
}

// event makes an event that follows from another.
func (f *fetcher) event(of *pb.ChannelEvent, t pb.EventType) *pb.ChannelEvent {
	now := f.clock.NowMicros()
	return &pb.ChannelEvent{
		WorkspaceId: of.GetWorkspaceId(), ConnectionId: of.GetConnectionId(), Channel: f.channel, ConversationKey: of.GetConversationKey(),
		Type: t, OrderUs: now, ReceivedAtUs: now, OrderReceived: true, Direction: of.GetDirection(),
		AuthorSubject: of.GetAuthorSubject(), ContactSubject: of.GetContactSubject(), IdentityKind: of.GetIdentityKind(),
		Thread: of.GetThread(), SourceType: "egress",
	}
}
