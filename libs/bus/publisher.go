package bus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	produceapi "github.com/segmentio/kafka-go/protocol/produce"
)

const (
	// produceTimeout bounds one request that writes.
	//bound:timeout the answer to what is published | {} | tried again, or its outcome is unknown
	produceTimeout = time.Second
	// produceAttempts of a batch are made, with a pause of produceBackoff between them.
	//bound:retry publishing | {} attempts, {produceBackoff} apart | given up: Publish fails
	produceAttempts = 2
	produceBackoff  = 20 * time.Millisecond
	// maxRequestBytes bounds what one request carries for all partitions together.
	//bound:queue bytes of one request that publishes | {bytes} | the rest waits for the next
	maxRequestBytes = 4 << 20
)

// publisher gathers what many callers publish at once into few requests: each leader has one request on its
// way, and the next takes along everything that has gathered for its partitions meanwhile.
type publisher struct {
	b *Bus

	mu     sync.Mutex
	closed bool
	//bound:cache lanes of the publisher | one a broker | a broker that is gone leaves an empty one
	lanes   map[int]*lane // by leader
	running sync.WaitGroup
}

// lane is what waits for one leader, in the order of arrival; sending tells whether a goroutine is at it.
type lane struct {
	//bound:queue messages that wait for the request before theirs | by their bytes, which count as handed to the client | ErrFull
	waiting []*outgoing
	sending bool
}

// outgoing is a message on its way.
type outgoing struct {
	Message
	leader    int
	partition int
	size      int
	call      *call
}

// call is one call of Publish. Its fields are guarded by the publisher's mutex.
type call struct {
	open int // messages without an outcome
	err  error
	gone bool          // the caller no longer waits: what has not left by now stays behind
	done chan struct{} // closed when open is 0
}

// publish hands the messages over and waits for their outcome, or for ctx: what is on its way then may
// still land, the rest does not.
func (p *publisher) publish(ctx context.Context, msgs []Message) error {
	c := &call{open: len(msgs), done: make(chan struct{})}
	out := make([]outgoing, len(msgs))
	var total int64
	for i, m := range msgs {
		of, err := p.b.leaders(ctx, m.Topic)
		if err != nil {
			return err
		}
		to := of.partition(m.Key)
		out[i] = outgoing{Message: m, leader: of.leader[to], partition: to, size: m.Size(), call: c}
		total += int64(out[i].size)
	}
	if p.b.inFlight.Add(total) > p.b.cfg.MaxInFlightBytes {
		p.b.inFlight.Add(-total)
		return ErrFull
	}
	if err := p.enqueue(out); err != nil {
		p.b.inFlight.Add(-total)
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.open == 0 {
		return c.err
	}
	c.gone = true
	return ctx.Err()
}

func (p *publisher) enqueue(out []outgoing) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	for i := range out {
		l := p.lanes[out[i].leader]
		if l == nil {
			l = &lane{}
			p.lanes[out[i].leader] = l
		}
		l.waiting = append(l.waiting, &out[i])
		if !l.sending {
			l.sending = true
			//bound:goroutines who publishes | one a broker | what comes meanwhile waits for its next request
			p.running.Go(func() { p.empty(l) })
		}
	}
	return nil
}

// close lets no more in and waits until what is in has an outcome.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.running.Wait()
}

// batch is what one request carries for one partition.
//
//bound:queue messages of one request for one partition | {bytes MaxBatchBytes} | the rest waits for the next request
type batch struct {
	at   topicPartition
	msgs []*outgoing
	size int
	err  error // of the last attempt
}

// empty sends what waits in a lane until nothing does.
func (p *publisher) empty(l *lane) {
	for {
		runtime.Gosched() // who is about to publish goes first: fewer and larger requests on busy processors, no wait on idle ones
		batches := p.take(l)
		if len(batches) == 0 {
			return
		}
		for attempt := 1; ; attempt++ {
			p.attempt(batches)
			batches = p.settle(batches, attempt == produceAttempts)
			if len(batches) == 0 {
				break
			}
			_ = sleep(p.b.ctx, produceBackoff) // cut short, the next attempt fails at once
		}
	}
}

func (p *publisher) attempt(batches []*batch) {
	//bound:exempt produceTimeout says it
	ctx, cancel := context.WithTimeout(p.b.ctx, produceTimeout)
	defer cancel()
	p.send(ctx, batches)
}

// take gives what a request has room for, and leaves the rest in its order.
func (p *publisher) take(l *lane) (batches []*batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	places := make(map[topicPartition]*batch, 16)
	var left []*outgoing
	total := 0
	for i, m := range l.waiting {
		if m.call.gone {
			p.settled(m, nil)
			continue
		}
		if total+m.size > maxRequestBytes && total > 0 {
			left = append(left, l.waiting[i:]...)
			break
		}
		at := topicPartition{m.Topic, m.partition}
		into := places[at]
		if into == nil {
			into = &batch{at: at}
			places[at] = into
			batches = append(batches, into)
		}
		if into.size+m.size > MaxBatchBytes && into.size > 0 || into.size < 0 {
			into.size = -1 // full: what comes after must not overtake what is left
			left = append(left, m)
			continue
		}
		into.msgs, into.size, total = append(into.msgs, m), into.size+m.size, total+m.size
	}
	clear(l.waiting) // memory that is used again must not keep what has left
	l.waiting = append(l.waiting[:0], left...)
	l.sending = len(batches) > 0
	return batches
}

