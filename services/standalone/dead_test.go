package standalone

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	"tributary.dev/libs/bus/bustest"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const deadCanary = "Ottokar-Zwiebelfisch"

// mortuary is a cluster with a consumer that can't handle some records until it is mended.
type mortuary struct {
	testing.TB
	bus     *bus.Bus
	environ []string
	mended  atomic.Bool

	mu      sync.Mutex
	handled []string // event ids
}

func newMortuary(t *testing.T) *mortuary {
	c := bustest.EmbeddedCluster(t)
	m := &mortuary{TB: t, bus: c.Open(t)}
	m.environ = []string{"TRIBUTARY_KAFKA_BROKERS=" + strings.Join(c.Addrs, ","), "TRIBUTARY_KAFKA_PREFIX=" + c.Prefix, "TRIBUTARY_DATA=" + t.TempDir()}
	require.NoError(t, m.bus.EnsureTopics(t.Context(), bus.Topic{Name: "inbound.slack", Partitions: 4}, bus.Topic{Name: "outbound.slack", Partitions: 1}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.bus.Subscribe(ctx, bus.Subscription{Group: "conversation", Topics: []string{"inbound.slack"}, Handle: m.handle})
	}()
	t.Cleanup(func() { stop(); <-done })
	return m
}

func (m *mortuary) handle(_ context.Context, batch []bus.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, r := range batch {
		e := &pb.ChannelEvent{}
		if err := proto.Unmarshal(r.Value, e); err != nil {
			return bus.DataFault("undecodable", err)
		}
		if e.GetReason() == "poison" && !m.mended.Load() {
			return bus.DataFault("constraint", errors.New("poison"))
		}
		ids = append(ids, e.GetId())
	}
	m.handled = append(m.handled, ids...)
	return nil
}

func (m *mortuary) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.handled...)
}

func (m *mortuary) publish(id, reason string) {
	value, err := proto.Marshal(&pb.ChannelEvent{
		Id: id, WorkspaceId: "workspace", ConnectionId: "connection", Reason: reason,
		Parts: []*pb.SealedPart{{SubjectId: "subject", Category: pb.Category_CATEGORY_CONTENT, Ciphertext: []byte(deadCanary)}},
	})
	require.NoError(m, err)
	require.NoError(m, m.bus.Publish(m.Context(), bus.Message{
		Topic: "inbound.slack", Key: "conversation-" + id, Value: value, Headers: []bus.Header{{Key: "ce_id", Value: []byte(id)}, {Key: "name", Value: []byte(deadCanary)}},
	}))
}

