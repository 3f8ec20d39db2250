package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/ingress/spool"
	"tributary.dev/libs/seal"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// What the drain takes at once.
const (
	//bound:queue entries of the spool that are drained at once | {} | the others wait on disk
	drainEntries = 256
	//bound:queue bytes of the spool that are drained at once | {bytes} | the others wait on disk
	drainBytes = 4 << 20
)

// Drain brings the spool home until ctx ends: the oldest entries first, again and again while registry or
// brokers fail. What fails for its data is set aside.
func (in *Ingress) Drain(ctx context.Context) error {
	//bound:retry draining the spool | growing to {Config.DrainPause} | goes on; the oldest entries first
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, in.cfg.DrainPause
	pause.Reset()
	for ctx.Err() == nil {
		n, err := in.drainBatch(ctx)
		switch {
		case err != nil:
			in.Telemetry.Log.WarnContext(ctx, "ingress: the spool waits", "channel", in.Adapter.Name(), "reason", drainFault(err))
			wait(ctx, pause.NextBackOff(), nil)
		case n == 0:
			pause.Reset()
			wait(ctx, time.Minute, in.arrived)
		default:
			pause.Reset()
		}
	}
	return nil
}

// Flush drains until nothing is left, or ctx ends: then what is left stays on the volume.
func (in *Ingress) Flush(ctx context.Context) error {
	for {
		n, err := in.drainBatch(ctx)
		switch {
		case err == nil && n == 0:
			return nil
		case ctx.Err() != nil:
			segments, _ := in.spool.Bytes()
			return fmt.Errorf("ingress: %d bytes are left in the spool", segments)
		case err != nil:
			wait(ctx, 200*time.Millisecond, nil)
		}
	}
}

