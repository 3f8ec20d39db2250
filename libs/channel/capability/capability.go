// Package capability names what channels may be able to do. The conformance kit proves which of it one can, and
// records by which test (testdata/capabilities.json of a channel); the README's table is made of those records.
package capability

// Name of a capability in a record.
type Name string

// Capabilities.
const (
	ReceiveText      Name = "receive_text"
	ReceiveMedia     Name = "receive_media"
	ReceiveEdits     Name = "receive_edits"
	ReceiveDeletions Name = "receive_deletions"
	ReceiveReactions Name = "receive_reactions"
	ReceiveReplies   Name = "receive_replies"
	ReceivePayload   Name = "receive_payload"
	ReceiveGroups    Name = "receive_groups"
	ReceiveElsewhere Name = "receive_elsewhere"
	ReceiveSent      Name = "receive_sent"
	ReceiveDelivered Name = "receive_delivered"
	ReceiveRead      Name = "receive_read"
	ReceiveFailed    Name = "receive_failed"
	ReceiveProfile   Name = "receive_profile"
	ReceiveConsent   Name = "receive_consent"
	ReceiveMembers   Name = "receive_members"
	ReceiveCommerce  Name = "receive_commerce"
	ReceiveRevoked   Name = "receive_revoked"
	SendText         Name = "send_text"
	SendLong         Name = "send_long"
	SendMedia        Name = "send_media"
	SendReplies      Name = "send_replies"
	FetchMedia       Name = "fetch_media"
	FetchProfile     Name = "fetch_profile"
	RotateSecrets    Name = "rotate_secrets"
	ConnectPasted    Name = "connect_pasted"
)

// Capability with its row's title.
type Capability struct {
	Name  Name
	Title string
}

// All of them, in the order of the table's rows.
func All() []Capability {
	return []Capability{
		{ReceiveText, "receives text"},
		{ReceiveMedia, "receives media"},
		{ReceiveEdits, "receives edits"},
		{ReceiveDeletions, "receives deletions"},
		{ReceiveReactions, "receives reactions"},
		{ReceiveReplies, "receives replies to a message"},
		{ReceivePayload, "receives buttons that were used"},
		{ReceiveGroups, "receives groups"},
		{ReceiveElsewhere, "receives what was sent elsewhere"},
		{ReceiveSent, "is told of sent"},
		{ReceiveDelivered, "is told of delivered"},
		{ReceiveRead, "is told of read"},
		{ReceiveFailed, "is told of failed"},
		{ReceiveProfile, "is told of profiles"},
		{ReceiveConsent, "is told of consent"},
		{ReceiveMembers, "is told of members who join"},
		{ReceiveCommerce, "is told of orders"},
		{ReceiveRevoked, "is told when it is revoked"},
		{SendText, "sends text"},
		{SendLong, "sends long text, in parts"},
		{SendMedia, "sends media"},
		{SendReplies, "sends replies to a message"},
		{FetchMedia, "fetches media"},
		{FetchProfile, "fetches profiles"},
		{RotateSecrets, "takes two secrets at a time"},
		{ConnectPasted, "connects by pasted credentials"},
	}
}