// send makes one attempt with the batches, of all leaders at once, and leaves its outcome in each.
func (p *publisher) send(ctx context.Context, batches []*batch) {
	led := make(map[int][]*batch, 1)
	for _, b := range batches {
		of, err := p.b.leaders(ctx, b.at.topic)
		switch {
		case err != nil:
			b.err = err
		case of.leader[b.at.partition] < 0:
			b.err = kafka.LeaderNotAvailable
		default:
			led[of.leader[b.at.partition]] = append(led[of.leader[b.at.partition]], b)
		}
	}
	if len(led) == 1 {
		for _, one := range led {
			p.requests(ctx, one)
		}
		return
	}
	var sending sync.WaitGroup
	for _, one := range led {
		//bound:goroutines requests that publish | one a broker | waited for
		sending.Go(func() { p.requests(ctx, one) })
	}
	sending.Wait()
}

// requests writes batches of one leader, as many in a request as have room.
func (p *publisher) requests(ctx context.Context, batches []*batch) {
	for len(batches) > 0 {
		n, size := 0, 0
		for n < len(batches) && (n == 0 || size+batches[n].size <= maxRequestBytes) {
			size += batches[n].size
			n++
		}
		p.request(ctx, batches[:n])
		batches = batches[n:]
	}
}

// request writes batches of one leader, within ctx's deadline.
func (p *publisher) request(ctx context.Context, batches []*batch) {
	now := p.b.cfg.Now()
	deadline, _ := ctx.Deadline()
	req := &produceapi.Request{Acks: int16(kafka.RequireAll), Timeout: int32(time.Until(deadline).Milliseconds())}
	answers := make(map[topicPartition]*batch, len(batches))
	for _, b := range batches {
		b.err = errNoAnswer
		answers[b.at] = b
		name := p.b.fullName(b.at.topic)
		i := len(req.Topics) - 1
		for i >= 0 && req.Topics[i].Topic != name {
			i--
		}
		if i < 0 {
			req.Topics = append(req.Topics, produceapi.RequestTopic{Topic: name})
			i = len(req.Topics) - 1
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, produceapi.RequestPartition{
			Partition: int32(b.at.partition), RecordSet: protocol.RecordSet{Records: &recordsOf{msgs: b.msgs, now: now}},
		})
	}
	res, err := p.b.transport.RoundTrip(ctx, p.b.client.Addr, req)
	if err != nil {
		for _, b := range batches {
			b.err = err
		}
		return
	}
	for _, topic := range res.(*produceapi.Response).Topics {
		for _, answer := range topic.Partitions {
			if b := answers[topicPartition{p.b.shortName(topic.Topic), int(answer.Partition)}]; b != nil {
				if b.err = nil; answer.ErrorCode != 0 {
					b.err = kafka.Error(answer.ErrorCode)
				}
			}
		}
	}
}

// settle gives the batches that are worth another attempt, and every message of the others its outcome.
func (p *publisher) settle(batches []*batch, last bool) (again []*batch) {
	for _, b := range batches {
		if b.err == nil {
			p.b.metrics.published(p.b.ctx, b.at.topic, len(b.msgs))
		} else {
			p.b.afterFailure(b.err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range batches {
		retry := !last && b.err != nil && passing(b.err)
		var kept []*outgoing
		for _, m := range b.msgs {
			if retry && !m.call.gone {
				kept = append(kept, m)
				continue
			}
			p.settled(m, b.err)
		}
		if len(kept) > 0 {
			again = append(again, &batch{at: b.at, msgs: kept})
		}
	}
	return again
}

// settled gives a message its outcome. The mutex is held.
func (p *publisher) settled(m *outgoing, err error) {
	p.b.inFlight.Add(-int64(m.size))
	c := m.call
	if err != nil && c.err == nil {
		c.err = err
	}
	if c.open--; c.open == 0 {
		close(c.done)
	}
}

// passing tells whether another attempt may succeed: what the brokers refuse for good stays refused.
func passing(err error) bool {
	var code kafka.Error
	return !errors.As(err, &code) || code.Temporary()
}

var (
	errClosed   = errors.New("bus: closed")
	errNoAnswer = errors.New("bus: the broker's answer leaves the partition out")
)

// recordsOf messages, as the client reads them: each is used up before the next is asked for.
type recordsOf struct {
	msgs   []*outgoing
	now    time.Time
	record protocol.Record
	//bound:exempt of one message at a time
	headers []protocol.Header
	key     text
	value   payload
}

// ReadRecord implements protocol.RecordReader.
func (r *recordsOf) ReadRecord() (*protocol.Record, error) {
	if len(r.msgs) == 0 {
		return nil, io.EOF
	}
	m := r.msgs[0]
	r.msgs = r.msgs[1:]
	r.headers = slices.Grow(r.headers[:0], len(m.Headers))
	for _, h := range m.Headers {
		r.headers = append(r.headers, protocol.Header(h))
	}
	r.key.Reset(m.Key)
	r.record = protocol.Record{Time: r.now, Key: &r.key, Headers: r.headers}
	if m.Value != nil { // a deletion has none
		r.value.Reset(m.Value)
		r.record.Value = &r.value
	}
	return &r.record, nil
}

// payload and text are protocol.Bytes.
type (
	payload struct{ bytes.Reader }
	text    struct{ strings.Reader }
)

// Close implements io.Closer.
func (*payload) Close() error { return nil }

// Close implements io.Closer.
func (*text) Close() error { return nil }
