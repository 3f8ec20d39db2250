package privacy

import (
	"errors"
	"time"

	"tributary.dev/libs/app"
	"tributary.dev/services/privacy/registry"
)

// Config of the service.
type Config struct {
	Registry registry.Config
	Access   registry.AccessConfig

	KeeperURL string `env:"TRIBUTARY_REGISTRY_KEEPER_URL" doc:"gocloud.dev/secrets keeper that wraps what is in the key store"`
	KeyStore  string `env:"TRIBUTARY_REGISTRY_KEYSTORE" doc:"folder of the key store: on no disk that a database or its dumps are on; empty: keystore in the service's data folder"`

	CacheMargin time.Duration `env:"TRIBUTARY_PRIVACY_CACHE_MARGIN" doc:"added to the caches' time limit before holders erase"`
	AskAgain    time.Duration `env:"TRIBUTARY_PRIVACY_ASK_AGAIN" doc:"pause before a holder that has not answered, or has failed, is asked again"`
}

// DefaultConfig is what the settings are where the environment says nothing.
func DefaultConfig() *Config {
	return &Config{
		Registry: registry.Defaults(), Access: registry.DefaultAccess(),
		CacheMargin: 15 * time.Second, AskAgain: 30 * time.Second,
	}
}

// Validate joins all faults, each beginning with its setting's name.
func (c *Config) Validate() error {
	keys := c.Registry
	if keys.BackupDir == "" {
		keys.BackupDir = "backups" // in the service's data folder: see build
	}
	faults := []error{keys.Validate()}
	_, err := registry.NewAccess(c.Access)
	faults = append(faults, err)
	if c.KeeperURL == "" {
		faults = append(faults, errors.New("TRIBUTARY_REGISTRY_KEEPER_URL: is required"))
	} else {
		faults = append(faults, app.KeeperFault("TRIBUTARY_REGISTRY_KEEPER_URL", c.KeeperURL))
	}
	if c.CacheMargin <= 0 {
		faults = append(faults, errors.New("TRIBUTARY_PRIVACY_CACHE_MARGIN: must be more than 0"))
	}
	if c.AskAgain <= 0 {
		faults = append(faults, errors.New("TRIBUTARY_PRIVACY_ASK_AGAIN: must be more than 0"))
	}
	return errors.Join(faults...)
}
