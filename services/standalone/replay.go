package standalone

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tributary.dev/libs/bus"
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
