// Package conversation is the service in which channel events become conversations.
//
//	inbound.<channel> -> project -> contacts, conversations, messages -> api
//	api -> sending -> outbox -> relay -> outbound.<channel>, conversations, contacts
//	privacy.commands -> erase -> outbox -> privacy.acks
//
// All of it lives in one database, whose schema is in store. Every transaction that publishes does so
// through the outbox; whoever commits wakes the relay.
package conversation
