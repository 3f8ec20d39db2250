package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// warmPeople write in turn where people are known.
const warmPeople = 1000

func ingest(ctx context.Context, e *env) ([]figure, error) {
	in, err := e.compareIngest(ctx, way{account: slackTeam, connections: 64, people: knownPeople})
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: "ingest_ratio", Value: in.ratio, Unit: "ratio"}.atLeast(.7),
		{Name: "ingest_per_second", Value: in.ours, Unit: "webhooks/s"},
		{Name: "bare_per_second", Value: in.bare, Unit: "webhooks/s"},
		{Name: "ingest_cpu_us", Value: in.cpu, Unit: "us/webhook"},
		{Name: "bare_cpu_us", Value: in.bareCPU, Unit: "us/webhook"},
		{Name: "ingest_p99_ms", Value: in.p99, Unit: "ms"},
		{Name: "bare_p99_ms", Value: in.bareP99, Unit: "ms"},
	}, nil
}

func ingest256(ctx context.Context, e *env) ([]figure, error) {
	in, err := e.compareIngest(ctx, way{account: slackTeam, connections: 256, people: knownPeople})
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: "ingest_ratio_256", Value: in.ratio, Unit: "ratio"}.atLeast(.7),
		{Name: "ingest_256_per_second", Value: in.ours, Unit: "webhooks/s"},
		{Name: "ingest_256_p99_ms", Value: in.p99, Unit: "ms"},
		{Name: "bare_256_p99_ms", Value: in.bareP99, Unit: "ms"},
	}, nil
}

// ingestBus tells what the mesh does beside publishing: the bare handler has its client too. No floor is set.
func ingestBus(ctx context.Context, e *env) ([]figure, error) {
	in, err := e.compareIngest(ctx, way{account: slackTeam, connections: 64, people: knownPeople, bus: true})
	if err != nil {
		return nil, err
	}
	return []figure{
		{Name: "ingest_bus_ratio", Value: in.ratio, Unit: "ratio"},
		{Name: "bare_bus_per_second", Value: in.bare, Unit: "webhooks/s"},
		{Name: "bare_bus_cpu_us", Value: in.bareCPU, Unit: "us/webhook"},
	}, nil
}

func ingestCold(ctx context.Context, e *env) ([]figure, error) {
	in, err := e.compareIngest(ctx, way{account: slackTeam, connections: 64, people: newPeople})
	if err != nil {
		return nil, err
	}
	return []figure{
		{Name: "ingest_cold_ratio", Value: in.ratio, Unit: "ratio"},
		{Name: "ingest_cold_per_second", Value: in.ours, Unit: "webhooks/s"},
		{Name: "ingest_cold_cpu_us", Value: in.cpu, Unit: "us/webhook"},
		{Name: "ingest_cold_p99_ms", Value: in.p99, Unit: "ms"},
	}, nil
}

// ingestOf is how webhooks of another channel than Slack are taken in.
func ingestOf(a account) func(ctx context.Context, e *env) ([]figure, error) {
	return func(ctx context.Context, e *env) ([]figure, error) {
		in, err := e.compareIngest(ctx, way{account: a, connections: 64, people: knownPeople})
		if err != nil {
			return nil, err
		}
		return []figure{
			figure{Name: "ingest_ratio_" + a.channel, Value: in.ratio, Unit: "ratio"}.atLeast(a.floor),
			{Name: "ingest_per_second_" + a.channel, Value: in.ours, Unit: "webhooks/s"},
			{Name: "ingest_cpu_us_" + a.channel, Value: in.cpu, Unit: "us/webhook"},
			{Name: "bare_cpu_us_" + a.channel, Value: in.bareCPU, Unit: "us/webhook"},
		}, nil
	}
}

// knownPeople write again and again; of newPeople nobody writes twice.
func knownPeople(n int) int { return n % warmPeople }
func newPeople(n int) int   { return n }

// ingested is what a comparison of the ways in came to, by medians of the rounds.
type ingested struct {
	compared
	cpu, bareCPU float64 // microseconds of the process a request
	p99, bareP99 float64 // milliseconds
}

// way in that is compared.
type way struct {
	account
	connections int
	people      func(n int) int
	bus         bool // the bare handler writes by the mesh's client
}

