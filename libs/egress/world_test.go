package egress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/clock"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	modelPartitions = 2
	modelProcesses  = 3
	modelDepth      = 2 // of actions of others within one's call
	modelMessages   = 16
)

// world is everything around the sending protocol.
type world struct {
	t         *rapid.T
	calm      bool
	steady    bool
	depth     int
	conns     []*conversation
	procs     []*process
	lanes     []*laneRun
	broker    modelBroker
	inbound   []*pb.ChannelEvent // published and not handled
	seen      map[string]bool
	published map[string]bool
	posted    int
	position  int64
	called    map[string]*call
	taken     map[string]bool // messages that the provider has, or may have
	processNo int
}

type modelBroker struct {
	logs       [modelPartitions][]bus.Record
	history    [modelPartitions][]bus.Record // each command once, as the relay first published it
	committed  [modelPartitions]int64
	metadata   [modelPartitions]string
	generation int
	late       []lateCommit
}

// lateCommit is on its way; it lands if its generation is still the group's.
type lateCommit struct {
	partition, generation int
	next                  int64
	metadata              string
}

type process struct {
	w        *world
	name     int
	s        *sender
	begun    []*taken // committed, and not yet with the provider
	outcomes []outcome
	dead     bool
	stopped  bool
}

// laneRun is a lane in the middle of bus.Consume's run.
type laneRun struct {
	w          *world
	proc       *process
	lane       *lane
	partition  int
	generation int
	next       int64
	waiting    []*taken
	group      []*taken
	announced  bool
	ended      bool
	busy       bool // in the middle of a step
}

// killed unwinds the steps of a process that was killed while they ran.
type killed struct{}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, seen: map[string]bool{}, published: map[string]bool{}, called: map[string]*call{}, taken: map[string]bool{}}
	w.steady = w.chance("steady", 1)
	for i := range 4 {
		w.conns = append(w.conns, &conversation{w: w, key: fmt.Sprintf("conversation-%d", i), partition: i % modelPartitions})
	}
	for range modelProcesses {
		w.startProcess()
	}
	w.rebalance()
	return w
}

// chance says yes once in 2^halvings, and no once the faults have ended. (Coins, since rapid's numbers
// favour small ones.)
func (w *world) chance(label string, halvings int) bool {
	for range halvings {
		if w.calm || !rapid.Bool().Draw(w.t, label) {
			return false
		}
	}
	return true
}

// seldom does what ends generations: often in some runs, so that much is interrupted, and seldom in
// others, so that much happens within one.
func (w *world) seldom(do func()) {
	if !w.steady || w.chance("seldom", 3) {
		do()
	}
}

// pick gives one of 0 … n-1, each as likely; the first once the faults have ended.
func (w *world) pick(label string, n int) int {
	v := 0
	for bit := 1; bit < 4*n && !w.calm; bit *= 2 {
		if rapid.Bool().Draw(w.t, label) {
			v += bit
		}
	}
	return v % n
}

// act does one thing that may happen now.
func (w *world) act() {
	var actions []func()
	may := func(weight int, do func()) {
		for range weight {
			actions = append(actions, do)
		}
	}
	may(1, w.passTime)
	may(1, w.sweep)
	may(1, w.relayAgain)
	may(1, func() { w.seldom(w.rebalance) })
	if w.posted < modelMessages {
		may(4, w.post)
	}
	if len(w.inbound) > 0 {
		may(6, w.handleOne)
	}
	if len(w.broker.late) > 0 {
		may(2, w.landLate)
	}
	for _, l := range w.lanes {
		if l.ready() {
			may(4, l.step)
		}
	}
	for _, p := range w.procs {
		if len(p.begun) > 0 {
			may(4, p.deliverOne)
		}
		if len(p.outcomes) > 0 {
			may(4, p.reportOne)
		}
	}
	if len(w.procs) < modelProcesses {
		may(1, func() { w.startProcess(); w.rebalance() })
	}
	if len(w.procs) > 0 {
		may(1, func() {
			w.seldom(func() {
				if p := w.procs[w.pick("process", len(w.procs))]; w.chance("kill", 1) {
					p.kill()
				} else {
					p.stop()
				}
			})
		})
	}
	actions[w.pick("action", len(actions))]()
}

