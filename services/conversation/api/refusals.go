package api

// refusals are the sentences for what is refused before any call, by the codes that all adapters use.
var refusals = map[string]string{
	"alphanumeric_sender": "The sender is a name and not a number: it can't be answered.",
	"empty_file":          "The file is empty.",
	"file_too_large":      "The file is larger than the channel takes.",
	"too_large":           "The file is larger than the channel takes.",
	"too_long":            "The text is longer than the channel takes.",
	"msg_too_long":        "The text is longer than the channel takes.",
	"no_text":             "The message is empty.",
	"nothing_to_send":     "The message is empty.",
	"no_address":          "The contact has no address on this channel.",
	"no_chat":             "The conversation names no place to write to.",
	"no_channel":          "The conversation names no place to write to.",
	"no_public_url":       "Files can be sent only when the mesh has a public address for the provider to fetch them from.",
	"no_server":           "The connection names no server to send through.",
	"no_login":            "The connection's server offers no way to log in that is known here.",
	"certificate":         "The connection's server could not prove that it is the one: its certificate does not hold.",
	"forbidden_address":   "The connection's server is not a public one.",
	"own_address":         "This is the mailbox's own address: the mail would come back.",
	"text_and_file":       "The channel takes a text or a file in one message, and not both.",
	"unknown_provider":    "The connection names a provider that is not supported.",
	"unsupported":         "The channel can't do this.",
	"disabled":            "The connection was disconnected.",
	"no_connection":       "The connection is gone.",
	"gone":                "The person was erased.",
	"restricted":          "The processing of this person's data is restricted.",
}