// compareIngest lets a channel's service and a bare handler take the same webhooks, over as many connections,
// onto the same topic. Each has the machine for itself: the other does not run, and nothing does that is not
// on the way in. The channel's own consumers, which look for files and profiles to fetch, run with it.
func (e *env) compareIngest(ctx context.Context, a way) (r ingested, err error) {
	only := []string{a.channel, "privacy", "connect"}
	if a.channel != "slack" {
		only = append(only, "slack")
	}
	w, err := e.newWorld(ctx, only...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	b := e.brokers()
	defer b.close()
	made, signedWith, err := a.connect(ctx, w)
	if err != nil {
		return r, err
	}
	if err := w.StopProcess(ctx, "connect"); err != nil { // the accounts are made
		return r, err
	}
	c := &ingestComparison{
		env: e, w: w, b: b, channel: a.channel, topic: w.Prefix() + "inbound." + a.channel, connections: a.connections, maker: made(a.people),
		order: bareOrder{Check: a.check, Secret: signedWith, Raw: a.raw},
	}
	if a.bus {
		c.order.Bus = w.Prefix()
	}
	if a.channel != "slack" {
		if err := w.StopProcess(ctx, "slack"); err != nil {
			return r, err
		}
	}
	if err := c.learn(ctx); err != nil {
		return r, err
	}
	r.compared, err = e.compare(ctx, fmt.Sprintf("%d connections", a.connections), c.mesh, c.bare)
	if err != nil {
		return r, err
	}
	r.cpu, r.bareCPU, r.p99, r.bareP99 = median(c.cpu[0]), median(c.cpu[1]), median(c.p99[0]), median(c.p99[1])
	return r, nil
}

type ingestComparison struct {
	*env
	w           *world
	b           *brokers
	channel     string
	topic       string
	connections int
	maker       maker
	order       bareOrder
	cpu, p99    [2][]float64 // of the rounds: the mesh's, the bare handler's
}

// learn has some webhooks taken, and looks at what the mesh wrote for them.
func (c *ingestComparison) learn(ctx context.Context) error {
	address, err := c.w.address(c.channel)
	if err != nil {
		return err
	}
	if err := c.warm(ctx, address); err != nil {
		return err
	}
	records, err := c.b.sample(ctx, c.topic, warmPeople/5) // of a partition, to which some thirtieth of them write in turn
	if err != nil {
		return err
	}
	c.order.Brokers, c.order.Topic, c.order.Value, c.order.Headers, c.order.Keys = c.kafka, c.topic, records[0].Value, records[0].Headers, mixed(records)
	if n := len(c.order.Keys); n < warmPeople {
		return fmt.Errorf("the mesh wrote under %d keys, for %d people", n, warmPeople)
	}
	size := 0
	for _, h := range c.order.Headers {
		size += len(h.Key) + len(h.Value)
	}
	c.say("   a webhook has %d bytes; the mesh makes a value of %d and %d headers of %d of it", c.maker.size(), len(c.order.Value), len(c.order.Headers), size)
	return c.w.StopProcess(ctx, c.channel)
}

func (c *ingestComparison) mesh(ctx context.Context) (rate float64, err error) {
	if err := c.w.StartProcess(ctx, c.channel); err != nil {
		return 0, err
	}
	// It reads what was written while it was away: that is not the window's work.
	if err := c.w.settled(ctx, 2*time.Minute, c.channel); err != nil {
		return 0, err
	}
	p, err := c.w.Process(c.channel)
	if err != nil {
		return 0, err
	}
	address, err := c.w.address(c.channel)
	if err != nil {
		return 0, err
	}
	if err := c.warm(ctx, address); err != nil {
		return 0, err
	}
	if err := c.w.settled(ctx, time.Minute, c.channel); err != nil {
		return 0, err
	}
	if rate, err = c.side(ctx, 0, address, p.PID()); err != nil {
		return 0, err
	}
	if spooled, err := p.Metric(ctx, "tributary_events_spooled_total"); err != nil || spooled > 0 && !c.busy {
		return 0, errors.Join(err, fmt.Errorf("%.0f events went into the spool: it is not the brokers that were measured", spooled))
	}
	return rate, c.w.StopProcess(ctx, c.channel)
}

func (c *ingestComparison) bare(ctx context.Context) (rate float64, err error) {
	b, err := startBare(ctx, c.order)
	if err != nil {
		return 0, err
	}
	if err = c.warm(ctx, b.address); err == nil {
		rate, err = c.side(ctx, 1, b.address, b.cmd.Process.Pid)
	}
	return rate, errors.Join(err, b.stop())
}

// warm lets a process meet every known person twice, for a tenth of a window at least.
func (c *ingestComparison) warm(ctx context.Context, address string) error {
	for began, first := time.Now(), c.maker.made(); time.Since(began) < c.window/10 || c.maker.made() < first+2*warmPeople; {
		if _, err := hammer(ctx, address, c.connections, 200*time.Millisecond, c.maker.next); err != nil {
			return err
		}
	}
	return nil
}

// side is one side's window. What was accepted must be on the topic.
func (c *ingestComparison) side(ctx context.Context, of int, address string, pid int) (float64, error) {
	before, err := c.b.written(ctx, c.topic)
	if err != nil {
		return 0, err
	}
	var l load
	run := func() (err error) {
		l, err = hammer(ctx, address, c.connections, c.window, c.maker.next)
		return err
	}
	if of == 0 {
		run = c.profiled(ctx, c.w, "ingest", run, c.channel, "privacy")
	}
	used, err := cpuOf(pid, run)
	if err != nil {
		return 0, err
	}
	after, err := c.b.written(ctx, c.topic)
	switch {
	case err != nil:
		return 0, err
	case l.refused > 0 || l.accepted == 0:
		return 0, fmt.Errorf("%d webhooks refused, %d accepted", l.refused, l.accepted)
	case after-before < int64(l.accepted):
		return 0, fmt.Errorf("%d webhooks accepted, but the topic grew by %d", l.accepted, after-before)
	}
	c.cpu[of] = append(c.cpu[of], used.Seconds()*1e6/float64(l.accepted))
	c.p99[of] = append(c.p99[of], percentile(l.latency, .99))
	return l.perSecond(), nil
}
