package channel

import (
	"errors"
	"maps"
	"regexp"
	"slices"
)

// Features is what the rest of the mesh must know of a channel without knowing its code. It is generated
// from services/<name>/channel.yaml into features_gen.go.
type Features struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
	// Ref is what the path of its webhooks names: "app" or "connection".
	Ref string `yaml:"ref"`
	// BodyLimit of a webhook in bytes.
	BodyLimit int64 `yaml:"body_limit"`
	// TextLimit is the longest text of one part, in TextUnit: "characters" (Unicode code points) or
	// "utf16" (UTF-16 code units).
	TextLimit int    `yaml:"text_limit"`
	TextUnit  string `yaml:"text_unit"`
	// Address: a reply needs the person's address (a number); else the thread is enough.
	Address bool `yaml:"address"`
	// ProviderTime: inbound events carry the provider's time, so an outbound message takes it too.
	ProviderTime bool `yaml:"provider_time"`
	// IdentityKind of its people (slack_user, phone).
	IdentityKind string `yaml:"identity_kind"`
	// ExternalID is the pattern (RE2, of the whole) of its accounts' ids at the provider.
	ExternalID string `yaml:"external_id"`
	// Settings that a connection may have: the pattern of each one's value, by name.
	Settings map[string]string `yaml:"settings"`
	// RequiredSettings are those without which a connection can't work.
	RequiredSettings []string `yaml:"required_settings"`
	// CredentialPatterns are the forms of credentials that have one, by name.
	CredentialPatterns map[string]string `yaml:"credential_patterns"`
	// Credentials and AppSecrets that a connection and an app need, by name; Optional ones a connection may have.
	Credentials []string `yaml:"credentials"`
	Optional    []string `yaml:"optional_credentials"`
	AppSecrets  []string `yaml:"app_secrets"`
	// SignedWith are the credentials that webhooks of a connection's ref are signed with, newest first; the
	// ones after the first need only be there while a secret is rotated. Where ref is app, the app's
	// signing secrets are used.
	SignedWith []string `yaml:"signed_with"`
	// Providers that a connection's setting "provider" chooses among, where they differ in credentials. What stands
	// above is the one's that is chosen where the setting is empty.
	Providers map[string]Provider `yaml:"providers"`
	// Whole: a message leaves in one call, its attachments with it.
	Whole bool `yaml:"whole"`
	// Batches: a webhook may carry several items.
	Batches bool `yaml:"batches"`
	// Interfaces that the adapter implements beyond Adapter: challenger, sender, fetcher, timed, listener, poller.
	Interfaces []string `yaml:"interfaces"`
	// Longest call to the provider that the adapter makes, in seconds.
	LongestCall int `yaml:"longest_call"`
}

// Provider is what differs in credentials and settings between those who carry a channel.
type Provider struct {
	Credentials []string `yaml:"credentials"`
	Optional    []string `yaml:"optional_credentials"`
	SignedWith  []string `yaml:"signed_with"`
	// TextLimit, where it is not the channel's.
	TextLimit int `yaml:"text_limit"`
	// RequiredSettings of a connection of this provider.
	RequiredSettings []string `yaml:"required_settings"`
	// WithoutSettings are those of the channel that a connection of this provider can't have.
	WithoutSettings []string `yaml:"without_settings"`
}

// For are the features of a connection with these settings: its provider's credentials, settings and limit.
func (f Features) For(settings map[string]string) Features {
	if p, ok := f.Providers[settings["provider"]]; ok {
		f.Credentials, f.Optional, f.SignedWith = p.Credentials, p.Optional, p.SignedWith
		f.RequiredSettings = p.RequiredSettings
		if p.TextLimit > 0 {
			f.TextLimit = p.TextLimit
		}
		f.Settings = maps.Clone(f.Settings)
		for _, name := range p.WithoutSettings {
			delete(f.Settings, name)
		}
	}
	return f
}

// AccountFault says what is wrong with an account's id at the provider; "" if nothing is.
func (f Features) AccountFault(externalID string) string { return mismatch(f.ExternalID, externalID) }

// SettingFault says what is wrong with a setting of a connection; "" if nothing is.
func (f Features) SettingFault(name, value string) string {
	pattern, ok := f.Settings[name]
	if !ok {
		return "is not known"
	}
	return mismatch(pattern, value)
}

// CredentialFault says what is wrong with the form of a credential; "" if nothing is, or it has none. It never quotes it.
func (f Features) CredentialFault(name, value string) string {
	pattern, ok := f.CredentialPatterns[name]
	if !ok || value == "" {
		return ""
	}
	return mismatch(pattern, value)
}

func mismatch(pattern, value string) string {
	if re, err := whole(pattern); err != nil || !re.MatchString(value) {
		return "must match " + pattern
	}
	return ""
}

func whole(pattern string) (*regexp.Regexp, error) { return regexp.Compile(`^(?:` + pattern + `)$`) }

// Validate names every fault of a channel.yaml.
func (f Features) Validate() error {
	var faults []error
	check := func(ok bool, fault string) {
		if !ok {
			faults = append(faults, errors.New(fault))
		}
	}
	check(f.Name != "" && f.Title != "", "name and title are required")
	check(f.Ref == "app" || f.Ref == "connection", "ref is app or connection")
	check(f.BodyLimit > 0, "body_limit is a number of bytes")
	check(f.TextLimit > 0, "text_limit is a number")
	check(f.TextUnit == "characters" || f.TextUnit == "utf16", "text_unit is characters or utf16")
	check(f.IdentityKind != "", "identity_kind is required")
	check(f.ExternalID != "", "external_id is required")
	_, err := whole(f.ExternalID)
	check(err == nil, "external_id is no pattern")
	for name, pattern := range f.Settings {
		_, err := whole(pattern)
		check(name != "" && pattern != "" && err == nil, "settings: "+name+" has no pattern")
	}
	check(f.LongestCall > 0, "longest_call is a number of seconds")
	check((f.Ref == "connection") == (len(f.SignedWith) > 0), "signed_with is for ref connection, and required there")
	for name, pattern := range f.CredentialPatterns {
		_, err := whole(pattern)
		check(err == nil, "credential_patterns: "+name+" is no pattern")
	}
	for name, p := range f.Providers {
		check(len(p.Credentials) > 0 && len(p.SignedWith) > 0, "providers: "+name+" needs credentials and signed_with")
		check(f.Settings["provider"] != "", "providers need the setting provider")
		for _, without := range p.WithoutSettings {
			check(f.Settings[without] != "", "providers: "+name+" is without the setting "+without+", which there is not")
		}
	}
	for _, i := range f.Interfaces {
		check(slices.Contains([]string{"challenger", "sender", "fetcher", "timed", "listener", "poller"}, i), "interfaces: "+i+" is none")
	}
	return errors.Join(faults...)
}
