package erasure

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// A question is answered once every holder has answered it: for subjects, and for a contact that no topic
// has yet.
func TestHoldersAreAsked(t *testing.T) {
	b := bustest.Embedded(t)
	for _, topic := range []string{"privacy.commands", "privacy.acks"} {
		if err := b.EnsureTopics(t.Context(), bus.Topic{Name: topic}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var silent atomic.Bool // the archive says nothing any more
	c := NewCollector(b, func() []string { return []string{"archive", "conversation"} }, time.Now)
	go func() { _ = c.Run(ctx) }()
	go func() {
		_ = b.Tail(ctx, []string{"privacy.commands"}, func(r bus.Record) {
			var q pb.PrivacyCommand
			if err := proto.Unmarshal(r.Value, &q); err != nil {
				t.Error(err)
			}
			for _, holder := range []string{"archive", "conversation"} {
				if holder == "archive" && silent.Load() {
					continue
				}
				ack := &pb.PrivacyAck{RequestId: q.RequestId, Holder: holder, SubjectId: q.SubjectId, Kind: q.Kind, Found: map[string]int64{}}
				if holder == "conversation" && (q.SubjectId == "stored" || q.WorkspaceId == "w" && q.ContactId == "contact") {
					ack.Found["contacts"] = 1
				}
				value, err := proto.Marshal(ack)
				if err == nil {
					err = b.Publish(ctx, bus.Message{Topic: "privacy.acks", Key: q.RequestId, Value: value})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}()
	bustest.Eventually(t, "everybody listens", func() bool {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		nothing, err := c.StoresNothing(asking, []string{"stored", "swept"})
		return err == nil && slices.Equal(nothing, []string{"swept"})
	})
	for contact, want := range map[[2]string]bool{{"w", "contact"}: true, {"w", "never"}: false, {"another", "contact"}: false} {
		if known, err := c.Knows(ctx, contact[0], contact[1]); err != nil || known != want {
			t.Errorf("%v: %v, %v", contact, known, err)
		}
	}
	silent.Store(true)
	c.patience = 200 * time.Millisecond
	if _, err := c.Knows(ctx, "w", "contact"); !errors.Is(err, errSilent) {
		t.Errorf("a holder is silent: %v", err)
	}
}
