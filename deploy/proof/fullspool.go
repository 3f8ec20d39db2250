package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"tributary.dev/deploy/mesh"
)

const (
	// spoolBound is the least that a spool may be given, and smallDisk less than that.
	spoolBound = 1 << 20
	smallDisk  = 512 << 10
)

// full spools: Slack's by its bound, that of text messages because its disk has no more room; where none can be
// made (it takes root), by its bound too.
type fullSpool struct {
	service, reason string
}

// fillSpools sends webhooks while the broker is away until the spools are full: they are refused from then on,
// and that is counted. What was taken before is home when the broker is back.
func (r *run) fillSpools(ctx context.Context, fresh []uint32) (err error) {
	slack, sms := fullSpool{"slack", "spool_full"}, fullSpool{"sms", "spool"}
	if err := r.restartWith(ctx, slack.service, "TRIBUTARY_SPOOL_BYTES", fmt.Sprint(spoolBound)); err != nil {
		return err
	}
	folder := filepath.Join(r.options.data, "small-disk")
	remove, err := mesh.SmallDisk(folder, smallDisk)
	if err == nil {
		defer func() { err = errors.Join(err, r.of(sms.service, 1).Kill(), remove()) }()
		err = r.restartWith(ctx, sms.service, "TRIBUTARY_DATA", folder)
	} else {
		r.say("NOT RUN with a disk that is full: %v", err)
		sms.reason = "spool_full"
		err = r.restartWith(ctx, sms.service, "TRIBUTARY_SPOOL_BYTES", fmt.Sprint(spoolBound))
	}
	if err != nil {
		return err
	}
	if err := r.own.parts.Broker.Kill(); err != nil {
		return err
	}
	r.sender.lasting, r.sender.tries = 0, 1
	half := len(fresh) / 2
	if err := r.sender.deliverAll(ctx, fresh[:half]); err != nil {
		return err
	}
	if err := r.fill(ctx, slack, sms); err != nil {
		return err
	}
	taken := r.sender.taken.Load()
	if err := r.sender.deliverAll(ctx, fresh[half:]); err != nil {
		return err
	}
	r.say("outage: with the spools full %d of %d webhooks were taken", r.sender.taken.Load()-taken, len(fresh)-half)
	r.sender.tries = 0
	if err := r.own.parts.Broker.Start(ctx); err != nil {
		return err
	}
	spooled, err := r.cameHome(ctx)
	if err != nil {
		r.broken("the spools were full: %v", err)
	}
	r.say("outage: %.0f events came home from full spools", spooled)
	// Only what was refused is sent again: a repetition would hide what was taken and dropped.
	var refused []uint32
	for _, e := range fresh {
		if _, accepted := r.ledger.when(int(e)); accepted == 0 {
			refused = append(refused, e)
		}
	}
	if err := r.sender.deliverAll(ctx, refused); err != nil {
		return err
	}
	if _, err := r.cameHome(ctx); err != nil {
		r.broken("%v", err)
	}
	if err := mesh.Eventually(ctx, r.patience(), func() error { return r.Drained(ctx) }); err != nil {
		return err
	}
	return r.nobodyDied(ctx)
}

// fill repeats webhooks until each of the services has refused some for its spool.
func (r *run) fill(ctx context.Context, spools ...fullSpool) error {
	again := shuffled(r.traffic.events(), 8, r.seed, 4)
	for begun := time.Now(); ; {
		if err := r.sender.deliverAll(ctx, again); err != nil {
			return err
		}
		left := ""
		for _, s := range spools {
			n, err := r.of(s.service, 1).Metric(ctx, "tributary_webhooks_refused_total", fmt.Sprintf("reason=%q", "unavailable_"+s.reason))
			if err != nil {
				return err
			}
			if n == 0 {
				left += " " + s.service
			}
		}
		if left == "" {
			return nil
		}
		if time.Since(begun) > 2*time.Minute {
			return fmt.Errorf("no webhook is refused for a full spool by%s", left)
		}
	}
}

// restartWith starts a service anew with a setting.
func (r *run) restartWith(ctx context.Context, service, name, value string) error {
	p := r.of(service, 1)
	stopping, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := p.Stop(stopping); err != nil {
		return err
	}
	p.Set(name, value)
	return p.Start(ctx)
}
