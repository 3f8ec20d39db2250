package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// poison puts records onto the topics that nobody can handle, as a broken adapter or holder would, 1 in 100
// for each reason that there is, and sends webhooks that nobody can read. Each is a dead letter of whoever
// reads its topic, and nothing else is; the others are not delayed.
func poison() scenario {
	return scenario{
		name: "poison", harm: "1 in 100 events can't be handled, for each reason there is",
		parts: []string{embedded, real}, small: 800,
		run: func(ctx context.Context, r *run) error {
			order := shuffled(r.ledger.size(), 8, r.seed, 0)
			half := len(order) / 2
			// Slow enough that waiting is no part of being late; and ten minutes at most, which at a million are a
			// thousand a second.
			r.sender.lasting = min(time.Duration(half)*time.Second/200, 10*time.Minute)
			if err := r.sender.deliverAll(ctx, order[:half]); err != nil {
				return err
			}
			clean := r.ledger.now()
			topics, err := r.Topics(ctx)
			if err != nil {
				return err
			}
			defer topics.Close()
			p := &poisoner{r: r, topics: topics, each: max(r.ledger.size()/100, 1)}
			if err := p.prepare(ctx); err != nil {
				return err
			}
			poisoning, cancel := context.WithCancel(ctx)
			defer cancel()
			fault := make(chan error, 1)
			go func() { fault <- p.produce(poisoning, r.sender.lasting) }()
			if err := r.sender.deliverAll(ctx, order[half:]); err != nil {
				return err
			}
			if err := <-fault; err != nil {
				return fmt.Errorf("poisoning: %w", err)
			}
			if _, err := r.compared(ctx); err != nil {
				return err
			}
			if err := mesh.Eventually(ctx, r.patience(), func() error { return r.Drained(ctx) }); err != nil {
				return err
			}
			if err := p.buried(ctx); err != nil {
				return err
			}
			return p.undelayed(ctx, clean)
		},
	}
}

// poisoner makes records that can't be handled.
type poisoner struct {
	r      *run
	topics *mesh.Topics
	// each is how many of each kind there are.
	each  int
	kinds []poisonKind
}

// poisonKind is one reason, and who finds it in which topics.
type poisonKind struct {
	topics []string
	// typ is the record's ce_type; "" for a record without.
	typ   string
	value []byte
	// dead are the groups that can't handle it, and the reasons they give; of a topic's channel where it
	// begins with a hyphen.
	dead map[string]string
}

// headerPoison numbers poison: a dead letter keeps a record's headers.
const headerPoison = "poison"

// prepare makes one of each kind. What a broken adapter says, it says of a connection that there is.
func (p *poisoner) prepare(ctx context.Context) error {
	// Of reasons, panic is left out: no record is known to make any handler panic.
	connection, err := p.connection(ctx)
	if err != nil {
		return err
	}
	constraint, err := proto.Marshal(&pb.ChannelEvent{ // a profile that was never sealed
		Id: "constraint", WorkspaceId: connection.GetWorkspaceId(), ConnectionId: connection.GetConnectionId(), Channel: connection.GetChannel(),
		Type: pb.EventType_EVENT_TYPE_PROFILE, AuthorSubject: "00000000-0000-4000-8000-000000000001", OrderUs: 1,
		Parts: []*pb.SealedPart{{SubjectId: "00000000-0000-4000-8000-000000000001", Category: pb.Category_CATEGORY_PROFILE}},
	})
	if err != nil {
		return err
	}
	incomplete, err := proto.Marshal(&pb.ChannelEvent{Type: pb.EventType_EVENT_TYPE_MESSAGE, WorkspaceId: connection.GetWorkspaceId()})
	if err != nil {
		return err
	}
	garbage := []byte("\xff\xff\xff this is no protobuf")
	inbound, outbound := []string{"inbound.slack", "inbound.sms"}, []string{"outbound.slack", "outbound.sms"}
	p.kinds = []poisonKind{
		{inbound, "", garbage, map[string]string{"conversation": "undecodable"}},
		{inbound, "tributary.message", garbage, map[string]string{"conversation": "undecodable"}},
		{[]string{"fetch.slack", "fetch.sms"}, "tributary.message", garbage, map[string]string{"-fetch": "undecodable"}},
		{[]string{"revocations"}, "", garbage, map[string]string{"connect": "not_an_event"}},
		{inbound, "tributary.message", incomplete, map[string]string{"conversation": "incomplete"}},
		{inbound, "tributary.profile", constraint, map[string]string{"conversation": "constraint"}},
		{outbound, "command", garbage, map[string]string{"-send": "decode"}},
		{[]string{"privacy.commands"}, "", garbage, map[string]string{"conversation-privacy": "undecodable"}},
		{[]string{"privacy.commands"}, "", []byte{}, map[string]string{"conversation-privacy": "incomplete"}},
		{[]string{"privacy.acks"}, "", garbage, map[string]string{"privacy-requests": "undecodable"}},
	}
	return nil
}

