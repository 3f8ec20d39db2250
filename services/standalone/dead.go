package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
	pb "tributary.dev/proto/gen/tributary/v1"
)

const (
	// headerReplayed marks a record of dead.<topic> that says that a letter of the same partition was replayed, by its
	// offset.
	headerReplayed = "dead_replayed"
	// replayBatch records are published at once.
	//bound:queue records that a replay publishes at once | {} | it reads on once they are acknowledged
	replayBatch = 100
	//bound:timeout publishing what is replayed | {} | the command fails, and may be given again
	replayTimeout = 30 * time.Second
)

func deadCommand(environ []string) *cobra.Command {
	c := &cobra.Command{Use: "dead", Short: "List, show and replay dead letters", Long: `List, show and replay dead letters: records that a consumer could not handle for their data.

They lie, sealed as they came, in dead.<topic> for 30 days. Nothing personal is printed. The brokers are those of
TRIBUTARY_KAFKA_BROKERS and the settings beside it, or the embedded one of the mesh that runs in TRIBUTARY_DATA.`}
	c.AddCommand(deadListCommand(environ), deadShowCommand(environ), deadReplayCommand(environ))
	return c
}

// letters choose dead letters.
type letters struct{ topic, group, reason string }

func (l *letters) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.topic, "topic", "", "only those that lay on this topic (inbound.slack)")
	c.Flags().StringVar(&l.group, "group", "", "only those that this consumer group could not handle")
	c.Flags().StringVar(&l.reason, "reason", "", "only those of this reason")
}

func (l *letters) match(of letter) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(l.topic, of.topic) && is(l.group, of.group) && is(l.reason, of.reason)
}

// letter is a dead letter: which record it was, and why it died.
type letter struct {
	bus.Record
	topic, group, reason string
	partition, offset    string
	replayed             bool
}

// place names where a letter lies.
func (l *letter) place() string { return fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset) }

func (l *letter) read() {
	l.topic = strings.TrimPrefix(l.Topic, bus.DeadTopic(""))
	for _, h := range l.Headers {
		switch h.Key {
		case bus.HeaderDeadTopic:
			l.topic = string(h.Value)
		case bus.HeaderDeadGroup:
			l.group = string(h.Value)
		case bus.HeaderDeadReason:
			l.reason = string(h.Value)
		case bus.HeaderDeadPartition:
			l.partition = string(h.Value)
		case bus.HeaderDeadOffset:
			l.offset = string(h.Value)
		}
	}
}

// eachLetter gives the letters that there are, in the order in which they lie.
func eachLetter(ctx context.Context, b *bus.Bus, handle func(letter) error) error {
	topics, err := b.TopicNames(ctx, bus.DeadTopic(""))
	if err != nil || len(topics) == 0 {
		return err
	}
	replayed := map[string]bool{}
	if err := b.Scan(ctx, topics, time.Time{}, time.Time{}, func(r bus.Record) error {
		if offset, ok := marks(r); ok {
			replayed[fmt.Sprintf("%s/%d/%s", r.Topic, r.Partition, offset)] = true
		}
		return nil
	}); err != nil {
		return err
	}
	return b.Scan(ctx, topics, time.Time{}, time.Time{}, func(r bus.Record) error {
		if _, ok := marks(r); ok {
			return nil
		}
		l := letter{Record: r}
		l.read()
		l.replayed = replayed[l.place()]
		return handle(l)
	})
}

// marks tells which letter, by its offset, a record says was replayed.
func marks(r bus.Record) (offset string, ok bool) {
	for _, h := range r.Headers {
		if h.Key == headerReplayed {
			return string(h.Value), true
		}
	}
	return "", false
}

func deadListCommand(environ []string) *cobra.Command {
	var which letters
	c := &cobra.Command{
		Use: "list", Short: "Count dead letters by topic, group and reason", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				return listLetters(ctx, b, which, cmd.OutOrStdout())
			})
		},
	}
	which.flags(c)
	return c
}