// drainBatch publishes the oldest entries and tells how many they were. An error is the registry's, the
// brokers' or the disk's: the entries stay.
func (in *Ingress) drainBatch(ctx context.Context) (int, error) {
	select {
	case in.draining <- struct{}{}:
		defer func() { <-in.draining }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	batch, err := in.spool.Next(drainEntries, drainBytes)
	if err != nil || len(batch.Records) == 0 {
		return 0, err
	}
	if err := in.bringHome(ctx, batch.Records); err != nil {
		return 0, err
	}
	if err := in.spool.Done(batch); err != nil {
		return 0, err
	}
	if batch.Damaged > 0 {
		in.metrics.add(ctx, in.metrics.damage, int(batch.Damaged))
		in.Telemetry.Log.ErrorContext(ctx, "ingress: a part of the spool is damaged and was kept aside", "channel", in.Adapter.Name(), "bytes", batch.Damaged)
	}
	return len(batch.Records), nil
}

// bringHome publishes records, or sets them aside. Where registry or brokers refuse the batch for what
// is in it, it is halved until the one at fault is alone.
func (in *Ingress) bringHome(ctx context.Context, records []spool.Record) error {
	err := in.bringAll(ctx, records)
	if err == nil || !dataFault(err) {
		return err
	}
	if len(records) == 1 {
		in.putAside(ctx, records[0], "refused")
		return nil
	}
	half := len(records) / 2
	if err := in.bringHome(ctx, records[:half]); err != nil {
		return err
	}
	return in.bringHome(ctx, records[half:])
}

func (in *Ingress) bringAll(ctx context.Context, records []spool.Record) error {
	drained, err := in.open(ctx, records)
	if err != nil {
		return err
	}
	var items []item
	var of []int // the record of each item
	for i := range drained {
		if d := &drained[i]; d.fault == "" {
			if d.item.SignedAt.IsZero() {
				d.item.SignedAt = d.item.ReceivedAt
			}
			items, of = append(items, d.item), append(of, i)
		}
	}
	//bound:timeout a call that drains the spool | {Config.DrainTimeout} | drained again later
	within, cancel := context.WithTimeout(ctx, in.cfg.DrainTimeout)
	defer cancel()
	outcomes, err := in.seal(within, items, in.answer)
	if err != nil {
		return err
	}
	if msgs := messages(outcomes); len(msgs) > 0 {
		//bound:timeout a call that drains the spool | {Config.DrainTimeout} | drained again later
		within, cancel := context.WithTimeout(ctx, in.cfg.DrainTimeout)
		defer cancel()
		if err := in.publish(within, msgs); err != nil {
			return err
		}
	}
	for i, o := range outcomes {
		drained[of[i]].fault = o.fault
	}
	for i, d := range drained {
		if d.fault != "" {
			in.putAside(ctx, records[i], d.fault)
		}
	}
	in.counted(ctx, outcomes)
	in.metrics.add(ctx, in.metrics.drained, eventsOf(outcomes))
	return nil
}

// opened is a record's item, or why there is none.
type opened struct {
	item  item
	fault string
}

func (in *Ingress) open(ctx context.Context, records []spool.Record) ([]opened, error) {
	out := make([]opened, len(records))
	entries := make([]*pb.SpoolEntry, len(records))
	var questions []*pb.OpenSpoolRequest_Item
	var of []int // the record of each question
	for i, r := range records {
		e := &pb.SpoolEntry{}
		if proto.Unmarshal(r.Data, e) != nil || !seal.ValidID(e.GetSpoolKeyId()) {
			out[i].fault = "undecodable"
			continue
		}
		entries[i], of = e, append(of, i)
		questions = append(questions, &pb.OpenSpoolRequest_Item{SpoolKeyId: e.GetSpoolKeyId(), Enc: e.GetEnc(), SealedKey: e.GetSealedKey()})
	}
	if len(questions) == 0 {
		return out, nil
	}
	//bound:timeout a call that drains the spool | {Config.DrainTimeout} | drained again later
	within, cancel := context.WithTimeout(ctx, in.cfg.DrainTimeout)
	defer cancel()
	answers, err := in.Registry.OpenSpool(within, questions)
	if err != nil {
		return nil, err
	}
	for j, a := range answers {
		i := of[j]
		plain, err := seal.OpenSpoolEntry(a.GetKey(), entries[i].GetCiphertext())
		switch {
		case a.GetLost():
			out[i].fault = "key_lost"
		case err != nil:
			out[i].fault = "forged"
		case json.Unmarshal(plain, &out[i].item) != nil:
			out[i].fault = "undecodable"
		}
	}
	return out, nil
}

// putAside sets a record of the spool aside, whatever becomes of it: where there is no room for it by itself, with
// its segment. Nothing behind it waits.
func (in *Ingress) putAside(ctx context.Context, r spool.Record, why string) {
	if in.setAside(ctx, r.At, r.Data, why) != nil {
		in.spool.KeepSegment(r)
		in.alarm(ctx, why)
	}
}

// setAside keeps an entry where nothing reads it, says why, and alarms.
func (in *Ingress) setAside(ctx context.Context, at time.Time, entry []byte, why string) error {
	e := &pb.SpoolEntry{}
	if proto.Unmarshal(entry, e) == nil && e.GetSetAside() != why {
		e.SetAside = why
		if noted, err := proto.Marshal(e); err == nil {
			entry = noted
		}
	}
	if err := in.spool.SetAside(at, entry); err != nil {
		return err
	}
	in.alarm(ctx, why)
	return nil
}

func (in *Ingress) alarm(ctx context.Context, why string) {
	in.metrics.add(ctx, in.metrics.setAside, 1, reason(why))
	in.Telemetry.Log.ErrorContext(ctx, "ingress: an event was set aside", "channel", in.Adapter.Name(), "reason", why)
}

// dataFault tells whether trying the same again can't help.
func dataFault(err error) bool {
	if err == nil {
		return false
	}
	if _, ok := bus.IsDataFault(err); ok {
		return true
	}
	var refusal interface{ GRPCStatus() *status.Status }
	invalid := errors.As(err, &refusal) && refusal.GRPCStatus().Code() == codes.InvalidArgument
	return invalid || errors.Is(err, bus.ErrTooLarge) || errors.Is(err, seal.ErrInvalid)
}

// drainFault names an error for the log; its text may be anybody's.
func drainFault(err error) string {
	switch {
	case errors.Is(err, seal.ErrUnavailable):
		return "registry"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, spool.ErrFull):
		return "spool full"
	}
	return "brokers or disk"
}

// wait for a while, for wake, or for ctx to end.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	//bound:exempt as long as its caller says, and no longer than the context
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
}
