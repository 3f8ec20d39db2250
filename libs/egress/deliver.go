package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"tributary.dev/libs/channel"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// callTries is how often a message is offered in place to a provider that surely did not take it.
//
//bound:retry a call that the provider surely did not take | {} tries | deferred
const callTries = 3

// openFor is how long what was opened may be sent: nothing is, to a person whose keys were frozen much
// longer ago than caches live.
//
//bound:timeout sending what was opened | {} | deferred, and opened anew
const openFor = 30 * time.Second

// outcome is what became of a command, as the event that says so, and the revocation of its connection
// where the provider called its credentials void.
type outcome struct {
	events []*pb.ChannelEvent
	trace  trace.SpanContext
}

// deliver carries out a command that was committed, or finds that it is not to be carried out. The
// provider is called only here.
func (s *sender) deliver(t *taken) outcome {
	ctx := trace.ContextWithRemoteSpanContext(s.calls, t.trace)
	ctx, span := s.tracer.Start(ctx, "send "+s.channel, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("tributary.message_id", t.cmd.GetMessageId()), attribute.String("tributary.connection_id", t.cmd.GetConnectionId()),
		attribute.Int("tributary.part", int(t.cmd.GetPart())), attribute.Int("tributary.attempt", int(t.cmd.GetAttempt()))))
	defer span.End()
	verdict, revoked := t.verdict, ""
	if verdict == nil {
		verdict, revoked = s.offer(ctx, t)
	}
	span.SetAttributes(attribute.String("tributary.status", word(verdict.GetStatus())), attribute.String("tributary.code", verdict.GetErrorCode()))
	s.meters.sent(ctx, verdict)
	o := outcome{trace: span.SpanContext()}
	if revoked != "" {
		s.log.WarnContext(ctx, "egress: the provider calls a connection's credentials void", "connection", t.cmd.GetConnectionId(), "code", revoked)
		o.events = append(o.events, s.revocation(t.cmd, revoked))
	}
	o.events = append(o.events, s.receipt(t.cmd, verdict))
	return o
}

// report hands an outcome over until it is durable. Only the end of the process ends that before: what was
// sent is then unknown to the conversation service.
func (s *sender) report(o outcome) {
	ctx := trace.ContextWithSpanContext(s.reports, o.trace)
	for _, event := range o.events {
		if s.insist(ctx, "receipts", func() error { return s.receipts.Report(ctx, event) }) != nil {
			s.log.ErrorContext(ctx, "egress: an outcome was not reported", "connection", event.GetConnectionId(), "message", event.GetReceipt().GetMessageId())
		}
	}
}

// offer calls the provider, again where it surely did not take the message and asks for no long pause. All
// of it ends within LongestCall of when the first call began.
func (s *sender) offer(ctx context.Context, t *taken) (verdict *pb.Receipt, revoked string) {
	//bound:timeout all calls for one command | {TRIBUTARY_SEND_LONGEST_CALL}, else the channel's longest_call | unknown
	ctx, cancel := context.WithTimeout(ctx, s.cfg.LongestCall)
	defer cancel()
	for try := 1; ; try++ {
		if verdict := s.forbidden(t); verdict != nil {
			return verdict, ""
		}
		sent, err := s.call(ctx, t.out)
		if err == nil {
			return &pb.Receipt{Status: pb.Status_STATUS_SENT, ExternalId: sent.ExternalID, SentOrderUs: sent.Order}, ""
		}
		verdict, revoked := s.verdict(ctx, t, err)
		wait := time.UnixMicro(verdict.GetNotBeforeUs()).Sub(s.clock.Now())
		again := verdict.GetStatus() == pb.Status_STATUS_DEFERRED && !verdict.GetUntilActive() && wait <= s.cfg.Hold
		if !again || try == callTries {
			return verdict, revoked
		}
		if s.pauseHere(ctx, wait) != nil {
			return verdict, ""
		}
	}
}

// forbidden says why a call may not begin now.
func (s *sender) forbidden(t *taken) *pb.Receipt {
	now := s.clock.Now()
	if s.stopping.Err() != nil {
		return deferred(codeStopping, time.Time{})
	}
	if s.late(t, now) {
		return deferred(codeLate, time.Time{})
	}
	if now.Sub(t.opened) > openFor {
		return deferred(codeWaited, time.Time{})
	}
	if until := s.pace.paused(t.paceKey, now); !until.IsZero() {
		return deferred(codePaced, until)
	}
	return nil
}

// call makes one call. A panic in an adapter is an answer that says nothing.
func (s *sender) call(ctx context.Context, out *channel.Outgoing) (sent channel.Sent, err error) {
	defer recovered(ctx, s.log, out.Connection, &err)
	return s.provider.Send(ctx, out)
}

// recovered makes a panic in an adapter an error. What it panicked with is not logged: it may quote data.
func recovered(ctx context.Context, log *slog.Logger, conn *channel.Connection, err *error) {
	if p := recover(); p != nil {
		log.ErrorContext(ctx, "egress: adapter panicked", "channel", conn.Channel, "connection", conn.ID, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = &channel.Error{Code: codePanic}
	}
}

// verdict says what a failed call means. A definite refusal is failed; what was surely not taken is
// deferred; anything else is unknown, for the provider may have it.
func (s *sender) verdict(ctx context.Context, t *taken, err error) (r *pb.Receipt, revoked string) {
	now := s.clock.Now()
	var e *channel.Error
	if !errors.As(err, &e) {
		switch {
		case s.calls.Err() != nil:
			return unknown(0, codeCutOff), ""
		case ctx.Err() != nil:
			return unknown(0, codeTimeout), ""
		}
		return unknown(0, codeNoAnswer), ""
	}
	if e.RetryAfter > 0 {
		s.pace.pause(t.paceKey, now, now.Add(e.RetryAfter))
	}
	switch e.Class {
	case channel.ClassReject, channel.ClassWindowClosed, channel.ClassOptedOut, channel.ClassExpired:
		return refused(e), ""
	case channel.ClassReauthorise:
		return untilActive(e.Code, now.Add(s.backoff(t.cmd))), e.Code
	case channel.ClassRetry:
		if e.NotTaken {
			pause := e.RetryAfter
			if pause <= 0 {
				pause = s.backoff(t.cmd)
			}
			r := deferred(e.Code, now.Add(pause))
			r.ErrorClass = pb.ErrorClass_ERROR_CLASS_RETRY
			return r, ""
		}
	}
	return unknown(errorClass(e.Class), e.Code), ""
}

// pauseHere waits before a message is offered again, unless the process is to stop.
func (s *sender) pauseHere(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	return s.sleep(ctx, d)
}