func listLetters(ctx context.Context, b *bus.Bus, which letters, out io.Writer) error {
	type kind struct{ topic, group, reason string }
	type count struct {
		kind
		all, replayed  int
		oldest, newest time.Time
		last           string
	}
	counts := map[kind]*count{}
	if err := eachLetter(ctx, b, func(l letter) error {
		if !which.match(l) {
			return nil
		}
		k := kind{l.topic, l.group, l.reason}
		c := counts[k]
		if c == nil {
			c = &count{kind: k, oldest: l.Time}
			counts[k] = c
		}
		c.all++
		if l.replayed {
			c.replayed++
		}
		if l.Time.Before(c.oldest) {
			c.oldest = l.Time
		}
		if !l.Time.Before(c.newest) {
			c.newest, c.last = l.Time, l.place()
		}
		return nil
	}); err != nil {
		return err
	}
	if len(counts) == 0 {
		fmt.Fprintln(out, "There are no dead letters.")
		return nil
	}
	rows := make([]*count, 0, len(counts))
	for _, c := range counts {
		rows = append(rows, c)
	}
	slices.SortFunc(rows, func(a, b *count) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.group, b.group), cmp.Compare(a.reason, b.reason))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tGROUP\tREASON\tLETTERS\tREPLAYED\tOLDEST\tNEWEST\tTHE NEWEST IS")
	for _, c := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", word(c.topic), word(c.group), word(c.reason), c.all, c.replayed,
			c.oldest.UTC().Format(time.RFC3339), c.newest.UTC().Format(time.RFC3339), c.last)
	}
	return w.Flush()
}

func deadShowCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "show TOPIC/PARTITION/OFFSET", Short: "Show what is known of one dead letter, but for what is sealed", Args: cobra.ExactArgs(1),
		Long: `Show what is known of one dead letter: why it died, where it lay, its ids, times, types and sizes. What is sealed stays so.

The place is the letter's own, as "tributary dead list" names it: dead.inbound.slack/0/12.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, _, err := placeOf(args[0]); err != nil {
				return err
			}
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				found := false
				err := eachLetter(ctx, b, func(l letter) error {
					if l.place() == args[0] {
						found = true
						showLetter(l, cmd.OutOrStdout())
					}
					return nil
				})
				if err == nil && !found {
					err = fmt.Errorf("there is no letter at %s", args[0])
				}
				return err
			})
		},
	}
}

func placeOf(text string) (topic string, partition int, offset int64, err error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 && strings.HasPrefix(parts[0], bus.DeadTopic("")) {
		partition, err = strconv.Atoi(parts[1])
		if err == nil {
			offset, err = strconv.ParseInt(parts[2], 10, 64)
		}
		if err == nil && partition >= 0 && offset >= 0 {
			return parts[0], partition, offset, nil
		}
	}
	return "", 0, 0, fmt.Errorf("%q is not a letter's place, such as dead.inbound.slack/0/12", text)
}

// word is a text of a record's that is printed only where it is the mesh's own kind of word: what a broken producer
// wrote may be anything.
func word(text string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-:"
	if text == "" || len(text) > 100 || strings.Trim(text, letters) != "" {
		return fmt.Sprintf("(%d bytes)", len(text))
	}
	return text
}

func showLetter(l letter, out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	line("place", l.place())
	line("died", l.Time.UTC().Format(time.RFC3339)+" in group "+word(l.group)+": "+word(l.reason))
	line("replayed", strconv.FormatBool(l.replayed))
	line("lay at", word(l.topic)+"/"+word(l.partition)+"/"+word(l.offset))
	line("key", word(l.Key))
	for _, h := range l.Headers {
		if strings.HasPrefix(h.Key, "ce_") || h.Key == "traceparent" {
			line(h.Key, word(string(h.Value)))
		}
	}
	line("value", fmt.Sprintf("%d bytes", len(l.Value)))
	var id, workspace, connection, message string
	var parts []*pb.SealedPart
	event, command := &pb.ChannelEvent{}, &pb.Command{}
	switch {
	case strings.HasPrefix(l.topic, "outbound.") && proto.Unmarshal(l.Value, command) == nil:
		id, workspace, connection, message = command.GetId(), command.GetWorkspaceId(), command.GetConnectionId(), command.GetMessageId()
		if command.GetContent() != nil {
			parts = append(parts, command.GetContent())
		}
	case !strings.HasPrefix(l.topic, "privacy.") && proto.Unmarshal(l.Value, event) == nil:
		id, workspace, connection, message = event.GetId(), event.GetWorkspaceId(), event.GetConnectionId(), event.GetMessageId()
		parts = event.GetParts()
	}
	for _, field := range [][2]string{{"id", id}, {"workspace", workspace}, {"connection", connection}, {"message", message}} {
		if field[1] != "" {
			line(field[0], word(field[1]))
		}
	}
	for _, p := range parts {
		line("sealed", fmt.Sprintf("%s of subject %s, %d bytes",
			strings.ToLower(strings.TrimPrefix(p.GetCategory().String(), "CATEGORY_")), word(p.GetSubjectId()), len(p.GetCiphertext())))
	}
	_ = w.Flush()
}

func deadReplayCommand(environ []string) *cobra.Command {
	var which letters
	var all, again, dry bool
	c := &cobra.Command{
		Use: "replay [TOPIC/PARTITION/OFFSET ...]", Short: "Publish dead letters again to the topics that they lay on",
		Long: `Publish dead letters again to the topics that they lay on, once what they died of is mended: those at the places given, or
