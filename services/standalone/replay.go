package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tributary.dev/libs/app"
	"tributary.dev/libs/bus"
)

const (
	// replayBatch records are published at once.
	//bound:queue records that a replay publishes at once | {} | it reads on once they are acknowledged
	replayBatch = 100
	//bound:timeout publishing what is replayed | {} | the command fails, and may be given again
	replayTimeout = 30 * time.Second
)

func replayCommand(environ []string) *cobra.Command {
	var topic, from, to string
	var dry bool
	c := &cobra.Command{
		Use: "replay", Short: "Publish a topic's records of some time again", Args: cobra.NoArgs,
		Long: `Publish records that a topic of events still holds once more, for a consumer that has to see them again: a database that was
restored from before they came, say. Ids make it safe: who has handled a record drops its copy.

Topics are inbound.<channel>, fetch.<channel> (files and profiles are fetched again where they are not there) and
revocations. Commands (outbound.<channel>) are orders and are never replayed, and what the other topics hold is told anew
by the services that own them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !replayable(topic) {
				return fmt.Errorf("--topic: %q is not inbound.<channel>, fetch.<channel> or revocations", topic)
			}
			now := time.Now()
			begin, err := moment("--from", from, now)
			if err != nil {
				return err
			}
			end, err := moment("--to", to, now)
			if err != nil {
				return err
			}
			if begin.IsZero() {
				return errors.New("--from: since when is needed")
			}
			if !end.IsZero() && !begin.Before(end) {
				return errors.New("--to: is not after --from")
			}
			return withBus(cmd.Context(), environ, func(ctx context.Context, b *bus.Bus) error {
				names, err := b.TopicNames(ctx, topic)
				if err != nil {
					return err
				}
				if len(names) == 0 || names[0] != topic {
					return fmt.Errorf("there is no topic %s", topic)
				}
				r := replayer{b: b, dry: dry}
				err = b.Scan(ctx, []string{topic}, begin, end, func(rec bus.Record) error {
					return r.add(ctx, bus.Message{Topic: rec.Topic, Key: rec.Key, Value: rec.Value, Headers: rec.Headers})
				})
				if err == nil {
					err = r.flush(ctx)
				}
				r.say(cmd.OutOrStdout(), "records")
				return err
			})
		},
	}
	c.Flags().StringVar(&topic, "topic", "", "the topic, without the prefix")
	c.Flags().StringVar(&from, "from", "", "since when: 2026-03-14T15:00:00Z, or 36h for so long ago")
	c.Flags().StringVar(&to, "to", "", "until when, likewise; empty: until now")
	c.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	return c
}

func replayable(topic string) bool {
	kind, channel, ok := strings.Cut(topic, ".")
	return topic == "revocations" || ok && channel != "" && (kind == "inbound" || kind == "fetch")
}

// moment reads a time, or how long ago.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("%s: %q is neither a time such as 2026-03-14T15:00:00Z nor how long ago, such as 36h", flag, text)
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
