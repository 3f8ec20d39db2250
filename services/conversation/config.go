package conversation

import (
	"errors"
	"time"
)

// Config is the service's own settings.
type Config struct {
	SendExpiry    time.Duration `env:"TRIBUTARY_CONVERSATION_SEND_EXPIRY" doc:"after how long a message that was not sent fails; one whose call may have been made and has no outcome is unknown before, after TRIBUTARY_SEND_LATE and the longest call"`
	PerConnection int           `env:"TRIBUTARY_CONVERSATION_PER_CONNECTION" doc:"commands of one connection that may be outstanding at once"`
	Poll          time.Duration `env:"TRIBUTARY_CONVERSATION_POLL" doc:"how often relay and sending look without being woken; on SQLite, to which nobody else writes, the relay a fifth as often"`
	Restored      bool          `env:"TRIBUTARY_CONVERSATION_RESTORED" doc:"for the first start after the database was restored from a backup: what was on its way then ends as unknown, before anything else leaves"`
}

// DefaultConfig is the design's.
func DefaultConfig() *Config {
	return &Config{SendExpiry: 24 * time.Hour, PerConnection: 64, Poll: time.Second}
}

// Validate joins all faults, each naming its setting.
func (c *Config) Validate() error {
	var faults []error
	if c.SendExpiry < time.Minute {
		faults = append(faults, errors.New("TRIBUTARY_CONVERSATION_SEND_EXPIRY: must be at least 1m"))
	}
	if c.PerConnection < 1 {
		faults = append(faults, errors.New("TRIBUTARY_CONVERSATION_PER_CONNECTION: must be at least 1"))
	}
	if c.Poll < 10*time.Millisecond {
		faults = append(faults, errors.New("TRIBUTARY_CONVERSATION_POLL: must be at least 10ms"))
	}
	return errors.Join(faults...)
}