all that the flags choose. Groups that had handled a record know it by its id, so replaying one twice changes nothing;
a command that is too old is not carried out. A letter counts as replayed from then on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, place := range args {
				if _, _, _, err := placeOf(place); err != nil {
					return err
				}
			}
			if len(args) == 0 && which == (letters{}) && !all {
				return errors.New("say which letters: places, --topic, --group, --reason, or --all")
			}
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				return replayLetters(ctx, b, cmd.OutOrStdout(), dry, func(l letter) bool {
					return which.match(l) && (again || !l.replayed) && (len(args) == 0 || slices.Contains(args, l.place()))
				})
			})
		},
	}
	which.flags(c)
	c.Flags().BoolVar(&all, "all", false, "all letters")
	c.Flags().BoolVar(&again, "again", false, "those too that were replayed before")
	c.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	return c
}

func replayLetters(ctx context.Context, b *bus.Bus, out io.Writer, dry bool, chosen func(letter) bool) error {
	r := replayer{b: b, dry: dry}
	err := eachLetter(ctx, b, func(l letter) error {
		if !chosen(l) {
			return nil
		}
		if bus.DeadTopic(l.topic) != l.Topic {
			return fmt.Errorf("the letter at %s does not say which topic it lay on", l.place())
		}
		m := bus.Message{Topic: l.topic, Key: l.Key, Value: l.Value}
		for _, h := range l.Headers {
			if !strings.HasPrefix(h.Key, "dead_") {
				m.Headers = append(m.Headers, h)
			}
		}
		mark := bus.Message{Topic: l.Topic, Key: l.Key, Headers: []bus.Header{{Key: headerReplayed, Value: strconv.AppendInt(nil, l.Offset, 10)}}}
		return r.add(ctx, m, note{l.Partition, mark})
	})
	if err == nil {
		err = r.flush(ctx)
	}
	r.say(out, "letters")
	return err
}

// replayer publishes records again, and then notes that it has.
type replayer struct {
	b   *bus.Bus
	dry bool
	//bound:exempt replayBatch says it
	msgs []bus.Message
	//bound:exempt as many as msgs
	notes []note
	done  int
}

// note goes to the partition of the letter that it is about.
type note struct {
	partition int
	bus.Message
}

func (r *replayer) add(ctx context.Context, m bus.Message, notes ...note) error {
	r.msgs, r.notes = append(r.msgs, m), append(r.notes, notes...)
	if len(r.msgs) < replayBatch {
		return nil
	}
	return r.flush(ctx)
}

func (r *replayer) flush(ctx context.Context) error {
	//bound:exempt replayTimeout says it
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	if !r.dry && len(r.msgs) > 0 {
		if err := r.b.Publish(ctx, r.msgs...); err != nil {
			return err
		}
		notes := map[string]map[int][]bus.Message{}
		for _, n := range r.notes {
			if notes[n.Topic] == nil {
				notes[n.Topic] = map[int][]bus.Message{}
			}
			notes[n.Topic][n.partition] = append(notes[n.Topic][n.partition], n.Message)
		}
		for topic, of := range notes {
			for _, err := range r.b.PublishPartitions(ctx, topic, of) {
				return fmt.Errorf("replayed, but not noted: %w", err)
			}
		}
	}
	r.done += len(r.msgs)
	r.msgs, r.notes = r.msgs[:0], r.notes[:0]
	return nil
}

func (r *replayer) say(out io.Writer, what string) {
	if r.dry {
		fmt.Fprintf(out, "%d %s would be replayed.\n", r.done, what)
		return
	}
	fmt.Fprintf(out, "%d %s were replayed.\n", r.done, what)
}

// withBus reaches the brokers that the settings name, else the embedded one of the mesh that runs in the data folder.
func withBus(ctx context.Context, environ []string, do func(context.Context, *bus.Bus) error) error {
	common := app.Defaults()
	if _, err := app.Load(environ, &common); err != nil {
		return err
	}
	if lookup(environ, "TRIBUTARY_KAFKA_BROKERS", "") == "" {
		address, err := os.ReadFile(filepath.Join(common.Data, "broker", "address"))
		if err != nil {
			return fmt.Errorf("TRIBUTARY_KAFKA_BROKERS is not set, and no mesh has run in %s", common.Data)
		}
		common.Kafka.Brokers = []string{strings.TrimSpace(string(address))}
	}
	b, err := bus.Open(ctx, common.Bus("tributary"))
	if err != nil {
		return err
	}
	defer func() {
		//bound:timeout letting go of the brokers, at the end of a command | {} | the command ends all the same
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = b.Close(closing)
	}()
	return do(ctx, b)
}
