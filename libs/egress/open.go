package egress

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// Words for Receipt.error_code that are ours; others are the provider's.
const (
	codeGone         = "gone"          // the person was erased
	codeRestricted   = "restricted"    // the person's data may not be used
	codeUnreadable   = "unreadable"    // the command's parts don't belong to it
	codeNoConnection = "no_connection" // there is none of this id in the workspace
	codeDisabled     = "disabled"      // it was disconnected
	codeInactive     = "inactive"      // it waits for new credentials
	codeCredentials  = "credentials"   // they can't be opened at present
	codeUnsupported  = "unsupported"   // the channel refused without saying why
	codeLate         = "late"          // the command is too old to begin
	codeWaited       = "waited"        // it was opened too long ago to be sent
	codeStopping     = "stopping"      // the process is to end
	codePaced        = "paced"         // the provider's limit is reached, or ours for a connection
	codeTimeout      = "timeout"       // no answer in time
	codeCutOff       = "cut_off"       // the process ended during the call
	codeNoAnswer     = "no_answer"     // the call failed in a way that says nothing
	codePanic        = "panic"
)

// credentialsPause is how long a connection is left alone whose credentials can't be opened.
const credentialsPause = time.Minute

// open makes each command ready to be sent, or gives it its verdict. It waits for the registry and for the
// connections' state: an error means that ctx has ended.
func (s *sender) open(ctx context.Context, all []*taken) error {
	var sealed []seal.Sealed
	var of []*taken
	for _, t := range all {
		conn, verdict, err := s.connection(ctx, t.cmd)
		if err != nil {
			return err
		}
		if verdict != nil {
			t.verdict = verdict
			continue
		}
		t.out = s.outgoing(t.cmd, conn)
		of = append(of, t)
		sealed = append(sealed, sealedParts(t.cmd)...)
	}
	var opened []seal.Opened
	if len(sealed) > 0 {
		if err := s.insist(ctx, "key registry", func() (err error) {
			opened, err = s.keys.Open(ctx, pb.Purpose_PURPOSE_DELIVERY, sealed)
			return err
		}); err != nil {
			return err
		}
	}
	for _, t := range of {
		n := len(sealedParts(t.cmd))
		t.opened = s.clock.Now()
		t.verdict = s.fill(t, opened[:n])
		opened = opened[n:]
	}
	return nil
}

// connection gives the command's connection with its credentials, or why nothing can be sent over it.
func (s *sender) connection(ctx context.Context, cmd *pb.Command) (*channel.Connection, *pb.Receipt, error) {
	c, ok := s.accounts.Connection(cmd.GetConnectionId())
	if !ok || c.GetStatus() != pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE {
		// The table may be behind: it is asked again once it has caught up with now.
		since := time.Now()
		if err := s.insist(ctx, "connections", func() error { return s.accounts.Confirm(ctx, since) }); err != nil {
			return nil, nil, err
		}
		c, ok = s.accounts.Connection(cmd.GetConnectionId())
	}
	switch {
	case !ok || c.GetWorkspaceId() != cmd.GetWorkspaceId() || c.GetChannel() != s.channel:
		return nil, failed(pb.ErrorClass_ERROR_CLASS_REJECT, codeNoConnection), nil
	case c.GetStatus() == pb.ConnectionStatus_CONNECTION_STATUS_DISABLED:
		return nil, failed(pb.ErrorClass_ERROR_CLASS_REJECT, codeDisabled), nil
	case c.GetStatus() != pb.ConnectionStatus_CONNECTION_STATUS_ACTIVE:
		return nil, untilActive(codeInactive, time.Time{}), nil
	}
	conn, err := s.accounts.Opened(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		s.log.WarnContext(ctx, "egress: no credentials", "connection", c.GetId(), "error", err)
		return nil, deferred(codeCredentials, s.clock.Now().Add(credentialsPause)), nil
	}
	return conn, nil, nil
}

// sealedParts are a command's, in the order in which fill takes them.
func sealedParts(cmd *pb.Command) []seal.Sealed {
	parts := []seal.Sealed{{
		Workspace: cmd.GetWorkspaceId(), Part: cmd.GetContent(),
		Origin: seal.OriginCommand(cmd.GetMessageId(), cmd.GetPart(), cmd.GetAttempt()),
	}}
	if cmd.GetAddress() != nil {
		parts = append(parts, seal.Sealed{Workspace: cmd.GetWorkspaceId(), Part: cmd.GetAddress(), Origin: seal.OriginProfile(cmd.GetSubjectId())})
	}
	for _, a := range attachments(cmd) {
		parts = append(parts, seal.Sealed{Workspace: cmd.GetWorkspaceId(), Part: a.GetKey(), Origin: seal.OriginAttachment(a.GetId())})
	}
	return parts
}

// attachments of a command: the one that it is, and those that go with its text.
func attachments(cmd *pb.Command) []*pb.AttachmentRef {
	if cmd.GetAttachment() != nil {
		return append([]*pb.AttachmentRef{cmd.GetAttachment()}, cmd.GetAttachments()...)
	}
	return cmd.GetAttachments()
}