// run gives what a command printed, each line's words with one space between, having ended with the code.
func (m *mortuary) run(code int, args ...string) string {
	m.Helper()
	var out, errs bytes.Buffer
	require.Equal(m, code, Command(m.Context(), args, m.environ, &out, &errs), "%s%s", &out, &errs)
	require.NotContains(m, out.String()+errs.String(), deadCanary)
	var lines []string
	for line := range strings.Lines(out.String() + errs.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestDeadLettersAreListedShownAndReplayed(t *testing.T) {
	m := newMortuary(t)
	require.Contains(t, m.run(app.ExitOK, "dead", "list"), "There are no dead letters")
	m.publish("a", "poison")
	m.publish("b", "")
	m.publish("c", "poison")
	require.NoError(t, m.bus.Publish(t.Context(), bus.Message{Topic: "inbound.slack", Key: deadCanary + " ", Value: []byte("\xff" + deadCanary)}))
	var list string
	bustest.Eventually(t, "three dead letters", func() bool {
		list = m.run(app.ExitOK, "dead", "list")
		return strings.Contains(list, "constraint") && strings.Contains(list, "undecodable") && len(m.ids()) == 1
	})
	bustest.Eventually(t, "both of the constraint", func() bool {
		list = m.run(app.ExitOK, "dead", "list", "--reason", "constraint")
		return strings.Join(strings.Fields(list)[10:15], " ") == "inbound.slack conversation constraint 2 0"
	})

	// What is shown: ids and sizes, and of a record that is no event the size alone.
	place := strings.Fields(list)[len(strings.Fields(list))-1]
	shown := m.run(app.ExitOK, "dead", "show", place)
	for _, text := range []string{"in group conversation: constraint", "replayed false", "lay at inbound.slack/", "workspace", "content of subject subject, 20 bytes", "ce_id"} {
		require.Contains(t, shown, text)
	}
	undecodable := strings.Fields(m.run(app.ExitOK, "dead", "list", "--reason", "undecodable"))
	shown = m.run(app.ExitOK, "dead", "show", undecodable[len(undecodable)-1])
	require.Contains(t, shown, "value 21 bytes")
	require.Contains(t, m.run(app.ExitFailed, "dead", "show", "dead.inbound.slack/0/99999"), "there is no letter at")
	require.Contains(t, m.run(app.ExitFailed, "dead", "show", "inbound.slack"), "is not a letter's place")

	// Replayed: by place, by reason, each once.
	require.Contains(t, m.run(app.ExitFailed, "dead", "replay"), "say which letters")
	m.mended.Store(true)
	require.Contains(t, m.run(app.ExitOK, "dead", "replay", "--reason", "constraint", "--dry-run"), "2 letters would be replayed")
	require.Contains(t, m.run(app.ExitOK, "dead", "replay", place), "1 letters were replayed")
	bustest.Eventually(t, "it is handled", func() bool { return len(m.ids()) == 2 })
	require.Contains(t, m.run(app.ExitOK, "dead", "show", place), "replayed true")
	require.Contains(t, m.run(app.ExitOK, "dead", "replay", "--reason", "constraint"), "1 letters were replayed")
	bustest.Eventually(t, "the other too", func() bool { return len(m.ids()) == 3 })
	require.ElementsMatch(t, []string{"a", "b", "c"}, m.ids())
	require.Contains(t, m.run(app.ExitOK, "dead", "replay", "--topic", "inbound.slack", "--reason", "constraint"), "0 letters were replayed")
	require.Contains(t, m.run(app.ExitOK, "dead", "replay", "--reason", "constraint", "--again", "--dry-run"), "2 letters would be replayed")
}

func TestATopicIsReplayedBetweenTimes(t *testing.T) {
	m := newMortuary(t)
	m.publish("early", "")
	time.Sleep(5 * time.Millisecond)
	from := time.Now()
	time.Sleep(5 * time.Millisecond)
	m.publish("x", "")
	m.publish("y", "")
	bustest.Eventually(t, "all are handled", func() bool { return len(m.ids()) == 3 })
	since := from.UTC().Format(time.RFC3339Nano)
	require.Contains(t, m.run(app.ExitOK, "replay", "--topic", "inbound.slack", "--from", since, "--dry-run"), "2 records would be replayed")
	require.Contains(t, m.run(app.ExitOK, "replay", "--topic", "inbound.slack", "--from", since), "2 records were replayed")
	bustest.Eventually(t, "the two come again", func() bool { return len(m.ids()) == 5 })
	require.ElementsMatch(t, []string{"early", "x", "x", "y", "y"}, m.ids())
	require.Contains(t, m.run(app.ExitOK, "replay", "--topic", "inbound.slack", "--from", "1h", "--to", since), "1 records were replayed")

	for args, fault := range map[string]string{
		"--topic outbound.slack --from 1h":                "is not inbound.<channel>",
		"--topic connections --from 1h":                   "is not inbound.<channel>",
		"--topic inbound.nowhere --from 1h":               "there is no topic",
		"--topic inbound.slack":                           "--from",
		"--topic inbound.slack --from yesterday":          "neither a time",
		"--topic inbound.slack --from 1h --to 2026-13-01": "neither a time",
		"--topic inbound.slack --from -1h":                "neither a time",
	} {
		require.Contains(t, m.run(app.ExitFailed, append([]string{"replay"}, strings.Fields(args)...)...), fault)
	}
}

func TestCommandsOnTopicsNeedBrokers(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, app.ExitFailed, Command(t.Context(), []string{"dead", "list"}, []string{"TRIBUTARY_DATA=" + t.TempDir()}, &out, &errs))
	require.Contains(t, errs.String(), "no mesh has run in")
}