// others lets the world go on while somebody waits for an answer.
func (w *world) others() {
	if w.depth >= modelDepth || w.calm {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	for range w.pick("others", 4) {
		w.act()
	}
}

func (w *world) passTime() {
	time.Sleep([]time.Duration{10 * time.Millisecond, time.Second, time.Second, 5 * time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, 6 * time.Minute}[w.pick("time", 8)])
}

// rebalance gives the partitions to the processes anew. Those who lose one may not notice.
func (w *world) rebalance() {
	w.broker.generation++
	for _, l := range w.lanes {
		l.ended = l.ended || w.calm || !w.chance("zombie", 1)
		if l.ended {
			l.drop()
		}
	}
	w.lanes = slices.DeleteFunc(w.lanes, func(l *laneRun) bool { return l.ended })
	var takers []*process
	for _, p := range w.procs {
		if !p.stopped {
			takers = append(takers, p)
		}
	}
	if len(takers) == 0 {
		return
	}
	for n := range modelPartitions {
		p := takers[0]
		if !w.calm {
			p = takers[w.pick("owner", len(takers))]
		}
		w.lanes = append(w.lanes, &laneRun{
			w: w, proc: p, partition: n, generation: w.broker.generation, next: w.broker.committed[n],
			lane: newLane(p.s, "outbound.model", n, w.broker.metadata[n]),
		})
	}
}

func (w *world) landLate() {
	i := w.pick("late", len(w.broker.late))
	c := w.broker.late[i]
	w.broker.late = slices.Delete(w.broker.late, i, i+1)
	if c.generation == w.broker.generation {
		w.broker.committed[c.partition], w.broker.metadata[c.partition] = c.next, c.metadata
	}
}

func (w *world) startProcess() {
	w.processNo++
	p := &process{w: w, name: w.processNo}
	cfg := Config{Late: 5 * time.Minute, LongestCall: time.Minute, Hold: 2 * time.Second, Calls: 3, CallsPerConnection: 2, StopWithin: time.Second}
	tel := telemetry.Discard()
	m, err := newMeters(tel.Meter, "model")
	if err != nil {
		w.t.Fatal(err)
	}
	p.s = newSender(cfg, "model", modelProvider{p}, Deps{Keys: modelKeys{p}, Accounts: modelAccounts{}, Clock: &clock.Clock{}, Telemetry: tel},
		modelPublisher{p}, modelPublisher{p}, m)
	p.s.sleep = func(ctx context.Context, d time.Duration) error {
		w.others()
		p.check()
		time.Sleep(d)
		return ctx.Err()
	}
	w.procs = append(w.procs, p)
}

// check ends the process's steps if it was killed meanwhile.
func (p *process) check() {
	if p.dead {
		panic(killed{})
	}
}

// run runs steps of the process, as far as it lives.
func (p *process) run(step func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
		}
	}()
	step()
}

// kill: kill -9. What was in memory is gone.
func (p *process) kill() {
	if p.w.calm {
		return
	}
	p.dead = true
	p.leave()
}

// stop: TERM. Lanes end where they are, what has not begun is not begun.
func (p *process) stop() {
	if p.w.calm || p.stopped {
		return
	}
	p.stopped = true
	p.s.stopHere()
	for _, l := range p.w.lanes {
		if l.proc == p {
			l.ended = true
			l.drop()
		}
	}
	p.w.rebalance()
}

func (p *process) leave() {
	w := p.w
	w.procs = slices.DeleteFunc(w.procs, func(other *process) bool { return other == p })
	w.lanes = slices.DeleteFunc(w.lanes, func(l *laneRun) bool { return l.proc == p })
	w.rebalance()
}

// deliverOne and reportOne are the two halves of a worker.
func (p *process) deliverOne() {
	i := p.w.pick("which", len(p.begun))
	t := p.begun[i]
	p.begun = slices.Delete(p.begun, i, i+1)
	p.run(func() {
		o := p.s.deliver(t)
		p.s.release(t)
		p.outcomes = append(p.outcomes, o)
	})
}

func (p *process) reportOne() {
	i := p.w.pick("which", len(p.outcomes))
	o := p.outcomes[i]
	p.outcomes = slices.Delete(p.outcomes, i, i+1)
	p.run(func() {
		p.s.report(o)
		for _, e := range o.events {
			if !p.w.published[e.GetId()] {
				p.w.t.Fatal("an outcome was given up by a process that lives")
			}
		}
	})
	if p.stopped && len(p.begun) == 0 && len(p.outcomes) == 0 && !p.dead {
		p.leave() // drained
	}
}

