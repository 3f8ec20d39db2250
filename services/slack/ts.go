package slack

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// parseTS reads Slack's "1355517523.000005" as microseconds, exactly: never through a float, which has
// no room for it.
func parseTS(ts string) (micros int64, ok bool) {
	whole, fraction, _ := strings.Cut(ts, ".")
	if !digits(whole) || len(fraction) > 6 || fraction != "" && !digits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > math.MaxInt64/1_000_000-1 {
		return 0, false
	}
	var rest int64
	if fraction != "" {
		rest, err = strconv.ParseInt(fraction+strings.Repeat("0", 6-len(fraction)), 10, 64)
		if err != nil {
			return 0, false
		}
	}
	return seconds*1_000_000 + rest, true
}

// MessageTime is the time that a message's id carries ("<channel>:<ts>", and of an action something behind it); zero
// where it carries none.
func (a *Adapter) MessageTime(externalID string) time.Time {
	_, ts, found := strings.Cut(externalID, ":")
	if !found {
		return time.Time{}
	}
	ts, _, _ = strings.Cut(ts, ":")
	micros, ok := parseTS(ts)
	if !ok {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// externalID of a message.
func externalID(channelID, ts string) string { return channelID + ":" + ts }

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// isID tells a Slack id (team, channel, user, bot, file): ids go into keys and addresses, so nothing else
// may pass for one.
func isID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
