// Package telegram is the adapter of Telegram's Bot API: a bot's updates become events of the mesh, and replies go out as
// the bot. A connection is one bot.
//
// A private chat is one-to-one with a person; a group, or a topic of a forum, is a group conversation. Private chats share
// one row of message ids, so that a message there is known by its number alone and no id names a person; in a group it is
// "<chat>:<number>". Telegram dates in seconds; the number, which rises, orders what was written within one.
//
// The rules come from https://core.telegram.org/bots/api.
package telegram