// ready: the lane has something to do and a slot to do it with.
func (l *laneRun) ready() bool {
	switch {
	case l.ended || l.busy || l.proc.dead:
		return false
	case len(l.group) > 0:
		return true
	case len(l.waiting) > 0:
		return l.waiting[0].cmd == nil || len(l.proc.s.slots) < cap(l.proc.s.slots)
	}
	return l.next < int64(len(l.w.broker.logs[l.partition]))
}

// step is the next of lane.run's.
func (l *laneRun) step() {
	ctx := context.Background()
	l.busy = true
	defer func() {
		if l.busy = false; l.ended {
			l.drop()
		}
	}()
	l.proc.run(func() {
		var err error
		switch {
		case l.announced:
			group := l.group
			l.group, l.announced = nil, false
			if l.lane.commit(ctx, l, group) != nil {
				l.proc.s.abandon(group)
				l.ended = true
				return
			}
			for _, t := range group {
				if t.cmd != nil {
					l.proc.begun = append(l.proc.begun, t)
				}
			}
		case len(l.group) > 0:
			err = l.lane.announce(ctx, l.group)
			l.announced = true
		case len(l.waiting) > 0:
			l.group, l.waiting, err = l.lane.gather(ctx, l.waiting)
		default:
			log := l.w.broker.logs[l.partition]
			n := min(len(log)-int(l.next), 3)
			if n > 1 && !l.w.calm {
				n = 1 + l.w.pick("fetch", n)
			}
			records := log[l.next : int(l.next)+n]
			l.next += int64(n)
			l.waiting, err = l.lane.prepare(ctx, records)
		}
		if err != nil {
			l.w.t.Fatalf("a lane's context never ends here: %v", err)
		}
	})
}

// drop is what lane.run does when it returns.
func (l *laneRun) drop() {
	if l.busy {
		return
	}
	l.proc.s.abandon(l.group)
	l.proc.s.abandon(l.waiting)
	l.group, l.waiting = nil, nil
}

// Fetch implements partition; step fetches by itself.
func (l *laneRun) Fetch(context.Context, int) ([]bus.Record, error) { panic("not called") }

// Commit implements partition.
func (l *laneRun) Commit(_ context.Context, next int64, metadata string) error {
	l.w.others()
	l.proc.check()
	b := &l.w.broker
	lost := errors.New("no answer")
	if l.generation != b.generation {
		if l.w.chance("refusal lost", 2) {
			return lost
		}
		return bus.ErrStaleGeneration
	}
	if l.w.chance("commit on its way", 4) {
		b.late = append(b.late, lateCommit{l.partition, l.generation, next, metadata})
		return lost
	}
	b.committed[l.partition], b.metadata[l.partition] = next, metadata
	if l.w.chance("answer lost", 4) {
		return lost
	}
	l.w.others()
	l.proc.check()
	return nil
}

// Abandon implements partition: the member leaves, and joins anew.
func (l *laneRun) Abandon() {
	if l.generation == l.w.broker.generation {
		l.w.rebalance()
	}
}

// heal ends the faults and lets everything come to rest.
func (w *world) heal() {
	w.calm = true
	if !slices.ContainsFunc(w.procs, func(p *process) bool { return !p.stopped }) {
		w.startProcess()
	}
	for len(w.broker.late) > 0 { // as late as can be
		w.landLate()
	}
	w.rebalance()
	for range 200 {
		for _, l := range slices.Clone(w.lanes) {
			for l.ready() {
				l.step()
			}
		}
		for _, p := range slices.Clone(w.procs) {
			for len(p.begun) > 0 {
				p.deliverOne()
			}
			for len(p.outcomes) > 0 {
				p.reportOne()
			}
		}
		for len(w.inbound) > 0 {
			w.handleOne()
		}
		w.sweep()
		if w.over() {
			return
		}
		time.Sleep(30 * time.Second)
	}
	for _, c := range w.conns {
		for _, m := range c.line {
			w.t.Logf("%s: attempt %d is %s", m.id, m.newest().number, m.newest().status)
		}
	}
	w.t.Fatal("not everything ends")
}

func (w *world) over() bool {
	for _, c := range w.conns {
		for _, m := range c.line {
			if !m.newest().over() {
				return false
			}
		}
	}
	return true
}
