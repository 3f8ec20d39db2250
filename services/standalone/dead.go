package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"tributary.dev/libs/bus"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// headerReplayed marks a record of dead.<topic> that says that a letter of the same partition was replayed, by its offset.
const headerReplayed = "dead_replayed"

func deadCommand(environ []string) *cobra.Command {
	c := &cobra.Command{Use: "dead", Short: "List, show and replay dead letters", Long: `List, show and replay dead letters: records that a consumer could not handle for their data.

They lie, sealed as they came, in dead.<topic> for 30 days. Nothing personal is printed but by "show --open". The brokers are those of
TRIBUTARY_KAFKA_BROKERS and the settings beside it, or the embedded one of the mesh that runs in TRIBUTARY_DATA.`,
		Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return errors.New("say list, show or replay") }}
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
	open := false
	server := opener{environ: environ}
	c := &cobra.Command{
		Use: "show TOPIC/PARTITION/OFFSET", Short: "Show what is known of one dead letter, but for what is sealed", Args: cobra.ExactArgs(1),
		Long: `Show what is known of one dead letter: why it died, where it lay, its ids, times, types and sizes. What is sealed stays so,
unless --open asks the mesh to open it: then what people wrote is printed. That needs an API key of the letter's workspace
with the scope letters:open, in TRIBUTARY_API_KEY or the file api-key of TRIBUTARY_DATA; who opened it is logged.

The place is the letter's own, as "tributary dead list" names it: dead.inbound.slack/0/12.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPlace(args[0]); err != nil {
				return err
			}
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				found := false
				err := eachLetter(ctx, b, func(l letter) error {
					if l.place() == args[0] {
						found = true
						showLetter(l, cmd.OutOrStdout())
						if open {
							return server.open(ctx, l, cmd.OutOrStdout())
						}
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
	c.Flags().BoolVar(&open, "open", false, "open what is sealed, and print it")
	c.Flags().StringVar(&server.url, "url", "", "where the mesh's API is (default: http://127.0.0.1 at PORT)")
	return c
}

// checkPlace wants the place of a letter, as letter.place gives it.
func checkPlace(text string) error {
	parts := strings.Split(text, "/")
	ok := len(parts) == 3 && strings.HasPrefix(parts[0], bus.DeadTopic(""))
	for _, number := range parts[1:] {
		_, err := strconv.ParseUint(number, 10, 63)
		ok = ok && err == nil
	}
	if !ok {
		return fmt.Errorf("%q is not a letter's place, such as dead.inbound.slack/0/12", text)
	}
	return nil
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
				if err := checkPlace(place); err != nil {
					return err
				}
			}
			if len(args) == 0 && which == (letters{}) && !all {
				return errors.New("say which letters: places, --topic, --group, --reason, or --all")
			}
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				missing := slices.Clone(args)
				err := replayLetters(ctx, b, cmd.OutOrStdout(), dry, func(l letter) bool {
					missing = slices.DeleteFunc(missing, func(place string) bool { return place == l.place() })
					return which.match(l) && (again || !l.replayed) && (len(args) == 0 || slices.Contains(args, l.place()))
				})
				if err == nil && len(missing) > 0 {
					err = fmt.Errorf("there is no letter at %s", strings.Join(missing, ", "))
				}
				return err
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