// connection that an event on the topics is of.
func (p *poisoner) connection(ctx context.Context) (*pb.ChannelEvent, error) {
	found := &pb.ChannelEvent{}
	var fault error
	err := p.topics.Read(ctx, []string{"inbound.slack"}, func(r *kgo.Record) {
		if found.GetConnectionId() == "" {
			fault = proto.Unmarshal(r.Value, found)
		}
	})
	if err == nil {
		err = fault
	}
	return found, err
}

// produce spreads the poison over a time: each kind each times, and as many webhooks that can't be read.
func (p *poisoner) produce(ctx context.Context, within time.Duration) error {
	for i := range p.each {
		records := make([]*kgo.Record, len(p.kinds))
		for k, kind := range p.kinds {
			records[k] = &kgo.Record{
				Topic: kind.topics[i%len(kind.topics)], Key: []byte(strconv.Itoa(i)), Value: kind.value,
				Headers: []kgo.RecordHeader{{Key: headerPoison, Value: []byte(poisonNumber(k, i))}},
			}
			if kind.typ != "" {
				records[k].Headers = append(records[k].Headers, kgo.RecordHeader{Key: "ce_type", Value: []byte(kind.typ)})
			}
		}
		if err := p.topics.Produce(ctx, records...); err != nil {
			return err
		}
		nobody := standin.SlackMessage("C0POISON", "channel", "", p.r.traffic.stamp(0, 0), "", "of nobody")
		h := slackWebhook(fmt.Sprintf("EvPoison%d", i), time.Now(), nobody)
		if err := p.r.insist(ctx, h.path, h.sign, h.body); err != nil {
			return err
		}
		if err := pause(ctx, within/time.Duration(p.each)); err != nil {
			return err
		}
	}
	return nil
}

func poisonNumber(kind, i int) string { return fmt.Sprintf("%d/%d", kind, i) }

// buried wants each poison to be a dead letter of those who could not handle it, with the right reason, and
// nothing else to be one. One may be there twice: the acknowledgement of the first may have been lost.
func (p *poisoner) buried(ctx context.Context) error {
	dead, err := p.topics.Names(ctx, "dead.")
	if err != nil {
		return err
	}
	found := map[string]int{} // number, group and reason
	err = p.topics.Read(ctx, dead, func(r *kgo.Record) {
		header := map[string]string{}
		for _, h := range r.Headers {
			header[h.Key] = string(h.Value)
		}
		found[header[headerPoison]+" "+header["dead_group"]+" "+header["dead_reason"]]++
	})
	if err != nil {
		return err
	}
	missing, total := 0, 0
	for k, kind := range p.kinds {
		for i := range p.each {
			for group, reason := range kind.dead {
				if group[0] == '-' {
					_, channel, _ := strings.Cut(kind.topics[i%len(kind.topics)], ".")
					group = channel + group
				}
				letter := poisonNumber(k, i) + " " + group + " " + reason
				if total++; found[letter] == 0 {
					missing++
					p.r.say("poison: %q is no dead letter", letter)
				}
				delete(found, letter)
			}
		}
	}
	if missing > 0 || len(found) > 0 {
		p.r.broken("%d of %d dead letters are missing, and there are %d others: %.200v", missing, total, len(found), slices.Collect(maps.Keys(found)))
	}
	unread, err := p.r.Metric(ctx, "tributary_unreadable_items_total")
	if err == nil && int(unread) < p.each {
		p.r.broken("%d webhooks could not be read, and %.0f were counted", p.each, unread)
	}
	p.r.say("poison: %d dead letters of %d records, and %d webhooks of nobody", total, len(p.kinds)*p.each, p.each)
	return err
}

// undelayed compares how late messages were shown before any poison and with it.
func (p *poisoner) undelayed(ctx context.Context, clean int64) error {
	var before, after []time.Duration
	if err := p.r.lates(ctx, func(accepted int64, late time.Duration) {
		if accepted < clean {
			before = append(before, late)
		} else {
			after = append(after, late)
		}
	}); err != nil {
		return err
	}
	without, with := percentile(before, 90), percentile(after, 90)
	p.r.say("poison: nine of ten messages are shown within %s, and with poison within %s", without, with)
	if with > 2*without+500*time.Millisecond {
		p.r.broken("nine of ten messages were shown within %s, and with poison within %s", without, with)
	}
	return nil
}

// lates gives of each message that was accepted when it was, and how much later the stream showed it.
func (r *run) lates(ctx context.Context, each func(accepted int64, late time.Duration)) error {
	c := r.newComparison()
	c.tell = each
	return c.read(ctx)
}

func percentile(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)*percent/100, len(all)-1)].Round(time.Millisecond)
}
