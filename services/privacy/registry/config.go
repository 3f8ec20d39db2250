package registry

import (
	"errors"
	"fmt"
	"time"
)

// Config of the registry.
type Config struct {
	// EpochEvery is how often the epoch turns by itself.
	EpochEvery time.Duration `env:"TRIBUTARY_REGISTRY_EPOCH_EVERY" doc:"how often the epoch turns: what was erased before is in no backup after"`
	// TurnWithin is how long a turn may take: what a certificate allows for.
	TurnWithin time.Duration `env:"TRIBUTARY_REGISTRY_TURN_WITHIN" doc:"how long a turn may take; certificates allow for it"`
	// BackupEvery is how often the registry is backed up besides.
	BackupEvery time.Duration `env:"TRIBUTARY_REGISTRY_BACKUP_EVERY" doc:"how often the registry is backed up besides"`
	// BackupDir holds the backups. Put it on another disk than the database.
	BackupDir string `env:"TRIBUTARY_REGISTRY_BACKUP_DIR" doc:"folder of the backups: on another disk than the database; empty: backups in the service's data folder"`
	// ErasedListEvery is how long one list of erased identities is written to; three are kept.
	ErasedListEvery time.Duration `env:"TRIBUTARY_REGISTRY_ERASED_LIST_EVERY" doc:"how long one list of erased identities is written to; three are kept"`
	// SpoolKeyEvery is how often a new spool key is published.
	SpoolKeyEvery time.Duration `env:"TRIBUTARY_REGISTRY_SPOOL_KEY_EVERY" doc:"how often a new spool key is published"`
	// SpoolKeyKept is how long a spool key's private half is kept after its successor was published.
	SpoolKeyKept time.Duration `env:"TRIBUTARY_REGISTRY_SPOOL_KEY_KEPT" doc:"how long a spool key opens after its successor was published"`
	// SweepAfter is how long nobody has acquired a subject that is swept when nobody stores anything for it.
	SweepAfter time.Duration `env:"TRIBUTARY_REGISTRY_SWEEP_AFTER" doc:"how long an unused subject is kept"`
	// Upkeep is how often it is looked whether any of this is due.
	Upkeep time.Duration `env:"TRIBUTARY_REGISTRY_UPKEEP" doc:"how often it is looked whether any of this is due"`
}

// Defaults of the settings.
func Defaults() Config {
	const day = 24 * time.Hour
	return Config{
		EpochEvery: 7 * day, TurnWithin: day, BackupEvery: day,
		ErasedListEvery: 7 * day,
		SpoolKeyEvery:   day, SpoolKeyKept: 8 * day,
		SweepAfter: 45 * day,
		Upkeep:     time.Minute,
	}
}

// erasedLists are kept: the one written to and two before it.
const erasedLists = 3

// Validate joins all faults.
func (c Config) Validate() error {
	var faults []error
	for _, s := range []struct {
		name  string
		value time.Duration
	}{
		{"TRIBUTARY_REGISTRY_EPOCH_EVERY", c.EpochEvery},
		{"TRIBUTARY_REGISTRY_TURN_WITHIN", c.TurnWithin},
		{"TRIBUTARY_REGISTRY_BACKUP_EVERY", c.BackupEvery},
		{"TRIBUTARY_REGISTRY_ERASED_LIST_EVERY", c.ErasedListEvery},
		{"TRIBUTARY_REGISTRY_SPOOL_KEY_EVERY", c.SpoolKeyEvery},
		{"TRIBUTARY_REGISTRY_SPOOL_KEY_KEPT", c.SpoolKeyKept},
		{"TRIBUTARY_REGISTRY_SWEEP_AFTER", c.SweepAfter},
		{"TRIBUTARY_REGISTRY_UPKEEP", c.Upkeep},
	} {
		if s.value <= 0 {
			faults = append(faults, fmt.Errorf("%s: must be longer than 0", s.name))
		}
	}
	if c.EpochEvery > 0 && c.BackupEvery > c.EpochEvery {
		faults = append(faults, errors.New("TRIBUTARY_REGISTRY_BACKUP_EVERY: at least one backup in an epoch is needed"))
	}
	if c.BackupDir == "" {
		faults = append(faults, errors.New("TRIBUTARY_REGISTRY_BACKUP_DIR: is needed"))
	}
	return errors.Join(faults...)
}

// SpoolsReadable is how long what is spooled now opens at most: until its key has a successor, and as long
// as a key is kept after that. Upkeep is done by then.
func (c Config) SpoolsReadable() time.Duration { return c.SpoolKeyEvery + c.SpoolKeyKept + 2*c.Upkeep }

// ErasedListed is how long an identity that is erased now is listed at most.
func (c Config) ErasedListed() time.Duration { return erasedLists*c.ErasedListEvery + c.Upkeep }

// noted is how exactly it is noted when a subject was last acquired: a day, less where sweeping is quicker.
func (c Config) noted() time.Duration { return min(24*time.Hour, c.SweepAfter/10) }
