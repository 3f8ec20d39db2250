package registry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"tributary.dev/libs/app"
)

// Jobs are what runs beside the server. Each is due on its own, so that one that fails holds up no other.
func (r *Registry) Jobs() []app.Job {
	return []app.Job{
		{Name: "registry-relay", Run: r.runRelay},
		r.upkeep("registry-spool-keys", r.keepSpoolKeys),
		r.upkeep("registry-erased-lists", r.keepErasedLists),
		r.upkeep("registry-secrets", r.destroyDue),
		r.upkeep("registry-backup", r.backUpWhenDue),
		r.upkeep("registry-epoch", r.turnWhenDue),
		r.upkeep("registry-sweep", func(ctx context.Context) error { _, err := r.Sweep(ctx); return err }),
	}
}

// upkeep does f at once and then at every interval.
func (r *Registry) upkeep(name string, f func(context.Context) error) app.Job {
	return app.Job{Name: name, Run: func(ctx context.Context) error {
		tick := time.NewTicker(r.cfg.Upkeep)
		defer tick.Stop()
		for {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				r.failed(ctx, name, err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}}
}

// destroyDue destroys secrets that nothing refers to; those that wait for a backup go with the turn.
func (r *Registry) destroyDue(ctx context.Context) error {
	names, err := r.doomed(ctx, 0)
	if err != nil {
		return err
	}
	return r.destroyDoomed(ctx, names)
}

func (r *Registry) failed(ctx context.Context, job string, err error) {
	r.meters.failures.Add(ctx, 1, metric.WithAttributes(attribute.String("job", job)))
	r.log.ErrorContext(ctx, "registry job failed", "job", job, "error", err)
}

type meters struct {
	answers, refusals, failures, frozenSubjects, sweptSubjects, backups metric.Int64Counter
	age                                                                 metric.Float64Gauge
}

func newMeters(m metric.Meter) meters {
	if m == nil {
		m = noop.NewMeterProvider().Meter("")
	}
	// Names are constants: an instrument that can't be made is a no-op.
	counter := func(name, what string) metric.Int64Counter {
		c, _ := m.Int64Counter(name, metric.WithDescription(what))
		return c
	}
	age, _ := m.Float64Gauge("tributary_registry_epoch_age_seconds", metric.WithDescription("Age of the current epoch. Above its interval a turn is overdue."))
	return meters{
		answers:        counter("tributary_registry_answers", "Answers by method and state."),
		refusals:       counter("tributary_registry_refusals", "Calls refused, by service and code."),
		failures:       counter("tributary_registry_job_failures", "Failed runs of a job of the registry."),
		frozenSubjects: counter("tributary_registry_frozen_subjects", "Subjects frozen."),
		sweptSubjects:  counter("tributary_registry_swept_subjects", "Unused subjects destroyed."),
		backups:        counter("tributary_registry_backups", "Backups written and read back."),
		age:            age,
	}
}

func (m meters) frozen(ctx context.Context)                      { m.frozenSubjects.Add(ctx, 1) }
func (m meters) sweptAway(ctx context.Context, n int)            { m.sweptSubjects.Add(ctx, int64(n)) }
func (m meters) backedUp(ctx context.Context)                    { m.backups.Add(ctx, 1) }
func (m meters) epochAge(ctx context.Context, age time.Duration) { m.age.Record(ctx, age.Seconds()) }