// fill completes what is sent with what was opened; a verdict where that can't be done.
func (s *sender) fill(t *taken, opened []seal.Opened) *pb.Receipt {
	content, profile := &pb.Content{}, &pb.Profile{}
	into := []proto.Message{content}
	if t.cmd.GetAddress() != nil {
		into = append(into, profile)
	}
	for i, o := range opened {
		var m proto.Message
		if i < len(into) {
			m = into[i]
		}
		if code := unopened(o, m); code != "" {
			return failed(pb.ErrorClass_ERROR_CLASS_REJECT, code)
		}
	}
	t.out.Text, t.out.To = content.GetText(), profile.GetIdentityValue()
	t.out.Subject, t.out.References = content.GetSubject(), content.GetReferences()
	for i, a := range attachments(t.cmd) {
		file := s.attachment(t.cmd, a, opened[len(into)+i].Plain, content)
		if a == t.cmd.GetAttachment() {
			t.out.Attachment = file
		} else {
			t.out.Attachments = append(t.out.Attachments, file)
		}
	}
	return nil
}

func (s *sender) attachment(cmd *pb.Command, a *pb.AttachmentRef, key []byte, content *pb.Content) *channel.OutgoingAttachment {
	file := &channel.OutgoingAttachment{
		ContentType: a.GetContentType(), Size: a.GetSize(),
		Open: func(ctx context.Context) (io.ReadCloser, error) { return s.bucket.Open(ctx, a.GetObject(), key) },
	}
	if s.links != nil {
		file.URL = s.links.URL(cmd.GetWorkspaceId(), a.GetId())
	}
	for _, named := range content.GetAttachments() {
		if named.GetId() == a.GetId() {
			file.Name = named.GetName()
		}
	}
	return file
}

// unopened says why a part is of no use; "" where it was opened into m (nil: its plain bytes are wanted).
func unopened(o seal.Opened, m proto.Message) (code string) {
	switch {
	case errors.Is(o.Err, seal.ErrGone):
		return codeGone
	case errors.Is(o.Err, seal.ErrRestricted):
		return codeRestricted
	case o.Err != nil || m != nil && proto.Unmarshal(o.Plain, m) != nil:
		return codeUnreadable
	}
	return ""
}

func (s *sender) outgoing(cmd *pb.Command, conn *channel.Connection) *channel.Outgoing {
	out := &channel.Outgoing{
		Connection: conn, MessageID: cmd.GetMessageId(), Part: cmd.GetPart(), Attempt: cmd.GetAttempt(),
		ConversationKey: cmd.GetConversationKey(),
		Thread:          channel.Thread{ID: cmd.GetThread().GetId(), Group: cmd.GetThread().GetGroup()},
		ReplyTo:         cmd.GetReplyToExternalId(), ByMember: cmd.GetByMember(), CallbackURL: s.callbackURL(cmd),
		Now: s.clock.Now(),
	}
	if last := cmd.GetLastInboundUs(); last != 0 {
		out.LastInbound = time.UnixMicro(last)
	}
	return out
}

// callbackURL is where the provider sends receipts of this part; nothing in it is personal.
func (s *sender) callbackURL(cmd *pb.Command) string {
	if s.cfg.PublicURL == "" {
		return ""
	}
	q := url.Values{
		"m": {cmd.GetMessageId()}, "k": {cmd.GetConversationKey()},
		"p": {strconv.Itoa(int(cmd.GetPart()))}, "a": {strconv.Itoa(int(cmd.GetAttempt()))},
	}
	return strings.TrimRight(s.cfg.PublicURL, "/") + "/webhooks/" + s.channel + "/" + url.PathEscape(cmd.GetConnectionId()) + "?" + q.Encode()
}

// admit asks the channel whether it can send this at all, and gives it its turn: due, or deferred where
// that is too far off.
func (s *sender) admit(t *taken) {
	if t.verdict != nil {
		return
	}
	pace, err := s.ask(t.out)
	if err != nil {
		t.verdict = refused(err)
		return
	}
	now := s.clock.Now()
	if s.late(t, now) {
		t.verdict = deferred(codeLate, time.Time{})
		return
	}
	if !s.pace.sit(t.cmd.GetConnectionId()) {
		t.verdict = deferred(codePaced, now.Add(s.backoff(t.cmd)))
		return
	}
	t.seated = true
	t.paceKey = t.cmd.GetConnectionId() + "/" + pace.Key
	due, notBefore := s.pace.reserve(t.paceKey, pace, now)
	if !notBefore.IsZero() {
		t.verdict = deferred(codePaced, notBefore)
		return
	}
	t.due = due
}

// ask gives the limit that a message comes under; an error is why the channel can't send it.
func (s *sender) ask(out *channel.Outgoing) (pace channel.Pace, err error) {
	defer recovered(s.calls, s.log, out.Connection, &err)
	if err := s.provider.Check(out); err != nil {
		return channel.Pace{}, err
	}
	return s.provider.Pace(out), nil
}

// late: a call for this command may no longer begin. A position is the relay's clock in microseconds, or
// above it.
func (s *sender) late(t *taken, now time.Time) bool {
	return now.Sub(time.UnixMicro(t.cmd.GetPosition())) > s.cfg.Late
}

// backoff grows with the attempts that a part has had.
func (s *sender) backoff(cmd *pb.Command) time.Duration {
	return min(s.cfg.Hold<<min(max(cmd.GetAttempt(), 1)-1, 5), time.Minute)
}
