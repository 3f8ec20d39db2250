package channel

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
	// Credentials and AppSecrets that a connection and an app need, by name.
	Credentials []string `yaml:"credentials"`
	AppSecrets  []string `yaml:"app_secrets"`
	// Interfaces that the adapter implements beyond Adapter: challenger, sender, fetcher, timed.
	Interfaces []string `yaml:"interfaces"`
	// Longest call to the provider that the adapter makes, in seconds.
	LongestCall int `yaml:"longest_call"`
}
